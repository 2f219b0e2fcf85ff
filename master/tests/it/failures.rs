//! Mistakes, cancels, lost workers.

use drumline_proto::v1::application_event::Event;
use drumline_proto::v1::{ApplicationState, FailureKind};

use crate::cluster::Cluster;

/// Minutes of work in one process.
const LONG: &str = "SELECT sum(a.value * b.value * c.value) \
     FROM generate_series(1, 3000) a, generate_series(1, 3000) b, generate_series(1, 3000) c";

#[tokio::test(flavor = "multi_thread")]
async fn mistyped_name_has_its_place_and_a_hint_and_ends_the_script() {
    let cluster = Cluster::start(1).await;
    let script = "CREATE TABLE listens (song VARCHAR);\nSELECT song\nFROM lisens;\nCREATE TABLE never (n INT)";
    let outcome = cluster.run(script).await;
    let failure = outcome.failure();
    assert_eq!(failure.kind(), FailureKind::User);
    assert_eq!((failure.ordinal, failure.line, failure.column), (2, 3, 6));
    assert!(failure.message.contains("lisens"), "{failure:?}");
    assert!(failure.hint.contains("listens"), "{failure:?}");
    assert_eq!(
        outcome.statements().len(),
        1,
        "the first statement stays, the third never runs"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_sql_fails_before_anything_runs() {
    let cluster = Cluster::start(1).await;
    let outcome = cluster.run("CREATE TABLE t (n INT);\nSELEC 1").await;
    assert_eq!(outcome.failure().line, 2);
    assert_eq!(outcome.statements().len(), 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_later_answers_not_yet() {
    let cluster = Cluster::start(1).await;
    let outcome = cluster.run("RESTORE t").await;
    assert!(
        outcome.failure().message.contains("not supported yet"),
        "{:?}",
        outcome.failure()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_answers_when_the_application_is_over() {
    let cluster = Cluster::start(1).await;
    let mut watched = cluster.submit(LONG).await;
    watched
        .until(|event| matches!(event, Event::JobPlanned(_)).then_some(()))
        .await;
    cluster.cancel(&watched.id).await;
    assert_eq!(watched.end().await.state(), ApplicationState::Cancelled);
    cluster.cancel(&watched.id).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_hangs_up_cancels_the_application() {
    let cluster = Cluster::start(1).await;
    let mut watched = cluster.submit(LONG).await;
    let ready = watched
        .until(|event| match event {
            Event::ResultReady(ready) => Some(ready.clone()),
            _ => None,
        })
        .await;
    drop(cluster.fetch(&ready).await.unwrap());
    assert_eq!(watched.end().await.state(), ApplicationState::Cancelled);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_application_is_named() {
    let cluster = Cluster::start(0).await;
    let request = drumline_proto::v1::WatchRequest {
        application_id: "nobody".to_owned(),
    };
    let status = cluster.applications().watch(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(status.message().contains("nobody"));
    cluster.stop().await;
}
