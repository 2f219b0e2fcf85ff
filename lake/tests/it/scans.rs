use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;
use drumline_lake::conformance::{new_table, number, offer, runtime, stage};
use drumline_lake::{Catalog, Format, Lake, Table, TableSnapshot};

use crate::faults::faulty_lake;

/// Ten commits of nine rows; three files each.
async fn ten_commits(format: Format) -> (Lake, TableSnapshot) {
    let (lake, _) = faulty_lake().await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let table = Table::create(&catalog, new_table("t", format, None), false)
        .await
        .unwrap();
    let target = table.write_target("w").await.unwrap();
    for n in 0..10 {
        let files = stage(&lake, &target, n * 9..n * 9 + 9).await;
        table.commit(offer(n * 9, n * 9 + 9, files)).await.unwrap();
    }
    let snapshot = table.snapshot().await.unwrap();
    (lake, snapshot)
}

async fn plan(lake: &Lake, snapshot: &TableSnapshot, sql: &str) -> String {
    let session = SessionContext::new_with_config_rt(Default::default(), runtime(lake));
    session
        .register_table("t", snapshot.provider().unwrap())
        .unwrap();
    let plan = session.sql(sql).await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    displayable(plan.as_ref() as &dyn ExecutionPlan)
        .indent(true)
        .to_string()
}

fn files_in(plan: &str) -> usize {
    plan.matches(".parquet").count()
}

#[tokio::test]
async fn only_files_that_can_hold_an_answer_are_scanned() {
    for format in [Format::Delta, Format::Parquet] {
        let (lake, snapshot) = ten_commits(format).await;
        for (filter, files, answer) in [
            ("true", 30, 90),
            ("part = 1", 10, 30),
            ("part in (0, 2) and id >= 81", 2, 6),
            ("id = 40", 3, 1),
            ("id < 9", 3, 9),
            ("name = 'name 40'", 1, 1),
            ("part is null", 0, 0),
            ("id > 1000", 0, 0),
            ("part + 0 = 1 or part = 2", 20, 60),
        ] {
            let sql = format!("select id, name, part from t where {filter}");
            let plan = plan(&lake, &snapshot, &sql).await;
            if filter != "name = 'name 40'" {
                assert_eq!(files_in(&plan), files, "{format:?} {filter}\n{plan}");
            } else {
                assert!(files_in(&plan) < 30, "{format:?} {filter}\n{plan}");
            }
            let sql = format!("select count(*) from t where {filter}");
            let counted = number(&lake, &snapshot, &sql).await;
            assert_eq!(counted, answer, "{format:?} {filter}");
        }
    }
}

#[tokio::test]
async fn a_filter_on_partitions_alone_is_done_by_pruning() {
    let (lake, snapshot) = ten_commits(Format::Parquet).await;
    let plan = plan(&lake, &snapshot, "select id from t where part = 1").await;
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[tokio::test]
async fn columns_come_in_the_tables_order() {
    let (lake, snapshot) = ten_commits(Format::Parquet).await;
    let session = SessionContext::new_with_config_rt(Default::default(), runtime(&lake));
    session
        .register_table("t", snapshot.provider().unwrap())
        .unwrap();
    let sql = "select * from t order by id limit 2";
    let rows = session.sql(sql).await.unwrap().collect().await.unwrap();
    let text = datafusion::arrow::util::pretty::pretty_format_batches(&rows).unwrap();
    insta::assert_snapshot!(text, @r"
    +----+------+--------+
    | id | part | name   |
    +----+------+--------+
    | 0  | 0    | name 0 |
    | 1  | 1    | name 1 |
    +----+------+--------+
    ");
}

#[tokio::test]
async fn a_snapshot_pins_its_version() {
    let (lake, _) = faulty_lake().await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let table = Table::create(&catalog, new_table("t", Format::Delta, None), false)
        .await
        .unwrap();
    let target = table.write_target("w").await.unwrap();
    let files = stage(&lake, &target, 0..9).await;
    table.commit(offer(0, 9, files)).await.unwrap();
    let pinned = table.snapshot().await.unwrap();
    let files = stage(&lake, &target, 9..18).await;
    table.commit(offer(9, 18, files)).await.unwrap();
    assert_eq!(number(&lake, &pinned, "select count(*) from t").await, 9);
}
