//! A store that fails on demand, and what commits make of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use drumline_lake::conformance::{new_table, offer, rows, stage};
use drumline_lake::{Catalog, Change, Error, Format, Lake, Stores, Table, TableName, Writer};
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The put lands, and its answer is an error.
    CreateLandsThenFails,
    /// The put lands, and the client's own repetition finds it there.
    CreateLandsThenExists,
    /// The put does not land.
    CreateFails,
    CopyFails,
    /// The copy lands, its answer is an error.
    CopyLandsThenFails,
}

/// Faults fire once each, in order, on the next call they are about.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Mutex<VecDeque<Fault>>,
    calls: Mutex<Vec<String>>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            faults: Mutex::default(),
            calls: Mutex::default(),
        })
    }

    pub fn plan(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub fn all_fired(&self) -> bool {
        self.faults.lock().unwrap().is_empty()
    }

    /// Calls since the last time, as "verb path".
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn next(&self, wanted: &[Fault]) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        match faults.front() {
            Some(fault) if wanted.contains(fault) => faults.pop_front(),
            _ => None,
        }
    }

    fn note(&self, verb: &str, path: &Path) {
        self.calls.lock().unwrap().push(format!("{verb} {path}"));
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: "503 as planned".into(),
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.note("put", location);
        let creates = [
            Fault::CreateLandsThenFails,
            Fault::CreateLandsThenExists,
            Fault::CreateFails,
        ];
        let fault = match options.mode {
            PutMode::Create => self.next(&creates),
            _ => None,
        };
        if fault == Some(Fault::CreateFails) {
            return Err(failure());
        }
        let done = self.inner.put_opts(location, payload, options).await;
        match fault {
            Some(Fault::CreateLandsThenFails) => done.and(Err(failure())),
            Some(_) => done.and(Err(object_store::Error::AlreadyExists {
                path: location.to_string(),
                source: "412 as planned".into(),
            })),
            None => done,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.note("get", location);
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.note("list", prefix.unwrap_or(&Path::ROOT));
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.note("copy", to);
        match self.next(&[Fault::CopyFails, Fault::CopyLandsThenFails]) {
            Some(Fault::CopyFails) => Err(failure()),
            Some(_) => {
                self.inner.copy_opts(from, to, options).await?;
                Err(failure())
            }
            None => self.inner.copy_opts(from, to, options).await,
        }
    }
}

pub const ROOT: &str = "memory:///lake";

/// A lake in memory whose store can be made to fail.
pub async fn faulty_lake() -> (Lake, Arc<Faulty>) {
    let stores = Stores::from_env();
    let url = Url::parse(ROOT).unwrap();
    let store = Faulty::new(Arc::new(object_store::memory::InMemory::new()));
    stores.insert(&url, store.clone());
    (Lake::open(ROOT, stores).await.unwrap(), store)
}

/// Such a lake with an empty table `t`.
pub async fn faulty_table(format: Format) -> (Lake, Arc<Faulty>, Table) {
    let (lake, store) = faulty_lake().await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let table = Table::create(&catalog, new_table("t", format, None), false);
    (lake, store, table.await.unwrap())
}

/// A table as another process sees it.
pub async fn reopened_table(lake: &Lake, table: &Table) -> Table {
    let lake = reopened(lake).await;
    let table = Table::open(&lake, table.name(), table.object());
    table.await.unwrap()
}

