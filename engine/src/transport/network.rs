//! Sockets, and the thread that serves them.
//!
//! A worker with one core computes for seconds without a pause; its pings must be answered all the same, or
//! it would count as lost. So connections live on a small runtime of their own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use arrow_flight::flight_service_client::FlightServiceClient;
use drumline_proto::v1::tasks_client::TasksClient;
use drumline_security::{Connector, Passes, Role, Trust, endpoint};
use tokio::runtime::{Handle, Runtime};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use url::Url;

use super::auth::{Present, Purpose};
use crate::{Error, Keepalive, Options, Result};

/// Unread rows of one call that the connection holds.
const STREAM_WINDOW: u32 = 4 << 20;
/// Many calls share a connection, some of them paused: together they must not fill it.
const CONNECTION_WINDOW: u32 = 256 << 20;
/// Connections kept, most of them to workers that are gone.
const CHANNEL_LIMIT: usize = 1024;

type Caller = InterceptedService<Channel, Present>;

/// A runtime with one thread for sockets; ends in the background when dropped.
pub(crate) struct NetworkThread {
    runtime: Option<Runtime>,
}

impl NetworkThread {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(|error| Error::bug(format!("cannot start the thread {name}: {error}")))?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    pub(crate) fn handle(&self) -> Result<&Handle> {
        let runtime = self
            .runtime
            .as_ref()
            .ok_or_else(|| Error::bug("the network thread has ended"))?;
        Ok(runtime.handle())
    }
}

impl Drop for NetworkThread {
    fn drop(&mut self) {
        // Dropping it in place would block, which an async caller must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Clients of one worker; both share a connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct WorkerClients {
    pub(super) tasks: TasksClient<Caller>,
    pub(super) rows: FlightServiceClient<Caller>,
}

/// Connections to workers: opened on first use, kept, opened again after they broke.
pub(crate) struct Network {
    thread: NetworkThread,
    keepalive: Keepalive,
    trust: Trust,
    /// What calls show; nothing where certificates say who calls.
    shown: Option<Passes>,
    /// What tickets are signed with.
    passes: Option<Passes>,
    clients: Mutex<HashMap<Url, WorkerClients>>,
}

impl Network {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let (trust, shown) = match &options.certificates {
            Some(certificates) => (Trust::Member(certificates.clone(), Role::Worker), None),
            None => (Trust::Plain, options.passes.clone()),
        };
        Ok(Self {
            thread: NetworkThread::start("drumline-net")?,
            keepalive: options.keepalive,
            trust,
            shown,
            passes: options.passes.clone(),
            clients: Mutex::default(),
        })
    }

    pub(super) fn clients(&self, url: &Url) -> Result<WorkerClients> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.get(url) {
            return Ok(known.clone());
        }
        if clients.len() >= CHANNEL_LIMIT {
            // Calls that are open keep their connection; the others connect again.
            clients.clear();
        }
        let opened = self.open(url)?;
        clients.insert(url.clone(), opened.clone());
        Ok(opened)
    }

    /// Signs a ticket for rows, where this process has something to sign with.
    pub(super) fn seal(&self, ticket: Vec<u8>) -> Result<Vec<u8>> {
        match &self.passes {
            None => Ok(ticket),
            Some(passes) => passes.seal_rows(&ticket).ok_or_else(|| Error::WorkerLost {
                worker: "this one".to_owned(),
                reason: "it has left its master".to_owned(),
            }),
        }
    }

    fn open(&self, url: &Url) -> Result<WorkerClients> {
        let endpoint = endpoint(url.as_str())
            .map_err(|error| Error::WorkerLost {
                worker: url.to_string(),
                reason: format!("cannot connect: {error}"),
            })?
            .connect_timeout(self.keepalive.connect)
            .http2_keep_alive_interval(self.keepalive.interval)
            .keep_alive_timeout(self.keepalive.timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let present = |purpose| Present::new(self.shown.clone(), purpose);
        // The connection's tasks are spawned on the runtime that is entered here.
        let _network = self.thread.handle()?.enter();
        let channel = endpoint.connect_with_connector_lazy(Connector::new(self.trust.clone()));
        Ok(WorkerClients {
            tasks: TasksClient::with_interceptor(
                channel.clone(),
                present(Purpose::Control(url.clone())),
            )
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX),
            rows: unlimited(channel, present(Purpose::Rows)),
        })
    }
}

fn unlimited(channel: Channel, present: Present) -> FlightServiceClient<Caller> {
    FlightServiceClient::with_interceptor(channel, present)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}
