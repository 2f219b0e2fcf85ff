//! The catalog for prompts, completion and SDK handles.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use drumline_engine::{Engine, Planned, Tables};
use drumline_lake::{Object, ObjectKind, TableName};
use drumline_proto::v1::TableEntry;
use futures::{StreamExt, stream};

use super::{Names, PinnedTables};
use crate::{Result, system};

/// How many tables are opened at the same time.
const OPENING: usize = 32;

/// A table, view or external table as it is shown.
pub(crate) struct Entry {
    pub(crate) name: TableName,
    /// `table`, `view`, `external` or `system`.
    pub(crate) kind: &'static str,
    /// Empty for views and `system.*`.
    pub(crate) format: &'static str,
    /// Empty for views and `system.*`.
    pub(crate) location: String,
    /// Nothing where it cannot be read.
    pub(crate) columns: Option<SchemaRef>,
    pub(crate) partition_columns: Vec<String>,
}

impl Names {
    /// Every table and view with its schema. One that cannot be read is listed without.
    pub(crate) async fn entries(&self, engine: &Engine) -> Result<Vec<TableEntry>> {
        let pinned = self.pin().await?;
        let names: Vec<TableName> = pinned.catalog().objects().map(|(name, _)| name).collect();
        // Boxed before they meet the stream, so that the future stays `Send`.
        let opening: Vec<_> = names
            .iter()
            .map(|name| Box::pin(self.entry(engine, &pinned, name)))
            .collect();
        let found: Vec<Option<Entry>> = stream::iter(opening).buffered(OPENING).collect().await;
        let mut entries: Vec<TableEntry> =
            found.into_iter().flatten().map(TableEntry::from).collect();
        entries.extend(
            system::names()
                .filter_map(system_entry)
                .map(TableEntry::from),
        );
        Ok(entries)
    }

    /// One table or view; nothing if there is none of this name.
    pub(crate) async fn entry(
        &self,
        engine: &Engine,
        pinned: &Arc<PinnedTables>,
        name: &TableName,
    ) -> Option<Entry> {
        if name.schema == system::SCHEMA {
            return system_entry(&name.name);
        }
        let object = pinned.catalog().get(name)?;
        let described = describe(engine, pinned, name, object).await;
        let (columns, partition_columns) = described.unwrap_or_else(|error| {
            tracing::warn!(table = %name, %error, "cannot read the table's schema");
            (None, vec![])
        });
        let location = match object.kind {
            ObjectKind::View => "",
            ObjectKind::External | ObjectKind::Table => object.location.as_str(),
        };
        Some(Entry {
            name: name.clone(),
            kind: object.kind.word(),
            format: object.files_word(),
            location: location.to_owned(),
            columns,
            partition_columns,
        })
    }
}

fn system_entry(name: &str) -> Option<Entry> {
    Some(Entry {
        name: TableName::new(system::SCHEMA, name),
        kind: "system",
        format: "",
        location: String::new(),
        columns: Some(system::schema(name)?),
        partition_columns: vec![],
    })
}

impl From<Entry> for TableEntry {
    fn from(entry: Entry) -> Self {
        let columns = entry.columns.map(|schema| schema_ipc(&schema));
        Self {
            schema: entry.name.schema,
            name: entry.name.name,
            kind: entry.kind.to_owned(),
            format: entry.format.to_owned(),
            location: entry.location,
            schema_ipc: columns.unwrap_or_default(),
            partition_columns: entry.partition_columns,
        }
    }
}

type Described = (Option<SchemaRef>, Vec<String>);

async fn describe(
    engine: &Engine,
    pinned: &Arc<PinnedTables>,
    name: &TableName,
    object: &Object,
) -> Result<Described> {
    if let Some(snapshot) = pinned.snapshot(name).await? {
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
    let external = object.external.as_ref();
    let partition_columns = external.map(|external| external.partition_columns.clone());
    Ok((schema, partition_columns.unwrap_or_default()))
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
