//! The worker's one call to its master: joins, says that it lives, takes orders about streams, and
//! joins again when the call ends.
//!
//! It runs on a thread of its own, so that busy tasks never silence the heartbeat.

use std::sync::Arc;
use std::time::Duration;

use drumline_engine::LogTail;
use drumline_engine::fault::{self, Place};
use drumline_engine::server::TaskHost;
use drumline_ingest::{HostEvent, StreamHost};
use drumline_proto::BUILD;
use drumline_proto::v1::{
    Draining, Heartbeat, Hello, Leaving, LogLine, LogLines, LogRequest, MasterMessage,
    WorkerMessage, cluster_client::ClusterClient, log_request, master_message, worker_message,
};
use drumline_security::{Connector, Passes, Trust, endpoint};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use tracing::{info, warn};
use url::Url;

use crate::leave::{self, Leave};
use crate::topics::Topics;
use crate::{Error, TokenSource};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// Messages to the master that may wait before it counts as not reading.
const OUTGOING: usize = 1024;
/// Lines of the log, and their bytes, that one answer holds at most.
const LOG_LINES: usize = 10_000;
const LOG_BYTES: usize = 2 << 20;

/// Where a worker stands with its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not joined; tries again by itself.
    Waiting {
        /// Why it is not joined yet, or no longer.
        reason: String,
    },
    /// A member of the cluster.
    Joined {
        /// Root of the cluster's lake.
        lake: String,
    },
}

pub(crate) struct Membership {
    pub(crate) master: Url,
    pub(crate) trust: Trust,
    pub(crate) token: TokenSource,
    /// Filled by the master's welcome; without them nobody is let in to this worker.
    pub(crate) passes: Passes,
    pub(crate) hello: Hello,
    pub(crate) streams: Arc<StreamHost>,
    pub(crate) topics: Topics,
    pub(crate) stream_events: mpsc::Receiver<HostEvent>,
    pub(crate) tasks: TaskHost,
    pub(crate) log: LogTail,
    pub(crate) running_tasks: watch::Receiver<u32>,
    pub(crate) state: watch::Sender<State>,
    /// Cancelled to leave in good order: by a signal, or by the master.
    pub(crate) drain: CancellationToken,
    /// How long that may take.
    pub(crate) drain_within: Duration,
}

/// Why one call came to its end.
enum Ended {
    Shutdown,
    Lost(String),
    Refused(String),
}

