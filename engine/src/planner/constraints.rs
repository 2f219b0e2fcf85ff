//! What a table demands of its rows: CHECK constraints, kept under every statement that writes.
//!
//! They are properties of the table, `delta.constraints.<name>`, as in every Delta table. NOT NULL is the
//! schema's, and kept by the lake's writer.

use super::changes::column_named;
use super::{Planner, names};
use crate::functions::keeps;
use crate::lake_write::{ACTION, Action};
use crate::sql::Position;
use crate::{Result, sql};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::sql::sqlparser::ast::{self, ColumnDef, ColumnOption, Ident, TableConstraint};
use drumline_lake::NOT_NULL;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Prefix of the properties.
pub(super) const CHECK: &str = "delta.constraints.";

impl Planner<'_> {
    /// The rows, or an error while they are computed, if one of them breaks a constraint of the table.
    pub(super) fn kept(
        &self,
        table: &str,
        properties: &BTreeMap<String, String>,
        partition_columns: &[String],
        rows: LogicalPlan,
    ) -> Result<LogicalPlan> {
        let checks = properties.iter();
        let checks: Vec<_> = checks
            .filter_map(|(key, text)| Some((key.strip_prefix(CHECK)?, text)))
            .collect();
        let mut rows = match checks.is_empty() {
            true => rows,
            false => as_kept(rows, partition_columns)?,
        };
        for (name, text) in checks {
            let condition = self.check(table, name, text, &rows)?;
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
                .filter(keeps(condition, table, name))?
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

/// The rows as they will be read again: an empty text that names a partition becomes null.
fn as_kept(rows: LogicalPlan, partition_columns: &[String]) -> Result<LogicalPlan> {
    let mut changed = false;
    let mut columns = Vec::with_capacity(rows.schema().fields().len());
    for (qualifier, field) in rows.schema().iter() {
        let value = Expr::from((qualifier, field));
        let mut names = partition_columns.iter();
        let is_partition = names.any(|name| name.eq_ignore_ascii_case(field.name()));
        columns.push(match is_partition && field.data_type().is_string() {
            false => value,
            true => {
                changed = true;
                nullif(value, lit("")).alias_qualified(qualifier.cloned(), field.name())
            }
        });
    }
    match changed {
        false => Ok(rows),
        true => Ok(LogicalPlanBuilder::from(rows).project(columns)?.build()?),
    }
}

/// What the declaration of a table's columns demands of its rows.
#[derive(Debug, Default)]
pub(super) struct Demands {
    not_null: HashSet<String>,
    /// By name, which is kept in small letters.
    checks: BTreeMap<String, String>,
}

impl Demands {
    /// Those of columns and of the table; an error for any that would not be kept.
    pub(super) fn of(columns: &[ColumnDef], constraints: &[TableConstraint]) -> Result<Self> {
        let mut demands = Self::default();
        for column in columns {
            let name = names::folded(&column.name);
            for option in &column.options {
                match &option.option {
                    ColumnOption::Null | ColumnOption::Comment(_) => {}
                    ColumnOption::NotNull => {
                        demands.not_null.insert(name.clone());
                    }
                    ColumnOption::Check(check) if check.enforced != Some(false) => {
                        let given = option.name.as_ref().or(check.name.as_ref());
                        demands.check(given, &format!("{name}_check"), &check.expr);
                    }
                    other => {
                        return Err(sql::Error::Invalid {
                            reason: format!(
                                "`{other}` of column `{}` is not supported yet",
                                column.name
                            ),
                            position: Position::of(column.name.span.start),
                            hint: None,
                        }
                        .into());
                    }
                }
            }
        }
        for constraint in constraints {
            match constraint {
                TableConstraint::Check(check) if check.enforced != Some(false) => {
                    demands.check(check.name.as_ref(), "check", &check.expr);
                }
                other => {
                    return Err(sql::Error::Invalid {
                        reason: format!("constraint `{other}` is not supported yet"),
                        position: None,
                        hint: Some("tables keep NOT NULL and CHECK".to_owned()),
                    }
                    .into());
                }
            }
        }
        Ok(demands)
    }

    fn check(&mut self, given: Option<&Ident>, otherwise: &str, condition: &ast::Expr) {
        let name = given.map_or_else(|| otherwise.to_owned(), |name| name.value.to_lowercase());
        let mut free = name.clone();
        let mut number = 1;
        while self.checks.contains_key(&free) {
            number += 1;
            free = format!("{name}_{number}");
        }
        self.checks.insert(free, condition.to_string());
    }

    /// The columns, those that were declared NOT NULL marked.
    pub(super) fn mark(&self, schema: &Schema) -> SchemaRef {
        let fields = schema.fields().iter().map(|field| {
            let field = field.as_ref().clone().with_nullable(true);
            match self.not_null.contains(field.name()) {
                false => field,
                true => field.with_metadata([(NOT_NULL.to_owned(), "true".to_owned())].into()),
            }
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The properties that keep the checks.
    pub(super) fn properties(&self) -> impl Iterator<Item = (String, String)> {
        let checks = self.checks.iter();
        checks.map(|(name, text)| (format!("{CHECK}{name}"), text.clone()))
    }
}
