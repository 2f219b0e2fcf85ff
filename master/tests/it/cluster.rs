//! The cluster that tests talk to: everything real but the processes.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use drumline_engine::server::TaskHost;
use drumline_lake::Stores;
use drumline_master::{Authentication, Handle, Options};
use drumline_proto::v1::application_event::Event;
use drumline_proto::v1::applications_client::ApplicationsClient;
use drumline_proto::v1::cluster_client::ClusterClient;
use drumline_proto::v1::master_message;
use drumline_proto::v1::worker_message::Message;
use drumline_proto::v1::{
    ApplicationFinished, ApplicationState, CancelRequest, ClusterStatusRequest, Failure, Heartbeat,
    Hello, ResultReady, StatementFinished, SubmitRequest, WatchRequest, WorkerMessage,
    submit_request,
};
use drumline_security::Passes;
use futures::{StreamExt, TryStreamExt};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Longer than any wait that can go well.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub master: Handle,
    pub channel: Channel,
    pub folder: TempDir,
    workers: Vec<Worker>,
}

struct Worker {
    stop: CancellationToken,
    serving: JoinHandle<()>,
    joined: JoinHandle<()>,
}

/// An application that was submitted, and is watched.
pub struct Watched {
    pub id: String,
    pub seen: Vec<Event>,
    events: tonic::Streaming<drumline_proto::v1::ApplicationEvent>,
}

/// What an application came to.
#[derive(Debug)]
pub struct Outcome {
    pub events: Vec<Event>,
    pub rows: Vec<Vec<RecordBatch>>,
    pub finished: ApplicationFinished,
}

pub fn options(folder: &TempDir) -> Options {
    let lake = format!("file://{}/lake", folder.path().display());
    Options {
        // Who is let in is tested in `doors.rs`.
        authentication: Authentication::Nobody,
        upkeep_every: Duration::from_millis(500),
        ..Options::new(
            "127.0.0.1:0".parse().unwrap(),
            lake,
            folder.path().join("state"),
        )
    }
}

impl Cluster {
    pub async fn start(workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let master = drumline_master::start(options(&folder)).await.unwrap();
        let channel = Channel::from_shared(format!("http://{}", master.address))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut cluster = Self {
            master,
            channel,
            folder,
            workers: vec![],
        };
        for number in 0..workers {
            cluster.add_worker(number).await;
        }
        cluster.has_workers(workers).await;
        cluster
    }

    /// A master that is there, with a worker of its own.
    pub async fn of(master: Handle) -> Self {
        let channel = Channel::from_shared(format!("http://{}", master.address))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut cluster = Self {
            master,
            channel,
            folder: tempfile::tempdir().unwrap(),
            workers: vec![],
        };
        cluster.add_worker(0).await;
        cluster.has_workers(1).await;
        cluster
    }

