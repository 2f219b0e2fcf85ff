//! Commits that rest on what the table held: which may stand beside which, and what a repeated one does.

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use drumline_lake::conformance::{new_table, number, stage, statement};
use drumline_lake::{
    Catalog, Commit, Error, Format, Lake, MadeBy, Operation, Redefinition, StatementId, Table,
    TableChange,
};

use crate::faults::{Fault, faulty_lake, faulty_table, reopened_table};

async fn table_of_three(format: Format) -> (Lake, Table, std::sync::Arc<crate::faults::Faulty>) {
    let (lake, store, table) = faulty_table(format).await;
    append(&lake, &table, 1, 0..3).await;
    (lake, table, store)
}

/// One file for each of the three partitions.
async fn append(lake: &Lake, table: &Table, ordinal: u32, ids: std::ops::Range<i64>) {
    let target = table.write_target(&format!("a{ordinal}")).await.unwrap();
    let files = stage(lake, &target, ids).await;
    let id = MadeBy::Statement(statement("appender", ordinal, 1));
    table.commit(Commit::append(id, files)).await.unwrap();
}

/// Takes away the files of one partition, as of the snapshot of now.
async fn taking(table: &Table, part: &str, id: StatementId, operation: Operation) -> Commit {
    let snapshot = table.snapshot().await.unwrap();
    let of_part = snapshot
        .files
        .iter()
        .filter(|file| file.partition_values == [Some(part.to_owned())]);
    let remove: Vec<String> = of_part.map(|file| file.path.clone()).collect();
    Commit {
        change: Some(TableChange {
            operation,
            base: snapshot.version,
            rows: Some(remove.len() as u64),
            columns: None,
            redefines: None,
            remove,
        }),
        ..Commit::append(MadeBy::Statement(id), Vec::new())
    }
}

async fn ids(lake: &Lake, table: &Table) -> i64 {
    let snapshot = table.snapshot().await.unwrap();
    number(lake, &snapshot, "select coalesce(sum(id), 0) from t").await
}

#[tokio::test]
async fn files_that_a_commit_takes_away_are_gone_for_everybody() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, table, _) = table_of_three(format).await;
        let commit = taking(&table, "1", statement("a", 1, 1), Operation::Overwrite).await;
        let committed = table.commit(commit).await.unwrap();
        assert_eq!((committed.rows, committed.files), (1, 0), "{format:?}");
        assert_eq!(ids(&lake, &table).await, 2);
        let other = reopened_table(&lake, &table).await;
        assert_eq!(ids(&lake, &other).await, 2);
        assert_eq!(other.snapshot().await.unwrap().files.len(), 2);
    }
}

#[tokio::test]
async fn appends_stand_beside_a_change_and_changes_do_not() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, table, _) = table_of_three(format).await;
        let mine = taking(&table, "1", statement("a", 1, 1), Operation::Delete).await;
        let late = taking(&table, "1", statement("b", 1, 1), Operation::Delete).await;
        let elsewhere = taking(&table, "2", statement("c", 1, 1), Operation::Merge).await;
        append(&lake, &table, 2, 3..6).await;
        // Others are not kept from it by what they do not know yet.
        let other = reopened_table(&lake, &table).await;
        other.commit(mine).await.unwrap();
        assert_eq!(
            ids(&lake, &table).await,
            14,
            "what was appended meanwhile stays"
        );
        for conflicting in [late, elsewhere] {
            let error = table.commit(conflicting).await.unwrap_err();
            assert!(
                matches!(error, Error::Conflict { version: 3, .. }),
                "{error}"
            );
            let text = error.to_string();
            assert!(text.contains("statement 1 of application a"), "{text}");
        }
        assert_eq!(ids(&lake, &table).await, 14);
    }
}

/// The rows of one partition in a new file, as of the snapshot of now.
async fn moving(lake: &Lake, table: &Table, part: i64, app: &str) -> Commit {
    let id = statement(app, 1, 1);
    let taking = taking(table, &part.to_string(), id, Operation::Optimize).await;
    let target = table.write_target(app).await.unwrap();
    Commit {
        files: stage(lake, &target, part..part + 1).await,
        ..taking
    }
}

