//! What a worker holds: the streams assigned to it, and the threads they run on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::execution::memory_pool::MemoryPool;
use datafusion::prelude::SessionContext;
use drumline_lake::Stores;
use drumline_proto::v1;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::kafka::Secrets;
use crate::{Error, assignment, probe, replay, tally};

/// Makes the sessions that transforms are planned in: the host's functions and settings.
pub type SessionFactory = Arc<dyn Fn() -> datafusion::error::Result<SessionContext> + Send + Sync>;

/// Memory for streams where nobody says how much.
const DEFAULT_MEMORY: u64 = 512 << 20;
/// Events that may wait before the worker has taken them; an assignment waits when there are more.
const EVENTS: usize = 256;
/// Answers of one stream that may wait: there is at most one open offer per topic.
const ANSWERS: usize = 1024;

/// What a [`StreamHost`] needs from its worker.
#[derive(Clone)]
pub struct Options {
    /// Where staged files go.
    pub stores: Stores,
    /// Sessions for transforms.
    pub session: SessionFactory,
    /// Largest record, in bytes, that is decoded. A larger one becomes a dead letter, whole.
    pub max_record_bytes: usize,
    /// Threads that transform and write, for all streams together.
    pub threads: usize,
    /// Memory for what is read ahead and for open files, for all streams together.
    pub(crate) budget: Budget,
    /// What settings of definitions may name.
    pub secrets: Secrets,
}

