//! Puts a master together and serves it on one port: gRPC, Flight, REST, `/metrics` and `/`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use drumline_engine::Engine;
use drumline_lake::{Catalog, Lake, Locations};
use drumline_proto::v1::access_server::AccessServer;
use drumline_proto::v1::applications_server::ApplicationsServer;
use drumline_proto::v1::cluster_server::ClusterServer;
use drumline_proto::v1::streams_server::StreamsServer;
use drumline_security::local::Announcement;
use drumline_security::{Access, ClientCertificates, Door, Doors, Gate, Incoming, Role, incoming};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;

use crate::admitter::Admitter;
use crate::applications::{
    self, Applications, ApplicationsService, ResultsService, Rewrites, Services,
};
use crate::catalog::Names;
use crate::cluster::ClusterService;
use crate::doors::{self, AccessService, Keeper};
use crate::facts::{self, Facts};
use crate::lock::StateLock;
use crate::metrics::Metrics;
use crate::rest::{self, Problem, Readiness, Rest};
use crate::routing::Placements;
use crate::streams::{LatestRows, StreamStatements, StreamTables, StreamsService};
use crate::topics::Topics;
use crate::{Error, Options, Result, cluster, journal, notify, page, streams, traces, upkeep};

/// How long calls and background work may take to end once the master stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How long what cannot be interrupted may take to end before a master hands over: less than systemd waits.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(30);

/// How often it is written down when tokens were last used.
const WRITE_LAST_USED: Duration = Duration::from_secs(60);

/// The largest message of a request: a client's plan, or a worker's offer with many files.
const MAX_MESSAGE: usize = 64 << 20;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A service with our limits on message sizes: each has a type of its own.
macro_rules! limited {
    ($server:ident, $service:expr) => {
        $server::new($service)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    };
}

/// A running master.
pub struct Handle {
    /// Where it listens.
    pub address: SocketAddr,
    facts: Facts,
    gate: Gate,
    keeper: Keeper,
    announcement: Option<Announcement>,
    applications: Applications,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    background: JoinSet<()>,
    jobs: Runtime,
    work_dir: PathBuf,
    _lock: StateLock,
}

