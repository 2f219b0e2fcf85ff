//! `CREATE TABLE`, with its rows or without.

use super::constraints::Demands;
use super::{CreateTable, Definition, Planned, Planner, Write, WriteMode, names, query_statement};
use crate::sql::{self, Position};
use crate::{Error, Result};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::FieldMetadata;
use datafusion::logical_expr::{
    DdlStatement, EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder, cast,
};
use datafusion::sql::parser::DFParser;
use datafusion::sql::sqlparser::ast::{ColumnDef, ColumnOption, Ident};
use drumline_lake::Format;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

impl Planner<'_> {
    pub(super) async fn create_table(&self, create: &sql::CreateTable) -> Result<Planned> {
        let table = self.name(&create.name)?;
        let demands = Demands::of(&create.columns, &create.constraints)?;
        let declared = self
            .declared(&create.columns)
            .await?
            .map(|schema| demands.mark(&schema));
        let mut properties: BTreeMap<String, String> = create.properties.iter().cloned().collect();
        properties.extend(demands.properties());
        let label = table.to_string();
        let partitions: Vec<String> = create.partition_by.iter().map(names::folded).collect();
        let input = match &create.source {
            Some(source) => {
                let rows = self.logical(&query_statement(source)).await?;
                let rows = self.rows_as(rows, declared.as_ref())?;
                Some(self.kept(&label, &properties, &partitions, rows)?)
            }
            None => {
                let schema = declared.as_deref().cloned().unwrap_or_else(Schema::empty);
                let none = LogicalPlanBuilder::from(LogicalPlan::EmptyRelation(EmptyRelation {
                    produce_one_row: false,
                    schema: Arc::new(DFSchema::try_from(schema)?),
                }));
                // A constraint that cannot be kept is found before there are rows.
                self.kept(&label, &properties, &[], none.build()?)?;
                None
            }
        };
        let schema = match (&input, declared) {
            (Some(plan), _) => Arc::clone(plan.schema().inner()),
            (None, Some(declared)) => declared,
            (None, None) => return self.adopt(table, create),
        };
        self.check_columns(&schema)?;
        let mut partition_by = Vec::with_capacity(create.partition_by.len());
        for column in &create.partition_by {
            partition_by.push(schema.field(self.column(column, &schema)?).name().clone());
        }
        if partition_by.len() >= schema.fields().len() {
            return Err(self.invalid("a table needs a column that it is not partitioned by", None));
        }
        let how = CreateTable {
            format: self.format(create.format.as_ref())?,
            partition_by,
            location: create
                .location
                .as_ref()
                .map(|(location, _)| location.clone()),
            if_not_exists: create.if_not_exists,
            or_replace: create.or_replace,
            comment: create.comment.clone(),
            column_comments: column_comments(&create.columns),
            properties,
        };
        Ok(match input {
            Some(plan) => Planned::Write(Write {
                table,
                mode: WriteMode::Create(how),
                input: self.query(plan),
            }),
            None => Planned::Definition(Definition::CreateTable {
                table,
                schema,
                create: how,
            }),
        })
    }

    fn format(&self, format: Option<&Ident>) -> Result<Format> {
        match format.map(|format| format.value.to_lowercase()).as_deref() {
            None | Some("delta") => Ok(Format::Delta),
            Some("parquet") => Ok(Format::Parquet),
            Some(other) => Err(sql::Error::Invalid {
                reason: format!("tables are not stored as `{other}`"),
                position: format.and_then(|format| Position::of(format.span.start)),
                hint: Some("STORED AS DELTA or STORED AS PARQUET".to_owned()),
            }
            .into()),
        }
    }

    /// The columns that the statement itself names, with the types SQL gives them.
    pub(super) async fn declared(&self, columns: &[ColumnDef]) -> Result<Option<SchemaRef>> {
        if columns.is_empty() {
            return Ok(None);
        }
        let column = |column: &ColumnDef| format!("{} {}", column.name, column.data_type);
        let columns: Vec<String> = columns.iter().map(column).collect();
        let text = format!("CREATE TABLE declared ({})", columns.join(", "));
        let parsed = DFParser::parse_sql(&text)
            .map_err(|error| self.explain(error))?
            .pop_front();
        let Some(parsed) = parsed else {
            return Err(Error::bug("a parsed table does not parse again"));
        };
        match self.logical(&parsed).await? {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) => {
                Ok(Some(Arc::clone(table.input.schema().inner())))
            }
            other => Err(Error::bug(format!(
                "columns were planned as {}",
                other.display()
            ))),
        }
    }

    /// The rows with the names and types that were declared, if any were.
    fn rows_as(&self, plan: LogicalPlan, declared: Option<&SchemaRef>) -> Result<LogicalPlan> {
        let Some(declared) = declared else {
            // Without qualifiers, so that equal names of two tables are seen as such.
            return Ok(plan);
        };
        let found = plan.schema().fields().len();
        if found != declared.fields().len() {
            let reason = format!(
                "{} columns are declared, the query yields {found}",
                declared.fields().len()
            );
            return Err(self.invalid(reason, None));
        }
        let columns = plan.schema().iter().zip(declared.fields());
        let columns: Vec<Expr> = columns
            .map(|(column, field)| {
                let marks = FieldMetadata::from(field.metadata().clone());
                cast(Expr::from(column), field.data_type().clone())
                    .alias_with_metadata(field.name(), Some(marks))
            })
            .collect();
        Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
    }

    pub(super) fn check_columns(&self, schema: &Schema) -> Result<()> {
        let mut seen = HashSet::new();
        for field in schema.fields() {
            if !seen.insert(field.name().to_lowercase()) {
                let reason = format!("two columns are named `{}`", field.name());
                return Err(self.invalid(reason, Some("give one of them another name with AS")));
            }
            if *field.data_type() == DataType::Null {
                let reason = format!("column `{}` is always null and has no type", field.name());
                return Err(self.invalid(reason, Some("CAST(NULL AS …) gives it one")));
            }
        }
        Ok(())
    }
}

/// What the declaration says of its columns.
pub(super) fn column_comments(columns: &[ColumnDef]) -> BTreeMap<String, String> {
    let comment = |column: &ColumnDef| {
        column
            .options
            .iter()
            .find_map(|option| match &option.option {
                ColumnOption::Comment(text) => Some((names::folded(&column.name), text.clone())),
                _ => None,
            })
    };
    columns.iter().filter_map(comment).collect()
}
