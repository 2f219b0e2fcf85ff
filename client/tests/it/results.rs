//! SQL in, rows out, and what happens when a part of it breaks.

use drumline_client::proto as v1;
use drumline_client::{Client, Error, Kind, Outcome, Position};
use v1::application_event::Event;

use crate::fake_master::{FakeMaster, Script, batch, schema_ipc};

fn started(statements: u32) -> Event {
    Event::ApplicationStarted(v1::ApplicationStarted { statements })
}

fn rows_of(application: &str, ordinal: u32) -> Event {
    let schema_ipc = schema_ipc(&batch(&[]).schema());
    Event::ResultReady(v1::ResultReady {
        ordinal,
        ticket: application.into(),
        schema_ipc,
    })
}

fn succeeded() -> Event {
    let state = v1::ApplicationState::Succeeded.into();
    Event::ApplicationFinished(v1::ApplicationFinished {
        state,
        failure: None,
    })
}

fn failed(kind: v1::FailureKind) -> Event {
    let failure = v1::Failure {
        kind: kind.into(),
        message: "table lisen_events not found".into(),
        hint: "did you mean listen_events?".into(),
        ordinal: 0,
        line: 2,
        column: 15,
    };
    let state = v1::ApplicationState::Failed.into();
    Event::ApplicationFinished(v1::ApplicationFinished {
        state,
        failure: Some(failure),
    })
}

fn query(application: &str, rows: Vec<Vec<i64>>) -> Script {
    Script {
        events: vec![started(1), rows_of(application, 0), succeeded()],
        rows,
        ..Script::default()
    }
}

/// A query that loses a worker after its first rows.
fn broken(application: &str, statements: u32) -> Script {
    Script {
        events: vec![
            started(statements),
            rows_of(application, 0),
            failed(v1::FailureKind::Retryable),
        ],
        rows: vec![vec![1, 2]],
        breaks: true,
        ..Script::default()
    }
}

async fn connect(master: &FakeMaster) -> Client {
    Client::connect(&master.serve().await).await.unwrap()
}

#[tokio::test]
async fn rows_arrive_whole_and_in_order() {
    let master = FakeMaster::new(vec![query("0", vec![vec![1, 2], vec![3]])]);
    let batches = connect(&master)
        .await
        .collect_sql("SELECT n FROM t")
        .await
        .unwrap();
    assert_eq!(batches, [batch(&[1, 2]), batch(&[3])]);
}

#[tokio::test]
async fn a_result_without_rows_still_has_its_schema() {
    let master = FakeMaster::new(vec![query("0", vec![])]);
    let mut run = connect(&master).await.sql("SELECT n FROM t").await.unwrap();
    let rows = loop {
        if let Some(Outcome::Rows { rows, .. }) = run.next().await.unwrap() {
            break rows;
        }
    };
    assert_eq!(rows.schema(), batch(&[]).schema());
    assert!(rows.collect().await.unwrap().is_empty());
    assert!(run.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_query_that_breaks_off_is_asked_again_and_no_row_comes_twice() {
    let master = FakeMaster::new(vec![
        broken("0", 1),
        broken("1", 1),
        query("2", vec![vec![1, 2], vec![3]]),
    ]);
    let batches = connect(&master)
        .await
        .collect_sql("SELECT n FROM t")
        .await
        .unwrap();
    assert_eq!(batches, [batch(&[1, 2]), batch(&[3])]);
    assert_eq!(master.0.lock().unwrap().submitted.len(), 3);
}

#[tokio::test]
async fn after_three_attempts_the_failure_stands() {
    let master = FakeMaster::new(vec![broken("0", 1), broken("1", 1), broken("2", 1)]);
    let error = connect(&master)
        .await
        .collect_sql("SELECT n FROM t")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Retryable);
    assert_eq!(master.0.lock().unwrap().submitted.len(), 3);
}

#[tokio::test]
async fn a_script_that_breaks_off_is_not_run_again() {
    let master = FakeMaster::new(vec![broken("0", 2)]);
    let error = connect(&master)
        .await
        .collect_sql("SELECT n FROM t; INSERT INTO u SELECT 1")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Retryable);
    assert_eq!(master.0.lock().unwrap().submitted.len(), 1);
}

