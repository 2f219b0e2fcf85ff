//! What a vacuum throws away, and what it must not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use drumline_lake::conformance::{new_table, number, stage, statement};
use drumline_lake::{
    Catalog, Commit, Format, Lake, MadeBy, Operation, Stores, Table, TableChange, Vacuum,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn keeping(days: u32) -> Vacuum {
    Vacuum {
        keep: days * DAY,
        dry_run: false,
    }
}

fn in_days(days: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::days(days)
}

struct Home {
    lake: Lake,
    catalog: Catalog,
    table: Table,
    // Last: it is removed with everything in it.
    _folder: tempfile::TempDir,
}

/// A table of ids 0 to 2, each in a file of its own, over one that was taken away.
async fn home(format: Format) -> Home {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path().to_str().unwrap(), Stores::from_env())
        .await
        .unwrap();
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let table = Table::create(&catalog, new_table("t", format, None), false)
        .await
        .unwrap();
    let home = Home {
        lake,
        catalog,
        table,
        _folder: folder,
    };
    home.replace(1, 100..101).await;
    home.replace(2, 0..3).await;
    home
}

impl Home {
    /// Puts these ids in the place of all that is there.
    async fn replace(&self, ordinal: u32, ids: std::ops::Range<i64>) {
        let snapshot = self.table.snapshot().await.unwrap();
        let target = self
            .table
            .write_target(&format!("a{ordinal}"))
            .await
            .unwrap();
        let files = stage(&self.lake, &target, ids).await;
        let made_by = MadeBy::Statement(statement("a", ordinal, 1));
        let commit = Commit {
            change: Some(TableChange {
                operation: Operation::Overwrite,
                base: snapshot.version,
                remove: snapshot
                    .files
                    .iter()
                    .map(|file| file.path.clone())
                    .collect(),
                rows: None,
                columns: None,
            }),
            ..Commit::append(made_by, files)
        };
        self.table.commit(commit).await.unwrap();
    }

    async fn vacuum(&self, vacuum: Vacuum, now: DateTime<Utc>) -> usize {
        self.table.vacuum(vacuum, now).await.unwrap().files.len()
    }

    async fn sum(&self) -> i64 {
        let snapshot = self.table.snapshot().await.unwrap();
        number(&self.lake, &snapshot, "select sum(id) from t").await
    }
}

#[tokio::test]
async fn what_a_version_of_the_retention_names_stays() {
    let home = home(Format::Delta).await;
    assert_eq!(home.vacuum(keeping(7), in_days(6)).await, 0);
    let look = Vacuum {
        dry_run: true,
        ..keeping(7)
    };
    assert_eq!(home.vacuum(look, in_days(8)).await, 1);
    assert_eq!(home.vacuum(keeping(7), in_days(8)).await, 1);
    assert_eq!(home.vacuum(keeping(7), in_days(8)).await, 0);
    assert_eq!(home.sum().await, 3);
}

#[tokio::test]
async fn what_a_writer_left_goes_once_it_is_old() {
    let home = home(Format::Delta).await;
    let target = home.table.write_target("crashed").await.unwrap();
    stage(&home.lake, &target, 10..12).await;
    assert_eq!(home.vacuum(keeping(7), in_days(6)).await, 0);
    // Two orphans, and the file that was replaced.
    assert_eq!(home.vacuum(keeping(7), in_days(8)).await, 3);
    assert_eq!(home.sum().await, 3);
}

#[tokio::test]
async fn a_snapshot_that_is_held_can_be_read_to_its_end() {
    let home = home(Format::Delta).await;
    let held = home.table.snapshot().await.unwrap();
    home.replace(3, 7..8).await;
    // The oldest file is held by nobody.
    assert_eq!(home.vacuum(keeping(0), in_days(1)).await, 1);
    assert_eq!(number(&home.lake, &held, "select sum(id) from t").await, 3);
    drop(held);
    assert_eq!(home.vacuum(keeping(0), in_days(1)).await, 3);
    assert_eq!(home.sum().await, 7);
}

#[tokio::test]
async fn what_is_staged_beside_plain_tables_goes_once_it_is_old() {
    let home = home(Format::Parquet).await;
    let target = home.table.write_target("crashed").await.unwrap();
    stage(&home.lake, &target, 10..11).await;
    for (days, gone) in [(6, 0), (8, 1), (8, 0)] {
        let found = home.catalog.vacuum_staging(keeping(7), in_days(days)).await;
        assert_eq!(found.unwrap().files.len(), gone, "after {days} days");
    }
    assert_eq!(home.vacuum(keeping(7), in_days(8)).await, 0);
    assert_eq!(home.sum().await, 3);
}