/// A socket that has its port and does not listen yet.
fn socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A master that begins anew does not wait for the connections of the one before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Starts a master: answers when it listens and its lake can be used.
pub async fn start(options: Options) -> Result<Handle> {
    let mut lock = StateLock::acquire(&options.state_dir)?;
    let keeper = Keeper::open(&options)?;
    // What a killed master spilled is of no use to anybody.
    discard(&options.work_dir);
    let listen = |source| Error::Listen {
        address: options.listen,
        source,
    };
    let socket = socket(options.listen).map_err(listen)?;
    let address = socket.local_addr().map_err(listen)?;
    lock.tell_port(address.port())
        .map_err(|source| Error::StateDir {
            path: options.state_dir.clone(),
            source,
        })?;
    // Before the port is open: who sees it open finds the token.
    let announcement = keeper.announce(&options, address);
    let listener = socket.listen(BACKLOG).map_err(listen)?;
    let limits = journal::Limits {
        age: options.history_age,
        bytes: options.history_size,
    };
    let state_dir = options.state_dir.clone();
    let journal = tokio::task::spawn_blocking(move || journal::open(&state_dir, limits)).await;
    let journal = journal.map_err(|error| Error::Bug {
        context: format!("opening the journal: {error}"),
    })??;
    let lake = Lake::open(&options.lake, options.stores.clone()).await?;
    lake.check_writable().await?;
    let catalog = Catalog::open(lake.clone()).await?;
    let locations = Locations::new(&lake, &options.allowed_locations)?;

    let unfinished = applications::unfinished(&journal.facts);
    let facts = Facts::journaled(journal)?;
    facts.publish(facts::Event::MasterStarted {
        build: drumline_proto::BUILD.to_owned(),
        lake: lake.root().to_string(),
    });
    let shutdown = CancellationToken::new();
    let mut background = JoinSet::new();
    if let Some(webhook) = options.webhook.clone() {
        background.spawn(notify::start(webhook, &facts, shutdown.clone())?);
    }
    let cluster_id = uuid::Uuid::now_v7().to_string();
    if let Some(collector) = &options.collector {
        let traces = traces::start(collector, &cluster_id, &facts, shutdown.clone())?;
        background.spawn(traces);
    }
    let admitter = Admitter::new(options.concurrent_jobs);
    let (workers, membership, worker_events) =
        cluster::start(facts.clone(), admitter.clone(), shutdown.clone());
    background.spawn(membership);
    let tables = StreamTables::new(catalog.clone());
    let (found, new_fields) = tokio::sync::mpsc::channel(streams::grow::WAITING);
    let (running_streams, coordination) = streams::start(
        workers.clone(),
        worker_events,
        tables.clone(),
        facts.clone(),
        found,
        shutdown.clone(),
    );
    background.spawn(coordination);
    let cluster_service = ClusterService::new(
        workers.clone(),
        cluster_id.clone(),
        lake.root().to_string(),
        keeper.passes.clone(),
    );

    let jobs = jobs_runtime()?;
    background.spawn(watch_workers(workers.usable(), admitter.clone()));
    let metrics = Metrics::new(facts.clone(), running_streams.clone());
    let services = Services {
        facts: facts.clone(),
        engine: engine(&options, &keeper)?,
        names: Names::new(catalog.clone(), locations, facts.clone()).with_topics(Topics::new(
            workers.clone(),
            running_streams.clone(),
            options.kafka.clone(),
        )),
        workers: workers.subscribe(),
        cluster: workers.clone(),
        admitter,
        placements: Placements::default(),
        rewrites: Rewrites::default(),
        jobs: jobs.handle().clone(),
        tickets: keeper.seal.clone(),
        limits: Default::default(),
    };
    let applications = Applications::new(services, options.kept_applications);
    let statements = StreamStatements {
        applications: applications.clone(),
        facts: facts.clone(),
    };
    let stream_service = StreamsService::new(
        catalog.clone(),
        running_streams.clone(),
        tables.clone(),
        workers.clone(),
        statements.clone(),
    );
    background.spawn(streams::grow::run(
        stream_service.applier(),
        new_fields,
        shutdown.clone(),
    ));
    stream_service.start_all().await?;
    applications.resume(unfinished);
    background.spawn(upkeep::run(upkeep::Parts {
        applications: applications.clone(),
        owner: cluster_id.clone(),
        every: options.upkeep_every,
        shutdown: shutdown.clone(),
    }));
    let latest = LatestRows {
        catalog: catalog.clone(),
        tables,
        statements,
    };
    background.spawn(latest.run(shutdown.clone()));

    let rest = Rest::new(rest::Parts {
        facts: facts.clone(),
        workers,
        log: options.log.clone(),
        streams: stream_service.clone(),
        applications: applications.clone(),
        cluster_id,
        settings: rest::settings(&options),
        readiness: Readiness::new(catalog),
        shutdown: shutdown.clone(),
    });
    let rpc = Routes::new(limited!(
        ApplicationsServer,
        ApplicationsService::new(applications.clone())
    ))
    .add_service(limited!(
        FlightServiceServer,
        ResultsService::new(applications.clone())
    ))
    .add_service(limited!(StreamsServer, stream_service))
    .add_service(limited!(ClusterServer, cluster_service))
    .add_service(limited!(
        AccessServer,
        AccessService::new(keeper.tokens.clone())
    ));
    let (routes, doors) = one_port(rpc, metrics, rest, &keeper);
    background.spawn(watch_keys(keeper.clone(), shutdown.clone()));
    let connections = incoming(
        listener,
        keeper.certificates.clone(),
        ClientCertificates::Optional,
    );
    let gate = keeper.gate(doors);
    let serving = tokio::spawn(serve(connections, gate.clone(), routes, shutdown.clone()));
    tracing::info!(%address, lake = %lake.root(), "master listens");
    Ok(Handle {
        address,
        facts,
        gate,
        keeper,
        announcement,
        applications,
        shutdown,
        serving,
        background,
        jobs,
        work_dir: options.work_dir,
        _lock: lock,
    })
}