    async fn add_worker(&mut self, number: usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let work = self.folder.path().join(format!("work-{number}"));
        let passes = Passes::none_yet();
        let options = drumline_engine::Options {
            passes: Some(passes.clone()),
            ..drumline_engine::Options::new(Stores::from_env(), work)
        };
        let host = TaskHost::new(options).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving =
            tokio::spawn(async move { host.serve(listener, None, stopped).await.unwrap() });

        let (sender, receiver) = mpsc::channel(4);
        let hello = Hello {
            worker_id: format!("worker-{number}"),
            url,
            cores: 1,
            memory_bytes: 0,
            build: drumline_proto::BUILD.to_owned(),
            pid: std::process::id(),
        };
        sender.send(message(Message::Hello(hello))).await.unwrap();
        let mut client = ClusterClient::new(self.channel.clone());
        let mut answers = client
            .join(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        let welcome = answers.message().await.unwrap().unwrap().message;
        let Some(master_message::Message::Welcome(welcome)) = welcome else {
            panic!("no welcome: {welcome:?}");
        };
        passes
            .accept(&welcome.rows_pass, &welcome.control_digest)
            .unwrap();
        let joined = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(500));
            loop {
                tokio::select! {
                    _ = beat.tick() => {
                        let heartbeat = Heartbeat { running_tasks: 0, memory_bytes: 0 };
                        if sender.send(message(Message::Heartbeat(heartbeat))).await.is_err() {
                            return;
                        }
                    }
                    answer = answers.message() => if !matches!(answer, Ok(Some(_))) { return },
                }
            }
        });
        self.workers.push(Worker {
            stop,
            serving,
            joined,
        });
    }

    /// Cuts a worker's sockets, as when its process is killed.
    pub async fn kill_worker(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        worker.joined.abort();
        worker.stop.cancel();
        worker.serving.abort();
        let _ = (&mut worker.serving).await;
    }

    /// Waits until the master has as many workers.
    pub async fn has_workers(&self, count: usize) {
        let wait = async {
            loop {
                let status = ClusterClient::new(self.channel.clone())
                    .status(ClusterStatusRequest {})
                    .await
                    .unwrap();
                if status
                    .into_inner()
                    .workers
                    .iter()
                    .filter(|worker| worker.state != "lost")
                    .count()
                    == count
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait)
            .await
            .expect("the workers join");
    }

    pub fn applications(&self) -> ApplicationsClient<Channel> {
        ApplicationsClient::new(self.channel.clone())
    }

    pub async fn submit(&self, sql: &str) -> Watched {
        let request = SubmitRequest {
            name: "test".to_owned(),
            body: Some(submit_request::Body::Sql(sql.to_owned())),
            ..Default::default()
        };
        let id = self
            .applications()
            .submit(request)
            .await
            .unwrap()
            .into_inner()
            .application_id;
        let request = WatchRequest {
            application_id: id.clone(),
        };
        let events = self
            .applications()
            .watch(request)
            .await
            .unwrap()
            .into_inner();
        Watched {
            id,
            seen: vec![],
            events,
        }
    }

    pub async fn fetch(
        &self,
        ready: &ResultReady,
    ) -> Result<FlightRecordBatchStream, tonic::Status> {
        let ticket = Ticket {
            ticket: ready.ticket.clone().into(),
        };
        let data = FlightServiceClient::new(self.channel.clone())
            .max_decoding_message_size(64 << 20)
            .do_get(ticket)
            .await?
            .into_inner();
        Ok(FlightRecordBatchStream::new_from_flight_data(
            data.map_err(|status| FlightError::Tonic(Box::new(status))),
        ))
    }

    /// Runs a script to its end, and reads every result.
    pub async fn run(&self, sql: &str) -> Outcome {
        let watched = self.submit(sql).await;
        self.finish(watched).await
    }

    /// Reads events and results to the end.
    pub async fn finish(&self, mut watched: Watched) -> Outcome {
        let mut rows = vec![];
        let mut read = 0;
        loop {
            // Events that were seen before count too: a result that nobody fetches holds its job up.
            while let Some(event) = watched.seen.get(read).cloned() {
                read += 1;
                if let Event::ResultReady(ready) = event {
                    let fetched = self.fetch(&ready).await.unwrap();
                    rows.push(fetched.try_collect().await.unwrap_or_default());
                }
            }
            if watched.next().await.is_none() {
                break;
            }
        }
        let Some(Event::ApplicationFinished(finished)) = watched.seen.last().cloned() else {
            panic!("the last event is no end: {:?}", watched.seen);
        };
        Outcome {
            events: watched.seen,
            rows,
            finished,
        }
    }

    pub async fn cancel(&self, id: &str) {
        let request = CancelRequest {
            application_id: id.to_owned(),
        };
        tokio::time::timeout(DEADLINE, self.applications().cancel(request))
            .await
            .expect("cancel answers")
            .unwrap();
    }

    pub async fn stop(self) {
        drop(self.leave().await);
    }

    /// Stops, and leaves the lake to others.
    pub async fn leave(self) -> TempDir {
        for worker in &self.workers {
            worker.joined.abort();
            worker.stop.cancel();
        }
        self.master.stop().await;
        self.folder
    }
}

impl Watched {
    pub async fn next(&mut self) -> Option<Event> {
        let Ok(next) = tokio::time::timeout(DEADLINE, self.events.next()).await else {
            panic!("no event came in time after {:#?}", self.seen);
        };
        let event = next?.unwrap().event.unwrap();
        self.seen.push(event.clone());
        Some(event)
    }

    /// Reads on until an event is as asked for.
    pub async fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let event = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the event never came: {:?}", self.seen));
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    pub async fn end(&mut self) -> ApplicationFinished {
        self.until(|event| match event {
            Event::ApplicationFinished(finished) => Some(finished.clone()),
            _ => None,
        })
        .await
    }
}

impl Outcome {
    /// Rows of every result as tables, one after another.
    pub fn tables(&self) -> String {
        let shown = self
            .rows
            .iter()
            .map(|rows| pretty_format_batches(rows).unwrap().to_string());
        shown.collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(
            self.finished.state(),
            ApplicationState::Succeeded,
            "{:#?}",
            self.finished
        );
        self
    }

    #[track_caller]
    pub fn failure(&self) -> &Failure {
        assert_eq!(self.finished.state(), ApplicationState::Failed);
        self.finished.failure.as_ref().unwrap()
    }

    pub fn statements<'a>(&'a self) -> Vec<&'a StatementFinished> {
        let finished = |event: &'a Event| match event {
            Event::StatementFinished(finished) => Some(finished),
            _ => None,
        };
        self.events.iter().filter_map(finished).collect()
    }
}

fn message(message: Message) -> WorkerMessage {
    WorkerMessage {
        message: Some(message),
    }
}
