//! A topic's SQL, planned once and run on every batch.
//!
//! Only row by row: each row of the result comes from one record, so the record that a failing
//! expression choked on can be found, and a row can carry its record's offset. The optimised plan is
//! taken apart into projections and filters over physical expressions; a hidden last column numbers
//! the rows of the batch.

mod query;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    UInt32Array,
};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::common::tree_node::{self, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, plan_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, Join, LogicalPlan, TryCast, cast};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::SessionContext;

use crate::decode::Origins;
use crate::lookup::{self, Lookups};
use crate::places::Places;
use crate::{Error, Result};
pub use query::ReadQuery;
pub(crate) use query::read;
use query::row_by_row;

/// A planned transform. Shapes: `input` in, [`Transform::schema`] out.
#[derive(Debug)]
pub(crate) struct Transform {
    topic: String,
    places: Places,
    steps: Vec<Step>,
    schema: SchemaRef,
    /// Columns whose values become folders.
    folders: Vec<String>,
}

#[derive(Debug)]
enum Step {
    Select(Vec<usize>),
    Project {
        expressions: Vec<Arc<dyn PhysicalExpr>>,
        names: Vec<String>,
    },
    Filter(Arc<dyn PhysicalExpr>),
    Lookup(lookup::Index),
    Nothing,
}

/// Rows of a table's shape, and which rows of the batch they came from.
#[derive(Debug)]
pub(crate) struct Transformed {
    pub rows: RecordBatch,
    pub sources: UInt32Array,
    /// Rows of the batch that an expression failed on, and its words.
    pub refused: Vec<(usize, String)>,
}

impl Transform {
    /// Plans `sql` over `input` alone.
    #[cfg(test)]
    pub(crate) async fn plan(
        session: &SessionContext,
        topic: &str,
        sql: &str,
        input: SchemaRef,
    ) -> Result<Self> {
        Self::plan_with(session, topic, sql, input, &Lookups::new()).await
    }

