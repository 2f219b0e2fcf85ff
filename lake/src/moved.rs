//! Where files of plain Parquet tables lie once a commit has taken them away: `<root>/_drumline/replaced/…`, with
//! the path that they had under the root.
//!
//! Whoever lists a table's folder must not find them there any more, and queries that began before must still read
//! them. So they are moved out of the folder, and every scan looks there for a file that is gone: on any worker,
//! under any master, with nothing to be told.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};

use crate::root::OWN_FOLDER;

const REPLACED: &str = "replaced";

/// Where a file under a lake's root goes; `None` for one that is elsewhere.
pub(crate) fn place_of(root: &Path, file: &str) -> Option<String> {
    let below = match root.as_ref() {
        "" => file,
        root => file.strip_prefix(root)?.strip_prefix('/')?,
    };
    Some(joined(root.as_ref(), below))
}

/// The path that a moved file had.
pub(crate) fn place_before(root: &Path, moved: &str) -> Option<String> {
    let prefix = joined(root.as_ref(), "");
    let below = moved.strip_prefix(&prefix)?;
    Some(match root.as_ref() {
        "" => below.to_owned(),
        root => format!("{root}/{below}"),
    })
}

fn joined(root: &str, below: &str) -> String {
    match root {
        "" => format!("{OWN_FOLDER}/{REPLACED}/{below}"),
        root => format!("{root}/{OWN_FOLDER}/{REPLACED}/{below}"),
    }
}

/// Every place that a file may have been moved to: any folder above it may be the root of its lake.
fn places(file: &Path) -> Vec<Path> {
    let text = file.as_ref();
    let is_table_file = text.ends_with(".parquet") && !text.contains(OWN_FOLDER);
    if !is_table_file {
        return Vec::new();
    }
    let ends = text.match_indices('/').map(|(at, _)| at);
    let above = std::iter::once(("", text)).chain(ends.map(|at| (&text[..at], &text[at + 1..])));
    above
        .filter(|(_, below)| below.contains('/'))
        .filter_map(|(root, below)| Path::parse(joined(root, below)).ok())
        .collect()
}

/// A store that follows files which were moved while they were read.
#[derive(Debug)]
pub(crate) struct Following {
    inner: Arc<dyn ObjectStore>,
}

impl Following {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner }
    }
}

impl fmt::Display for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Following {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let gone = match self.inner.get_opts(location, options.clone()).await {
            Err(gone @ StoreError::NotFound { .. }) => gone,
            other => return other,
        };
        for place in places(location) {
            match self.inner.get_opts(&place, options.clone()).await {
                Err(StoreError::NotFound { .. }) => {}
                other => return other,
            }
        }
        Err(gone)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let gone = match self.inner.get_ranges(location, ranges).await {
            Err(gone @ StoreError::NotFound { .. }) => gone,
            other => return other,
        };
        for place in places(location) {
            match self.inner.get_ranges(&place, ranges).await {
                Err(StoreError::NotFound { .. }) => {}
                other => return other,
            }
        }
        Err(gone)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_place_tells_where_its_file_was() {
        for (root, file, place) in [
            (
                "lake",
                "lake/t/p=1/a.parquet",
                "lake/_drumline/replaced/t/p=1/a.parquet",
            ),
            ("", "t/a.parquet", "_drumline/replaced/t/a.parquet"),
        ] {
            let root = Path::parse(root).unwrap();
            assert_eq!(place_of(&root, file).as_deref(), Some(place));
            assert_eq!(place_before(&root, place).as_deref(), Some(file));
        }
        assert_eq!(place_of(&Path::from("lake"), "lakes/t/a.parquet"), None);
    }

    #[tokio::test]
    async fn a_file_that_was_moved_is_read_and_one_that_is_gone_is_not() {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let file = Path::from("bucket/lake/t/p=1/a.parquet");
        let place = place_of(&Path::from("bucket/lake"), file.as_ref()).unwrap();
        inner
            .put(&Path::parse(place).unwrap(), "rows".into())
            .await
            .unwrap();
        let store = Following::new(inner);
        assert_eq!(store.head(&file).await.unwrap().size, 4);
        assert_eq!(store.get_range(&file, 1..3).await.unwrap(), "ow");
        assert_eq!(
            store.get_ranges(&file, &[0..1, 3..4]).await.unwrap(),
            ["r", "s"]
        );
        let other = Path::from("bucket/lake/t/p=1/b.parquet");
        let error = store.get(&other).await.unwrap_err();
        assert!(error.to_string().contains("t/p=1/b.parquet"), "{error}");
        assert!(store.get_ranges(&other, &[0..1, 2..3]).await.is_err());
    }
}
