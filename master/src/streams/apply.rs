//! Applying a stream: everything that can be wrong is looked at before anything is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use drumline_lake::{Catalog, Change, Format, StreamObject, TableName};
use drumline_proto::v1::{
    ApplyStreamResponse, Failure, FailureKind, PartitionEdges, ProbeResult, RouteDefinition,
    StreamDefinition, TopicDefinition,
};

use super::handle::Streams;
use super::statements::Statements;
use super::status::FINISHED;
use super::tables::{StreamTables, Target, all_targets};
use super::{Layout, bounds, grow, latest, service};
use crate::Error;
use crate::cluster::Workers;

/// What applying needs of the master.
#[derive(Debug, Clone)]
pub(crate) struct Applier {
    pub(crate) catalog: Catalog,
    pub(crate) streams: Streams,
    pub(crate) tables: StreamTables,
    pub(crate) workers: Workers,
    pub(crate) statements: Statements,
    /// Changes of streams take turns, people's and those that records ask for: they are checked against each other.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// Replays of dead letters take turns too: each goes on from what the one before left.
    pub(crate) replaying: Arc<tokio::sync::Mutex<()>>,
}

/// Why a definition is refused, and the key of it that is to blame.
pub(super) struct Refusal {
    pub(super) key: String,
    pub(super) failure: Failure,
}

