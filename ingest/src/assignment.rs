//! One assignment of one stream: owns its machine, performs what it decides, and feeds back results.
//! The only `select!` between the pipelines, the master's answers, time and revocation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use drumline_lake::Requests;
use drumline_proto::v1;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::decode::{self, Decoder, Decoding};
use crate::host::{HostEvent, Options};
use crate::kafka::settings;
use crate::machine::{Action, Event, Machine, Positions, Range, Rolling};
use crate::partitioning::Refused;
use crate::pipeline::{Command, Pipeline, Report, Route};
use crate::places::Places;
use crate::planner::Planner;
use crate::registry::Registry;
use crate::roll::{Rolled, Target};
use crate::source::{self, Begin, Held, Identity, Read, Reading, Seen};
use crate::{Error, Result, schema};

/// Batches that wait between a source and its pipeline.
const BATCHES: usize = 2;
const REPORTS: usize = 64;
/// Bytes that a topic reads ahead where there is room: librdkafka's queue, with as much again for what it keeps of
/// each record, and four batches on their way, each as bytes and as columns.
const READ_AHEAD: u64 = 128 << 20;
const QUEUE_PART: u64 = 4;
const BATCH_PART: u64 = 16;
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
    let requests = Requests::default();
    // Ends the parts; the right to publish may be gone before, or may never have been taken.
    let stop = revoked.child_token();
    let mut parts = Parts::default();
    let outcome = match start(&options, assign, &stop, &requests, &mut parts).await {
        Ok((machine, reports)) => {
            let running = Running {
                machine,
                closed: BTreeMap::new(),
                positions: BTreeMap::new(),
                seen: BTreeMap::new(),
                requests,
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
    topics: Vec<Places>,
    identities: Vec<Arc<Identity>>,
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
    requests: &Requests,
    parts: &mut Parts,
) -> Result<(Machine, Reports)> {
    let definition = assign.definition.ok_or_else(|| Error::Bug {
        context: "an assignment without a definition".to_owned(),
    })?;
    let rolling = rolling(&definition);
    let (reports, inbox) = mpsc::channel(REPORTS);
    let config = settings::of_stream(&definition, &options.secrets)?;
    let mut bounds = Vec::new();
    let registry = decode::registry(definition.registry.as_ref())?;
    for (index, topic) in definition.topics.iter().enumerate() {
        let mine: Vec<&v1::AssignedPartition> = assign
            .partitions
            .iter()
            .filter(|partition| topic.reads(&partition.topic))
            .collect();
        if mine.is_empty() {
            continue;
        }
        let places = Places::new(names_of(&mine));
        let mine = placed(&places, mine)?;
        let target = |table: &str| {
            let mut target = target(&assign.tables, table, &mine)?;
            target.write.target_file_size = rolling.file_size;
            Ok::<_, Error>(target)
        };
        let definition = (&definition, assign.lake.as_str());
        let section = section(
            options,
            definition,
            registry.as_ref(),
            index,
            target,
            &places,
        )
        .await?;
        let Section { decoder, routes } = section;
        let letters = target(&definition.0.dead_letters)?;
        let tables = routes.iter().map(|route| &route.target).chain([&letters]);
        let tables: Vec<&str> = tables.map(|target| target.table.as_str()).collect();
        let share = options.budget.join(READ_AHEAD);
        let mut config = config.clone();
        settings::read_ahead(&mut config, &definition.0.kafka, share.ahead() / QUEUE_PART);
        let identity = Arc::new(identity(&assign.held_topics, &mine));
        let at = parts.topics.len();
        let (reads, batches) = mpsc::channel::<Read>(BATCHES);
        let (commands, orders) = mpsc::channel(16);
        let (acknowledge, acknowledged) = std_mpsc::channel();
        let reading = Reading {
            topic: topic.label(),
            places: places.clone(),
            config,
            batch_bytes: usize::try_from(share.ahead() / BATCH_PART).unwrap_or(usize::MAX),
            partitions: mine
                .iter()
                .map(|(place, partition)| (*place, begin(partition, &tables)))
                .collect(),
            decoder,
            identity: Arc::clone(&identity),
        };
        let pipeline = Pipeline {
            at,
            topic: topic.label(),
            stores: options.stores.clone(),
            routes,
            letters,
            share,
            identity: Arc::clone(&identity),
            requests: requests.clone(),
            reports: reports.clone(),
        };
        parts
            .threads
            .push(source::spawn(reading, reads, acknowledged, stop.clone())?);
        parts
            .tasks
            .spawn(pipeline.run(batches, orders, stop.clone()));
        bounds.push(until(&mine));
        parts.topics.push(places);
        parts.identities.push(identity);
        parts.commands.push(commands);
        parts.acknowledge.push(acknowledge);
    }
    let mut machine = Machine::new(parts.topics.len(), rolling);
    for (topic, until) in bounds.into_iter().enumerate() {
        machine.ends_at(topic, until);
    }
    Ok((machine, inbox))
}

/// Where partitions end that do.
fn until(partitions: &[(i32, &v1::AssignedPartition)]) -> Positions {
    let ends = partitions.iter();
    ends.filter_map(|(place, partition)| Some((*place, partition.until?)))
        .collect()
}

/// What the definition says of when files are closed.
fn rolling(definition: &v1::StreamDefinition) -> Rolling {
    let interval = Some(definition.flush_interval_millis)
        .filter(|millis| *millis > 0)
        .map_or(DEFAULT_FLUSH, Duration::from_millis);
    let now = Instant::now();
    // How long ago the clock showed a multiple of the interval. Stays right over clock changes of less than it.
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let past = since_1970.as_nanos() % interval.as_nanos().max(1);
    let past = Duration::from_nanos(u64::try_from(past).unwrap_or_default());
    Rolling {
        interval,
        aligned_to: now.checked_sub(past).filter(|_| definition.flush_aligned),
        file_size: Some(definition.target_file_size)
            .filter(|size| *size > 0)
            .unwrap_or(DEFAULT_FILE_SIZE),
        file_rows: Some(definition.target_file_rows)
            .filter(|rows| *rows > 0)
            .unwrap_or(u64::MAX),
    }
}

fn names_of(partitions: &[&v1::AssignedPartition]) -> BTreeSet<String> {
    let names = partitions.iter().map(|partition| partition.topic.clone());
    names.collect()
}

/// The assigned partitions by place.
fn placed<'a>(
    places: &Places,
    partitions: Vec<&'a v1::AssignedPartition>,
) -> Result<Vec<(i32, &'a v1::AssignedPartition)>> {
    let place = |partition: &'a v1::AssignedPartition| {
        let place = places.place(&partition.topic, partition.partition);
        let place = place.ok_or_else(|| Error::Bug {
            context: format!(
                "partition {} of topic {} has no place among {} topics",
                partition.partition,
                partition.topic,
                places.topics().len()
            ),
        })?;
        Ok((place, partition))
    };
    partitions.into_iter().map(place).collect()
}