impl Membership {
    /// Until `shutdown`, or until the master says that it will never have this worker.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut wait = FIRST_RETRY;
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => Ended::Shutdown,
                // Nobody gives it work, and nobody waits for it.
                () = self.drain.cancelled() => Ended::Shutdown,
                opened = self.open() => match opened {
                    Err(reason) => Ended::Lost(reason),
                    Ok((outgoing, incoming)) => {
                        wait = FIRST_RETRY;
                        let ended = self.serve(outgoing, incoming, &shutdown).await;
                        // Whatever was assigned over this call is void.
                        self.streams.revoke_all();
                        self.passes.forget();
                        ended
                    }
                }
            };
            match ended {
                Ended::Shutdown => return Ok(()),
                Ended::Lost(_) if self.drain.is_cancelled() => return Ok(()),
                Ended::Refused(reason) => {
                    return Err(Error::Refused {
                        master: self.master.to_string(),
                        reason,
                    });
                }
                Ended::Lost(reason) => self.wait_for_master(reason),
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.drain.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    /// Says why it waits, once per reason.
    fn wait_for_master(&self, reason: String) {
        let waiting = State::Waiting { reason };
        self.state.send_if_modified(|state| {
            let is_new = *state != waiting;
            if let (true, State::Waiting { reason }) = (is_new, &waiting) {
                warn!(master = %self.master, reason, "waiting for the master");
            }
            *state = waiting;
            is_new
        });
    }

    async fn open(
        &self,
    ) -> Result<(mpsc::Sender<WorkerMessage>, Streaming<MasterMessage>), String> {
        let token = (self.token)().map_err(|error| format!("no token to join with: {error}"))?;
        let channel = connect(&self.master, &self.trust).await?;
        let (outgoing, receiver) = mpsc::channel(OUTGOING);
        let _ = outgoing.try_send(message(worker_message::Message::Hello(self.hello.clone())));
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            self.passes.joins_with(&token);
            let value = format!("Bearer {}", token.text()).parse();
            let mut value: tonic::metadata::MetadataValue<_> =
                value.map_err(|_| "the token cannot be sent".to_owned())?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        let incoming = ClusterClient::new(channel)
            .max_decoding_message_size(usize::MAX)
            .join(request)
            .await
            .map_err(|status| {
                format!(
                    "{} does not take workers: {}",
                    self.master,
                    status.message()
                )
            })?;
        Ok((outgoing, incoming.into_inner()))
    }

    async fn serve(
        &mut self,
        outgoing: mpsc::Sender<WorkerMessage>,
        mut incoming: Streaming<MasterMessage>,
        shutdown: &CancellationToken,
    ) -> Ended {
        let mut beats = tokio::time::interval(Duration::from_secs(1));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (probed, mut probes) = mpsc::channel::<WorkerMessage>(16);
        let mut welcomed = false;
        let mut has_offered = false;
        let mut leave = Leave::new(self.tasks.running());
        let unread = || Ended::Lost("the master does not read what this worker says".to_owned());
        loop {
            let say = tokio::select! {
                () = shutdown.cancelled() => return farewell(&outgoing, &mut incoming).await,
                () = self.drain.cancelled(), if !leave.has_begun() => {
                    info!(within = ?self.drain_within, "draining: no new work, what runs is finished");
                    leave.begin(Arc::clone(&self.streams), self.drain_within);
                    message(worker_message::Message::Draining(Draining { streams_handed_over: false }))
                }
                next = leave.next() => match next {
                    leave::Next::MayGo => return farewell(&outgoing, &mut incoming).await,
                    leave::Next::StreamsEnded => message(worker_message::Message::Draining(Draining { streams_handed_over: true })),
                },
                next = incoming.message() => match next {
                    Ok(Some(next)) => {
                        welcomed |= matches!(next.message, Some(master_message::Message::Welcome(_)));
                        if let Some(ended) = self.obey(next, &probed, &mut beats, &mut leave) {
                            return ended;
                        }
                        continue;
                    }
                    Ok(None) => return Ended::Lost("the master closed the call".to_owned()),
                    Err(status) => return Ended::Lost(format!("the call broke: {}", status.message())),
                },
                Some(event) = self.stream_events.recv(), if welcomed => stream_message(event),
                Some(result) = probes.recv() => result,
                // The first one makes this worker a member: from then on it is given work.
                _ = beats.tick(), if welcomed => message(worker_message::Message::Heartbeat(Heartbeat {
                    running_tasks: *self.running_tasks.borrow(),
                    memory_bytes: self.tasks.memory_reserved(),
                })),
            };
            if std::mem::take(&mut has_offered) {
                fault::at(Place::StreamOffered);
            }
            if matches!(say.message, Some(worker_message::Message::Offer(_))) {
                fault::at(Place::StreamStaged);
                has_offered = true;
            }
            if outgoing.try_send(say).is_err() {
                return unread();
            }
        }
    }

    fn obey(
        &self,
        order: MasterMessage,
        probed: &mpsc::Sender<WorkerMessage>,
        beats: &mut tokio::time::Interval,
        leave: &mut Leave,
    ) -> Option<Ended> {
        match order.message? {
            master_message::Message::Welcome(welcome) => {
                fault::at(Place::Registering);
                let taken = self
                    .passes
                    .accept(&welcome.rows_pass, &welcome.control_digest);
                if let Err(error) = taken {
                    return Some(Ended::Lost(error.to_string()));
                }
                let period = Duration::from_millis(welcome.heartbeat_millis.clamp(100, 60_000));
                *beats = tokio::time::interval(period);
                beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                info!(master = %self.master, lake = welcome.lake, "joined the cluster");
                self.state
                    .send_replace(State::Joined { lake: welcome.lake });
            }
            master_message::Message::Refused(refused) => {
                return Some(Ended::Refused(refused.reason));
            }
            master_message::Message::Assign(assign) => {
                fault::at(Place::StreamAssigned);
                self.streams.assign(assign);
            }
            master_message::Message::Revoke(revoke) => {
                self.streams.revoke(&revoke.stream, revoke.epoch)
            }
            master_message::Message::Drain(_) => self.drain.cancel(),
            master_message::Message::Drained(_) => leave.no_job_uses_it(),
            master_message::Message::OfferAnswer(answer) => {
                fault::at(Place::StreamAnswered);
                self.streams.offer_answer(answer);
            }
            master_message::Message::LogRequest(request) => {
                let lines = lines(&self.log, &request);
                // Whoever asked asks again.
                let _ = probed.try_send(message(worker_message::Message::LogLines(lines)));
            }
            master_message::Message::LookAtTopic(look) => {
                let (topics, probed) = (self.topics.clone(), probed.clone());
                // As a probe.
                tokio::spawn(async move {
                    let seen = topics.look(&look).await;
                    let _ = probed
                        .send(message(worker_message::Message::TopicSeen(seen)))
                        .await;
                });
            }
            master_message::Message::CountRecords(request) => {
                let (streams, probed) = (Arc::clone(&self.streams), probed.clone());
                // Ends when the partition gives nothing more.
                tokio::spawn(async move {
                    let counted = streams.count(request).await;
                    let _ = probed
                        .send(message(worker_message::Message::CountedRecords(counted)))
                        .await;
                });
            }
            master_message::Message::ReplayLetters(order) => {
                let (streams, probed) = (Arc::clone(&self.streams), probed.clone());
                // What it stages belongs to nobody until the master commits it.
                tokio::spawn(async move {
                    let answer = streams.replay(order).await;
                    let _ = probed
                        .send(message(worker_message::Message::LettersReplayed(answer)))
                        .await;
                });
            }
            master_message::Message::Probe(probe) => {
                let (streams, probed) = (Arc::clone(&self.streams), probed.clone());
                // Ends by its own time limits; its answer goes nowhere once the call is over.
                tokio::spawn(async move {
                    let result = streams.probe(&probe).await;
                    let _ = probed
                        .send(message(worker_message::Message::ProbeResult(result)))
                        .await;
                });
            }
        }
        None
    }
}