#[tokio::test]
async fn rows_are_moved_beside_changes_of_other_files() {
    let (lake, table, _) = table_of_three(Format::Delta).await;
    let moved = moving(&lake, &table, 1, "a").await;
    let also_moved = moving(&lake, &table, 2, "b").await;
    let late = moving(&lake, &table, 0, "c").await;
    let delete = taking(&table, "0", statement("d", 1, 1), Operation::Delete).await;
    table.commit(moved).await.unwrap();
    // What was moved elsewhere is no reason to plan a change anew, and a change elsewhere none to move anew.
    table.commit(delete).await.unwrap();
    table.commit(also_moved).await.unwrap();
    assert_eq!(ids(&lake, &table).await, 3);
    // Rows that are gone must not come back.
    let error = table.commit(late).await.unwrap_err();
    assert!(
        matches!(error, Error::Conflict { version: 3, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("application d"), "{error}");
    assert_eq!(ids(&lake, &table).await, 3);
}

#[tokio::test]
async fn rows_are_not_moved_past_a_change_of_columns() {
    let (lake, table, _) = table_of_three(Format::Delta).await;
    let late = moving(&lake, &table, 1, "a").await;
    let more = Schema::new(vec![Field::new("price", DataType::Float64, true)]);
    let id = statement("b", 1, 1);
    table.add_columns(&more, false, id).await.unwrap();
    let error = table.commit(late).await.unwrap_err();
    assert!(
        matches!(error, Error::Conflict { version: 2, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_change_that_is_repeated_does_nothing_twice() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, table, store) = table_of_three(format).await;
        let commit = taking(&table, "1", statement("a", 1, 1), Operation::Delete).await;
        // It lands, and nobody hears of it.
        store.plan(&[Fault::CreateLandsThenFails]);
        let first = table.commit(commit.clone()).await.unwrap();
        assert_eq!((first.version, first.rows), (2, 1));
        for table in [table.clone(), reopened_table(&lake, &table).await] {
            let again = table.commit(commit.clone()).await.unwrap();
            assert_eq!((again.already, again.version, again.rows), (true, 2, 1));
        }
        // One without any row, too.
        let nothing = taking(&table, "9", statement("a", 2, 2), Operation::Delete).await;
        let first = table.commit(nothing.clone()).await.unwrap();
        assert_eq!((first.already, first.version, first.rows), (false, 3, 0));
        let again = table.commit(nothing).await.unwrap();
        assert_eq!((again.already, again.version, again.rows), (true, 3, 0));
        assert_eq!(ids(&lake, &table).await, 2);
    }
}

#[tokio::test]
async fn columns_that_are_added_are_null_in_old_rows() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, table, _) = table_of_three(format).await;
        let more = Schema::new(vec![
            Field::new("price", DataType::Float64, true),
            Field::new("note", DataType::Utf8, true),
        ]);
        let late = taking(&table, "1", statement("late", 1, 1), Operation::Delete).await;
        let id = statement("a", 1, 1);
        let committed = table.add_columns(&more, false, id.clone()).await.unwrap();
        assert_eq!((committed.version, committed.already), (2, false));
        let other = reopened_table(&lake, &table).await;
        // Repeated, it finds itself; by another statement, they are there.
        assert!(other.add_columns(&more, false, id).await.unwrap().already);
        let again = statement("b", 1, 1);
        let error = other
            .add_columns(&more, false, again.clone())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Column { .. }), "{error}");
        other.add_columns(&more, true, again).await.unwrap();
        append(&lake, &other, 7, 3..6).await;
        for table in [&table, &other] {
            let snapshot = table.snapshot().await.unwrap();
            assert_eq!(snapshot.schema.fields().len(), 5);
            let sql = "select count(*) from t where price is null and id is not null";
            assert_eq!(number(&lake, &snapshot, sql).await, 6);
        }
        let error = table.commit(late).await.unwrap_err();
        assert!(
            matches!(error, Error::Conflict { version: 2, .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_table_for_new_rows_only_keeps_its_rows() {
    let (lake, _) = faulty_lake().await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let mut new = new_table("t", Format::Delta, None);
    new.properties
        .insert("delta.appendOnly".to_owned(), "true".to_owned());
    let table = Table::create(&catalog, new, false).await.unwrap();
    append(&lake, &table, 1, 0..3).await;
    let commit = taking(&table, "1", statement("a", 1, 1), Operation::Delete).await;
    let error = table.commit(commit).await.unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn rows_staged_before_a_table_became_another_one_are_refused() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, table, _) = table_of_three(format).await;
        let target = table.write_target("late").await.unwrap();
        let late = stage(&lake, &target, 10..11).await;
        let snapshot = table.snapshot().await.unwrap();
        let key = "delta.constraints.small".to_owned();
        let redefine = |ordinal, base| Commit {
            change: Some(TableChange {
                operation: Operation::AddConstraint,
                base,
                remove: Vec::new(),
                rows: Some(0),
                columns: None,
                redefines: Some(Redefinition {
                    partition_columns: snapshot.partition_columns.clone(),
                    properties: [(key.clone(), Some("id < 1000".to_owned()))].into(),
                }),
            }),
            ..Commit::append(
                MadeBy::Statement(statement("x", ordinal, u64::from(ordinal))),
                Vec::new(),
            )
        };
        // Rows that came after it was worked out were not looked at.
        append(&lake, &table, 2, 3..6).await;
        let error = table.commit(redefine(1, snapshot.version)).await;
        assert!(matches!(error, Err(Error::Conflict { .. })), "{error:?}");
        let done = table.commit(redefine(2, snapshot.version + 1)).await;
        assert_eq!(done.unwrap().version, 3, "{format:?}");
        let id = MadeBy::Statement(statement("late", 1, 1));
        let error = table.commit(Commit::append(id, late)).await;
        assert!(matches!(error, Err(Error::Conflict { .. })), "{error:?}");
        append(&lake, &table, 3, 6..9).await;
        let other = reopened_table(&lake, &table).await;
        for table in [&table, &other] {
            assert_eq!(ids(&lake, table).await, 36, "{format:?}");
            let properties = table.snapshot().await.unwrap().properties;
            assert_eq!(properties[&key], "id < 1000");
            assert_eq!(properties["drumline.definition"], "1");
        }
        append(&lake, &other, 4, 9..12).await;
    }
}