/// One `[[topic]]`, ready to take records.
pub(crate) struct Section {
    pub decoder: Decoder,
    pub routes: Vec<Route>,
}

/// Plans what becomes of the records of a definition's topic, in a lake with this URL; `target` knows where the rows
/// of a table go.
pub(crate) async fn section(
    options: &Options,
    (definition, lake): (&v1::StreamDefinition, &str),
    registry: Option<&Arc<Registry>>,
    index: usize,
    target: impl Fn(&str) -> Result<Target>,
    places: &Places,
) -> Result<Section> {
    let topic = definition.topics.get(index).ok_or_else(|| Error::Bug {
        context: format!("topic {index} of stream {}", definition.name),
    })?;
    let decoding = Decoding::resolve(index, topic, registry).await?;
    let mut routes = Vec::new();
    for route in topic.all_routes() {
        let target = target(&route.table)?;
        let input = decoding.input();
        let (label, places) = (topic.label(), places.clone());
        let planner = Planner::new(options, definition, lake, label, &route, input, places);
        routes.push(plan(topic, &route, planner.await?, target).await?);
    }
    let decoder = decoding.decoder(options.max_record_bytes, &Handle::current())?;
    Ok(Section {
        decoder: decoder.reading(places),
        routes,
    })
}

async fn plan(
    topic: &v1::TopicDefinition,
    route: &v1::RouteDefinition,
    planner: Planner,
    target: Target,
) -> Result<Route> {
    let transform = planner.plan().await.map_err(Refused::into_error)?;
    let wanted = schema::table(transform.schema(), route.metadata_columns);
    Ok(Route {
        table_schema: shape(&topic.label(), &target, &wanted)?,
        planner,
        transform,
        target,
    })
}

/// The topics of these partitions, and what the tables say of whom they took their records from.
fn identity(held: &[v1::HeldTopic], partitions: &[(i32, &v1::AssignedPartition)]) -> Identity {
    let topics = partitions.iter().map(|(_, own)| own.topic.clone());
    let topics: BTreeSet<String> = topics.collect();
    let held = held.iter().filter(|held| topics.contains(&held.topic));
    let held = held.map(|held| {
        let own = partitions.iter().map(|(_, own)| own);
        let own = own.filter(|own| own.topic == held.topic);
        let left_off = own.filter_map(|p| Some((p.partition, *p.table_offsets.get(&held.table)?)));
        Held {
            table: held.table.clone(),
            topic: held.topic.clone(),
            id: held.topic_id.clone(),
            left_off: left_off.collect(),
        }
    });
    let held = held.collect();
    Identity::new(&topics.into_iter().collect::<Vec<_>>(), held)
}

/// What the topic's tables, which are these, tell of where to begin.
fn begin(partition: &v1::AssignedPartition, tables: &[&str]) -> Begin {
    let own = |table: &&str| {
        let next = partition.table_offsets.get(*table)?;
        Some(((*table).to_owned(), *next))
    };
    let held: BTreeMap<String, i64> = tables.iter().filter_map(own).collect();
    Begin {
        incomplete: held.len() < tables.len(),
        held,
        until: partition.until,
    }
}

pub(crate) fn target(
    tables: &[v1::AssignedTable],
    table: &str,
    partitions: &[(i32, &v1::AssignedPartition)],
) -> Result<Target> {
    let assigned = tables.iter().find(|assigned| assigned.table == table);
    let assigned = assigned.ok_or_else(|| Error::Bug {
        context: format!("an assignment without a target for table {table}"),
    })?;
    let write =
        serde_json::from_slice(&assigned.write_target_json).map_err(|error| Error::Bug {
            context: format!("write target of table {table}: {error}"),
        })?;
    let own = |(place, partition): &(i32, &v1::AssignedPartition)| {
        Some((*place, *partition.table_offsets.get(table)?))
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
    requests: Requests,
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