/// Says goodbye, and lets it go out before the call is dropped.
async fn farewell(
    outgoing: &mpsc::Sender<WorkerMessage>,
    incoming: &mut Streaming<MasterMessage>,
) -> Ended {
    let _ = outgoing.try_send(message(worker_message::Message::Leaving(Leaving {})));
    let _ = tokio::time::timeout(Duration::from_millis(500), incoming.message()).await;
    Ended::Shutdown
}

async fn connect(master: &Url, trust: &Trust) -> Result<Channel, String> {
    endpoint(master.as_str())
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect_with_connector(Connector::new(trust.clone()))
        .await
        .map_err(|error| match trust {
            Trust::Plain => format!("nothing answers at {master}"),
            _ => format!("cannot connect to {master}: {}", innermost(&error)),
        })
}

/// The outer errors of a transport say "transport error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Lines that were asked for, the newest of them where they do not all fit.
fn lines(log: &LogTail, request: &LogRequest) -> LogLines {
    let found = match request.from {
        Some(log_request::From::After(number)) => log.after(number, LOG_LINES),
        Some(log_request::From::Last(count)) => log.last((count as usize).min(LOG_LINES)),
        None => vec![],
    };
    let mut bytes = 0;
    let mut fitting: Vec<LogLine> = found
        .into_iter()
        .rev()
        .take_while(|line| {
            bytes += line.text.len();
            bytes <= LOG_BYTES
        })
        .map(|line| LogLine {
            number: line.number,
            text: line.text.to_string(),
        })
        .collect();
    fitting.reverse();
    LogLines {
        id: request.id,
        lines: fitting,
    }
}

fn stream_message(event: HostEvent) -> WorkerMessage {
    message(match event {
        HostEvent::Offer(offer) => worker_message::Message::Offer(offer),
        HostEvent::AssignmentFailed(failed) => worker_message::Message::AssignmentFailed(failed),
        HostEvent::Positions(positions) => worker_message::Message::Positions(positions),
    })
}

fn message(message: worker_message::Message) -> WorkerMessage {
    WorkerMessage {
        message: Some(message),
    }
}

/// What the worker says of itself when it joins.
pub(crate) fn hello(id: String, url: &Url, cores: u32, memory: Option<u64>) -> Hello {
    Hello {
        worker_id: id,
        url: url.to_string(),
        cores,
        memory_bytes: memory.unwrap_or_default(),
        build: BUILD.to_owned(),
        pid: std::process::id(),
    }
}
