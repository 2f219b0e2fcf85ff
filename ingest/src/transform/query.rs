//! A transform's text to a plan that streams can run: read as the host reads statements, and row by row alone.

use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;

use super::message;
use crate::lookup::Lookups;

/// Functions that planning would freeze at the moment the stream starts.
const FROZEN: [&str; 6] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtimestamp",
    "today",
];

/// How the host reads a query: an extension of the sessions it makes, so that transforms know the words of its statements.
/// Sessions without it read DataFusion's.
pub struct ReadQuery(pub fn(&str) -> std::result::Result<Statement, String>);

/// Reads a query as the session's host does.
pub(crate) fn read(session: &SessionContext, sql: &str) -> std::result::Result<Statement, String> {
    let state = session.state();
    match state.config().get_extension::<ReadQuery>() {
        Some(host) => (host.0)(sql),
        None => {
            let dialect = state.config().options().sql_parser.dialect;
            let read = state.sql_to_statement(sql, &dialect);
            read.map_err(|error| message(&error))
        }
    }
}

/// Refuses what is not one row in, at most one row out.
pub(super) fn row_by_row(plan: &LogicalPlan, lookups: &Lookups) -> std::result::Result<(), String> {
    let mut refused = None;
    let walked = plan.apply(|node| {
        let what = match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
                None
            }
            LogicalPlan::TableScan(scan) if is_known(&scan.table_name, lookups) => None,
            LogicalPlan::TableScan(scan) => Some(format!(
                "reads {}; only input can be read, and tables of the lake that it is joined with",
                scan.table_name
            )),
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Some("groups rows".to_owned()),
            LogicalPlan::Join(join) => match reads_input(&join.right) {
                true => Some("has input at the right of a join".to_owned()),
                false => None,
            },
            LogicalPlan::Sort(_) => Some("sorts".to_owned()),
            LogicalPlan::Limit(_) => Some("limits rows".to_owned()),
            LogicalPlan::Window(_) => Some("uses a window function".to_owned()),
            LogicalPlan::Union(_) => Some("unites relations".to_owned()),
            LogicalPlan::EmptyRelation(_) => {
                Some("reads nothing; it has to read from input".to_owned())
            }
            other => Some(format!(
                "has a step that streams do not run: {}",
                other.display()
            )),
        };
        for expression in node.expressions() {
            expression.apply(|part| {
                match part {
                    Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) => {
                        refused = Some("has a subquery".to_owned())
                    }
                    Expr::ScalarFunction(call) if FROZEN.contains(&call.name()) => {
                        refused = Some(format!(
                            "calls {}, which would stand still at the stream's start",
                            call.name()
                        ));
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        if what.is_some() {
            refused = what;
        }
        Ok(if refused.is_some() {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    if let Err(error) = walked {
        return Err(message(&error));
    }
    refused.map_or(Ok(()), |what| {
        Err(format!(
            "{what}; a stream's transform works row by row (columns, WHERE, and lookups by LEFT or INNER JOIN)"
        ))
    })
}

fn is_known(table: &TableReference, lookups: &Lookups) -> bool {
    let name = match table.schema() {
        Some(schema) => format!("{schema}.{}", table.table()),
        None => table.table().to_owned(),
    };
    name == "input" || lookups.contains_key(&name) || lookups.contains_key(table.table())
}

fn reads_input(plan: &LogicalPlan) -> bool {
    plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::TableScan(scan) if scan.table_name.table() == "input"))
    })
    .unwrap_or(false)
}
