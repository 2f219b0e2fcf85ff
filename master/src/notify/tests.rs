use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::Json;
use axum::routing::post;
use http::StatusCode;
use serde_json::Value;

use super::*;
use crate::facts::Event;

fn lost(worker: &str) -> Event {
    Event::WorkerLeft {
        worker: worker.to_owned(),
        clean: false,
        reason: "no heartbeat for 5 s".to_owned(),
    }
}

fn stream(state: &str) -> Event {
    Event::StreamChanged {
        stream: "listens".to_owned(),
        state: state.to_owned(),
        reason: "brokers do not answer".to_owned(),
    }
}

fn kinds(events: Vec<Event>) -> Vec<&'static str> {
    let mut notices = Notices::default();
    let told = events.into_iter().filter_map(|event| {
        let fact = Fact {
            sequence: 1,
            at: 2,
            event,
        };
        notices.of(&fact).map(|notice| notice.kind)
    });
    told.collect()
}

#[test]
fn what_goes_on_is_told_once() {
    let states = [
        "running", "failing", "waiting", "failing", "running", "waiting",
    ];
    assert_eq!(
        kinds(states.map(stream).to_vec()),
        ["stream_failing", "stream_failing"]
    );
}

#[test]
fn a_worker_that_leaves_in_good_order_is_no_news() {
    let left = Event::WorkerLeft {
        worker: "a".to_owned(),
        clean: true,
        reason: "it was stopped".to_owned(),
    };
    assert_eq!(kinds(vec![left, lost("b")]), ["worker_lost"]);
}

#[test]
fn the_url_is_shown_as_its_host_only() {
    let webhook = Webhook::new("https://hooks.example/services/T0/s3cret?key=s3cret").unwrap();
    assert_eq!(format!("{webhook:?}"), "https://hooks.example/…");
    let error = Webhook::new("ftp://s3cret.example").unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_fails_at_first_is_told_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let (taken, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let counter = Arc::clone(&calls);
    let hook = move |Json(notice): Json<Value>| async move {
        if counter.fetch_add(1, Ordering::Relaxed) == 0 {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        taken.send(notice).unwrap();
        StatusCode::OK
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/hook", post(hook));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let facts = Facts::new();
    let webhook = Webhook::new(&format!("http://{address}/hook")).unwrap();
    let shutdown = CancellationToken::new();
    let telling = tokio::spawn(start(webhook, &facts, shutdown.clone()).unwrap());
    facts.publish(lost("worker-1"));
    let told = tokio::time::timeout(Duration::from_secs(10), heard.recv());
    let notice = told.await.unwrap().unwrap();
    assert_eq!(notice["kind"], "worker_lost");
    assert_eq!(notice["subject"], "worker-1");
    assert_eq!(
        notice["text"],
        "worker worker-1 is lost: no heartbeat for 5 s"
    );
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    shutdown.cancel();
    telling.await.unwrap();
    serving.abort();
}
