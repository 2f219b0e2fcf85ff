//! What a lake must do on every store: run by this crate's tests in memory and on disk, and by others against
//! a cloud store's stand-in. Every check panics with what it found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::{
    Catalog, Commit, Error, Format, Lake, MadeBy, NewTable, OffsetRange, StatementId, Stores,
    Table, TableName, TableSnapshot, WriteTarget, Writer,
};

/// Runs all checks on an empty lake.
pub async fn check_lake(root: &str, stores: Stores) {
    let lake = Lake::open(root, stores).await.unwrap();
    lake.check_writable().await.unwrap();
    let catalog = Catalog::open(lake).await.unwrap();
    for format in [Format::Delta, Format::Parquet] {
        stream_commits(&catalog, format).await;
        statements(&catalog, format).await;
        create_with_rows(&catalog, format).await;
        drop_and_make_again(&catalog, format).await;
    }
    racing_catalogs(&catalog).await;
}

/// Rows `(id, name, part)`, `part` being `id % 3`.
pub fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let names = ids.clone().map(|id| format!("name {id}"));
    let parts = ids.clone().map(|id| (id % 3) as i32);
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("part", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
    ]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from_iter_values(ids.clone())),
            Arc::new(Int32Array::from_iter_values(parts)),
            Arc::new(StringArray::from_iter_values(names)),
        ],
    )
    .unwrap()
}

/// A table of [`rows`], partitioned by `part`.
pub fn new_table(name: &str, format: Format, created_by: Option<StatementId>) -> NewTable {
    NewTable {
        name: TableName::bare(name),
        format,
        location: None,
        schema: rows(0..1).schema(),
        partition_columns: vec!["part".to_owned()],
        properties: BTreeMap::new(),
        comment: None,
        column_comments: Default::default(),
        or_replace: false,
        created_by,
    }
}

/// The statement of a test application.
pub fn statement(application: &str, ordinal: u32, text_hash: u64) -> StatementId {
    StatementId {
        application: application.to_owned(),
        ordinal,
        text_hash,
    }
}

/// A stream's commit of one partition's positions.
pub fn offer(from: i64, to: i64, files: Vec<crate::StagedFile>) -> Commit {
    let range = OffsetRange {
        topic: "events".to_owned(),
        partition: 0,
        from,
        to,
        ..OffsetRange::default()
    };
    let made_by = MadeBy::Stream {
        stream: "s".to_owned(),
        epoch: 1,
        ranges: vec![range],
        lookups: Default::default(),
        definition: 0,
    };
    Commit::append(made_by, files)
}

/// Stages rows for a target.
pub async fn stage(
    lake: &Lake,
    target: &WriteTarget,
    ids: std::ops::Range<i64>,
) -> Vec<crate::StagedFile> {
    let mut writer = Writer::new(lake.stores(), target).unwrap();
    writer.write(&rows(ids)).await.unwrap();
    writer.finish().await.unwrap()
}

/// Runs one query on a snapshot (as table `t`) that answers with one number.
pub async fn number(lake: &Lake, snapshot: &TableSnapshot, sql: &str) -> i64 {
    let session = SessionContext::new_with_config_rt(
        SessionConfig::new().with_target_partitions(2),
        runtime(lake),
    );
    session
        .register_table("t", snapshot.provider().unwrap())
        .unwrap();
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    let column = batches[0].column(0);
    match column.as_any().downcast_ref::<Int64Array>() {
        Some(numbers) => numbers.value(0),
        None => {
            let numbers = column.as_any().downcast_ref::<UInt64Array>();
            i64::try_from(numbers.unwrap().value(0)).unwrap()
        }
    }
}

/// A runtime that reads a lake.
pub fn runtime(lake: &Lake) -> Arc<datafusion::execution::runtime_env::RuntimeEnv> {
    datafusion::execution::runtime_env::RuntimeEnvBuilder::new()
        .with_object_store_registry(lake.stores().registry())
        .build_arc()
        .unwrap()
}

fn name(what: &str, format: Format) -> String {
    format!("{what}_{format:?}").to_lowercase()
}

async fn stream_commits(catalog: &Catalog, format: Format) {
    let lake = catalog.lake();
    let new = new_table(&name("streamed", format), format, None);
    let table = Table::create(catalog, new, false).await.unwrap();
    let target = table.write_target("worker-1").await.unwrap();
    for n in 0..3 {
        let files = stage(lake, &target, n * 10..n * 10 + 10).await;
        let committed = table
            .commit(offer(n * 10, n * 10 + 10, files))
            .await
            .unwrap();
        assert_eq!((committed.rows, committed.already), (10, false));
    }
    let late = stage(lake, &target, 20..30).await;
    let error = table.commit(offer(20, 30, late)).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::OffsetsMoved {
                expected: 20,
                found: 30,
                ..
            }
        ),
        "{error}"
    );
    let nothing = table.commit(offer(30, 35, Vec::new())).await.unwrap();
    assert_eq!(nothing.rows, 0);
    // A fresh process sees the same.
    let other = Lake::open(lake.root().as_str(), lake.stores().clone())
        .await
        .unwrap();
    let other = Table::open(&other, table.name(), table.object())
        .await
        .unwrap();
    let snapshot = other.snapshot().await.unwrap();
    assert_eq!(snapshot.offsets[&("events".to_owned(), 0)], 35);
    assert_eq!(snapshot.rows(), 30);
    let distinct = number(lake, &snapshot, "select count(distinct id) from t").await;
    assert_eq!(distinct, 30);
    let of_part = "select sum(id) from t where part = 1 and name <> 'x'";
    let expected: i64 = (0..30).filter(|id| id % 3 == 1).sum();
    assert_eq!(number(lake, &snapshot, of_part).await, expected);
}

