//! The GCS stand-in and a local folder pass one suite; every fault does what it says.

use std::time::{Duration, Instant};

use drumline_testkit::conformance;
use drumline_testkit::gcs::{Effect, Gcs, Operation};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};

#[tokio::test]
async fn the_gcs_stand_in_conforms() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("bucket").unwrap();
    conformance::check(&store, &Path::from("some/root"))
        .await
        .unwrap();
    assert!(gcs.keys("bucket", "").is_empty());
}

#[tokio::test]
async fn the_gcs_stand_in_conforms_in_small_pages() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    gcs.set_page_size(2);
    let store = gcs.store("bucket").unwrap();
    conformance::check(&store, &Path::from("some/root"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_local_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    conformance::check(&store, &Path::from("some/root"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_missing_bucket_is_not_found() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("other").unwrap();
    let put = store
        .put(&Path::from("x"), PutPayload::from_static(b"x"))
        .await;
    assert!(matches!(put, Err(Error::NotFound { .. })), "{put:?}");
}

#[tokio::test]
async fn a_create_answered_503_after_it_landed_looks_like_a_lost_race() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("bucket").unwrap();
    let fault = gcs
        .faults()
        .once(Effect::StatusAfter(503), Operation::Put, "entry");
    let path = Path::from("entry");
    let put = store
        .put_opts(
            &path,
            PutPayload::from_static(b"mine"),
            PutMode::Create.into(),
        )
        .await;
    assert!(matches!(put, Err(Error::AlreadyExists { .. })), "{put:?}");
    assert_eq!(fault.fired(), 1);
    assert_eq!(gcs.bytes("bucket", "entry").unwrap(), "mine");
}

#[tokio::test]
async fn a_503_before_the_effect_is_retried_by_the_client() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("bucket").unwrap();
    let fault = gcs
        .faults()
        .once(Effect::StatusBefore(503), Operation::Put, "entry");
    let path = Path::from("entry");
    store
        .put_opts(
            &path,
            PutPayload::from_static(b"mine"),
            PutMode::Create.into(),
        )
        .await
        .unwrap();
    assert_eq!(fault.fired(), 1);
}

#[tokio::test]
async fn a_connection_cut_after_a_create_leaves_the_outcome_unknown() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("bucket").unwrap();
    let fault = gcs.faults().once(Effect::CutAfter, Operation::Put, "entry");
    let path = Path::from("entry");
    let put = store
        .put_opts(
            &path,
            PutPayload::from_static(b"mine"),
            PutMode::Create.into(),
        )
        .await;
    assert!(put.is_err(), "{put:?}");
    assert_eq!(fault.fired(), 1);
    assert_eq!(gcs.bytes("bucket", "entry").unwrap(), "mine");
}

#[tokio::test]
async fn a_connection_cut_before_a_create_has_no_effect() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("bucket").unwrap();
    let fault = gcs.faults().plant(Effect::CutBefore, u64::MAX, |_| true);
    let path = Path::from("entry");
    let put = store
        .put_opts(
            &path,
            PutPayload::from_static(b"mine"),
            PutMode::Create.into(),
        )
        .await;
    assert!(put.is_err(), "{put:?}");
    assert!(fault.fired() > 0);
    assert!(gcs.keys("bucket", "").is_empty());
}

#[tokio::test]
async fn a_reply_cut_in_its_body_is_read_on_by_the_client() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("bucket").unwrap();
    let bytes = vec![7_u8; 300_000];
    store
        .put(&Path::from("big"), bytes.clone().into())
        .await
        .unwrap();
    let fault = gcs.faults().once(Effect::CutBody, Operation::Get, "big");
    let got = store
        .get(&Path::from("big"))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(got, bytes);
    assert_eq!(fault.fired(), 1);
}

#[tokio::test]
async fn a_delayed_call_takes_its_time_and_succeeds() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("bucket").unwrap();
    let wait = Duration::from_millis(200);
    let fault = gcs.faults().once(Effect::Delay(wait), Operation::Put, "");
    let started = Instant::now();
    store
        .put(&Path::from("x"), PutPayload::from_static(b"x"))
        .await
        .unwrap();
    assert!(started.elapsed() >= wait);
    assert_eq!(fault.fired(), 1);
}

/// object_store 0.13.2 has the two modes of a GCS copy the wrong way round
/// (<https://github.com/apache/arrow-rs-object-store/issues/712>). Whoever raises its version
/// learns here that the way round it can go.
#[tokio::test]
async fn the_gcs_client_still_swaps_the_copy_modes() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let store = gcs.store("bucket").unwrap();
    let (from, to) = (Path::from("from"), Path::from("to"));
    store
        .put(&from, PutPayload::from_static(b"new"))
        .await
        .unwrap();
    store
        .put(&to, PutPayload::from_static(b"old"))
        .await
        .unwrap();
    let copy = |mode| store.copy_opts(&from, &to, CopyOptions::new().with_mode(mode));
    let overwrite = copy(CopyMode::Overwrite).await;
    assert!(
        matches!(overwrite, Err(Error::AlreadyExists { .. })),
        "{overwrite:?}"
    );
    assert_eq!(gcs.bytes("bucket", "to").unwrap(), "old");
    copy(CopyMode::Create).await.unwrap();
    assert_eq!(gcs.bytes("bucket", "to").unwrap(), "new");
}

#[tokio::test]
async fn a_lake_on_the_gcs_stand_in_conforms() {
    let gcs = Gcs::start(&["bucket"]).unwrap();
    let stores = drumline_lake::Stores::default();
    let root = url::Url::parse("gs://bucket/some/lake").unwrap();
    stores.insert(&root, std::sync::Arc::new(gcs.store("bucket").unwrap()));
    drumline_lake::conformance::check_lake(root.as_str(), stores).await;
}
