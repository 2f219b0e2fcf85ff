//! `INSERT`, `CREATE TABLE` and `CREATE EXTERNAL TABLE`.

use super::{
    CreateTable, Definition, Planned, Planner, Resolved, Write, WriteMode, names, query_statement,
};
use crate::sql::{self, CreateExternal, Position};
use crate::{Error, Result};
use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::parser::DFParser;
use datafusion::sql::sqlparser::ast::{ColumnOption, Ident, ObjectName, Query};
use drumline_lake::Format;
use std::collections::HashSet;
use std::sync::Arc;
use url::Url;

impl Planner<'_> {
    pub(super) async fn insert(
        &self,
        table: &ObjectName,
        columns: &[Ident],
        source: &Query,
    ) -> Result<Planned> {
        let table = self.name(table)?;
        let schema = match self.tables.table(&table).await? {
            Some(Resolved::Table(provider)) => provider.schema(),
            Some(Resolved::External(_)) => {
                let hint = "CREATE TABLE … AS SELECT … makes a table that can be written";
                return Err(self.invalid(
                    format!("`{table}` is an external table: others fill it"),
                    Some(hint),
                ));
            }
            Some(Resolved::View(_)) => {
                let hint = "insert into the tables that it reads";
                return Err(self.invalid(format!("`{table}` is a view"), Some(hint)));
            }
            None => return Err(self.no_such_table(&table)),
        };
        let targets = self.insert_columns(&table.to_string(), columns, &schema)?;
        let plan = self.logical(&query_statement(source)).await?;
        let found = plan.schema().fields().len();
        if found != targets.len() {
            let reason = format!(
                "`{table}` takes {} columns here, the query yields {found}",
                targets.len()
            );
            return Err(self.invalid(
                reason,
                Some("name the columns behind the table, as in t (a, b)"),
            ));
        }
        let mut columns = Vec::with_capacity(found);
        for ((qualifier, field), at) in plan.schema().iter().zip(&targets) {
            let target = schema.field(*at);
            if !can_cast_types(field.data_type(), target.data_type()) {
                let reason = format!(
                    "column `{}` of `{table}` is {}, and {} cannot become that",
                    target.name(),
                    target.data_type(),
                    field.data_type()
                );
                return Err(self.invalid(reason, Some("CAST it in the query")));
            }
            columns.push(Expr::from((qualifier, field)).alias(target.name()));
        }
        let plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
        Ok(Planned::Write(Write {
            table,
            mode: WriteMode::Append,
            input: self.query(plan),
        }))
    }

    /// Where each column of the source goes in the table.
    fn insert_columns(
        &self,
        table: &str,
        columns: &[Ident],
        schema: &SchemaRef,
    ) -> Result<Vec<usize>> {
        if columns.is_empty() {
            return Ok((0..schema.fields().len()).collect());
        }
        let mut targets = Vec::with_capacity(columns.len());
        for column in columns {
            let at = self.column(column, schema)?;
            if targets.contains(&at) {
                return Err(self.invalid(format!("column `{column}` is named twice"), None));
            }
            targets.push(at);
        }
        let missing = schema.fields().iter().enumerate();
        let mut missing =
            missing.filter(|(at, field)| !field.is_nullable() && !targets.contains(at));
        match missing.next() {
            Some((_, field)) => {
                let reason = format!(
                    "column `{}` of `{table}` cannot be null and is not named",
                    field.name()
                );
                Err(self.invalid(reason, None))
            }
            None => Ok(targets),
        }
    }

    fn column(&self, column: &Ident, schema: &Schema) -> Result<usize> {
        let name = names::folded(column);
        schema.index_of(&name).map_err(|_| {
            sql::Error::Unknown {
                kind: "column",
                position: Position::of(column.span.start),
                candidates: sql::candidates(
                    &name,
                    schema.fields().iter().map(|field| field.name().as_str()),
                ),
                name,
            }
            .into()
        })
    }

    pub(super) async fn create_table(&self, create: &sql::CreateTable) -> Result<Planned> {
        let table = self.name(&create.name)?;
        let declared = self.declared(create).await?;
        let input = match &create.source {
            Some(source) => Some(self.rows_as(
                self.logical(&query_statement(source)).await?,
                declared.as_ref(),
            )?),
            None => None,
        };
        let schema = match (&input, declared) {
            (Some(plan), _) => Arc::clone(plan.schema().inner()),
            (None, Some(declared)) => declared,
            (None, None) => {
                return Err(self.invalid("CREATE TABLE takes columns, or AS and a query", None));
            }
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
    async fn declared(&self, create: &sql::CreateTable) -> Result<Option<SchemaRef>> {
        if create.columns.is_empty() {
            return Ok(None);
        }
        for column in &create.columns {
            // Tables hold nullable columns only: a promise that is not kept must not be taken.
            let plain = |option: &ColumnOption| matches!(option, ColumnOption::Null);
            if let Some(option) = column.options.iter().find(|option| !plain(&option.option)) {
                return Err(sql::Error::Invalid {
                    reason: format!(
                        "`{option}` of column `{}` is not supported yet",
                        column.name
                    ),
                    position: Position::of(column.name.span.start),
                    hint: None,
                }
                .into());
            }
        }
        let columns: Vec<String> = create.columns.iter().map(ToString::to_string).collect();
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
                cast(Expr::from(column), field.data_type().clone()).alias(field.name())
            })
            .collect();
        Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
    }

    fn check_columns(&self, schema: &Schema) -> Result<()> {
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

    pub(super) fn create_external(&self, create: &CreateExternal) -> Result<Planned> {
        let table = self.name(&create.name)?;
        let (text, position) = &create.location;
        let folder = format!("{}/", text.trim_end_matches('/'));
        let location = if folder.starts_with('/') {
            Url::from_directory_path(&folder).ok()
        } else {
            Url::parse(&folder).ok()
        };
        let Some(location) = location else {
            return Err(sql::Error::Invalid {
                reason: format!("'{text}' is no location"),
                position: *position,
                hint: Some(
                    "use an absolute path, file:///path, gs://bucket/prefix or s3://bucket/prefix"
                        .to_owned(),
                ),
            }
            .into());
        };
        let if_not_exists = create.if_not_exists;
        Ok(Planned::Definition(Definition::CreateExternal {
            table,
            location,
            if_not_exists,
        }))
    }
}