async fn statements(catalog: &Catalog, format: Format) {
    let lake = catalog.lake();
    let new = new_table(&name("inserted", format), format, None);
    let table = Table::create(catalog, new, false).await.unwrap();
    let insert = |id: StatementId, files| Commit::append(MadeBy::Statement(id), files);
    let first = statement("app", 3, 77);
    assert_eq!(table.find_statement(&first).await.unwrap(), None);
    let target = table.write_target("attempt-1").await.unwrap();
    let files = stage(lake, &target, 0..9).await;
    let committed = table.commit(insert(first.clone(), files)).await.unwrap();
    assert!(!committed.already);
    let second = statement("app", 4, 78);
    let empty = table
        .commit(insert(second.clone(), Vec::new()))
        .await
        .unwrap();
    assert_eq!((empty.rows, empty.already), (0, false));
    // Repeated by a fresh process, with files of another attempt.
    let other = Lake::open(lake.root().as_str(), lake.stores().clone())
        .await
        .unwrap();
    let other = Table::open(&other, table.name(), table.object())
        .await
        .unwrap();
    for (id, expected) in [(first.clone(), committed), (second, empty)] {
        let again = stage(lake, &target, 0..9).await;
        let repeated = other.commit(insert(id, again)).await.unwrap();
        assert!(repeated.already);
        assert_eq!(
            (repeated.version, repeated.rows),
            (expected.version, expected.rows)
        );
    }
    let changed = statement("app", 3, 79);
    let error = other.commit(insert(changed, Vec::new())).await.unwrap_err();
    assert!(matches!(error, Error::StatementChanged { .. }), "{error}");
    assert_eq!(other.snapshot().await.unwrap().rows(), 9);
}

async fn create_with_rows(catalog: &Catalog, format: Format) {
    let lake = catalog.lake();
    let id = statement("ctas", 0, 5);
    let new = new_table(&name("selected", format), format, Some(id.clone()));
    let commit = |files| Commit::append(MadeBy::Statement(id.clone()), files);
    let prepared = Table::prepare(catalog, new.clone()).await.unwrap();
    assert_eq!(prepared.already(), None);
    let files = stage(lake, &prepared.write_target("a1").unwrap(), 0..7).await;
    let (table, committed) = prepared.create(commit(files)).await.unwrap();
    assert_eq!((committed.rows, committed.already), (7, false));
    assert_eq!(table.snapshot().await.unwrap().rows(), 7);
    let again = Table::prepare(catalog, new.clone()).await.unwrap();
    assert_eq!(again.already().map(|done| done.rows), Some(7));
    let mut other = new;
    other.created_by = Some(statement("other", 0, 5));
    let error = Table::prepare(catalog, other).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
}

async fn drop_and_make_again(catalog: &Catalog, format: Format) {
    let lake = catalog.lake();
    let new = new_table(&name("again", format), format, None);
    for round in 1..=2_i64 {
        let table = Table::create(catalog, new.clone(), false).await.unwrap();
        assert_eq!(table.snapshot().await.unwrap().rows(), 0);
        let target = table.write_target("w").await.unwrap();
        let files = stage(lake, &target, 0..round).await;
        table.commit(offer(0, round, files)).await.unwrap();
        assert_eq!(
            table.snapshot().await.unwrap().rows(),
            u64::try_from(round).unwrap()
        );
        assert!(Table::drop(catalog, &new.name, false).await.unwrap());
        assert!(catalog.current().get(&new.name).is_none());
    }
    assert!(!Table::drop(catalog, &new.name, true).await.unwrap());
}

async fn racing_catalogs(catalog: &Catalog) {
    use crate::Change;
    let other = Catalog::open(catalog.lake().clone()).await.unwrap();
    let make = |catalog: Catalog, name: String| async move {
        catalog
            .change(|_| {
                Ok(vec![Change::PutSchema {
                    schema: name.clone(),
                }])
            })
            .await
            .map(|_| ())
    };
    let all = (0..8).map(|n| {
        let catalog = if n % 2 == 0 { catalog } else { &other };
        make(catalog.clone(), format!("schema_{n}"))
    });
    futures::future::try_join_all(all).await.unwrap();
    let seen = other.refresh().await.unwrap();
    assert_eq!(catalog.refresh().await.unwrap(), seen);
    assert_eq!(
        (0..8)
            .filter(|n| seen.has_schema(&format!("schema_{n}")))
            .count(),
        8
    );
}
