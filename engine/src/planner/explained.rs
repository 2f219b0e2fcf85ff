//! `EXPLAIN` of a statement that writes: what it would run, and nothing of it runs.

use super::{Copy, Planned, Planner, Write, WriteMode};
use crate::Result;
use crate::explain::Steps;
use crate::lake_write::LakeWrite;
use crate::sql::{Body, Statement};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use drumline_lake::{Format, TableSnapshot, WriteTarget};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;

impl Planner<'_> {
    /// The plans of another statement, as a query that yields them. Boxed, because it plans in turn.
    pub(super) fn explain_write<'b>(&'b self, body: &'b Body) -> BoxFuture<'b, Result<Planned>> {
        async move {
            let statement = Statement {
                body: body.clone(),
                ..self.statement.clone()
            };
            let planner = Planner {
                statement: &statement,
                base: self.base.clone(),
                tables: Arc::clone(&self.tables),
                settings: self.settings,
            };
            let steps = match planner.plan().await? {
                Planned::Write(write) => {
                    let snapshot = match write.mode {
                        WriteMode::Create(_) => None,
                        _ => self.tables.snapshot(&write.table).await?,
                    };
                    of_write(write, snapshot.as_ref())?
                }
                Planned::Copy(copy) => of_copy(copy)?,
                _ => {
                    return Err(self.invalid(
                        "EXPLAIN of a statement that runs nothing",
                        Some("EXPLAIN takes queries, INSERT, DELETE, UPDATE, MERGE, COPY, OPTIMIZE and CREATE TABLE … AS"),
                    ));
                }
            };
            let plan = LogicalPlanBuilder::from(Steps::plan(steps))
                .explain(false, false)?
                .build()?;
            Ok(Planned::Query(self.query(plan)))
        }
        .boxed()
    }
}

fn of_write(
    write: Write,
    snapshot: Option<&TableSnapshot>,
) -> Result<Vec<(&'static str, LogicalPlan)>> {
    let sources = write.sources().iter();
    let mut steps: Vec<_> = sources
        .map(|source| ("source", source.shown().clone()))
        .collect();
    if let Some(search) = write.search() {
        steps.push(("search", search.plan));
    }
    let (format, partition_by) = match (&write.mode, snapshot) {
        (WriteMode::Create(create), _) => (create.format, create.partition_by.clone()),
        (_, Some(snapshot)) => (snapshot.format, snapshot.partition_columns.clone()),
        (_, None) => (Format::Delta, Vec::new()),
    };
    let (table, schema) = (write.table.to_string(), write.input.schema());
    let target = WriteTarget::unwritten(&table, format, &schema, partition_by)?;
    steps.push(("write", LakeWrite::plan(write.input.plan, target)?));
    Ok(steps)
}

fn of_copy(copy: Copy) -> Result<Vec<(&'static str, LogicalPlan)>> {
    let schema = copy.input.schema();
    let partition_by = copy.partition_by.clone();
    let target = WriteTarget::unwritten(&copy.location, Format::Parquet, &schema, partition_by)?;
    Ok(vec![("write", LakeWrite::plan(copy.input.plan, target)?)])
}