    /// Plans `sql` over `input` and the tables of `lookups`; empty SQL keeps every field as it is.
    pub(crate) async fn plan_with(
        session: &SessionContext,
        topic: &str,
        sql: &str,
        input: SchemaRef,
        lookups: &Lookups,
    ) -> Result<Self> {
        let failed = |reason: String| Error::Transform {
            topic: topic.to_owned(),
            reason,
        };
        if sql.trim().is_empty() {
            return Ok(Self {
                topic: topic.to_owned(),
                places: Places::one(topic),
                steps: Vec::new(),
                schema: input,
                folders: Vec::new(),
            });
        }
        let words = |error: DataFusionError| failed(message(&error));
        let _ = session.deregister_table("input");
        session
            .register_table("input", Arc::new(EmptyTable::new(input)))
            .map_err(words)?;
        lookup::register(session, lookups).map_err(words)?;
        let state = session.state();
        let query = read(session, sql).map_err(failed)?;
        let plan = state.statement_to_plan(query).await.map_err(words)?;
        row_by_row(&plan, lookups).map_err(failed)?;
        let plan = state.optimize(&plan).map_err(words)?;
        let names = plan
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone());
        if let Some(twice) = first_repeated(names) {
            return Err(failed(format!(
                "two columns of the result are named {twice}"
            )));
        }
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let mut steps = Vec::new();
        let assembly = Assembly { session, topic };
        assembly.take_apart(&plan, &mut steps).await?;
        Ok(Self {
            topic: topic.to_owned(),
            places: Places::one(topic),
            steps,
            schema,
            folders: Vec::new(),
        })
    }

    /// Has records come from these topics.
    pub(crate) fn reading(mut self, places: &Places) -> Self {
        self.places = places.clone();
        self
    }

    /// Has values of these columns be the names of folders.
    pub(crate) fn into_folders(mut self, folders: Vec<String>) -> Self {
        self.folders = folders;
        self
    }

    /// What the SQL results in, before it is fitted to a table.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Runs the batch and fits the result to `table`; metadata columns are added where it has them.
    pub(crate) fn apply(
        &self,
        batch: &RecordBatch,
        origins: &Origins,
        table: &SchemaRef,
    ) -> Result<Transformed> {
        let count = u32::try_from(batch.num_rows()).map_err(|_| Error::Bug {
            context: "a batch of too many rows".to_owned(),
        })?;
        let numbered = with_column(batch, Arc::new(UInt32Array::from_iter_values(0..count)))
            .map_err(|error| self.bug(&error))?;
        let mut refused = Vec::new();
        let mut parts = Vec::new();
        self.run(numbered, origins, table, &mut parts, &mut refused)?;
        let rows = arrow::compute::concat_batches(table, parts.iter().map(|(rows, _)| rows))
            .map_err(|error| self.bug(&error))?;
        let sources = parts
            .iter()
            .flat_map(|(_, sources)| sources.values().iter().copied())
            .collect();
        Ok(Transformed {
            rows,
            sources,
            refused,
        })
    }

    /// Halves a failing batch until the rows that fail stand alone.
    fn run(
        &self,
        numbered: RecordBatch,
        origins: &Origins,
        table: &SchemaRef,
        parts: &mut Vec<(RecordBatch, UInt32Array)>,
        refused: &mut Vec<(usize, String)>,
    ) -> Result<()> {
        match self
            .evaluate(numbered.clone())
            .and_then(|result| self.fit(&result, origins, table))
        {
            Ok(part) => parts.push(part),
            Err(error) if numbered.num_rows() <= 1 => {
                let row = numbering(&numbered)?
                    .values()
                    .first()
                    .copied()
                    .unwrap_or_default();
                refused.push((row as usize, format!("transform: {}", message(&error))));
            }
            Err(_) => {
                let half = numbered.num_rows() / 2;
                self.run(numbered.slice(0, half), origins, table, parts, refused)?;
                self.run(
                    numbered.slice(half, numbered.num_rows() - half),
                    origins,
                    table,
                    parts,
                    refused,
                )?;
            }
        }
        Ok(())
    }

    fn evaluate(&self, mut batch: RecordBatch) -> datafusion::error::Result<RecordBatch> {
        for step in &self.steps {
            let last = batch.num_columns().saturating_sub(1);
            batch = match step {
                Step::Select(columns) => {
                    let columns: Vec<usize> = columns.iter().copied().chain([last]).collect();
                    batch.project(&columns)?
                }
                Step::Lookup(index) => index.join(&batch)?,
                Step::Nothing => batch.slice(0, 0),
                Step::Filter(predicate) => {
                    let keep = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
                    filter_record_batch(&batch, keep.as_boolean())?
                }
                Step::Project { expressions, names } => {
                    let mut columns: Vec<ArrayRef> = Vec::with_capacity(expressions.len() + 1);
                    let mut fields = Vec::with_capacity(expressions.len() + 1);
                    for (expression, name) in expressions.iter().zip(names) {
                        let column = expression.evaluate(&batch)?.into_array(batch.num_rows())?;
                        fields.push(Field::new(name, column.data_type().clone(), true));
                        columns.push(column);
                    }
                    columns.push(Arc::clone(batch.column(last)));
                    fields.push(Field::new("", DataType::UInt32, false));
                    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?
                }
            };
        }
        Ok(batch)
    }

    fn fit(
        &self,
        result: &RecordBatch,
        origins: &Origins,
        table: &SchemaRef,
    ) -> datafusion::error::Result<(RecordBatch, UInt32Array)> {
        let rows =
            numbering(result).map_err(|error| DataFusionError::Internal(error.to_string()))?;
        let positions = || {
            rows.values()
                .iter()
                .filter_map(|row| origins.position(*row as usize))
        };
        let strict = CastOptions {
            safe: false,
            ..Default::default()
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(table.fields().len());
        for field in table.fields() {
            // The hidden column has no name; the result's columns come before it.
            let column: ArrayRef = match (self.schema.index_of(field.name()), field.name().as_str())
            {
                (Ok(index), _) => {
                    cast_with_options(result.column(index), field.data_type(), &strict)?
                }
                (Err(_), "_topic") => Arc::new(
                    positions()
                        .map(|(place, _)| Some(self.places.topic(place)))
                        .collect::<StringArray>(),
                ),
                (Err(_), "_partition") => Arc::new(
                    positions()
                        .map(|(place, _)| self.places.partition(place))
                        .collect::<Int32Array>(),
                ),
                (Err(_), "_offset") => Arc::new(
                    positions()
                        .map(|(_, offset)| offset)
                        .collect::<Int64Array>(),
                ),
                (Err(_), _) => arrow::array::new_null_array(field.data_type(), rows.len()),
            };
            if let Some(text) = column.as_string_opt::<i32>()
                && self.folders.contains(field.name())
            {
                let mut values = text.iter().flatten();
                let long = values.find_map(|value| drumline_lake::too_long(field.name(), value));
                if let Some(reason) = long {
                    return Err(DataFusionError::Execution(reason));
                }
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok((
            RecordBatch::try_new_with_options(Arc::clone(table), columns, &options)?,
            rows,
        ))
    }

    fn bug(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Bug {
            context: format!("transform of topic {}: {error}", self.topic),
        }
    }
}

fn with_column(batch: &RecordBatch, column: ArrayRef) -> arrow::error::Result<RecordBatch> {
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("", DataType::UInt32, false)));
    let mut columns = batch.columns().to_vec();
    columns.push(column);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn numbering(batch: &RecordBatch) -> Result<UInt32Array> {
    let column = batch
        .columns()
        .last()
        .and_then(|column| column.as_primitive_opt::<UInt32Type>());
    column.cloned().ok_or_else(|| Error::Bug {
        context: "a batch lost its row numbers".to_owned(),
    })
}

/// Makes steps of an optimised plan.
struct Assembly<'a> {
    session: &'a SessionContext,
    topic: &'a str,
}

