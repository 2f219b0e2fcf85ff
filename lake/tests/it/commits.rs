use drumline_lake::conformance::{new_table, number, offer, stage};
use drumline_lake::{
    Catalog, Commit, Error, Format, MadeBy, OffsetMove, OffsetRange, Operation, Table, TableChange,
    replay_id,
};

use crate::faults::{faulty_lake, faulty_table, reopened_table};

#[tokio::test]
async fn of_two_masters_that_commit_the_same_offsets_one_wins() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, _, first) = faulty_table(format).await;
        let second = reopened_table(&lake, &first).await;
        let target = first.write_target("w").await.unwrap();
        for n in 0..10 {
            let (from, to) = (n * 3, n * 3 + 3);
            let a = stage(&lake, &target, from..to).await;
            let b = stage(&lake, &target, from..to).await;
            let (a, b) = tokio::join!(
                first.commit(offer(from, to, a)),
                second.commit(offer(from, to, b))
            );
            let lost: Vec<Error> = [a, b].into_iter().filter_map(Result::err).collect();
            assert!(matches!(lost[..], [Error::OffsetsMoved { .. }]), "{lost:?}");
        }
        let snapshot = second.snapshot().await.unwrap();
        assert_eq!(snapshot.rows(), 30);
        let sql = "select count(distinct id) from t";
        assert_eq!(number(&lake, &snapshot, sql).await, 30);
    }
}

#[tokio::test]
async fn commits_of_different_partitions_do_not_stop_each_other() {
    let (lake, _, first) = faulty_table(Format::Delta).await;
    let second = reopened_table(&lake, &first).await;
    let commit = |partition: i32, n: i64| {
        let mut commit = offer(n, n + 1, Vec::new());
        if let drumline_lake::MadeBy::Stream { ranges, .. } = &mut commit.made_by {
            ranges[0].partition = partition;
        }
        commit
    };
    for n in 0..10 {
        let (a, b) = tokio::join!(first.commit(commit(0, n)), second.commit(commit(1, n)));
        a.unwrap();
        b.unwrap();
    }
    let offsets = first.snapshot().await.unwrap().offsets;
    assert_eq!(offsets.values().copied().collect::<Vec<_>>(), [10, 10]);
}

#[tokio::test]
async fn a_table_of_many_commits_opens_from_its_checkpoint() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, store, table) = faulty_table(format).await;
        let target = table.write_target("w").await.unwrap();
        for n in 0..105 {
            let files = match n % 50 {
                0 => stage(&lake, &target, n..n + 1).await,
                _ => Vec::new(),
            };
            table.commit(offer(n, n + 1, files)).await.unwrap();
        }
        store.calls();
        let other = reopened_table(&lake, &table).await;
        let snapshot = other.snapshot().await.unwrap();
        let calls = store.calls();
        assert!(calls.len() < 60, "{format:?}: {} calls", calls.len());
        assert_eq!((snapshot.version, snapshot.rows()), (105, 3));
        assert_eq!(snapshot.offsets[&("events".to_owned(), 0)], 105);
        let sql = "select sum(id) from t";
        assert_eq!(number(&lake, &snapshot, sql).await, 150);
    }
}

#[tokio::test]
async fn a_user_given_location_in_use_is_refused() {
    let (lake, _) = faulty_lake().await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let mut new = new_table("t", Format::Parquet, None);
    new.location = Some("listen_events/".to_owned());
    let table = Table::create(&catalog, new, false).await.unwrap();
    assert_eq!(
        table.object().location.as_str(),
        "memory:///lake/listen_events/"
    );
    let mut inside = new_table("u", Format::Delta, None);
    inside.location = Some("listen_events/month=1".to_owned());
    let error = Table::create(&catalog, inside, false).await.unwrap_err();
    assert!(matches!(error, Error::LocationTaken { .. }), "{error}");
    let mut outside = new_table("v", Format::Delta, None);
    outside.location = Some("memory:///elsewhere".to_owned());
    let error = Table::create(&catalog, outside, false).await.unwrap_err();
    assert!(matches!(error, Error::LocationRefused { .. }), "{error}");
}

