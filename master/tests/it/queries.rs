//! Statements that answer with rows.

use drumline_proto::v1::application_event::Event;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn query_answers_with_rows_and_their_count() {
    let cluster = Cluster::start(1).await;
    let outcome = cluster
        .run("SELECT 1 AS one, 'x' AS letter")
        .await
        .succeeded();
    assert_eq!(
        outcome.tables(),
        "+-----+--------+\n| one | letter |\n+-----+--------+\n| 1   | x      |\n+-----+--------+"
    );
    assert_eq!(outcome.statements()[0].rows, 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_a_script_run_in_order_with_settings_in_force() {
    let cluster = Cluster::start(1).await;
    let script = "SET datafusion.execution.batch_size = 17; SELECT 1 AS a; SELECT 2 AS b";
    let outcome = cluster.run(script).await.succeeded();
    let ordinals: Vec<u32> = outcome
        .statements()
        .iter()
        .map(|statement| statement.ordinal)
        .collect();
    assert_eq!(ordinals, [1, 2, 3]);
    assert_eq!(outcome.rows.len(), 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn result_without_rows_has_its_columns() {
    let cluster = Cluster::start(1).await;
    let outcome = cluster.run("SELECT 1 AS one WHERE false").await.succeeded();
    assert_eq!(outcome.statements()[0].rows, 0);
    assert_eq!(
        outcome.rows[0]
            .iter()
            .map(|batch| batch.num_rows())
            .sum::<usize>(),
        0
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn result_is_fetched_once() {
    let cluster = Cluster::start(1).await;
    let mut watched = cluster.submit("SELECT 1").await;
    let ready = watched
        .until(|event| match event {
            Event::ResultReady(ready) => Some(ready.clone()),
            _ => None,
        })
        .await;
    let _rows = cluster.fetch(&ready).await.unwrap();
    let again = cluster.fetch(&ready).await.err().unwrap();
    assert_eq!(again.code(), tonic::Code::FailedPrecondition);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_sees_all_events() {
    let cluster = Cluster::start(1).await;
    let mut first = cluster.submit("CREATE SCHEMA s").await;
    first.end().await;
    let request = drumline_proto::v1::WatchRequest {
        application_id: first.id.clone(),
    };
    let mut again = cluster
        .applications()
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    let mut seen = vec![];
    while let Some(event) = again.message().await.unwrap() {
        seen.push(event.event.unwrap());
    }
    assert_eq!(seen, first.seen);
    cluster.stop().await;
}
