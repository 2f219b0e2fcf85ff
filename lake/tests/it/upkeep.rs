//! What a vacuum throws away, and what it must not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use drumline_lake::conformance::{new_table, number, rows, stage, statement};
use drumline_lake::{
    AsOf, Catalog, Change, Commit, Copying, Encoding, Existing, Format, Lake, Locations, MadeBy,
    NewCopy, NewTable, Operation, PreparedCopy, Stores, Table, TableChange, Vacuum,
};

use crate::faults::reopened;

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
    folder: tempfile::TempDir,
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
        folder,
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
                redefines: None,
            }),
            ..Commit::append(made_by, files)
        };
        self.table.commit(commit).await.unwrap();
    }

    async fn vacuum(&self, vacuum: Vacuum, now: DateTime<Utc>) -> usize {
        self.table.vacuum(vacuum, now).await.unwrap().files.len()
    }

    /// What a vacuum of the lake throws away.
    async fn sweep(&self, vacuum: Vacuum, now: DateTime<Utc>) -> usize {
        self.catalog.vacuum(vacuum, now).await.unwrap().files.len()
    }

    /// How many files a bare lister finds in a folder.
    fn listed(&self, folder: &str) -> usize {
        fn files(folder: &std::path::Path) -> usize {
            let Ok(entries) = std::fs::read_dir(folder) else {
                return 0;
            };
            let paths = entries.map(|entry| entry.unwrap().path());
            paths
                .map(|path| if path.is_dir() { files(&path) } else { 1 })
                .sum()
        }
        files(&self.folder.path().join(folder))
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
async fn replaced_files_of_a_plain_table_are_read_by_who_knows_them_and_listed_by_nobody() {
    let home = home(Format::Parquet).await;
    let held = home.table.snapshot().await.unwrap();
    assert_eq!(home.listed("default/t"), 3);
    home.replace(3, 7..8).await;
    assert_eq!(
        home.listed("default/t"),
        1,
        "a lister sees the new rows alone"
    );
    assert_eq!(number(&home.lake, &held, "select sum(id) from t").await, 3);
    let before = home.table.snapshot_at(AsOf::Version(2)).await.unwrap();
    assert_eq!(
        number(&home.lake, &before, "select sum(id) from t").await,
        3
    );
    // Of four that were replaced, three are held.
    assert_eq!(home.vacuum(keeping(7), in_days(8)).await, 1);
    assert_eq!(number(&home.lake, &held, "select sum(id) from t").await, 3);
    drop((held, before));
    let again = reopened(&home.lake).await;
    let again = Table::open(&again, home.table.name(), home.table.object())
        .await
        .unwrap();
    assert_eq!(
        again
            .vacuum(keeping(7), in_days(6))
            .await
            .unwrap()
            .files
            .len(),
        0
    );
    assert_eq!(
        again
            .vacuum(keeping(7), in_days(8))
            .await
            .unwrap()
            .files
            .len(),
        3
    );
    assert!(again.snapshot_at(AsOf::Version(2)).await.is_err());
    assert_eq!(home.sum().await, 7);
    assert_eq!(home.listed(""), home.listed("_drumline") + 1);
}

#[tokio::test]
async fn a_dropped_table_is_read_to_its_end_and_then_swept() {
    for format in [Format::Delta, Format::Parquet] {
        let home = home(format).await;
        let held = home.table.snapshot().await.unwrap();
        Table::drop(&home.catalog, home.table.name(), false)
            .await
            .unwrap();
        assert_eq!(number(&home.lake, &held, "select sum(id) from t").await, 3);
        assert_eq!(home.sweep(keeping(0), in_days(1)).await, 0, "{format:?}");
        drop(held);
        assert_ne!(home.sweep(keeping(7), in_days(1)).await, 0, "{format:?}");
        assert_eq!(home.listed("default"), 0, "{format:?}");
        assert_eq!(home.sweep(keeping(0), in_days(1)).await, 0, "{format:?}");

        // What nobody reads goes at once.
        let new = new_table("u", format, None);
        Table::create(&home.catalog, new.clone(), false)
            .await
            .unwrap();
        Table::drop(&home.catalog, &new.name, false).await.unwrap();
        assert_eq!(home.listed("default"), 0, "{format:?}");
        assert_eq!(home.listed("_drumline/unnamed"), 0, "{format:?}");
    }
}

#[tokio::test]
async fn a_table_that_was_replaced_stays_for_those_who_read_it_elsewhere() {
    for format in [Format::Delta, Format::Parquet] {
        let home = home(format).await;
        let elsewhere = reopened(&home.lake).await;
        let table = Table::open(&elsewhere, home.table.name(), home.table.object());
        let held = table.await.unwrap().snapshot().await.unwrap();
        let new = NewTable {
            or_replace: true,
            ..new_table("t", format, Some(statement("r", 1, 1)))
        };
        let table = Table::create(&home.catalog, new, false).await.unwrap();
        assert_eq!(number(&elsewhere, &held, "select sum(id) from t").await, 3);
        assert_eq!(home.sweep(keeping(7), in_days(6)).await, 0, "{format:?}");
        assert_eq!(number(&elsewhere, &held, "select sum(id) from t").await, 3);
        assert_ne!(home.sweep(keeping(7), in_days(8)).await, 0, "{format:?}");
        assert_eq!(home.listed("default/t"), 0, "{format:?}");
        assert_eq!(table.snapshot().await.unwrap().rows(), 0);
        assert_eq!(home.listed("_drumline/unnamed"), 0, "{format:?}");
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_table_without_a_name_is_found() {
    for format in [Format::Delta, Format::Parquet] {
        let home = home(format).await;
        // One died while it wrote the first rows of a table,
        let new = new_table("unborn", format, Some(statement("c", 1, 1)));
        let prepared = Table::prepare(&home.catalog, new).await.unwrap();
        let target = prepared.write_target("c-1-1").unwrap();
        stage(&home.lake, &target, 0..3).await;
        // and one between a name and its files.
        let (name, object) = (home.table.name().clone(), home.table.object());
        let soon = Utc::now() + TimeDelta::minutes(30);
        Table::to_be_erased(&home.lake, &name, object)
            .await
            .unwrap();
        assert_eq!(
            home.sweep(keeping(0), soon).await,
            3,
            "{format:?}: it has a name"
        );
        assert_eq!(home.sum().await, 3);
        let gone = Change::Drop { name: name.clone() };
        home.catalog
            .change(|_| Ok(vec![gone.clone()]))
            .await
            .unwrap();
        let look = Vacuum {
            dry_run: true,
            ..keeping(7)
        };
        let seen = home.sweep(look, in_days(8)).await;
        assert!(seen > 3, "{format:?}: {seen}");
        assert_eq!(home.sweep(keeping(7), in_days(8)).await, seen, "{format:?}");
        assert_eq!(home.listed("default"), 0, "{format:?}");
        assert_eq!(home.listed("_drumline/commits"), 0, "{format:?}");
    }
}

#[tokio::test]
async fn what_failed_copies_staged_is_given_up_or_found() {
    let home = home(Format::Delta).await;
    let locations = Locations::new(&home.lake, &[]).unwrap();
    for (ordinal, gives_up) in [(1, true), (2, false)] {
        let new = NewCopy {
            location: "copied".to_owned(),
            schema: rows(0..1).schema(),
            partition_columns: Vec::new(),
            encoding: Encoding::Parquet,
            existing: Existing::Keep,
            properties: Default::default(),
            statement: statement("c", ordinal, 1),
        };
        let copying = PreparedCopy::prepare(&home.catalog, &locations, new).await;
        let Copying::Run(copy) = copying.unwrap() else {
            panic!("it is there already");
        };
        let attempt = format!("c-{ordinal}-1");
        let target = copy.begin(&attempt).await.unwrap();
        stage(&home.lake, &target, 0..3).await;
        let folder = home
            .folder
            .path()
            .join(format!("copied/_drumline-{attempt}"));
        assert!(folder.is_dir());
        if gives_up {
            copy.give_up(&attempt).await;
            assert!(!folder.exists());
        } else {
            assert_eq!(home.sweep(keeping(7), in_days(6)).await, 0);
            assert_eq!(home.sweep(keeping(7), in_days(8)).await, 1);
            assert!(!folder.exists());
        }
    }
    assert_eq!(home.listed("_drumline/copies"), 0);
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
        assert_eq!(
            home.sweep(keeping(7), in_days(days)).await,
            gone,
            "after {days} days"
        );
    }
    // The file that was replaced.
    assert_eq!(home.vacuum(keeping(7), in_days(8)).await, 1);
    assert_eq!(home.sum().await, 3);
}