/// Callers spawn these: a future that loses `Send` breaks them far from here.
#[tokio::test]
async fn commits_and_writes_can_be_spawned() {
    let (lake, _) = faulty_lake().await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let rows = tokio::spawn(async move {
        let new = new_table("t", Format::Parquet, None);
        let table = Table::create(&catalog, new.clone(), false).await.unwrap();
        let target = table.write_target("w").await.unwrap();
        let mut writer = drumline_lake::Writer::new(lake.stores(), &target).unwrap();
        writer
            .write(&drumline_lake::conformance::rows(0..9))
            .await
            .unwrap();
        let files = writer.finish().await.unwrap();
        table.commit(offer(0, 9, files)).await.unwrap();
        let rows = table.snapshot().await.unwrap().rows();
        Table::drop(&catalog, &new.name, false).await.unwrap();
        rows
    });
    assert_eq!(rows.await.unwrap(), 9);
}

#[tokio::test]
async fn a_reset_takes_a_table_back_with_its_rows_and_is_told_in_its_history() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, _, table) = faulty_table(format).await;
        let target = table.write_target("w").await.unwrap();
        let files = stage(&lake, &target, 0..3).await;
        table.commit(offer(0, 3, files)).await.unwrap();
        let before = table.snapshot().await.unwrap();
        let (key, _) = before.offsets.iter().next().unwrap();
        let moves = vec![OffsetMove {
            topic: key.0.clone(),
            partition: key.1,
            from: Some(3),
            to: 1,
        }];
        let made_by = MadeBy::Reset {
            stream: "s".to_owned(),
            moves,
        };
        let reset = Commit {
            change: Some(TableChange {
                operation: Operation::Delete,
                base: before.version,
                remove: before.files.iter().map(|file| file.path.clone()).collect(),
                rows: Some(before.rows()),
                columns: None,
                redefines: None,
            }),
            ..Commit::append(made_by.clone(), Vec::new())
        };
        table.commit(reset).await.unwrap();
        let files = stage(&lake, &target, 1..2).await;
        table.commit(offer(1, 2, files)).await.unwrap();

        let afresh = reopened_table(&lake, &table).await;
        for table in [&table, &afresh] {
            let snapshot = table.snapshot().await.unwrap();
            assert_eq!(snapshot.rows(), 1, "{format:?}");
            assert_eq!(snapshot.offsets[key], 2);
            let history = table.history(10).await.unwrap();
            assert_eq!(history[1].operation.as_deref(), Some("RESET STREAM"));
            assert_eq!(history[1].made_by.as_ref(), Some(&made_by));
        }
    }
}

#[tokio::test]
async fn a_table_tells_which_letters_were_replayed_last() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, _, table) = faulty_table(format).await;
        assert_eq!(table.last_replay("s").await.unwrap(), None);
        let target = table.write_target("w").await.unwrap();
        let replay = |number, attempt, from| {
            let letters = vec![OffsetRange {
                topic: "events".to_owned(),
                partition: 0,
                from,
                to: from + 1,
                ..OffsetRange::default()
            }];
            let made_by = MadeBy::Replay {
                id: replay_id("s", number, attempt),
                stream: "s".to_owned(),
                letters: letters.clone(),
            };
            (made_by, letters)
        };
        let (made_by, _) = replay(1, 7, 4);
        let files = stage(&lake, &target, 0..1).await;
        table.commit(Commit::append(made_by, files)).await.unwrap();
        let (made_by, letters) = replay(2, 8, 9);
        let files = stage(&lake, &target, 1..2).await;
        let commit = Commit::append(made_by, files);
        table.commit(commit.clone()).await.unwrap();
        assert!(table.commit(commit).await.unwrap().already);
        // Another one that took the same number is told so.
        let (made_by, _) = replay(2, 9, 10);
        let error = table.commit(Commit::append(made_by, Vec::new())).await;
        assert!(
            matches!(error, Err(Error::StatementChanged { .. })),
            "{error:?}"
        );
        for _ in 0..120 {
            let snapshot = table.snapshot().await.unwrap();
            let next = snapshot.offsets.values().next().copied().unwrap_or(20);
            table
                .commit(offer(next, next + 1, Vec::new()))
                .await
                .unwrap();
        }
        let afresh = reopened_table(&lake, &table).await;
        for table in [&table, &afresh] {
            let last = table.last_replay("s").await.unwrap();
            assert_eq!(last, Some((2, letters.clone())), "{format:?}");
            assert_eq!(table.last_replay("other").await.unwrap(), None);
        }
    }
}
