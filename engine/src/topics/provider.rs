//! A topic as a table of DataFusion, as of the moment a statement was planned.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as PlanResult;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use drumline_proto::v1;

use super::codec::{schema_from, schema_ipc};
use super::exec::TopicScanExec;
use super::filter::{instants, narrow};
use super::{POSITION_COLUMNS, Span, TimeOffsets, TopicTimes, ranges};
use crate::{Error, Result};

/// The records of a topic within fixed ranges of offsets.
#[derive(Debug)]
pub struct TopicTable {
    source: Arc<v1::TopicSource>,
    schema: SchemaRef,
    spans: Vec<Span>,
    /// None where the columns say nothing of where a record is: a table's may be named alike.
    times: Option<Arc<dyn TopicTimes>>,
}

impl TopicTable {
    /// Every record of these spans, with where it is. `schema` is Arrow IPC.
    pub fn records(
        source: v1::TopicSource,
        schema: &[u8],
        spans: Vec<Span>,
        times: Arc<dyn TopicTimes>,
    ) -> Result<Self> {
        let schema = schema_from(schema)
            .map_err(|error| Error::bug(format!("a topic's columns cannot be read: {error}")))?;
        Ok(Self {
            source: Arc::new(source),
            schema,
            spans,
            times: Some(times),
        })
    }
}

impl TopicTable {
    /// What a stream would write of these spans to its table, whose columns are `schema`.
    pub fn rows(source: v1::TopicSource, schema: SchemaRef, spans: Vec<Span>) -> Result<Self> {
        let source = v1::TopicSource {
            table_schema: schema_ipc(&schema)?,
            rows: v1::TopicRows::Table.into(),
            ..source
        };
        Ok(Self {
            source: Arc::new(source),
            schema,
            spans,
            times: None,
        })
    }
}

#[async_trait]
impl TableProvider for TopicTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let asks_for_place = |filter: &&Expr| {
            let columns = filter.column_refs();
            columns
                .iter()
                .any(|column| POSITION_COLUMNS.contains(&column.name.as_str()))
        };
        // Ranges are a help and no answer: the filter stays above.
        let supported = |filter| match self.times.is_some() && asks_for_place(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(supported).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let spans = match &self.times {
            None => self.spans.clone(),
            Some(times) => {
                let instants: Vec<i64> = instants(filters).into_iter().collect();
                let times = match instants.is_empty() {
                    true => TimeOffsets::new(),
                    false => times.at(&self.source, &instants).await?,
                };
                narrow(&self.spans, filters, &times)
            }
        };
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        if ranges::offsets(&spans) == 0 {
            return Ok(Arc::new(EmptyExec::new(Arc::new(
                self.schema.project(&columns)?,
            ))));
        }
        let mut groups = ranges::cut(&spans, session.config().target_partitions());
        groups.retain(|group| !group.is_empty());
        let (source, schema) = (Arc::clone(&self.source), Arc::clone(&self.schema));
        Ok(Arc::new(TopicScanExec::try_new(
            source, schema, columns, groups,
        )?))
    }
}
