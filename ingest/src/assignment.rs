//! One assignment of one stream: its parts are made, run (`running.rs`), and ended.

mod running;

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
use crate::machine::{Machine, Positions, Rolling};
use crate::partitioning::Refused;
use crate::pipeline::{Command, Pipeline, Report, Route};
use crate::places::Places;
use crate::planner::Planner;
use crate::registry::Registry;
use crate::roll::Target;
use crate::source::{self, Begin, Held, Identity, Read, Reading};
use crate::{Error, Result, schema};

use running::Running;

/// Batches that wait between a source and its pipeline.
const BATCHES: usize = 2;
const REPORTS: usize = 64;
/// Bytes that a topic reads ahead where there is room: librdkafka's queue, with as much again for what it keeps of
/// each record, and four batches on their way, each as bytes and as columns.
const READ_AHEAD: u64 = 128 << 20;
const QUEUE_PART: u64 = 4;
const BATCH_PART: u64 = 16;
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
