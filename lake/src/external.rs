//! Folders of Parquet files that others write: read only, and listed anew for each snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use crate::hive::{NULL_VALUE, percent_decode};
use crate::root::path_of;
use crate::{DataFile, Error, Lake, Object, Result, TableName, TableSnapshot, columns};

/// Footers that are read at the same time.
const READING: usize = 16;

impl TableSnapshot {
    /// What an external table holds now: every `.parquet` file under its folder whose name does not begin
    /// with `_` or `.`. Folders named `column=value` are partition columns, integers where all values are.
    pub async fn of_external(lake: &Lake, name: &TableName, object: &Object) -> Result<Self> {
        let store = lake.stores().get(&object.location)?;
        let folder = path_of(&object.location)?;
        let mut found: Vec<ObjectMeta> = store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|source| Error::store("list", folder.as_ref(), source))?;
        found.retain(|file| is_data(&folder, &file.location));
        found.sort_by(|a, b| a.location.cmp(&b.location));
        if found.is_empty() {
            return Err(Error::External {
                table: name.to_string(),
                reason: format!("there is no Parquet file under {}", object.location),
            });
        }
        let reads: Vec<BoxFuture<'_, Result<(SchemaRef, u64)>>> = found
            .iter()
            .map(|file| footer(name, &store, file).boxed())
            .collect();
        let footers: Vec<(SchemaRef, u64)> =
            stream::iter(reads).buffered(READING).try_collect().await?;

        let folders: Vec<Vec<(String, String)>> = found
            .iter()
            .map(|file| partition_of(&folder, &file.location))
            .collect();
        let partition_columns: Vec<String> = folders[0]
            .iter()
            .map(|(column, _)| column.clone())
            .collect();
        if let Some(odd) = folders.iter().position(|folders| {
            !folders
                .iter()
                .map(|(column, _)| column)
                .eq(partition_columns.iter())
        }) {
            return Err(Error::External {
                table: name.to_string(),
                reason: format!(
                    "the folders of {} do not name the partition columns ({}) of the files before it",
                    found[odd].location,
                    partition_columns.join(", ")
                ),
            });
        }
        let schema = whole_schema(name, &footers, &folders, &partition_columns)?;
        let files = found
            .iter()
            .zip(&footers)
            .zip(&folders)
            .map(|((file, (_, rows)), folders)| {
                let path = file.location.as_ref()[folder.as_ref().len()..]
                    .trim_start_matches('/')
                    .to_owned();
                let values = folders
                    .iter()
                    .map(|(_, value)| (value != NULL_VALUE).then(|| value.clone()));
                Arc::new(DataFile::new(
                    path,
                    file.size,
                    *rows,
                    values.collect(),
                    None,
                ))
            });
        Ok(Self {
            name: name.clone(),
            location: object.location.clone(),
            version: 0,
            schema,
            partition_columns,
            files: files.collect(),
            offsets: BTreeMap::new(),
        })
    }
}

fn is_data(folder: &Path, file: &Path) -> bool {
    let Some(mut parts) = file.prefix_match(folder) else {
        return false;
    };
    file.as_ref().ends_with(".parquet") && !parts.any(|part| part.as_ref().starts_with(['_', '.']))
}

async fn footer(
    name: &TableName,
    store: &Arc<dyn ObjectStore>,
    file: &ObjectMeta,
) -> Result<(SchemaRef, u64)> {
    let broken = |reason: String| Error::External {
        table: name.to_string(),
        reason: format!("{}: {reason}", file.location),
    };
    let metadata = DFParquetMetadata::new(store.as_ref(), file)
        .fetch_metadata()
        .await
        .map_err(|error| broken(error.to_string()))?;
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
    let metadata = ArrowReaderMetadata::try_new(metadata, Default::default())
        .map_err(|error| broken(error.to_string()))?;
    Ok((columns::plain(metadata.schema()), rows))
}

/// `column=value` for each folder between the table's and the file.
fn partition_of(folder: &Path, file: &Path) -> Vec<(String, String)> {
    let parts = file.prefix_match(folder).into_iter().flatten();
    parts
        .filter_map(|part| {
            let (column, value) = part.as_ref().split_once('=')?;
            Some((percent_decode(column), percent_decode(value)))
        })
        .collect()
}

/// The files' columns together, then the partition columns.
fn whole_schema(
    name: &TableName,
    footers: &[(SchemaRef, u64)],
    folders: &[Vec<(String, String)>],
    partition_columns: &[String],
) -> Result<SchemaRef> {
    let schemas = footers.iter().map(|(schema, _)| schema.as_ref().clone());
    let files = Schema::try_merge(schemas).map_err(|error| Error::External {
        table: name.to_string(),
        reason: format!("its files do not have the same columns: {error}"),
    })?;
    let mut fields: Vec<Arc<Field>> = files
        .fields()
        .iter()
        .filter(|field| !partition_columns.contains(field.name()))
        .cloned()
        .collect();
    for (at, column) in partition_columns.iter().enumerate() {
        let whole = folders
            .iter()
            .all(|folders| folders[at].1 == NULL_VALUE || folders[at].1.parse::<i64>().is_ok());
        let kind = if whole {
            DataType::Int64
        } else {
            DataType::Utf8
        };
        fields.push(Arc::new(Field::new(column, kind, true)));
    }
    Ok(Arc::new(Schema::new(fields)))
}
