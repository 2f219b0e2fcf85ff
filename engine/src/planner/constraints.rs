//! What a table demands of its rows: CHECK constraints, kept under every statement that writes.
//!
//! They are properties of the table, `delta.constraints.<name>`, as in every Delta table. NOT NULL is the
//! schema's, and kept by the lake's writer.

use super::Planner;
use super::rewrite::column_named;
use crate::functions::keeps;
use crate::lake_write::{ACTION, Action};
use crate::{Result, sql};
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit, when};
use drumline_lake::TableSnapshot;

/// Prefix of the properties.
pub(super) const CHECK: &str = "delta.constraints.";

impl Planner<'_> {
    /// The rows, or an error while they are computed, if one of them breaks a constraint of the table.
    pub(super) fn kept(&self, snapshot: &TableSnapshot, rows: LogicalPlan) -> Result<LogicalPlan> {
        let checks = snapshot.properties.iter();
        let checks = checks.filter_map(|(key, text)| Some((key.strip_prefix(CHECK)?, text)));
        let table = snapshot.name.to_string();
        let mut rows = rows;
        for (name, text) in checks {
            let condition = self.check(&table, name, text, &rows)?;
            let is_written = rows.schema().has_column_with_unqualified_name(ACTION);
            let condition = match is_written {
                false => condition,
                // Rows that stay are as they were, rows that go are no matter.
                true => {
                    let written = [Action::Update, Action::Insert].map(Action::expression);
                    let is_new = column_named(ACTION).in_list(written.to_vec(), false);
                    when(is_new, condition).otherwise(lit(true))?
                }
            };
            rows = LogicalPlanBuilder::from(rows)
                .filter(keeps(condition, &table, name))?
                .build()?;
        }
        Ok(rows)
    }

    /// A constraint as an expression over a table's rows.
    pub(super) fn check(
        &self,
        table: &str,
        name: &str,
        text: &str,
        rows: &LogicalPlan,
    ) -> Result<Expr> {
        let invalid = |reason: String| -> crate::Error {
            sql::Error::Invalid {
                reason: format!("constraint `{name}` of `{table}`, {text}, {reason}"),
                position: Some(self.statement.position),
                hint: Some("a constraint compares columns of its own table".to_owned()),
            }
            .into()
        };
        let schema = rows.schema();
        let state = self.base.state();
        let condition = state
            .create_logical_expr(text, schema)
            .map_err(|error| invalid(format!("cannot be kept: {}", error.find_root().message())))?;
        match condition.get_type(schema) {
            Ok(DataType::Boolean | DataType::Null) => Ok(condition),
            Ok(other) => Err(invalid(format!("is {other}, not true or false"))),
            Err(error) => Err(invalid(format!(
                "cannot be kept: {}",
                error.find_root().message()
            ))),
        }
    }
}
