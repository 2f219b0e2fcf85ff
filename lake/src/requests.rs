//! How often object stores are called, counted for whom it is done: what a bucket bills.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

tokio::task_local! {
    static COUNTED: Requests;
}

/// Calls of object stores that some work took. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<AtomicU64>);

impl Requests {
    /// Calls so far: puts, gets, lists, copies, deletes, and parts of uploads. A call that the store's client
    /// repeats, or splits into pages, is one.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Does some work, and counts the calls that it makes in its own task.
    pub async fn during<F: Future>(&self, work: F) -> F::Output {
        COUNTED.scope(self.clone(), work).await
    }
}

fn called(times: u64) {
    // Nobody asked: work that is not counted.
    let _ = COUNTED.try_with(|requests| requests.0.fetch_add(times, Ordering::Relaxed));
}

/// A store whose calls are counted.
#[derive(Debug)]
pub(crate) struct Counting<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Counting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl<T: ObjectStore> ObjectStore for Counting<T> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        called(1);
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        called(1);
        let upload = self.0.put_multipart_opts(location, options).await?;
        Ok(Box::new(CountingUpload(upload)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        called(1);
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        called(1);
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let locations = locations.inspect(|_| called(1));
        self.0.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        called(1);
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        called(1);
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        called(1);
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        called(1);
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        called(1);
        self.0.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct CountingUpload(Box<dyn MultipartUpload>);

#[async_trait]
impl MultipartUpload for CountingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        called(1);
        self.0.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        called(1);
        self.0.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        called(1);
        self.0.abort().await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn work_is_told_how_often_it_called_a_store() {
        let store = Counting(InMemory::new());
        let path = Path::from("a/b");
        let (mine, others) = (Requests::default(), Requests::default());
        let work = async {
            store.put(&path, PutPayload::from_static(b"x")).await?;
            store.get(&path).await?;
            let mut upload = store.put_multipart(&Path::from("c")).await?;
            upload.put_part(PutPayload::from_static(b"y")).await?;
            upload.complete().await
        };
        mine.during(work).await.unwrap();
        others.during(store.delete(&path)).await.unwrap();
        store.list(None).count().await;
        assert_eq!((mine.count(), others.count()), (5, 1));
    }
}
