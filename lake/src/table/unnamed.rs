//! Tables whose files nobody will find by a name: `<root>/_drumline/unnamed/<id>.json`.
//!
//! A record is written before a table's first file, and before its name is taken away. So whatever crashes, what is
//! left can be found: by upkeep, which deletes the files of a table that has no name, is old enough and is read by
//! nobody. A record of a table that has a name says nothing.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::record_log::{decode, encode};
use crate::{Error, Lake, Object, ObjectKind, Result, TableName};

/// The newest format that is read.
const RECORD_FORMAT: u32 = 1;

/// Why a table may have no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// It gets its name once its first rows are in.
    Making,
    /// `DROP`: its files go as soon as nobody reads them.
    Dropped,
    /// Another table took its place; queries elsewhere may still read it.
    Replaced,
}

/// A table that may have no name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unnamed {
    format: u32,
    /// The name that it had or was to have.
    pub(crate) name: TableName,
    pub(crate) object: Object,
    pub(crate) since: DateTime<Utc>,
    pub(crate) why: Why,
}

fn folder(lake: &Lake) -> Path {
    lake.own_folder().join("unnamed")
}

fn place(lake: &Lake, id: Uuid) -> Path {
    folder(lake).join(format!("{id}.json"))
}

/// Writes down that a table may have no name from now on. Views and external tables have no files of ours.
pub(crate) async fn note(lake: &Lake, name: &TableName, object: &Object, why: Why) -> Result<()> {
    if object.kind != ObjectKind::Table {
        return Ok(());
    }
    let record = Unnamed {
        format: RECORD_FORMAT,
        name: name.clone(),
        object: object.clone(),
        since: Utc::now(),
        why,
    };
    let path = place(lake, object.id);
    let put = lake.store().put(&path, encode(&record)?.into()).await;
    put.map(|_| ())
        .map_err(|source| Error::store("write", &path, source))
}

/// Takes a record away. One that stays is looked at again by upkeep.
pub(crate) async fn forget(lake: &Lake, id: Uuid) {
    match lake.store().delete(&place(lake, id)).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => {}
        Err(error) => tracing::debug!(%id, %error, "a record of a table stays"),
    }
}

/// All records.
pub(crate) async fn all(lake: &Lake) -> Result<Vec<Unnamed>> {
    let folder = folder(lake);
    let store = lake.store();
    let listed: Vec<_> = store
        .list(Some(&folder))
        .try_collect()
        .await
        .map_err(|source| Error::store("list", &folder, source))?;
    let mut found = Vec::with_capacity(listed.len());
    for meta in listed {
        let failed = |source| Error::store("read", &meta.location, source);
        let bytes = match store.get(&meta.location).await {
            Ok(got) => got.bytes().await.map_err(failed)?,
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => return Err(failed(error)),
        };
        let record: Unnamed = decode(&meta.location, &bytes)?;
        if record.format > RECORD_FORMAT {
            return Err(Error::Corrupt {
                path: meta.location.to_string(),
                reason: format!(
                    "it is in format {}, and this build reads format {RECORD_FORMAT}",
                    record.format
                ),
            });
        }
        found.push(record);
    }
    Ok(found)
}
