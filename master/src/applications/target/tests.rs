//! A statement that is asked for again finds what it did, and does nothing a second time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use drumline_engine::{Engine, Options, Planned};
use drumline_lake::{Catalog, Error, Lake, StatementId, Stores, TableName, Writer};

use super::super::commit::{Staged, Summary, commit};
use super::{Prepared, prepare};
use crate::catalog::Names;
use crate::facts::Facts;

struct Bed {
    engine: Engine,
    names: Names,
    stores: Stores,
    _folder: tempfile::TempDir,
}

/// What one run of a statement came to.
#[derive(Debug)]
enum Ran {
    Committed(Summary),
    Skipped(Summary),
}

impl Bed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::default();
        let url = format!("file://{}", folder.path().join("lake").display());
        let lake = Lake::open(&url, stores.clone()).await.unwrap();
        let options = Options::new(stores.clone(), folder.path().join("work"));
        Self {
            engine: Engine::new(options).unwrap(),
            names: Names::new(
                Catalog::open(lake.clone()).await.unwrap(),
                drumline_lake::Locations::new(&lake, &[]).unwrap(),
                Facts::new(),
            ),
            stores,
            _folder: folder,
        }
    }

    /// One attempt, the job replaced by a writer that stages the rows 1, 2, 3.
    async fn run(&self, sql: &str, ordinal: u32, attempt: &str) -> Result<Ran, Error> {
        let statement = self.engine.parse(sql).unwrap().remove(0);
        let id = StatementId {
            application: "application".to_owned(),
            ordinal,
            text_hash: statement.text_hash(),
        };
        let tables = self.names.pin().await?;
        let settings = BTreeMap::new();
        let planned = self
            .engine
            .plan(&statement, tables.clone(), &settings)
            .await;
        let Ok(Planned::Write(write)) = planned else {
            panic!("{sql} is no write: {planned:?}");
        };
        let (target, staging) = match prepare(&write, &self.names, &tables, &id, attempt).await? {
            Prepared::Skip(summary) => return Ok(Ran::Skipped(summary)),
            Prepared::Run(target, staging) => (target, staging),
        };
        let numbers = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_new(staging.schema()?, vec![numbers]).unwrap();
        let mut writer = Writer::new(&self.stores, &staging)?;
        writer.write(&rows).await?;
        let staged = Staged {
            target,
            statement: id,
            files: writer.finish().await?,
            change: None,
            upkeep_epoch: None,
        };
        Ok(Ran::Committed(commit(staged).await.unwrap()))
    }

    /// Rows and version of table t.
    async fn held(&self) -> (u64, u64) {
        let name = TableName::parse("t").unwrap();
        let catalog = self.names.catalog().refresh().await.unwrap();
        let table = self.names.open(&name, catalog.get(&name).unwrap()).await;
        let snapshot = table.unwrap().snapshot().await.unwrap();
        (snapshot.rows(), snapshot.version)
    }
}

const INSERT: &str = "INSERT INTO t SELECT value FROM generate_series(1, 3)";

fn create(format: &str) -> String {
    format!("CREATE TABLE t STORED AS {format} AS SELECT value AS n FROM generate_series(1, 3)")
}

async fn is_skipped_once_committed(format: &str) {
    let bed = Bed::new().await;
    for (ordinal, sql) in [(1, create(format)), (2, INSERT.to_owned())] {
        let Ran::Committed(done) = bed.run(&sql, ordinal, "first").await.unwrap() else {
            panic!("{sql} was not run");
        };
        assert_eq!((done.rows, done.already_committed), (3, false));
        let held = bed.held().await;
        assert_eq!(held.0, u64::from(ordinal) * 3);

        // As a master that was killed before it heard of its own commit.
        let Ran::Skipped(again) = bed.run(&sql, ordinal, "second").await.unwrap() else {
            panic!("{sql} was run twice");
        };
        assert!(again.already_committed, "{again:?}");
        assert_eq!((again.rows, again.version), (done.rows, done.version));
        assert_eq!(bed.held().await, held);
    }
}

#[tokio::test]
async fn committed_statement_is_skipped_on_delta() {
    is_skipped_once_committed("DELTA").await;
}

#[tokio::test]
async fn committed_statement_is_skipped_on_plain_parquet() {
    is_skipped_once_committed("PARQUET").await;
}

#[tokio::test]
async fn the_same_text_further_on_is_a_statement_of_its_own() {
    let bed = Bed::new().await;
    bed.run(&create("DELTA"), 1, "a").await.unwrap();
    for ordinal in [2, 3] {
        let ran = bed.run(INSERT, ordinal, &format!("a{ordinal}")).await;
        assert!(matches!(ran, Ok(Ran::Committed(_))), "{ran:?}");
    }
    assert_eq!(bed.held().await.0, 9);
}

#[tokio::test]
async fn another_text_at_a_committed_place_stops() {
    let bed = Bed::new().await;
    bed.run(&create("DELTA"), 1, "a").await.unwrap();
    bed.run(INSERT, 2, "b").await.unwrap();
    let held = bed.held().await;
    let changed = INSERT.replace("1, 3", "1, 4");
    let refused = bed.run(&changed, 2, "c").await.unwrap_err();
    assert!(
        matches!(&refused, Error::StatementChanged { ordinal: 2, .. }),
        "{refused}"
    );
    assert_eq!(bed.held().await, held);
}