impl Assembly<'_> {
    fn failed(&self, error: DataFusionError) -> Error {
        Error::Transform {
            topic: self.topic.to_owned(),
            reason: message(&error),
        }
    }

    fn physical(&self, expression: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let (state, context) = (self.session.state(), PhysicalPlanningContext::default());
        check_zones(expression)
            .and_then(|()| without_zones(expression.clone(), schema))
            .and_then(|expression| {
                create_physical_expr(&expression, schema, state.execution_props(), &context)
            })
            .map_err(|error| self.failed(error))
    }

    /// Steps of a plan, from its scan upwards.
    fn take_apart<'b>(
        &'b self,
        plan: &'b LogicalPlan,
        steps: &'b mut Vec<Step>,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'b>> {
        Box::pin(async move {
            match plan {
                LogicalPlan::TableScan(scan)
                    if scan.filters.is_empty()
                        && scan.fetch.is_none()
                        && scan.table_name.table() == "input" =>
                {
                    if let Some(columns) = &scan.projection {
                        steps.push(Step::Select(columns.clone()));
                    }
                }
                // The optimiser found that no row can pass. What is above has its schema.
                LogicalPlan::EmptyRelation(empty) => {
                    let fields = empty.schema.fields().iter();
                    let nulls = fields.clone().map(|field| null_of(field.data_type()));
                    let expressions = nulls.collect::<datafusion::error::Result<_>>();
                    steps.push(Step::Nothing);
                    steps.push(Step::Project {
                        expressions: expressions.map_err(|error| self.failed(error))?,
                        names: fields.map(|field| field.name().clone()).collect(),
                    });
                }
                LogicalPlan::SubqueryAlias(alias) => self.take_apart(&alias.input, steps).await?,
                LogicalPlan::Filter(filter) => {
                    self.take_apart(&filter.input, steps).await?;
                    let predicate = self.physical(&filter.predicate, filter.input.schema())?;
                    steps.push(Step::Filter(predicate));
                }
                LogicalPlan::Projection(projection) => {
                    self.take_apart(&projection.input, steps).await?;
                    let input = projection.input.schema();
                    let expressions = projection.expr.iter();
                    steps.push(Step::Project {
                        expressions: expressions
                            .map(|expression| self.physical(expression, input))
                            .collect::<Result<_>>()?,
                        names: projection
                            .schema
                            .fields()
                            .iter()
                            .map(|field| field.name().clone())
                            .collect(),
                    });
                }
                LogicalPlan::Join(join) => {
                    self.take_apart(&join.left, steps).await?;
                    steps.push(Step::Lookup(self.index(join).await?));
                }
                other => {
                    return Err(self.failed(DataFusionError::Plan(format!(
                        "the planner made a step that streams do not run: {}",
                        other.display()
                    ))));
                }
            }
            Ok(())
        })
    }

    async fn index(&self, join: &Join) -> Result<lookup::Index> {
        if let Some(reason) = lookup::refusal(join) {
            return Err(self.failed(DataFusionError::Plan(reason)));
        }
        let rows = lookup::right_rows(self.session, &join.right).await;
        let rows = rows.map_err(|error| self.failed(error))?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (left, right) in &join.on {
            ours.push(self.physical(left, join.left.schema())?);
            theirs.push(self.physical(right, join.right.schema())?);
        }
        let inner = join.join_type == JoinType::Inner;
        lookup::Index::new(&scanned(&join.right), ours, &theirs, rows, inner)
    }
}

