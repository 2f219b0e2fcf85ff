//! One assignment of one stream: owns its machine, performs what it decides, and feeds back results.
//! The only `select!` between the pipelines, the master's answers, time and revocation.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use drumline_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::decode::Decoder;
use crate::host::{HostEvent, Options};
use crate::kafka::settings;
use crate::machine::{Action, Event, Machine, Positions, Range};
use crate::pipeline::{Command, Pipeline, Report};
use crate::roll::{Rolled, Target};
use crate::source::{self, Begin, Read, Reading, Seen};
use crate::transform::Transform;
use crate::{Error, Result, schema};

/// Batches that wait between a source and its pipeline.
const BATCHES: usize = 2;
const REPORTS: usize = 64;
const POSITIONS_EVERY: Duration = Duration::from_secs(1);
const DEFAULT_FLUSH: Duration = Duration::from_secs(120);
const DEFAULT_FILE_SIZE: u64 = 128 << 20;

/// Runs the assignment until it is revoked, an offer is rejected, or something fails.
pub(crate) async fn run(
    options: Options,
    assign: v1::Assign,
    answers: mpsc::Receiver<v1::OfferAnswer>,
    events: mpsc::Sender<HostEvent>,
    revoked: CancellationToken,
    draining: CancellationToken,
) {
    let stream = assign
        .definition
        .as_ref()
        .map(|definition| definition.name.clone())
        .unwrap_or_default();
    let epoch = assign.epoch;
    let reporter = Reporter {
        stream,
        epoch,
        events,
        revoked: revoked.clone(),
        draining,
    };
    // Ends the parts; the right to publish may be gone before, or may never have been taken.
    let stop = revoked.child_token();
    let mut parts = Parts::default();
    let outcome = match start(&options, assign, &stop, &mut parts).await {
        Ok((machine, reports)) => {
            let running = Running {
                machine,
                closed: BTreeMap::new(),
                positions: BTreeMap::new(),
                seen: BTreeMap::new(),
                parts: &mut parts,
            };
            running.run(reports, answers, &reporter).await
        }
        Err(error) => Err(error),
    };
    stop.cancel();
    parts.commands.clear();
    while parts.tasks.join_next().await.is_some() {}
    for thread in parts.threads {
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
    if let Err(error) = outcome {
        tracing::warn!(stream = reporter.stream, epoch, %error, "a stream stopped here");
        let failed = v1::AssignmentFailed {
            stream: reporter.stream.clone(),
            epoch,
            failure: Some(error.failure()),
        };
        reporter.send(HostEvent::AssignmentFailed(failed)).await;
    }
}

struct Reporter {
    stream: String,
    epoch: u64,
    events: mpsc::Sender<HostEvent>,
    revoked: CancellationToken,
    draining: CancellationToken,
}

impl Reporter {
    /// Sends, unless the right to speak for this epoch ends first.
    async fn send(&self, event: HostEvent) {
        tokio::select! {
            biased;
            () = self.revoked.cancelled() => {}
            _ = self.events.send(event) => {}
        }
    }
}

#[derive(Default)]
struct Parts {
    topics: Vec<String>,
    commands: Vec<mpsc::Sender<Command>>,
    acknowledge: Vec<std_mpsc::Sender<Positions>>,
    tasks: JoinSet<()>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

type Reports = mpsc::Receiver<(usize, Report)>;

async fn start(
    options: &Options,
    assign: v1::Assign,
    stop: &CancellationToken,
    parts: &mut Parts,
) -> Result<(Machine, Reports)> {
    let definition = assign.definition.ok_or_else(|| Error::Bug {
        context: "an assignment without a definition".to_owned(),
    })?;
    let flush = Some(definition.flush_interval_millis)
        .filter(|millis| *millis > 0)
        .map_or(DEFAULT_FLUSH, Duration::from_millis);
    let file_size = Some(definition.target_file_size)
        .filter(|size| *size > 0)
        .unwrap_or(DEFAULT_FILE_SIZE);
    let (reports, inbox) = mpsc::channel(REPORTS);
    let config = settings::consumer(&definition.name, &definition.brokers, &definition.kafka)?;
    for (index, topic) in definition.topics.iter().enumerate() {
        let mine: Vec<&v1::AssignedPartition> = assign
            .partitions
            .iter()
            .filter(|partition| partition.topic == topic.topic)
            .collect();
        if mine.is_empty() {
            continue;
        }
        let target = |table: &str| target(&assign.tables, table, &mine);
        let targets = [target(&topic.table)?, target(&definition.dead_letters)?];
        let fields = schema::declared(index, topic)?;
        let session = (options.session)().map_err(|error| Error::Bug {
            context: format!("no session for transforms: {error}"),
        })?;
        let transform = Transform::plan(
            &session,
            &topic.topic,
            &topic.transform,
            schema::input(&fields),
        )
        .await?;
        let wanted = schema::table(transform.schema(), topic.metadata_columns);
        let table_schema = shape(&topic.topic, &targets[0], &wanted)?;
        let decoder = Decoder::new(&topic.topic, fields, options.max_record_bytes)?;
        let at = parts.topics.len();
        let (reads, batches) = mpsc::channel::<Read>(BATCHES);
        let (commands, orders) = mpsc::channel(16);
        let (acknowledge, acknowledged) = std_mpsc::channel();
        let reading = Reading {
            topic: topic.topic.clone(),
            config: config.clone(),
            partitions: mine
                .iter()
                .map(|partition| (partition.partition, begin(partition, &targets)))
                .collect(),
            decoder,
        };
        let pipeline = Pipeline {
            at,
            topic: topic.topic.clone(),
            stores: options.stores.clone(),
            transform,
            table_schema,
            targets,
            reports: reports.clone(),
        };
        parts
            .threads
            .push(source::spawn(reading, reads, acknowledged, stop.clone())?);
        parts
            .tasks
            .spawn(pipeline.run(batches, orders, stop.clone()));
        parts.topics.push(topic.topic.clone());
        parts.commands.push(commands);
        parts.acknowledge.push(acknowledge);
    }
    Ok((Machine::new(parts.topics.len(), flush, file_size), inbox))
}

/// What the topic's tables, which are these, tell of where to begin.
fn begin(partition: &v1::AssignedPartition, tables: &[Target; 2]) -> Begin {
    let own = |target: &Target| {
        let next = partition.table_offsets.get(&target.table)?;
        Some((target.table.clone(), *next))
    };
    let held: BTreeMap<String, i64> = tables.iter().filter_map(own).collect();
    Begin {
        incomplete: held.len() < tables.len(),
        held,
    }
}

fn target(
    tables: &[v1::AssignedTable],
    table: &str,
    partitions: &[&v1::AssignedPartition],
) -> Result<Target> {
    let assigned = tables.iter().find(|assigned| assigned.table == table);
    let assigned = assigned.ok_or_else(|| Error::Bug {
        context: format!("an assignment without a target for table {table}"),
    })?;
    let write =
        serde_json::from_slice(&assigned.write_target_json).map_err(|error| Error::Bug {
            context: format!("write target of table {table}: {error}"),
        })?;
    let own = |partition: &&v1::AssignedPartition| {
        Some((partition.partition, *partition.table_offsets.get(table)?))
    };
    Ok(Target {
        table: table.to_owned(),
        write,
        start: partitions.iter().filter_map(own).collect(),
    })
}

/// The topic's columns in the table's own types: a value that does not fit is then a dead letter.
fn shape(topic: &str, target: &Target, wanted: &Schema) -> Result<SchemaRef> {
    let stage = |source| Error::Stage {
        table: target.table.clone(),
        source: Box::new(source),
    };
    let table = target.write.schema().map_err(stage)?;
    let own = |field: &FieldRef| {
        let found = table
            .field_with_name(field.name())
            .map_err(|_| Error::Shape {
                topic: topic.to_owned(),
                table: target.table.clone(),
                reason: format!("the table has no column {}", field.name()),
            })?;
        Ok(Field::new(field.name(), found.data_type().clone(), true))
    };
    let fields = wanted
        .fields()
        .iter()
        .map(own)
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

struct Running<'a> {
    machine: Machine,
    // Closed files by topic, until they are offered.
    closed: BTreeMap<usize, Vec<Rolled>>,
    positions: BTreeMap<usize, Positions>,
    seen: BTreeMap<usize, Seen>,
    parts: &'a mut Parts,
}

impl Running<'_> {
    async fn run(
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
            Report::Advanced { next, buffered } => {
                self.positions.insert(topic, next.clone());
                Some(Event::Advanced {
                    topic,
                    next,
                    buffered,
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

    fn offer(
        &mut self,
        reporter: &Reporter,
        at: usize,
        id: u64,
        ranges: Vec<Vec<Range>>,
    ) -> Result<v1::Offer> {
        let topic = self.parts.topics.get(at).cloned().unwrap_or_default();
        let rolled = self.closed.remove(&at).unwrap_or_default();
        let mut tables = Vec::new();
        for (ranges, rolled) in ranges.into_iter().zip(rolled) {
            if ranges.is_empty() {
                continue;
            }
            let range = |Range {
                             partition,
                             from,
                             to,
                         }| v1::OffsetRange {
                topic: topic.clone(),
                partition,
                from,
                to,
            };
            let files_json = serde_json::to_vec(&rolled.files).map_err(|error| Error::Bug {
                context: format!("staged files: {error}"),
            })?;
            tables.push(v1::OfferedTable {
                table: rolled.table,
                ranges: ranges.into_iter().map(range).collect(),
                files_json,
                rows: rolled.rows,
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
            ..v1::PositionReport::default()
        };
        for (at, positions) in &self.positions {
            let topic = self.parts.topics.get(*at).cloned().unwrap_or_default();
            let seen = self.seen.get(at);
            for (partition, position) in positions {
                let end = seen
                    .and_then(|seen| seen.ends.get(partition))
                    .map_or(-1, |end| *end.max(position));
                report.ends.push(v1::EndOffset {
                    topic: topic.clone(),
                    partition: *partition,
                    end,
                    position: *position,
                });
            }
            if let Some(seen) = seen {
                if let (Some(reason), true) = (&seen.waiting, report.waiting.is_empty()) {
                    report.waiting.clone_from(reason);
                }
                report.partitions.insert(topic, seen.partitions);
            }
        }
        if !report.ends.is_empty() {
            reporter.send(HostEvent::Positions(report)).await;
        }
    }
}