impl Handle {
    /// Every way in, and what it asks for.
    pub fn doors(&self) -> &[Door] {
        self.gate.doors().all()
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        let scheme = match self.keeper.certificates {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{}", self.address)
    }

    /// Cancels what runs, ends all calls, gives the port and the state folder back.
    pub async fn stop(mut self) {
        drop(self.announcement.take());
        let _ = tokio::time::timeout(STOP_WITHIN, self.applications.stop()).await;
        self.end().await;
    }

    /// The same, but SQL applications that run or wait go on when a master is started on this state folder again; who
    /// waits for them is told so. What changes names or commits comes to its end first.
    pub async fn hand_over(mut self) {
        drop(self.announcement.take());
        let left = tokio::time::timeout(HAND_OVER_WITHIN, self.applications.leave()).await;
        if left.is_err() {
            tracing::warn!(
                "a statement did not come to its end in time: the next master looks how it ended"
            );
        }
        self.applications.let_go();
        self.end().await;
    }

    async fn end(mut self) {
        self.shutdown.cancel();
        let all_ended = async {
            while self.background.join_next().await.is_some() {}
            // Ends after the calls, some of which end with what runs in the background.
            let _ = (&mut self.serving).await;
        };
        if tokio::time::timeout(STOP_WITHIN, all_ended).await.is_err() {
            tracing::warn!("calls did not end in time and are cut off");
            self.serving.abort();
            self.background.shutdown().await;
        }
        self.jobs.shutdown_background();
        self.facts.close().await;
        self.keeper.write_last_used();
        discard(&self.work_dir);
    }
}

/// Removes spilled rows; a folder that stays costs space and no more.
fn discard(work_dir: &Path) {
    match std::fs::remove_dir_all(work_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %work_dir.display(), "spilled rows are left behind");
        }
        _ => {}
    }
}

fn engine(options: &Options, keeper: &Keeper) -> Result<Engine> {
    Ok(Engine::new(drumline_engine::Options {
        memory_limit: options.memory_limit,
        certificates: keeper.certificates.clone(),
        passes: Some(keeper.passes.clone()),
        ..drumline_engine::Options::new(options.stores.clone(), &options.work_dir)
    })?)
}

/// Threads that plan, and run what runs in place: calls and heartbeats are served by others.
fn jobs_runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("drumline-jobs")
        .enable_all()
        .build()
        .map_err(|source| Error::Runtime { source })
}

async fn watch_workers(
    mut workers: tokio::sync::watch::Receiver<std::sync::Arc<[drumline_engine::WorkerTarget]>>,
    admitter: Admitter,
) {
    loop {
        let alive = workers.borrow_and_update().clone();
        admitter.workers_changed(&alive);
        if workers.changed().await.is_err() {
            return;
        }
    }
}

/// Notices changed certificates, and writes down when tokens were used.
async fn watch_keys(keeper: Keeper, shutdown: CancellationToken) {
    let certificates = async {
        match keeper.certificates.clone() {
            Some(certificates) => certificates.watch(shutdown.clone()).await,
            None => shutdown.cancelled().await,
        }
    };
    let last_used = async {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(WRITE_LAST_USED) => {}
            }
            let keeper = keeper.clone();
            let _ = tokio::task::spawn_blocking(move || keeper.write_last_used()).await;
        }
    };
    tokio::join!(certificates, last_used);
}

/// gRPC and pages together, and the table of doors: a route that has none cannot be reached. Tonic's own fallback would answer a browser, and axum's a gRPC client:
/// there is one, which looks at who asks.
fn one_port(rpc: Routes, metrics: Metrics, rest: Rest, keeper: &Keeper) -> (Routes, Doors) {
    let (rest_routes, rest_doors) = rest::routes(rest, keeper.session_routes());
    let pages = Router::new()
        .route("/metrics", get(|| async move { metrics.scrape().await }))
        .merge(page::router())
        .merge(rest_routes);
    let doors = doors::rpc()
        .and(doors::public())
        .and(rest_doors)
        .get("/metrics", Access::Needs(Role::Read));
    let rpc = rpc.prepare().into_axum_router().reset_fallback();
    (Routes::from(rpc.merge(pages).fallback(unknown)), doors)
}

async fn unknown(request: Request) -> Response {
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    let is_rpc =
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    match is_rpc {
        true => {
            let message = format!("this master has no method {}", request.uri().path());
            Status::unimplemented(message).into_http::<axum::body::Body>()
        }
        false => Problem::no_route(request.uri().path()).into_response(),
    }
}

async fn serve(connections: Incoming, gate: Gate, routes: Routes, shutdown: CancellationToken) {
    let served = tonic::transport::Server::builder()
        // `/` and `/healthz` are for browsers and probes.
        .accept_http1(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        // Results are large, and several flow over one connection.
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .layer(gate)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the master's port is not served any more");
    }
}
