//! The schema `system`: what the cluster knows of itself, as tables to query.
//!
//! Rows are the records of `facts` as of the statement's beginning, so that a query over several of these
//! tables sees one moment. `columns.rs` says which columns there are; nothing here is stored.

mod columns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use serde_json::{Map, Value, json};

use crate::facts::History;
use columns::TABLES;

/// The schema's name. No table of a lake can be in it.
pub(crate) use drumline_engine::SYSTEM_SCHEMA as SCHEMA;

/// The names of its tables.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.name)
}

/// A table of this schema; nothing if there is none of this name.
pub(crate) fn table(
    name: &str,
    history: &History,
) -> drumline_engine::Result<Option<Arc<dyn TableProvider>>> {
    let Some(table) = TABLES.iter().find(|table| table.name == name) else {
        return Ok(None);
    };
    let schema = table.schema();
    let batch = encode(&schema, (table.rows)(history))?;
    Ok(Some(Arc::new(MemTable::try_new(
        schema,
        vec![vec![batch]],
    )?)))
}

/// The schema of a table, for listings.
pub(crate) fn schema(name: &str) -> Option<SchemaRef> {
    let table = TABLES.iter().find(|table| table.name == name)?;
    Some(table.schema())
}

fn encode(schema: &SchemaRef, rows: Vec<Value>) -> drumline_engine::Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema))
        .build_decoder()
        .map_err(datafusion::error::DataFusionError::from)?;
    let rows: Vec<Value> = rows.into_iter().map(flat).collect();
    decoder
        .serialize(&rows)
        .map_err(datafusion::error::DataFusionError::from)?;
    let batch = decoder
        .flush()
        .map_err(datafusion::error::DataFusionError::from)?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema))))
}

/// One level of columns: `metrics` and `failure` are taken apart, and a time that has not come is null.
fn flat(row: Value) -> Value {
    let Value::Object(fields) = row else {
        return row;
    };
    let mut columns = Map::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("metrics", Value::Object(metrics)) => {
                for (name, value) in metrics {
                    // A job and its head both say how long they took: the job's own counts.
                    columns.entry(name).or_insert(value);
                }
            }
            ("failure", Value::Object(failure)) => {
                let field = |name: &str| failure.get(name).cloned().unwrap_or(Value::Null);
                columns.insert("error_kind".to_owned(), field("kind"));
                columns.insert("error".to_owned(), field("message"));
                columns.insert("hint".to_owned(), field("hint"));
            }
            (name, value) if name.ends_with("_at") || name == "at" || name == "since" => {
                let is_unset = value == json!(0);
                columns.insert(name.to_owned(), if is_unset { Value::Null } else { value });
            }
            (_, value) => {
                columns.insert(name, value);
            }
        }
    }
    Value::Object(columns)
}
