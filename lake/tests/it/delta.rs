use std::sync::Arc;

use drumline_lake::conformance::{new_table, number, offer, stage, statement};
use drumline_lake::{Catalog, Commit, Format, Lake, MadeBy, Operation, Stores, Table, TableChange};
use futures::StreamExt;

/// Opened by the Delta library alone, with nothing of ours in between.
async fn opened_by_delta(table: &Table) -> deltalake_core::DeltaTable {
    deltalake_core::DeltaTableBuilder::from_url(table.object().location.clone())
        .unwrap()
        .load()
        .await
        .unwrap()
}

async fn local() -> (tempfile::TempDir, Lake, Table) {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path().to_str().unwrap(), Stores::from_env())
        .await
        .unwrap();
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let table = Table::create(&catalog, new_table("t", Format::Delta, None), false)
        .await
        .unwrap();
    (folder, lake, table)
}

#[tokio::test]
async fn another_reader_of_delta_sees_our_rows_and_transactions() {
    let (_folder, lake, table) = local().await;
    let target = table.write_target("w").await.unwrap();
    let files = stage(&lake, &target, 0..9).await;
    table.commit(offer(0, 9, files)).await.unwrap();
    let files = stage(&lake, &target, 9..12).await;
    let id = statement("app", 7, 1);
    let insert = Commit::append(MadeBy::Statement(id), files);
    table.commit(insert).await.unwrap();

    let delta = opened_by_delta(&table).await;
    assert_eq!(delta.version(), Some(2));
    let state = delta.snapshot().unwrap();
    let log = delta.log_store();
    for (app, version) in [("drumline/app", 7), ("drumline/stream/s/events/0", 9)] {
        let found = state.transaction_version(log.as_ref(), app).await.unwrap();
        assert_eq!(found, Some(version), "{app}");
    }
    let rows: usize = state
        .log_data()
        .iter()
        .map(|file| file.num_records().unwrap())
        .sum();
    assert_eq!(rows, 12);
    let session = datafusion::prelude::SessionContext::new();
    session
        .register_table("t", delta.table_provider().await.unwrap())
        .unwrap();
    let counted = session
        .sql("select count(*) as n, sum(part) as p from t where id < 12")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let text = datafusion::arrow::util::pretty::pretty_format_batches(&counted).unwrap();
    assert!(text.to_string().contains("| 12 | 12 |"), "{text}");
}

#[tokio::test]
async fn another_reader_of_delta_sees_which_files_went() {
    let (_folder, lake, table) = local().await;
    let target = table.write_target("w").await.unwrap();
    let files = stage(&lake, &target, 0..9).await;
    table.commit(offer(0, 9, files)).await.unwrap();
    let snapshot = table.snapshot().await.unwrap();
    let gone = &snapshot.files[0];
    let change = TableChange {
        operation: Operation::Delete,
        base: snapshot.version,
        remove: vec![gone.path.clone()],
        rows: Some(gone.rows),
        columns: None,
        redefines: None,
    };
    let made_by = MadeBy::Statement(statement("app", 1, 1));
    let commit = Commit {
        change: Some(change),
        ..Commit::append(made_by, Vec::new())
    };
    table.commit(commit).await.unwrap();
    let delta = opened_by_delta(&table).await;
    let files = delta.snapshot().unwrap().log_data();
    let left: Vec<_> = files.iter().map(|file| file.path().into_owned()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(&gone.path), "{left:?}");
    let newest = delta.history(Some(1)).next().await.unwrap().unwrap();
    assert_eq!(newest.operation.as_deref(), Some("DELETE"));
    assert_eq!(newest.is_blind_append, Some(false));
}

#[tokio::test]
async fn a_foreign_writers_commit_is_followed() {
    use deltalake_core::kernel::Action;
    use deltalake_core::kernel::transaction::CommitBuilder;
    use deltalake_core::protocol::{DeltaOperation, SaveMode};
    let (_folder, lake, table) = local().await;
    let target = table.write_target("w").await.unwrap();
    let files = stage(&lake, &target, 0..9).await;
    table.commit(offer(0, 9, files)).await.unwrap();

    // Somebody removes the files of part 0.
    let delta = opened_by_delta(&table).await;
    let snapshot = delta.snapshot().unwrap();
    let removes: Vec<Action> = snapshot
        .log_data()
        .iter()
        .filter(|file| file.path().starts_with("part=0/"))
        .map(|file| Action::Remove(file.remove_action(true)))
        .collect();
    assert_eq!(removes.len(), 1);
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: None,
        predicate: None,
    };
    CommitBuilder::default()
        .with_actions(removes)
        .build(Some(snapshot), delta.log_store(), operation)
        .await
        .unwrap();

    let seen = table.snapshot().await.unwrap();
    assert_eq!((seen.version, seen.rows()), (2, 6));
    let again = stage(&lake, &target, 9..12).await;
    let committed = table.commit(offer(9, 12, again)).await.unwrap();
    assert_eq!(committed.version, 3);
    let fresh = Lake::open(lake.root().as_str(), Stores::from_env())
        .await
        .unwrap();
    let fresh = Table::open(&fresh, table.name(), table.object())
        .await
        .unwrap();
    let snapshot = fresh.snapshot().await.unwrap();
    assert_eq!(snapshot.offsets[&("events".to_owned(), 0)], 12);
    let sql = "select count(*) from t where part = 0";
    assert_eq!(number(&lake, &snapshot, sql).await, 1);
}

#[tokio::test]
async fn partition_values_with_odd_characters_survive() {
    use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    for format in [Format::Delta, Format::Parquet] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let lake = Lake::open(root, Stores::from_env()).await.unwrap();
        let catalog = Catalog::open(lake.clone()).await.unwrap();
        let odd = [
            Some("a b/c=d%e"),
            Some("Beyoncé ♪"),
            Some(""),
            None,
            Some(".."),
            Some("x:y?z#"),
        ];
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("artist", DataType::Utf8, true),
        ]));
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(Int64Array::from_iter_values(0..odd.len() as i64)),
                Arc::new(StringArray::from_iter(odd)),
            ],
        )
        .unwrap();
        let mut new = new_table("t", format, None);
        new.schema = schema;
        new.partition_columns = vec!["artist".to_owned()];
        let table = Table::create(&catalog, new, false).await.unwrap();
        let target = table.write_target("w").await.unwrap();
        let mut writer = drumline_lake::Writer::new(lake.stores(), &target).unwrap();
        writer.write(&batch).await.unwrap();
        let files = writer.finish().await.unwrap();
        assert_eq!(files.len(), 5);
        table.commit(offer(0, 6, files)).await.unwrap();
        let fresh = Lake::open(root, Stores::from_env()).await.unwrap();
        let fresh = Table::open(&fresh, table.name(), table.object())
            .await
            .unwrap();
        let snapshot = fresh.snapshot().await.unwrap();
        for (n, value) in odd.iter().enumerate() {
            let sql = match value {
                Some(value) if !value.is_empty() => {
                    format!("select sum(n) from t where artist = '{value}'")
                }
                _ => format!("select n from t where artist is null and n = {n}"),
            };
            assert_eq!(
                number(&lake, &snapshot, &sql).await,
                n as i64,
                "{format:?} {sql}"
            );
        }
    }
}