impl Options {
    /// Records up to 8 MiB, 512 MiB of memory, and as many threads as the machine has cores.
    pub fn new(stores: Stores, session: SessionFactory) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            stores,
            session,
            max_record_bytes: 8 << 20,
            threads,
            budget: Budget::new(DEFAULT_MEMORY, None),
            secrets: Secrets::default(),
        }
    }

    /// The same with so many bytes for what is read ahead and for open files, for all streams together. What they
    /// hold is accounted in `pool`.
    #[must_use]
    pub fn with_memory(mut self, bytes: Option<u64>, pool: &Arc<dyn MemoryPool>) -> Self {
        self.budget = Budget::new(bytes.unwrap_or(DEFAULT_MEMORY), Some(pool));
        self
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("max_record_bytes", &self.max_record_bytes)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// What a host has to tell the master.
#[derive(Debug, Clone, PartialEq)]
pub enum HostEvent {
    /// Staged files with the offsets they hold.
    Offer(v1::Offer),
    /// A stream stopped here; its staged files are gone.
    AssignmentFailed(v1::AssignmentFailed),
    /// How far reading is, about once a second per stream.
    Positions(v1::PositionReport),
}

/// Runs the streams that a master assigns to this worker.
pub struct StreamHost {
    options: Options,
    // `None` where the system gave no threads: every assignment then fails and says so.
    runtime: Option<Runtime>,
    streams: Mutex<HashMap<String, Running>>,
    draining: CancellationToken,
    tasks: TaskTracker,
    events: mpsc::Sender<HostEvent>,
}

struct Running {
    epoch: u64,
    // Cancelled first of all when the right to publish ends.
    revoked: CancellationToken,
    answers: mpsc::Sender<v1::OfferAnswer>,
}

impl std::fmt::Debug for StreamHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamHost")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl StreamHost {
    /// A host without streams, and what it reports.
    pub fn new(options: Options) -> (Self, mpsc::Receiver<HostEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        // Its own threads: decoding and encoding never hold up the worker's calls.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("ingest")
            .enable_all()
            .build()
            .inspect_err(|error| tracing::error!(%error, "no threads for streams"))
            .ok();
        (
            Self {
                options,
                runtime,
                streams: Mutex::default(),
                draining: CancellationToken::new(),
                tasks: TaskTracker::new(),
                events,
            },
            receiver,
        )
    }

    /// Starts a stream, in place of whatever this host had of it. An assignment of an epoch that is
    /// not newer than the running one is ignored.
    pub fn assign(&self, assign: v1::Assign) {
        let stream = assign
            .definition
            .as_ref()
            .map(|definition| definition.name.clone())
            .unwrap_or_default();
        let epoch = assign.epoch;
        let revoked = CancellationToken::new();
        let (answers, inbox) = mpsc::channel(ANSWERS);
        let Some(runtime) = &self.runtime else {
            let failure = Error::Bug {
                context: "no threads for streams".to_owned(),
            }
            .failure();
            let _ = self
                .events
                .try_send(HostEvent::AssignmentFailed(v1::AssignmentFailed {
                    stream,
                    epoch,
                    failure: Some(failure),
                }));
            return;
        };
        {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = streams.get(&stream) {
                if running.epoch >= epoch && !running.revoked.is_cancelled() {
                    tracing::warn!(
                        stream,
                        epoch,
                        running = running.epoch,
                        "an old assignment is ignored"
                    );
                    return;
                }
                running.revoked.cancel();
            }
            streams.insert(
                stream,
                Running {
                    epoch,
                    revoked: revoked.clone(),
                    answers,
                },
            );
        }
        let run = assignment::run(
            self.options.clone(),
            assign,
            inbox,
            self.events.clone(),
            revoked,
            self.draining.clone(),
        );
        self.tasks.spawn_on(run, runtime.handle());
    }

    /// Ends a stream's right to publish, for `epoch` and all before it. When this returns no further
    /// offer of it is made; its open files are given up in the background.
    pub fn revoke(&self, stream: &str, epoch: u64) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams
            .get(stream)
            .is_some_and(|running| running.epoch <= epoch)
            && let Some(running) = streams.remove(stream)
        {
            running.revoked.cancel();
        }
    }

    /// Ends every stream's right to publish: the call to the master is over, and so is what it assigned.
    pub fn revoke_all(&self) {
        for (_, running) in self
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
        {
            running.revoked.cancel();
        }
    }

    /// Reads no more, commits what was read, and ends when the last commit is answered. Whatever is
    /// assigned from here on ends as soon as it has started.
    pub async fn drain(&self) {
        self.draining.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Hands an answer to the stream that offered. One of another epoch is dropped.
    pub fn offer_answer(&self, answer: v1::OfferAnswer) {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = streams
            .get(&answer.stream)
            .filter(|running| running.epoch == answer.epoch)
            && running.answers.try_send(answer).is_err()
        {
            tracing::debug!(
                epoch = running.epoch,
                "an answer came after its stream ended"
            );
        }
    }

    /// Looks at the brokers and topics of a definition and plans its transforms, as this worker sees
    /// them. Creates nothing.
    pub async fn probe(&self, probe: &v1::Probe) -> v1::ProbeResult {
        probe::probe(&self.options, probe).await
    }

    /// Reads a partition's committed records once more and counts them; nothing is kept of them.
    pub async fn count(&self, request: v1::CountRecords) -> v1::CountedRecords {
        tally::tally(request, &self.options.secrets, self.draining.clone()).await
    }

    /// Decodes dead letters again, and stages what passes. Commits nothing.
    pub async fn replay(&self, order: v1::ReplayLetters) -> v1::LettersReplayed {
        let id = order.id;
        let failed = |context: &str| v1::LettersReplayed {
            id,
            failure: Some(
                Error::Bug {
                    context: context.to_owned(),
                }
                .failure(),
            ),
            ..v1::LettersReplayed::default()
        };
        let Some(runtime) = &self.runtime else {
            return failed("no threads for streams");
        };
        let options = self.options.clone();
        let work = async move { replay::replay(&options, order).await };
        let replayed = self.tasks.spawn_on(work, runtime.handle()).await;
        replayed.unwrap_or_else(|_| failed("a replay of dead letters ended badly"))
    }

    /// Revokes every stream and waits until their files are given up and their threads have ended.
    pub async fn shutdown(&self) {
        self.revoke_all();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for StreamHost {
    fn drop(&mut self) {
        for (_, running) in self
            .streams
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
        {
            running.revoked.cancel();
        }
        // A runtime may not block where it is dropped: that can be inside another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