/// The same lake as another process sees it.
pub async fn reopened(lake: &Lake) -> Lake {
    Lake::open(lake.root().as_str(), lake.stores().clone())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_landed_put_with_a_lost_answer_is_one_commit() {
    for format in [Format::Delta, Format::Parquet] {
        for fault in [
            Fault::CreateLandsThenFails,
            Fault::CreateLandsThenExists,
            Fault::CreateFails,
        ] {
            let (lake, store, table) = faulty_table(format).await;
            let target = table.write_target("w").await.unwrap();
            let files = stage(&lake, &target, 0..5).await;
            store.plan(&[fault]);
            let committed = table.commit(offer(0, 5, files)).await.unwrap();
            assert!(store.all_fired(), "{fault:?} did not fire");
            assert_eq!((committed.version, committed.already), (1, false));
            let other = reopened_table(&lake, &table).await;
            let snapshot = other.snapshot().await.unwrap();
            assert_eq!((snapshot.version, snapshot.rows()), (1, 5), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_catalog_change_with_a_lost_answer_is_made_once() {
    let (lake, store) = faulty_lake().await;
    let catalog = Catalog::open(lake).await.unwrap();
    store.plan(&[Fault::CreateLandsThenExists]);
    let snapshot = catalog
        .change(|snapshot| {
            if snapshot.has_schema("s") {
                return Err(Error::AlreadyExists {
                    kind: "schema",
                    name: "s".to_owned(),
                });
            }
            Ok(vec![Change::PutSchema {
                schema: "s".to_owned(),
            }])
        })
        .await
        .unwrap();
    assert!(store.all_fired());
    assert_eq!(snapshot.version, 1);
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_is_reported_and_safe_to_repeat() {
    let (lake, store, table) = faulty_table(Format::Parquet).await;
    let target = table.write_target("w").await.unwrap();
    let files = stage(&lake, &target, 0..5).await;
    store.plan(&[Fault::CreateFails; 6]);
    let error = table.commit(offer(0, 5, files.clone())).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert!(store.all_fired());
    assert_eq!(table.commit(offer(0, 5, files)).await.unwrap().version, 1);
}

#[tokio::test]
async fn a_crash_between_record_and_publish_is_completed_by_the_next_opener() {
    let (lake, store, table) = faulty_table(Format::Parquet).await;
    let target = table.write_target("w").await.unwrap();
    let files = stage(&lake, &target, 0..9).await;
    assert_eq!(files.len(), 3);
    // No file is published, however often it is tried; then their committer is gone.
    store.plan(&[Fault::CopyFails; 9]);
    let committed = table.commit(offer(0, 9, files)).await.unwrap();
    assert!(store.all_fired());
    assert_eq!(committed.rows, 9);
    let listed = listed(&lake, "default/t").await;
    assert!(listed.is_empty(), "published all the same: {listed:?}");

    let other = reopened_table(&lake, &table).await;
    let snapshot = other.snapshot().await.unwrap();
    let published = self::listed(&lake, "default/t").await;
    assert_eq!(published.len(), 3);
    for file in snapshot.files.iter() {
        assert!(published.contains(&format!("lake/default/t/{}", file.path)));
    }
    assert!(self::listed(&lake, "_drumline/staging").await.is_empty());
}

#[tokio::test]
async fn a_copy_with_a_lost_answer_leaves_each_file_once() {
    let (lake, store, table) = faulty_table(Format::Parquet).await;
    let target = table.write_target("w").await.unwrap();
    let files = stage(&lake, &target, 0..9).await;
    store.plan(&[Fault::CopyLandsThenFails]);
    table.commit(offer(0, 9, files)).await.unwrap();
    assert!(store.all_fired());
    assert_eq!(listed(&lake, "default/t").await.len(), 3);
}

#[tokio::test]
async fn a_commit_to_a_known_table_is_one_put_and_one_copy_per_file() {
    let (lake, store, table) = faulty_table(Format::Parquet).await;
    let target = table.write_target("w").await.unwrap();
    let files = stage(&lake, &target, 0..9).await;
    store.calls();
    table.commit(offer(0, 9, files)).await.unwrap();
    let calls = store.calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert_eq!(calls.iter().filter(|c| c.starts_with("copy")).count(), 3);
}

#[tokio::test]
async fn an_aborted_writer_leaves_nothing() {
    let (lake, _, table) = faulty_table(Format::Parquet).await;
    let mut target = table.write_target("w").await.unwrap();
    target.target_file_size = 1;
    let mut writer = Writer::new(lake.stores(), &target).unwrap();
    writer.write(&rows(0..9)).await.unwrap();
    target.target_file_size = u64::MAX;
    let mut open = Writer::new(lake.stores(), &target).unwrap();
    open.write(&rows(0..9)).await.unwrap();
    assert_eq!(listed(&lake, "_drumline/staging").await.len(), 3);
    writer.abort().await;
    open.abort().await;
    assert!(listed(&lake, "_drumline/staging").await.is_empty());
}

#[tokio::test]
async fn a_table_made_but_not_named_is_adopted_by_its_statement() {
    use drumline_lake::conformance::statement;
    use drumline_lake::{Commit, MadeBy};
    for format in [Format::Delta, Format::Parquet] {
        let (lake, store) = faulty_lake().await;
        let catalog = Catalog::open(lake.clone()).await.unwrap();
        let id = statement("app", 1, 2);
        let commit = |files| Commit::append(MadeBy::Statement(id.clone()), files);
        let new = new_table("t", format, Some(id.clone()));
        let prepared = Table::prepare(&catalog, new.clone()).await.unwrap();
        let files = stage(&lake, &prepared.write_target("a1").unwrap(), 0..6).await;
        // The log's first record lands, the name does not.
        store.plan(&[Fault::CreateLandsThenFails]);
        store.plan(&[Fault::CreateFails; 6]);
        prepared.create(commit(files)).await.unwrap_err();
        assert!(store.all_fired());
        assert!(catalog.refresh().await.unwrap().get(&new.name).is_none());

        let again = Table::prepare(&catalog, new).await.unwrap();
        let files = stage(&lake, &again.write_target("a2").unwrap(), 0..6).await;
        let (table, committed) = again.create(commit(files)).await.unwrap();
        assert!(committed.already);
        assert_eq!(committed.rows, 6);
        assert_eq!(table.snapshot().await.unwrap().rows(), 6);
        assert!(catalog.current().get(&TableName::bare("t")).is_some());
    }
}

/// Paths of all objects under a folder of the lake.
pub async fn listed(lake: &Lake, folder: &str) -> Vec<String> {
    use futures::TryStreamExt;
    let store = lake.stores().get(lake.root()).unwrap();
    let prefix = Path::from(format!("lake/{folder}"));
    let objects: Vec<_> = store.list(Some(&prefix)).try_collect().await.unwrap();
    objects.iter().map(|o| o.location.to_string()).collect()
}
