//! An assignment that runs: owns its machine, performs what it decides, and feeds back results. The only `select!`
//! between the pipelines, the master's answers, time and revocation.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use drumline_lake::Requests;
use drumline_proto::v1;
use tokio::sync::mpsc;

use super::{Parts, Reporter, Reports};
use crate::host::HostEvent;
use crate::machine::{Action, Event, Machine, Positions, Range};
use crate::pipeline::{Command, Report};
use crate::places::Places;
use crate::roll::Rolled;
use crate::source::Seen;
use crate::{Error, Result};

const POSITIONS_EVERY: Duration = Duration::from_secs(1);

/// An assignment whose parts run.
pub(super) struct Running<'a> {
    pub(super) machine: Machine,
    /// Closed files by topic, until they are offered.
    pub(super) closed: BTreeMap<usize, Vec<Rolled>>,
    pub(super) positions: BTreeMap<usize, Positions>,
    pub(super) seen: BTreeMap<usize, Seen>,
    pub(super) requests: Requests,
    pub(super) parts: &'a mut Parts,
}

impl Running<'_> {
    pub(super) async fn run(
        mut self,
        mut reports: Reports,
        mut answers: mpsc::Receiver<v1::OfferAnswer>,
        reporter: &Reporter,
    ) -> Result<()> {
        let mut positions = tokio::time::interval(POSITIONS_EVERY);
        positions.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // No deadline: far enough away never to come while this is waited for.
            let wake = self
                .machine
                .wake_at()
                .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let event = tokio::select! {
                biased;
                () = reporter.revoked.cancelled() => Event::Revoked,
                () = reporter.draining.cancelled(), if !self.machine.is_draining() => {
                    Event::DrainRequested
                }
                answer = answers.recv() => match answer {
                    Some(answer) => Event::Answered { id: answer.id, committed: answer.committed },
                    None => Event::Revoked,
                },
                report = reports.recv() => match report {
                    Some((topic, report)) => match self.noted(topic, report)? {
                        Some(event) => event,
                        None => continue,
                    },
                    None => return Err(Error::Bug { context: "every pipeline has ended".to_owned() }),
                },
                () = tokio::time::sleep_until(wake.into()) => Event::Ticked,
                _ = positions.tick() => {
                    self.report_positions(reporter).await;
                    continue;
                }
            };
            for action in self.machine.step(Instant::now(), event) {
                match action {
                    Action::Stop => return Ok(()),
                    Action::CloseFiles { topic } => self.order(topic, Command::Close)?,
                    Action::Pause { topic } => self.order(topic, Command::Pause)?,
                    Action::Resume { topic } => self.order(topic, Command::Resume)?,
                    Action::DiscardClosed { topic } => drop(self.closed.remove(&topic)),
                    Action::Offer { topic, id, tables } => {
                        let offer = self.offer(reporter, topic, id, tables)?;
                        reporter.send(HostEvent::Offer(offer)).await;
                    }
                    Action::Acknowledge { topic, next } => {
                        if let Some(acknowledge) = self.parts.acknowledge.get(topic) {
                            let _ = acknowledge.send(next);
                        }
                    }
                }
            }
        }
    }

    fn noted(&mut self, topic: usize, report: Report) -> Result<Option<Event>> {
        Ok(match report {
            Report::Started { tables, next } => {
                self.positions.insert(topic, next);
                Some(Event::Started { topic, tables })
            }
            Report::Advanced { next, written } => {
                self.positions.insert(topic, next.clone());
                Some(Event::Advanced {
                    topic,
                    next,
                    written,
                })
            }
            Report::Closed { next, tables } => {
                self.closed.insert(topic, tables);
                Some(Event::Closed { topic, next })
            }
            Report::Seen(seen) => {
                self.seen.insert(topic, seen);
                None
            }
            Report::Failed(error) => {
                self.machine.step(Instant::now(), Event::Failed);
                return Err(error);
            }
        })
    }

    fn order(&self, topic: usize, command: Command) -> Result<()> {
        // At most a closing, a pause and a resumption are under way: the channel is never full.
        let commands = self.parts.commands.get(topic);
        commands
            .and_then(|commands| commands.try_send(command).ok())
            .ok_or_else(|| Error::Bug {
                context: format!("pipeline {topic} takes no orders"),
            })
    }

    fn places(&self, topic: usize) -> Result<&Places> {
        self.parts.topics.get(topic).ok_or_else(|| Error::Bug {
            context: format!("there is no pipeline {topic}"),
        })
    }

    fn offer(
        &mut self,
        reporter: &Reporter,
        at: usize,
        id: u64,
        ranges: Vec<Vec<Range>>,
    ) -> Result<v1::Offer> {
        let places = self.places(at)?.clone();
        let rolled = self.closed.remove(&at).unwrap_or_default();
        let identity = self.parts.identities.get(at);
        let topic_id = |topic: &str| {
            let id = identity.and_then(|identity| identity.id(topic));
            id.unwrap_or_default().to_owned()
        };
        let mut tables = Vec::new();
        for (ranges, rolled) in ranges.into_iter().zip(rolled) {
            if ranges.is_empty() {
                continue;
            }
            let range = |Range {
                             partition: place,
                             from,
                             to,
                         }| v1::OffsetRange {
                topic: places.topic(place).to_owned(),
                partition: places.partition(place),
                from,
                to,
                counts: Some(rolled.counts.of(place)),
                topic_id: topic_id(places.topic(place)),
            };
            let files_json = serde_json::to_vec(&rolled.files).map_err(|error| Error::Bug {
                context: format!("staged files: {error}"),
            })?;
            tables.push(v1::OfferedTable {
                table: rolled.table,
                ranges: ranges.into_iter().map(range).collect(),
                files_json,
                rows: rolled.rows,
                lookups: rolled.lookups.into_iter().collect(),
                reasons: rolled.reasons.into_iter().collect(),
            });
        }
        Ok(v1::Offer {
            stream: reporter.stream.clone(),
            epoch: reporter.epoch,
            id,
            tables,
        })
    }

    async fn report_positions(&self, reporter: &Reporter) {
        let mut report = v1::PositionReport {
            stream: reporter.stream.clone(),
            epoch: reporter.epoch,
            requests: self.requests.count(),
            ..v1::PositionReport::default()
        };
        for (at, positions) in &self.positions {
            let (Ok(places), seen) = (self.places(*at), self.seen.get(at)) else {
                continue;
            };
            for (place, position) in positions {
                let end = seen
                    .and_then(|seen| seen.ends.get(place))
                    .map_or(-1, |end| *end.max(position));
                let figure = seen.and_then(|seen| seen.figures.get(place).copied());
                let figure = figure.unwrap_or_default();
                let (newest, oldest) = figure.dates.unwrap_or_default();
                report.ends.push(v1::EndOffset {
                    topic: places.topic(*place).to_owned(),
                    partition: places.partition(*place),
                    end,
                    position: *position,
                    waiting_since: figure.waiting_since.unwrap_or_default(),
                    newest,
                    oldest,
                    records_per_second: figure.records_per_second,
                    bytes_per_second: figure.bytes_per_second,
                });
            }
            if let Some(seen) = seen {
                if let (Some(reason), true) = (&seen.waiting, report.waiting.is_empty()) {
                    report.waiting.clone_from(reason);
                }
                report.partitions.extend(seen.partitions.clone());
                report.found.extend(seen.found.clone());
            }
        }
        if !report.ends.is_empty() {
            reporter.send(HostEvent::Positions(report)).await;
        }
    }
}
