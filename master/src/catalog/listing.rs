//! The catalog for prompts, completion and SDK handles.

use std::collections::BTreeMap;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use drumline_engine::Engine;
use drumline_engine::Planned;
use drumline_lake::{Format, Object, ObjectKind, TableName};
use drumline_proto::v1::TableEntry;

use super::{Names, PinnedTables};
use crate::{Result, system};

impl Names {
    /// Every table and view with its schema. One that cannot be read is listed without.
    pub(crate) async fn entries(&self, engine: &Engine) -> Result<Vec<TableEntry>> {
        let pinned = self.pin().await?;
        let mut entries = vec![];
        for (name, object) in pinned.catalog().objects() {
            let described = describe(engine, &pinned, &name, object).await;
            let (schema, partition_columns) = described.unwrap_or_else(|error| {
                tracing::warn!(table = %name, %error, "cannot read the table's schema");
                (None, vec![])
            });
            entries.push(entry(name, object, schema, partition_columns));
        }
        entries.extend(system::names().map(|name| {
            TableEntry {
                schema: system::SCHEMA.to_owned(),
                name: name.to_owned(),
                kind: "system".to_owned(),
                schema_ipc: system::schema(name)
                    .map(|schema| schema_ipc(&schema))
                    .unwrap_or_default(),
                ..TableEntry::default()
            }
        }));
        Ok(entries)
    }
}

type Described = (Option<SchemaRef>, Vec<String>);

async fn describe(
    engine: &Engine,
    pinned: &std::sync::Arc<PinnedTables>,
    name: &TableName,
    object: &Object,
) -> Result<Described> {
    if object.kind != ObjectKind::View {
        let snapshot = pinned.snapshot(name, object).await?;
        return Ok((Some(snapshot.schema), snapshot.partition_columns));
    }
    let quoted = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    let sql = format!(
        "SELECT * FROM {}.{}",
        quoted(&name.schema),
        quoted(&name.name)
    );
    let mut schema = None;
    for statement in engine.parse(&sql)? {
        let planned = engine
            .plan(&statement, pinned.clone(), &BTreeMap::new())
            .await?;
        if let Planned::Query(query) = planned {
            schema = Some(query.schema());
        }
    }
    Ok((schema, vec![]))
}

fn entry(
    name: TableName,
    object: &Object,
    schema: Option<SchemaRef>,
    partition_columns: Vec<String>,
) -> TableEntry {
    let (format, location) = match object.kind {
        ObjectKind::View => ("", ""),
        ObjectKind::External | ObjectKind::Table => {
            (format_name(object.format), object.location.as_str())
        }
    };
    TableEntry {
        schema: name.schema,
        name: name.name,
        kind: object.kind.word().to_owned(),
        format: format.to_owned(),
        location: location.to_owned(),
        schema_ipc: schema.map(|schema| schema_ipc(&schema)).unwrap_or_default(),
        partition_columns,
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Delta => "delta",
        Format::Parquet => "parquet",
    }
}

/// A schema as an Arrow IPC stream without batches.
pub(crate) fn schema_ipc(schema: &Schema) -> Vec<u8> {
    let mut bytes = vec![];
    let written = StreamWriter::try_new(&mut bytes, schema).and_then(|mut writer| writer.finish());
    if let Err(error) = written {
        tracing::error!(%error, "cannot encode a schema");
        bytes.clear();
    }
    bytes
}
