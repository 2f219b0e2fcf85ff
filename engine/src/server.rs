//! The worker's side: hosts tasks for masters, and serves their rows.

use std::future::Future;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use drumline_proto::v1::tasks_server::TasksServer;
use drumline_security::{ClientCertificates, Doors, Gate, NoTokens, incoming};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_distributed::Worker;

use crate::memory::Memory;
use crate::session::WorkerSessions;
use crate::tasks::Tasks;
use crate::transport::auth::{SameBuild, doors};
use crate::transport::network::{Network, NetworkThread};
use crate::transport::server::Services;
use crate::{Error, Options, Result};

/// Calls that one connection carries: a master's and a worker's connection holds one per task and exchange.
const STREAM_LIMIT: u32 = 100_000;

/// Runs the tasks of one worker process. Cheap to clone.
#[derive(Clone)]
pub struct TaskHost {
    services: Services,
    tasks: Tasks,
    options: Arc<Options>,
    runtime: Arc<RuntimeEnv>,
    memory: Arc<Memory>,
}

/// What the tasks of a process have done since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tasks opened.
    pub tasks: u64,
    /// Rows sent to other tasks over Flight.
    pub rows_exchanged: u64,
    /// Bytes sent to other tasks over Flight, as encoded.
    pub bytes_exchanged: u64,
}

/// What a worker's port serves beside tasks and rows, and who may see it.
#[derive(Default)]
pub struct Pages {
    /// The routes.
    pub routes: Routes,
    /// A door for each of them.
    pub doors: Doors,
}

impl TaskHost {
    /// A host whose tasks compute on the runtime that this is called on; the network has threads of its own.
    pub fn new(options: Options) -> Result<Self> {
        let compute =
            Handle::try_current().map_err(|_| Error::bug("a task host needs a tokio runtime"))?;
        let memory = Memory::new(options.memory_limit);
        let runtime = crate::session::runtime_with(&options, &memory)?;
        let tasks = Tasks::new();
        let sessions = WorkerSessions::new(
            Arc::new(Network::new(&options)?),
            tasks.clone(),
            options.stores.clone(),
            Arc::clone(&memory),
            options.topics.clone(),
        );
        let worker = Worker::from_session_builder(sessions)
            .with_runtime_env(Arc::clone(&runtime))
            .with_version(drumline_proto::BUILD);
        Ok(Self {
            services: Services::new(worker, compute, tasks.clone(), options.passes.clone()),
            tasks,
            options: Arc::new(options),
            runtime,
            memory,
        })
    }

    /// The runtime that tasks run with: its memory pool, object stores and spill folder.
    pub fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// Bytes that the operators of its tasks and streams hold now.
    pub fn memory_reserved(&self) -> u64 {
        self.memory.reserved()
    }

    /// What all tasks have done since the start.
    pub fn totals(&self) -> Totals {
        self.tasks.totals()
    }

    /// Tasks that are open now.
    pub fn running(&self) -> watch::Receiver<u32> {
        self.tasks.running()
    }

    /// Certificates say who calls, else passes do.
    fn gate(&self, doors: Doors) -> Gate {
        match (&self.options.certificates, &self.options.passes) {
            (Some(_), _) => Gate::new(doors, NoTokens, None),
            (None, Some(passes)) => Gate::new(doors, passes.clone(), None),
            (None, None) => Gate::open_to_everybody(doors, None),
        }
    }

    /// Serves task control, rows and `pages` until `shutdown`; then every connection ends, and with it the tasks
    /// that still run.
    pub async fn serve(
        &self,
        listener: TcpListener,
        pages: Option<Pages>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Error::bug(format!("cannot {what}: {error}"))
        };
        let keepalive = self.options.keepalive;
        let Pages {
            routes,
            doors: more,
        } = pages.unwrap_or_default();
        let mut server = Server::builder()
            // Pages are for whoever scrapes and probes.
            .accept_http1(true)
            .http2_keepalive_interval(Some(keepalive.interval))
            .http2_keepalive_timeout(Some(keepalive.timeout))
            .max_concurrent_streams(Some(STREAM_LIMIT))
            .layer(self.gate(doors().and(more)));
        let tasks = TasksServer::new(self.services.clone()).max_decoding_message_size(usize::MAX);
        let rows =
            FlightServiceServer::new(self.services.clone()).max_encoding_message_size(usize::MAX);
        let routes = routes
            .add_service(InterceptedService::new(tasks, SameBuild))
            .add_service(InterceptedService::new(rows, SameBuild));
        let router = server.add_routes(routes);
        let certificates = self.options.certificates.clone();
        // A thread of this call's own: when it is dropped, no connection outlives it.
        let thread = NetworkThread::start("drumline-serve")?;
        let listener = listener
            .into_std()
            .map_err(|error| failed("hand over the listener", &error))?;
        let serving = thread.handle()?.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            let incoming = incoming(listener, certificates, ClientCertificates::Required);
            router
                .serve_with_incoming(incoming)
                .await
                .map_err(std::io::Error::other)
        });
        tokio::select! {
            () = shutdown => Ok(()),
            ended = serving => match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(failed("serve tasks", &error)),
                Err(error) => Err(failed("serve tasks", &error)),
            },
        }
    }
}
