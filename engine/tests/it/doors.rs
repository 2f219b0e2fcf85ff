//! Who may call a worker, and with which tickets.

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Ticket};
use drumline_engine::Error;
use drumline_lake::ErrorKind;
use drumline_proto::v1::tasks_client::TasksClient;
use drumline_proto::v1::{CoordinatorMessage, RowsTicket};
use drumline_security::Passes;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::cluster::{Cluster, forced};

const SQL: &str = "select kind, count(*) from events group by 1";

/// Both workers have joined `master`, and are called by `caller`.
async fn joined(master: &Passes, caller: Option<&Passes>) -> (Cluster, [Passes; 2]) {
    let workers = [Passes::none_yet(), Passes::none_yet()];
    let [a, b] = &workers;
    let cluster = Cluster::with_passes(caller, &[Some(a), Some(b)]).await;
    cluster.join(master, 0, a);
    cluster.join(master, 1, b);
    (cluster, workers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_and_its_workers_reach_each_other() {
    let master = Passes::of_master().unwrap();
    let (cluster, _) = joined(&master, Some(&master)).await;
    assert_eq!(cluster.rows(SQL, forced(&[])).await.unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_master_is_refused_and_not_tried_again() {
    let master = Passes::of_master().unwrap();
    let other = Passes::of_master().unwrap();
    for stranger in [None, Some(&other)] {
        let (cluster, _) = joined(&master, stranger).await;
        let error = cluster.rows(SQL, forced(&[])).await.unwrap_err();
        assert!(matches!(error, Error::WorkerRefused { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::User);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_has_not_joined_counts_as_lost() {
    let master = Passes::of_master().unwrap();
    let (a, b) = (Passes::none_yet(), Passes::none_yet());
    let cluster = Cluster::with_passes(Some(&master), &[Some(&a), Some(&b)]).await;
    let error = cluster.rows(SQL, forced(&[])).await.unwrap_err();
    assert!(matches!(error, Error::WorkerLost { .. }), "{error:?}");
}

async fn channel(cluster: &Cluster, worker: usize) -> Channel {
    Channel::from_shared(cluster.workers[worker].target.url.to_string())
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// What the master shows this worker.
fn pass(master: &Passes, cluster: &Cluster, worker: usize) -> String {
    let url = cluster.workers[worker].target.url.as_str();
    master.control_bearer(url).unwrap()
}

fn request<T>(message: T, bearer: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    let build = drumline_proto::BUILD.parse().unwrap();
    request.metadata_mut().insert("drumline-build", build);
    if let Some(bearer) = bearer {
        let value = format!("Bearer {bearer}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

async fn run_task(channel: &Channel, bearer: Option<&str>) -> Status {
    let nothing = futures::stream::empty::<CoordinatorMessage>();
    TasksClient::new(channel.clone())
        .run(request(nothing, bearer))
        .await
        .err()
        .unwrap()
}

async fn rows(channel: &Channel, bearer: Option<&str>, ticket: Vec<u8>) -> Status {
    let ticket = Ticket {
        ticket: ticket.into(),
    };
    FlightServiceClient::new(channel.clone())
        .do_get(request(ticket, bearer))
        .await
        .err()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_method_is_for_those_it_is_for() {
    let master = Passes::of_master().unwrap();
    let (cluster, [_, b]) = joined(&master, Some(&master)).await;
    let channel = channel(&cluster, 0).await;
    let control = pass(&master, &cluster, 0);
    let rows_pass = b.rows_bearer().unwrap();

    // Task control is the master's alone: what it says then is about the message, not the caller.
    assert_eq!(
        run_task(&channel, Some(&control)).await.code(),
        Code::InvalidArgument
    );
    for (bearer, code) in [
        (None, Code::Unauthenticated),
        (Some("nonsense"), Code::Unauthenticated),
        (Some(rows_pass.as_str()), Code::PermissionDenied),
    ] {
        assert_eq!(run_task(&channel, bearer).await.code(), code, "{bearer:?}");
    }

    // Rows: master and workers, with a ticket that one of them has signed.
    let ticket = RowsTicket::default().encode_to_vec();
    let signed = b.seal_rows(&ticket).unwrap();
    for bearer in [&control, &rows_pass] {
        let status = rows(&channel, Some(bearer), signed.clone()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let mut changed = signed.clone();
    *changed.last_mut().unwrap() ^= 1;
    for forged in [ticket, changed, Vec::new(), vec![0; 100]] {
        let status = rows(&channel, Some(&rows_pass), forged).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains("not one of this cluster's"));
    }
    let status = rows(&channel, None, signed).await;
    assert_eq!(status.code(), Code::Unauthenticated);

    // Everything else is not there, for the master neither.
    let action = request(Action::default(), Some(&control));
    let status = FlightServiceClient::new(channel)
        .do_action(action)
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_worker_is_shown_starts_no_tasks_on_another() {
    let master = Passes::of_master().unwrap();
    let (cluster, _) = joined(&master, Some(&master)).await;
    let shown = pass(&master, &cluster, 0);
    for (worker, code) in [(0, Code::InvalidArgument), (1, Code::Unauthenticated)] {
        let channel = channel(&cluster, worker).await;
        let status = run_task(&channel, Some(&shown)).await;
        assert_eq!(status.code(), code, "{status}");
    }
}