/// The table that a plan reads, for messages.
fn scanned(plan: &LogicalPlan) -> String {
    let mut table = String::new();
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            table = scan.table_name.to_string();
        }
        Ok(TreeNodeRecursion::Continue)
    });
    table
}

/// Refuses zones that there are not: the first record would find out.
fn check_zones(expression: &Expr) -> datafusion::error::Result<()> {
    let check = |part: &Expr| {
        if let Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) = part
            && let DataType::Timestamp(_, Some(zone)) = field.data_type()
            && zone.parse::<Tz>().is_err()
        {
            return plan_err!("there is no time zone '{zone}': name one as in 'Europe/Berlin'");
        }
        Ok(TreeNodeRecursion::Continue)
    };
    expression.apply(check).map(|_| ())
}

/// Takes parts of times in UTC from the same times without a zone: no rules of zones are looked up for each row.
fn without_zones(expression: Expr, schema: &DFSchema) -> datafusion::error::Result<Expr> {
    let changed = expression.transform_up(|mut expression| {
        if let Expr::ScalarFunction(function) = &mut expression
            && function.name() == "date_part"
            && let [_, time] = function.args.as_mut_slice()
            && let DataType::Timestamp(unit, Some(zone)) = time.get_type(schema)?
            && is_utc(&zone)
        {
            *time = cast(time.clone(), DataType::Timestamp(unit, None));
            return Ok(tree_node::Transformed::yes(expression));
        }
        Ok(tree_node::Transformed::no(expression))
    });
    changed.map(|changed| changed.data)
}

/// Whether a time's zone is UTC.
pub(crate) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Z" | "+00:00")
}

fn null_of(data_type: &DataType) -> datafusion::error::Result<Arc<dyn PhysicalExpr>> {
    let null = datafusion::common::ScalarValue::try_from(data_type)?;
    Ok(datafusion::physical_expr::expressions::lit(null))
}

fn first_repeated(names: impl Iterator<Item = String>) -> Option<String> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(name.clone()))
}

/// DataFusion's words, with line and column where it knows them.
fn message(error: &DataFusionError) -> String {
    let root = error.find_root();
    let mut text = root.strip_backtrace();
    for prefix in [
        "Error during planning: ",
        "Schema error: ",
        "SQL error: ",
        "Arrow error: ",
        "Execution error: ",
    ] {
        if let Some(rest) = text.strip_prefix(prefix) {
            text = rest.to_owned();
        }
    }
    let position = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span)
        .map(|span| span.start);
    position.map_or(text.clone(), |start| {
        format!("{text} (line {}, column {})", start.line, start.column)
    })
}

#[cfg(test)]
mod tests;