#[tokio::test]
async fn a_users_mistake_comes_with_position_and_hint_and_is_not_tried_again() {
    let script = Script {
        events: vec![started(1), failed(v1::FailureKind::User)],
        ..Script::default()
    };
    let master = FakeMaster::new(vec![script]);
    let error = connect(&master)
        .await
        .collect_sql("SELECT n\nFROM lisen_events")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "table lisen_events not found");
    assert_eq!(
        error.position(),
        Some(Position {
            line: 2,
            column: 15
        })
    );
    assert_eq!(error.hint().as_deref(), Some("did you mean listen_events?"));
    assert_eq!(master.0.lock().unwrap().submitted.len(), 1);
}

#[tokio::test]
async fn rows_that_break_off_report_what_the_application_says() {
    let mut script = broken("0", 2);
    script.events[2] = failed(v1::FailureKind::User);
    let error = connect(&FakeMaster::new(vec![script]))
        .await
        .collect_sql("…")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "table lisen_events not found");
}

#[tokio::test]
async fn a_cancelled_application_is_told_apart_from_a_failed_one() {
    let state = v1::ApplicationState::Cancelled.into();
    let end = Event::ApplicationFinished(v1::ApplicationFinished {
        state,
        failure: None,
    });
    let master = FakeMaster::new(vec![Script {
        events: vec![started(1), end],
        ..Script::default()
    }]);
    let error = connect(&master)
        .await
        .collect_sql("SELECT 1")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled { application } if application == "0"));
}

#[tokio::test]
async fn a_watch_that_breaks_off_goes_on_where_it_was() {
    let mut script = query("0", vec![]);
    script.first_watch = Some(1);
    let client = connect(&FakeMaster::new(vec![script])).await;
    let application = client
        .submit(drumline_client::Submission::sql("SELECT n FROM t"))
        .await
        .unwrap();
    let mut events = application.watch();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        seen.push(event.sequence);
    }
    assert_eq!(seen, [0, 1, 2]);
}

#[tokio::test]
async fn a_result_that_broke_off_is_read_again_when_it_is_announced_again() {
    let mut first = query("0", vec![vec![7]]);
    first.is_lost = true;
    first.events = vec![started(1), rows_of("0", 1), rows_of("1", 1), succeeded()];
    let again = query("1", vec![vec![1, 2], vec![3]]);
    let master = FakeMaster::new(vec![first, again]);
    let batches = connect(&master)
        .await
        .collect_sql("SELECT n FROM t")
        .await
        .unwrap();
    assert_eq!(batches, [batch(&[1, 2]), batch(&[3])]);
    assert_eq!(master.0.lock().unwrap().submitted.len(), 1);
}

#[tokio::test]
async fn a_watcher_says_that_the_master_is_lost_and_back_and_gives_up_after_its_patience() {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use drumline_client::{Contact, Submission};

    let mut script = query("0", vec![]);
    script.first_watch = Some(1);
    let master = FakeMaster::new(vec![script]);
    // On a runtime of its own, which ends with all its connections.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let served = master.clone();
    let url = runtime
        .spawn(async move { served.serve().await })
        .await
        .unwrap();
    let client = Client::connect(&url).await.unwrap();
    let application = client.submit(Submission::sql("SELECT 1")).await.unwrap();

    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let mut events = application
        .watch()
        .with_patience(Duration::from_millis(700))
        .on_contact(move |contact| heard.lock().unwrap().push(contact));
    events.next().await.unwrap().unwrap();
    events.next().await.unwrap().unwrap();
    assert_eq!(*told.lock().unwrap(), [Contact::Lost, Contact::Back]);

    runtime.shutdown_background();
    let mut events = application
        .watch()
        .with_patience(Duration::from_millis(700));
    let begun = Instant::now();
    let error = events.next().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}