pub(super) fn user(
    key: impl Into<String>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Refusal {
    refusal(FailureKind::User, key, message, hint)
}

pub(super) fn refusal(
    kind: FailureKind,
    key: impl Into<String>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Refusal {
    let failure = Failure {
        kind: kind.into(),
        message: message.into(),
        hint: hint.into(),
        ..Failure::default()
    };
    Refusal {
        key: key.into(),
        failure,
    }
}

fn keyed(key: &str, error: &Error) -> Refusal {
    Refusal {
        key: key.to_owned(),
        failure: service::failure_of(error),
    }
}

impl Applier {
    pub(crate) async fn apply(&self, definition: StreamDefinition) -> ApplyStreamResponse {
        self.apply_after(definition, None).await
    }

    /// The same; where a revision is told, only if the stream is at it still.
    pub(super) async fn apply_after(
        &self,
        mut definition: StreamDefinition,
        revision: Option<u64>,
    ) -> ApplyStreamResponse {
        let _turn = self.turn.lock().await;
        fill_in(&mut definition);
        match self.checked(definition, revision).await {
            Ok(response) => response,
            Err(Refusal { key, failure }) => ApplyStreamResponse {
                failure: Some(failure),
                key,
                ..ApplyStreamResponse::default()
            },
        }
    }

    async fn checked(
        &self,
        mut definition: StreamDefinition,
        revision: Option<u64>,
    ) -> Result<ApplyStreamResponse, Refusal> {
        check_names(&definition)?;
        let lake_error = |error: drumline_lake::Error| {
            let failure = service::failure_of(&Error::from(error));
            Refusal {
                key: "lake".to_owned(),
                failure,
            }
        };
        self.catalog
            .lake()
            .check_writable()
            .await
            .map_err(lake_error)?;
        self.carry_over(&mut definition, revision).await?;
        let edges = definition.until.is_some() || !definition.begins_earliest();
        let probed = self.probe(&definition, edges).await?;
        if let Some(failure) = probed.failure {
            return Err(Refusal {
                key: probed.key,
                failure,
            });
        }
        // Which registered schema makes the columns is decided once, here: workers and restarts agree on it.
        for topic in &mut definition.topics {
            if let Some(id) = probed.schema_ids.get(&topic.label()) {
                topic.decode.get_or_insert_default().schema_id = *id;
            }
        }
        let matched = probed.matched.clone().into_iter().collect();
        let matching = definition.clone().matching(&matched);
        let topics = probed.partitions.keys().cloned().collect();
        self.check_alone(&matching, &topics).await?;
        let before = self
            .catalog
            .refresh()
            .await
            .map_err(lake_error)?
            .stream(&definition.name)
            .cloned();
        let old = before
            .as_ref()
            .map(|before| service::decode(&definition.name, &before.definition))
            .transpose()
            .map_err(|error| keyed("stream", &error))?;
        let targets = targets(&definition, &probed)?;
        let own = old.as_ref().map(tables_of).unwrap_or_default();
        let ensured = self.tables.ensure(&definition.name, &targets, &own).await;
        ensured.map_err(|(key, error)| keyed(&key, &error))?;
        self.bound(&mut definition, old.as_ref(), &probed).await?;
        let matching = definition.clone().matching(&matched);
        // Changing a stream leaves it paused or running as it was.
        definition.paused = before
            .as_ref()
            .map_or(definition.paused, |before| before.paused);
        let text = service::encode(&definition).map_err(|error| {
            let failure = service::failure_of(&error);
            Refusal {
                key: "stream".to_owned(),
                failure,
            }
        })?;
        let created = before.is_none();
        if created {
            self.widen(&targets).await?;
        }
        let changed = before
            .as_ref()
            .is_none_or(|before| before.definition != text);
        if created {
            let begun = self.tables.begin_at(&matching, &probed.edges).await;
            begun.map_err(|error| keyed("start_from", &error))?;
        }
        if changed {
            let revision = before.map_or(1, |before| before.revision + 1);
            let stream = StreamObject {
                definition: text,
                paused: definition.paused,
                revision,
            };
            let name = definition.name.clone();
            if !created {
                self.cut(&name, &matching, &probed.edges, &targets).await?;
            }
            let put = || Change::PutStream {
                name: name.clone(),
                stream: stream.clone(),
            };
            if let Err(error) = self.catalog.change(|_| Ok(vec![put()])).await {
                self.streams.release(&name).await;
                return Err(lake_error(error));
            }
            definition.revision = revision;
            let layout = Layout::from(probed);
            self.streams.put(definition, Some(layout)).await;
        }
        Ok(ApplyStreamResponse {
            created,
            changed,
            ..ApplyStreamResponse::default()
        })
    }

    /// Has the old definition end at one offset of each partition, where the new one begins: tables that come new
    /// to a partition too.
    async fn cut(
        &self,
        name: &str,
        matching: &StreamDefinition,
        edges: &[PartitionEdges],
        targets: &[Target],
    ) -> Result<(), Refusal> {
        let is_held = self.streams.hold(name).await;
        if is_held && let Err(refusal) = self.widen(targets).await {
            self.streams.release(name).await;
            return Err(refusal);
        }
        let cut = match is_held {
            true => match self.tables.begin_beside(matching).await {
                Ok(()) => self.tables.begin_at(matching, edges).await,
                Err(error) => Err(error),
            },
            false => {
                self.streams.release(name).await;
                let message = format!(
                    "a commit of stream {name} broke off, so its tables stand at different offsets, and its old \
                     definition could not make them even in time"
                );
                let hint = "see `drumline stream status` for why, and apply again; or delete the stream and apply it";
                return Err(refusal(FailureKind::Retryable, "stream", message, hint));
            }
        };
        if let Err(error) = cut {
            self.streams.release(name).await;
            return Err(keyed("start_from", &error));
        }
        Ok(())
    }

    /// Takes over what the stream has got by itself; refuses where somebody has changed it meanwhile.
    async fn carry_over(
        &self,
        definition: &mut StreamDefinition,
        revision: Option<u64>,
    ) -> Result<(), Refusal> {
        let failed = |error: &Error| Refusal {
            key: "stream".to_owned(),
            failure: service::failure_of(error),
        };
        let snapshot = self.catalog.refresh().await;
        let snapshot = snapshot.map_err(|error| failed(&Error::from(error)))?;
        let kept = snapshot.stream(&definition.name);
        if revision.is_some_and(|revision| kept.is_none_or(|kept| kept.revision != revision)) {
            let message = format!("stream {} was changed meanwhile", definition.name);
            let hint = "the columns are asked for again";
            return Err(refusal(FailureKind::Retryable, "stream", message, hint));
        }
        if let Some(kept) = kept {
            let kept = service::decode(&definition.name, &kept.definition);
            grow::carry_over(definition, &kept.map_err(|error| failed(&error))?);
        }
        Ok(())
    }

    /// No table may get one topic from two streams: it keeps one offset for each partition.
    pub(super) async fn check_alone(
        &self,
        definition: &StreamDefinition,
        topics: &BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let others = self.streams.status().await;
        let others = others.values().filter(|other| other.state != FINISHED);
        let others = others.filter_map(|other| {
            let other = other.definition.as_ref()?;
            let topics = other.topics.iter().flat_map(|topic| topic.names());
            Some((other, topics.map(str::to_owned).collect()))
        });
        match bounds::overlap(definition, topics, others) {
            None => Ok(()),
            Some((other, topic, table)) => Err(user(
                "topic",
                format!("stream {other} writes topic {topic} to table {table} already"),
                format!(
                    "a table keeps one position of each partition: name another table and INSERT INTO {table} SELECT \
                     from it when it is filled, or `drumline stream delete {other}` first"
                ),
            )),
        }
    }

    /// Finds where a stream that ends by itself does, and refuses one that has nothing left to read.
    async fn bound(
        &self,
        definition: &mut StreamDefinition,
        before: Option<&StreamDefinition>,
        probed: &ProbeResult,
    ) -> Result<(), Refusal> {
        let state = self.streams.status().await.remove(&definition.name);
        let has_finished = state.is_some_and(|status| status.state == FINISHED);
        definition.bounds = bounds::bounds(definition, &probed.edges, before, has_finished);
        let is_same = before.is_some_and(|before| before.bounds == definition.bounds);
        if definition.until.is_none() || is_same {
            return Ok(());
        }
        let matched = probed.matched.clone().into_iter().collect();
        let matching = definition.clone().matching(&matched);
        let read = self.tables.read(&matching).await;
        let (held, _) = read.map_err(|error| keyed("until", &error))?;
        let mut edges = probed.edges.iter();
        let is_empty = edges.all(|edge| edge.until.is_none_or(|until| until <= edge.start));
        match bounds::has_nothing_to_write(&matching, &held) && !is_empty {
            false => Ok(()),
            true => Err(user(
                "until",
                format!(
                    "the tables of stream {} have everything below that already: nothing would be written",
                    definition.name
                ),
                "rows below a table's own offset are never written to it again: name another table and INSERT INTO \
                 the first SELECT from it, or `drumline stream reset` one that is paused",
            )),
        }
    }

    pub(super) async fn probe(
        &self,
        definition: &StreamDefinition,
        edges: bool,
    ) -> Result<ProbeResult, Refusal> {
        let mut alive = self.workers.subscribe();
        let joined = alive.wait_for(|workers| !workers.is_empty());
        if tokio::time::timeout(std::time::Duration::from_secs(10), joined)
            .await
            .is_err()
        {
            return Err(refusal(
                FailureKind::Retryable,
                "stream",
                "no worker has joined this master, so nobody can look at the brokers",
                "start one with `drumline worker --master URL`",
            ));
        }
        let probed = self.streams.probe(definition.clone(), edges).await;
        probed.ok_or_else(|| {
            refusal(
                FailureKind::Retryable,
                "brokers",
                format!(
                    "no worker could say in time whether brokers `{}` can be used",
                    definition.brokers
                ),
                "check that the workers reach the brokers, then apply again",
            )
        })
    }
}

/// Tables that a stream of this definition writes: its own may get columns.
fn tables_of(definition: &StreamDefinition) -> BTreeSet<String> {
    let latest = definition.topics.iter().map(|it| it.latest_table.clone());
    let mut tables = all_targets(definition);
    tables.extend(latest.filter(|table| !table.is_empty()));
    tables
}

/// Puts the defaults into fields that were left out.
fn fill_in(definition: &mut StreamDefinition) {
    if definition.dead_letters.is_empty() {
        definition.dead_letters = format!("{}_dead_letters", definition.name);
    }
    if definition.format.is_empty() {
        definition.format = "parquet".to_owned();
    }
    let format = definition.format.clone();
    for topic in &mut definition.topics {
        if topic.routes.is_empty() {
            if topic.table.is_empty() {
                topic.table = topic.topic.replace(['.', '-'], "_");
            }
            if topic.format.is_empty() {
                topic.format = format.clone();
            }
        }
        for route in topic.routes.iter_mut().filter(|r| r.format.is_empty()) {
            route.format = format.clone();
        }
    }
}

fn check_names(definition: &StreamDefinition) -> Result<(), Refusal> {
    let name = &definition.name;
    let plain = !name.is_empty()
        && name.len() <= 64
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !plain {
        return Err(user(
            "name",
            format!("`{name}` is no stream name"),
            "use 1 to 64 of letters, digits, `_`, `-`",
        ));
    }
    if definition.brokers.is_empty() {
        return Err(user(
            "brokers",
            "no brokers are named",
            "give `host:port`, several separated by commas",
        ));
    }
    if let Some(setting) = drumline_proto::kafka::secret_in_clear(definition) {
        return Err(user(
            format!("kafka.{setting}"),
            format!("{setting} would be kept in the lake, where every reader of it finds it"),
            "say where it is: \"${env:KAFKA_…}\" or \"${file:/run/secrets/…}\", which workers open",
        ));
    }
    if definition.topics.is_empty() {
        return Err(user(
            "topic",
            format!("stream {name} has no topic"),
            "add a `[[topic]]`",
        ));
    }
    let mut topics = BTreeSet::new();
    for (at, topic) in definition.topics.iter().enumerate() {
        check_topic(definition, at, topic, &mut topics)?;
    }
    Ok(())
}

fn check_topic<'a>(
    definition: &StreamDefinition,
    at: usize,
    topic: &'a TopicDefinition,
    topics: &mut BTreeSet<&'a str>,
) -> Result<(), Refusal> {
    let named = [
        !topic.topic.is_empty(),
        !topic.topics.is_empty() && topic.pattern.is_empty(),
        !topic.pattern.is_empty(),
    ];
    if named.into_iter().filter(|is| *is).count() != 1 {
        let message = format!("[[topic]] number {} names no topic, or in two ways", at + 1);
        let hint = "give one of `topic`, `topics` and `pattern`";
        return Err(user(format!("topic[{at}].topic"), message, hint));
    }
    for name in topic.names().filter(|_| topic.pattern.is_empty()) {
        if !topics.insert(name) {
            let message = format!("topic {name} is named twice");
            let hint = "name it once, with a `[[topic.route]]` for each table";
            return Err(user(format!("topic[{at}].topic"), message, hint));
        }
    }
    let mut tables = BTreeSet::from([definition.dead_letters.clone()]);
    for (route_at, route) in topic.all_routes().into_iter().enumerate() {
        let key = format!("topic[{at}].{}", topic.route_key(route_at, "table"));
        if route.table.is_empty() {
            let message = format!("topic {} has no table", topic.label());
            return Err(user(key, message, "name one with `table`"));
        }
        if tables.contains(&route.table) {
            let message = format!(
                "table {} is already the target of something else",
                route.table
            );
            let hint = "give each route of a topic, and the dead letters, a table of its own";
            return Err(user(key, message, hint));
        }
        tables.insert(route.table);
    }
    if !topic.latest_table.is_empty() {
        let key = format!("topic[{at}].table");
        if topic.topic.is_empty() || !topic.routes.is_empty() {
            let message = format!(
                "topic {} keeps the newest row of each key, which one topic in one table can",
                topic.label()
            );
            return Err(user(
                key,
                message,
                "name one topic, and leave out its routes",
            ));
        }
        let named = |other: &TopicDefinition| {
            let mut routes = other.all_routes().into_iter();
            other.latest_table == topic.latest_table
                || routes.any(|route| route.table == topic.latest_table)
        };
        let mut others = definition.topics.iter().enumerate();
        let is_shared = others.any(|(other_at, other)| other_at != at && named(other));
        if is_shared || !tables.insert(topic.latest_table.clone()) {
            let message = format!(
                "table {} is already the target of something else",
                topic.latest_table
            );
            return Err(user(key, message, "name another table"));
        }
    }
    Ok(())
}

/// The tables the stream writes to, with the columns that a worker found them to have.
fn targets(definition: &StreamDefinition, probed: &ProbeResult) -> Result<Vec<Target>, Refusal> {
    let mut targets: Vec<Target> = Vec::new();
    for (at, topic) in definition.topics.iter().enumerate() {
        let may_widen = topic.decode.as_ref().is_some_and(|it| it.evolve);
        let may_grow = may_widen || topic.decode.as_ref().is_some_and(|it| it.schema_id != 0);
        for (route_at, route) in topic.all_routes().into_iter().enumerate() {
            let key = |part: &str| format!("topic[{at}].{}", topic.route_key(route_at, part));
            let target = Target {
                may_grow,
                may_widen,
                ..target(&route, probed, &key)?
            };
            if !topic.latest_table.is_empty() {
                targets.push(latest_target(topic, &target, &key)?);
            }
            match targets.iter().find(|other| other.name == target.name) {
                None => targets.push(target),
                Some(other) => agree(other, &target, &key)?,
            }
        }
    }
    let Some(schema) = decode_schema(&probed.dead_letter_schema) else {
        return Err(refusal(
            FailureKind::Bug,
            "dead_letters",
            "the worker sent no columns for dead letters",
            "",
        ));
    };
    targets.push(Target {
        name: table_name(&definition.dead_letters, "dead_letters")?,
        text: definition.dead_letters.clone(),
        location: None,
        format: format(&definition.format, "format")?,
        schema,
        partition_by: Vec::new(),
        key: "dead_letters".to_owned(),
        may_grow: false,
        may_widen: false,
    });
    Ok(targets)
}

/// The table of the newest rows of a topic whose changes go to `changes`.
fn latest_target(
    topic: &TopicDefinition,
    changes: &Target,
    key: &impl Fn(&str) -> String,
) -> Result<Target, Refusal> {
    if let Some((part, reason)) = latest::lacks(topic, &changes.schema) {
        let hint = "a whole example is in docs/formats.md";
        return Err(user(key(part), reason, hint));
    }
    Ok(Target {
        name: table_name(&topic.latest_table, &key("table"))?,
        text: topic.latest_table.clone(),
        location: None,
        // Its rows change.
        format: Format::Delta,
        schema: latest::schema(&changes.schema),
        partition_by: Vec::new(),
        key: key("table"),
        may_grow: changes.may_grow,
        may_widen: changes.may_widen,
    })
}

fn target(
    route: &RouteDefinition,
    probed: &ProbeResult,
    key: &impl Fn(&str) -> String,
) -> Result<Target, Refusal> {
    let schema = probed.table_schemas.get(&route.table);
    let Some(schema) = schema.and_then(|ipc| decode_schema(ipc)) else {
        let message = format!("the worker sent no columns for table {}", route.table);
        return Err(refusal(FailureKind::Bug, key("table"), message, ""));
    };
    Ok(Target {
        name: table_name(&route.table, &key("table"))?,
        text: route.table.clone(),
        location: (!route.location.is_empty()).then(|| route.location.clone()),
        format: format(&route.format, &key("format"))?,
        schema,
        partition_by: route
            .partition_columns()
            .into_iter()
            .map(|column| column.name)
            .collect(),
        key: key("table"),
        may_grow: false,
        may_widen: false,
    })
}

/// Topics that share a table have to want the same of it.
fn agree(other: &Target, target: &Target, key: &impl Fn(&str) -> String) -> Result<(), Refusal> {
    let differing = [
        ("format", other.format != target.format),
        ("location", other.location != target.location),
        ("partition_by", other.partition_by != target.partition_by),
    ];
    match differing.into_iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((part, _)) => {
            let message = format!(
                "table {} has another `{part}` where {} names it",
                target.name, other.key
            );
            Err(user(
                key(part),
                message,
                format!("give both the same `{part}`"),
            ))
        }
    }
}

fn table_name(text: &str, key: &str) -> Result<TableName, Refusal> {
    TableName::parse(text)
        .map_err(|error| user(key, error.to_string(), "use `name` or `schema.name`"))
}

fn format(text: &str, key: &str) -> Result<Format, Refusal> {
    match text {
        "parquet" => Ok(Format::Parquet),
        "delta" => Ok(Format::Delta),
        other => Err(user(
            key,
            format!("`{other}` is no table format"),
            "use `parquet` or `delta`",
        )),
    }
}

fn decode_schema(ipc: &[u8]) -> Option<SchemaRef> {
    let reader = arrow::ipc::reader::StreamReader::try_new(ipc, None).ok()?;
    Some(reader.schema())
}
