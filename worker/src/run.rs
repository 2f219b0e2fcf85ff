//! Puts a worker together and takes it down again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use drumline_engine::server::TaskHost;
use drumline_ingest::kafka::Secrets;
use drumline_ingest::{ReadQuery, StreamHost, TopicScans};
use drumline_security::{Certificates, Passes, Role, Trust};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::membership::{Membership, State, hello};
use crate::topics::Topics;
use crate::{Error, Options};

/// A running worker.
#[derive(Debug)]
pub struct Handle {
    id: String,
    url: Url,
    state: watch::Receiver<State>,
    shutdown: CancellationToken,
    drain: CancellationToken,
    ended: JoinHandle<Result<(), Error>>,
}

impl Handle {
    /// Its name within the cluster.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it serves tasks and rows.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where it stands with its master, as it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Stops tasks and consumers and waits until they are gone.
    pub async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        self.wait().await
    }

    /// Waits until the worker ends by itself: only when something is wrong.
    pub async fn wait(self) -> Result<(), Error> {
        match self.ended.await {
            Ok(result) => result,
            Err(error) => Err(Error::Bug {
                context: format!("the worker ended badly: {error}"),
            }),
        }
    }

    /// A token that makes the worker leave in good order: it takes no new tasks, finishes those it has, hands
    /// its streams over. [`Handle::wait`] then returns.
    pub fn drainer(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// A token that stops the worker; [`Handle::wait`] then returns.
    pub fn stopper(&self) -> CancellationToken {
        self.shutdown.clone()
    }
}

/// Starts a worker; returns when it listens. It joins its master by itself, now or later.
pub async fn start(options: Options) -> Result<Handle, Error> {
    let certificates = options
        .tls
        .as_deref()
        .map(|folder| Certificates::load(folder, Role::Worker))
        .transpose()?;
    if certificates.is_none() && options.master.scheme() == "https" {
        return Err(Error::NoCertificate {
            master: options.master.to_string(),
        });
    }
    let passes = Passes::none_yet();
    std::fs::create_dir_all(&options.work_dir).map_err(|source| Error::WorkDir {
        path: options.work_dir.display().to_string(),
        source,
    })?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| Error::Listen {
            address: options.listen,
            source,
        })?;
    let address = listener.local_addr().map_err(|source| Error::Listen {
        address: options.listen,
        source,
    })?;
    let url = advertised(address, certificates.is_some())?;
    let id = options.id.clone().unwrap_or_else(random_id);

    let stores = options.stores.clone();
    let topics = Topics::default();
    let engine_options = drumline_engine::Options {
        topics: Some(Arc::new(topics.clone())),
        memory_limit: options.memory,
        certificates: certificates.clone(),
        passes: Some(passes.clone()),
        ..drumline_engine::Options::new(stores.clone(), &options.work_dir)
    };
    let tasks = TaskHost::new(engine_options)?;
    // One memory pool for tasks and streams.
    let runtime = Arc::clone(tasks.runtime());
    let session = move || {
        let session = drumline_engine::local_session(&runtime, &BTreeMap::new())?;
        // Transforms have the words of statements.
        let read = ReadQuery(|sql| {
            drumline_engine::sql::parse_query(sql).map_err(|error| match error.position() {
                Some(position) => format!("{error} ({position})"),
                None => error.to_string(),
            })
        });
        session
            .state_ref()
            .write()
            .config_mut()
            .set_extension(Arc::new(read));
        Ok(session)
    };
    let for_streams = options
        .ingest_memory
        .or(options.memory.map(|memory| memory / 3));
    let mut ingest = drumline_ingest::Options::new(stores, Arc::new(session))
        .with_memory(for_streams, &tasks.runtime().memory_pool);
    ingest.secrets = Secrets::below(options.secrets.clone());
    topics.open(TopicScans::new(ingest.clone()));
    let (streams, stream_events) = StreamHost::new(ingest);

    let shutdown = CancellationToken::new();
    let drain = CancellationToken::new();
    let (state, state_receiver) = watch::channel(State::Waiting {
        reason: "not asked yet".to_owned(),
    });
    let streams = Arc::new(streams);
    let membership = Membership {
        master: options.master.clone(),
        trust: match certificates.clone() {
            Some(certificates) => Trust::Member(certificates, Role::Master),
            None => Trust::Plain,
        },
        token: Arc::clone(&options.token),
        passes,
        hello: hello(id.clone(), &url, options.cores, options.memory),
        streams: Arc::clone(&streams),
        topics,
        stream_events,
        tasks: tasks.clone(),
        log: options.log.clone(),
        running_tasks: tasks.running(),
        state,
        drain: drain.clone(),
        drain_within: options.drain_within,
    };
    let member = on_own_thread(membership, shutdown.clone())?;
    let token = shutdown.clone();
    let pages = crate::metrics::pages(&tasks);
    let ended = tokio::spawn(async move {
        let stop_tasks = token.clone();
        let serving = tasks.serve(listener, Some(pages), async move {
            stop_tasks.cancelled().await
        });
        // Whichever ends first, by itself or because it was told to, ends the other.
        let serving = async {
            let result = serving.await.map_err(Error::from);
            token.cancel();
            result
        };
        let member = async {
            let result = match member.await {
                Ok(result) => result,
                Err(_) => Err(Error::Bug {
                    context: "the membership thread ended badly".to_owned(),
                }),
            };
            token.cancel();
            result
        };
        let certificates = async {
            if let Some(certificates) = certificates {
                certificates.watch(token.clone()).await;
            }
        };
        let (serving, member, ()) = tokio::join!(serving, member, certificates);
        streams.shutdown().await;
        member.and(serving)
    });
    Ok(Handle {
        id,
        url,
        state: state_receiver,
        shutdown,
        drain,
        ended,
    })
}

/// Runs membership on a thread and runtime of its own; the receiver gets how it ended.
fn on_own_thread(
    membership: Membership,
    shutdown: CancellationToken,
) -> Result<tokio::sync::oneshot::Receiver<Result<(), Error>>, Error> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let bug = |error: std::io::Error| Error::Bug {
        context: format!("membership thread: {error}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(bug)?;
    std::thread::Builder::new()
        .name("membership".to_owned())
        .spawn(move || {
            let _ = done.send(runtime.block_on(membership.run(shutdown)));
        })
        .map_err(bug)?;
    Ok(ended)
}

/// The URL that others reach this worker by. A worker that listens on every address is reached by the
/// machine's name.
fn advertised(address: SocketAddr, encrypted: bool) -> Result<Url, Error> {
    let host = match address.ip() {
        ip if ip.is_unspecified() => host_name().unwrap_or_else(|| "localhost".to_owned()),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let scheme = if encrypted { "https" } else { "http" };
    let text = format!("{scheme}://{host}:{}", address.port());
    Url::parse(&text).map_err(|error| Error::Bug {
        context: format!("own address {text}: {error}"),
    })
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// A name that no other worker has.
pub fn random_id() -> String {
    let id = Uuid::new_v4().simple().to_string();
    format!("worker-{}", &id[..8])
}
