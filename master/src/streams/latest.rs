//! Current-state tables: the newest row of each key, folded from a table of changes.
//!
//! A stream appends its changes exactly once; after its commits a `MERGE` brings the current-state table up
//! to them. For each key that has new changes it takes the newest of *all* its changes, by place in the
//! source's log and then by offset. So what it makes is a function of the table of changes alone: an older
//! change that comes late or again loses against what is there (also against a deletion), and a merge that
//! runs twice, or again after a crash, changes nothing. Only one merge of a table runs at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{Schema, SchemaRef};
use drumline_lake::{Catalog, TableName};
use drumline_proto::v1::{StreamDefinition, TopicDefinition};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::statements::Statements;
use super::tables::StreamTables;
use super::{Partition, service};
use crate::Error;
use crate::facts::Event;

/// Changes are gathered for so long before they are merged.
const EVERY: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Columns of a change that say nothing of the row.
const OF_THE_CHANGE: [&str; 4] = ["_op", "_topic", "_source", "_headers"];

/// Columns of the current-state table of changes of this shape.
pub(super) fn schema(changes: &Schema) -> SchemaRef {
    let fields = changes.fields().iter();
    let fields = fields.filter(|field| !OF_THE_CHANGE.contains(&field.name().as_str()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// What a topic lacks for a current-state table: the key of the definition, and why.
pub(super) fn lacks(topic: &TopicDefinition, changes: &Schema) -> Option<(&'static str, String)> {
    let has = |column: &str| changes.column_with_name(column).is_some();
    if topic.keys.is_empty() {
        let reason = format!(
            "topic {} keeps the newest row of each key, but names no keys",
            topic.topic
        );
        return Some(("keys", reason));
    }
    if let Some(key) = topic.keys.iter().find(|key| !has(key)) {
        let columns: Vec<&str> = changes
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let reason = format!(
            "topic {}: the key {key} is no column of its rows ({})",
            topic.topic,
            columns.join(", ")
        );
        return Some(("keys", reason));
    }
    if !has("_partition") || !has("_offset") {
        let reason = format!(
            "topic {} keeps the newest row of each key and needs _partition and _offset for it",
            topic.topic
        );
        return Some(("metadata_columns", reason));
    }
    let is_change = topic
        .decode
        .as_ref()
        .is_some_and(|it| !it.envelope.is_empty());
    let needed: &[&str] = if is_change {
        &["_op", "_position"]
    } else {
        &["_op"]
    };
    needed.iter().find(|column| !has(column)).map(|column| {
        let reason = format!(
            "topic {}: the transform leaves out {column}, which says which change of a key is the newest and \
             whether it deletes; select it too",
            topic.topic
        );
        ("transform", reason)
    })
}

/// A table of changes, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Latest {
    changes: String,
    table: String,
    keys: Vec<String>,
}

impl Latest {
    /// Whether it is made of `table`, however that is written.
    fn is_of(&self, table: &str) -> bool {
        self.changes == table
            || matches!((TableName::parse(&self.changes), TableName::parse(table)), (Ok(own), Ok(it)) if own == it)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name, part by part.
fn quoted_table(name: &str) -> Result<String, Error> {
    let name = TableName::parse(name)?;
    Ok(format!("{}.{}", quoted(&name.schema), quoted(&name.name)))
}

/// The statement that takes over the changes from these offsets on; all of them, where there are none.
fn merge(
    latest: &Latest,
    state: &Schema,
    changes: &Schema,
    from: Option<&BTreeMap<Partition, i64>>,
) -> Result<String, Error> {
    let has = |column: &str| changes.column_with_name(column).is_some();
    let source = quoted_table(&latest.changes)?;
    let target = quoted_table(&latest.table)?;
    let keys: Vec<String> = latest.keys.iter().map(|key| quoted(key)).collect();
    let columns: Vec<String> = state.fields().iter().map(|it| quoted(it.name())).collect();
    let join = |parts: Vec<String>, by: &str| parts.join(by);
    let each = |names: &[String], shape: &dyn Fn(&String) -> String| -> Vec<String> {
        names.iter().map(shape).collect()
    };
    let known = join(each(&keys, &|key| format!("c.{key} IS NOT NULL")), " AND ");
    let touched = match from {
        None => String::new(),
        Some(from) => {
            // A partition that is not named is new.
            let mut places: Vec<String> = from
                .iter()
                .map(|(at, next)| format!("(_partition = {} AND _offset >= {next})", at.partition))
                .collect();
            let named: BTreeSet<String> = from.keys().map(|it| it.partition.to_string()).collect();
            if !named.is_empty() {
                let named: Vec<String> = named.into_iter().collect();
                places.push(format!("_partition NOT IN ({})", named.join(", ")));
            }
            let places = match places.is_empty() {
                true => "true".to_owned(),
                false => places.join(" OR "),
            };
            let on = join(each(&keys, &|key| format!("n.{key} = c.{key}")), " AND ");
            format!(" AND EXISTS (SELECT 1 FROM {source} AS n WHERE {on} AND ({places}))")
        }
    };
    let order = match has("_position") {
        true => "c._position DESC NULLS LAST, c._offset DESC",
        false => "c._offset DESC",
    };
    let op = if has("_op") { "c._op" } else { "'u'" };
    let selected = join(each(&columns, &|column| format!("c.{column}")), ", ");
    let partition_by = join(each(&keys, &|key| format!("c.{key}")), ", ");
    let on = join(each(&keys, &|key| format!("t.{key} = s.{key}")), " AND ");
    let set = join(
        each(&columns, &|column| format!("{column} = s.{column}")),
        ", ",
    );
    // A position can be read again, after a reset, with another transform: what it became is looked at too. Nested values
    // have no comparison.
    let compared = state
        .fields()
        .iter()
        .filter(|it| !it.data_type().is_nested());
    let compared: Vec<String> = compared
        .map(|it| quoted(it.name()))
        .filter(|it| !keys.contains(it))
        .collect();
    let differs = each(&compared, &|column| {
        format!("(t.{column} IS DISTINCT FROM s.{column})")
    });
    let differs = join(differs, " OR ");
    let values = join(each(&columns, &|column| format!("s.{column}")), ", ");
    let names = columns.join(", ");
    Ok(format!(
        "MERGE INTO {target} AS t USING (SELECT {names}, _gone FROM (SELECT {selected}, {op} = 'd' AS _gone, \
         row_number() OVER (PARTITION BY {partition_by} ORDER BY {order}) AS _newest \
         FROM {source} AS c WHERE {known}{touched}) AS ranked WHERE _newest = 1) AS s ON {on} \
         WHEN MATCHED AND s._gone THEN DELETE \
         WHEN MATCHED AND ({differs}) THEN UPDATE SET {set} \
         WHEN NOT MATCHED AND NOT s._gone THEN INSERT ({names}) VALUES ({values})"
    ))
}

/// How far a current-state table is.
#[derive(Debug)]
struct Progress {
    latest: Latest,
    is_behind: bool,
    is_running: bool,
    not_before: Instant,
    pause: Duration,
    /// Changes below are merged; none: nobody knows, so all are looked at.
    merged: Option<BTreeMap<Partition, i64>>,
    /// There may be changes below that by now, and a merge that runs has not looked for them.
    is_void: bool,
}

impl Progress {
    fn new(latest: Latest, now: Instant) -> Self {
        Self {
            latest,
            is_behind: true,
            is_running: false,
            not_before: now,
            pause: EVERY,
            merged: None,
            is_void: false,
        }
    }

    /// All changes are to be looked at again.
    fn forget(&mut self) {
        (self.merged, self.is_behind, self.is_void) = (None, true, self.is_running);
    }

    fn is_due(&self, now: Instant) -> bool {
        self.is_behind && !self.is_running && now >= self.not_before
    }

    fn begin(&mut self) {
        (self.is_running, self.is_behind) = (true, false);
    }

    fn end(&mut self, now: Instant, merged: Option<BTreeMap<Partition, i64>>) {
        self.is_running = false;
        let is_void = std::mem::take(&mut self.is_void);
        match merged {
            Some(merged) => {
                self.merged = Some(merged);
                self.pause = EVERY;
                if is_void {
                    self.forget();
                }
            }
            None => {
                self.is_behind = true;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
        self.not_before = now + self.pause;
    }
}

/// Keeps the current-state tables of all streams up to their changes.
pub(crate) struct Keeper {
    pub(crate) catalog: Catalog,
    pub(crate) tables: StreamTables,
    pub(crate) statements: Statements,
}

/// The table, and how far it is now, if the merge succeeded.
type Ended = (String, Option<BTreeMap<Partition, i64>>);

impl Keeper {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let keeper = Arc::new(self);
        let mut told = keeper.statements.facts.listen();
        let mut gone_back = keeper.tables.gone_back();
        let mut all: BTreeMap<String, Progress> = BTreeMap::new();
        let mut merges: JoinSet<Ended> = JoinSet::new();
        let mut look_again = true;
        let mut ticks = tokio::time::interval(EVERY / 4);
        loop {
            if look_again {
                look_again = keeper.look(&mut all).await.is_err();
            }
            for progress in all.values_mut() {
                if progress.is_due(Instant::now()) {
                    progress.begin();
                    let (keeper, latest) = (Arc::clone(&keeper), progress.latest.clone());
                    let from = progress.merged.clone();
                    merges.spawn(async move {
                        let table = latest.table.clone();
                        match keeper.merged(&latest, from.as_ref()).await {
                            Ok(merged) => (table, Some(merged)),
                            Err(error) => {
                                warn!(table, %error, "a current-state table stays behind");
                                (table, None)
                            }
                        }
                    });
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => {}
                table = gone_back.recv() => match table {
                    Ok(table) => all.values_mut().filter(|it| it.latest.is_of(&table)).for_each(Progress::forget),
                    Err(RecvError::Lagged(_)) => all.values_mut().for_each(Progress::forget),
                    Err(RecvError::Closed) => break,
                },
                Some(Ok((table, merged))) = merges.join_next() => {
                    if let Some(progress) = all.get_mut(&table) {
                        progress.end(Instant::now(), merged);
                    }
                }
                fact = told.recv() => match fact.as_deref().map(|fact| &fact.event) {
                    Ok(Event::TableCommitted { table, stream, rows, .. }) if !stream.is_empty() && *rows > 0 => {
                        for progress in all.values_mut().filter(|it| it.latest.is_of(table)) {
                            progress.is_behind = true;
                        }
                    }
                    Ok(Event::StreamChanged { .. } | Event::StreamDeleted { .. }) => look_again = true,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => {
                        look_again = true;
                        all.values_mut().for_each(|progress| progress.is_behind = true);
                    }
                    Err(RecvError::Closed) => break,
                },
            }
        }
        merges.shutdown().await;
    }

    /// Reads which current-state tables there are.
    async fn look(&self, all: &mut BTreeMap<String, Progress>) -> Result<(), Error> {
        let snapshot = self.catalog.refresh().await?;
        let mut wanted = BTreeMap::new();
        for (name, stream) in snapshot.streams() {
            let definition: StreamDefinition = service::decode(name, &stream.definition)?;
            for topic in definition.topics {
                if !topic.latest_table.is_empty() {
                    let latest = Latest {
                        changes: topic.table,
                        table: topic.latest_table.clone(),
                        keys: topic.keys,
                    };
                    wanted.insert(topic.latest_table, latest);
                }
            }
        }
        all.retain(|table, progress| progress.is_running || wanted.contains_key(table));
        for (table, latest) in wanted {
            let progress = all
                .entry(table)
                .or_insert_with(|| Progress::new(latest.clone(), Instant::now()));
            if progress.latest != latest {
                // A merge that runs is one of the old definition.
                *progress = Progress {
                    is_running: progress.is_running,
                    is_void: progress.is_running,
                    ..Progress::new(latest, Instant::now())
                };
            }
        }
        Ok(())
    }

    /// Brings one table up to its changes; the offsets that it holds then.
    async fn merged(
        &self,
        latest: &Latest,
        from: Option<&BTreeMap<Partition, i64>>,
    ) -> Result<BTreeMap<Partition, i64>, Error> {
        let name = format!("latest rows of {}", latest.changes);
        // One that a master before this one began goes on by itself: two at once could both insert a key.
        self.statements.until_over(&name).await;
        let changes = self.tables.now(&latest.changes).await?;
        let state = self.tables.now(&latest.table).await?;
        let offsets: BTreeMap<Partition, i64> = changes
            .offsets
            .iter()
            .map(|((topic, partition), next)| {
                let (topic, partition) = (topic.clone(), *partition);
                (Partition { topic, partition }, *next)
            })
            .collect();
        if from == Some(&offsets) {
            return Ok(offsets);
        }
        let text = merge(latest, &state.schema, &changes.schema, from)?;
        match self.statements.run(name, text).await {
            Ok(()) => Ok(offsets),
            Err(reason) => Err(Error::LatestRows {
                table: latest.table.clone(),
                reason: reason.0,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn changes() -> Schema {
        let field = |name: &str| Field::new(name, DataType::Utf8, true);
        Schema::new(
            [
                "id",
                "name",
                "_op",
                "_position",
                "_source",
                "_topic",
                "_partition",
                "_offset",
            ]
            .map(field)
            .to_vec(),
        )
    }

    fn unmerged(now: Instant) -> Progress {
        let latest = Latest {
            changes: "c".to_owned(),
            table: "t".to_owned(),
            keys: Vec::new(),
        };
        Progress::new(latest, now)
    }

    #[test]
    fn the_table_has_what_says_something_of_the_row() {
        let state = schema(&changes());
        let names: Vec<&str> = state.fields().iter().map(|it| it.name().as_str()).collect();
        assert_eq!(names, ["id", "name", "_position", "_partition", "_offset"]);
    }

    #[test]
    fn changes_below_what_is_merged_are_looked_for_when_there_may_be_some() {
        let now = Instant::now();
        let mut progress = unmerged(now);
        progress.begin();
        progress.end(now, Some(BTreeMap::new()));
        assert!(!progress.is_behind && progress.merged.is_some());
        progress.forget();
        assert!(progress.is_behind && progress.merged.is_none());
        // A merge that had begun before has not seen them.
        progress.begin();
        progress.forget();
        progress.end(now, Some(BTreeMap::new()));
        assert!(progress.is_behind && progress.merged.is_none());
        progress.begin();
        progress.end(now, Some(BTreeMap::new()));
        assert!(!progress.is_behind && progress.merged.is_some());
    }

    #[test]
    fn the_newest_of_all_changes_is_taken_for_keys_that_changed() {
        let latest = Latest {
            changes: "raw.customers_changes".to_owned(),
            table: "customers".to_owned(),
            keys: vec!["id".to_owned()],
        };
        let state = schema(&changes());
        let whole = merge(&latest, &state, &changes(), None).unwrap();
        assert!(
            whole.starts_with("MERGE INTO \"default\".\"customers\" AS t USING"),
            "{whole}"
        );
        assert!(!whole.contains("EXISTS"), "{whole}");
        let partition = Partition {
            topic: "t".to_owned(),
            partition: 3,
        };
        let from = BTreeMap::from([(partition, 70)]);
        let some = merge(&latest, &state, &changes(), Some(&from)).unwrap();
        assert!(
            some.contains("(_partition = 3 AND _offset >= 70) OR _partition NOT IN (3)"),
            "{some}"
        );
        assert!(
            some.contains("ORDER BY c._position DESC NULLS LAST, c._offset DESC"),
            "{some}"
        );
    }

    #[test]
    fn what_a_definition_lacks_is_named_by_its_key() {
        let topic = |keys: &[&str]| TopicDefinition {
            topic: "t".to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..Default::default()
        };
        assert_eq!(lacks(&topic(&["id"]), &changes()), None);
        assert_eq!(lacks(&topic(&[]), &changes()).unwrap().0, "keys");
        let (key, reason) = lacks(&topic(&["ident"]), &changes()).unwrap();
        assert_eq!(key, "keys");
        assert!(
            reason.contains("ident is no column of its rows (id, name"),
            "{reason}"
        );
        let bare = Schema::new(vec![Field::new("id", DataType::Utf8, true)]);
        assert_eq!(lacks(&topic(&["id"]), &bare).unwrap().0, "metadata_columns");
        let all = changes();
        let fields = all.fields().iter().filter(|it| it.name() != "_op").cloned();
        let without = Schema::new(fields.collect::<Vec<_>>());
        assert_eq!(lacks(&topic(&["id"]), &without).unwrap().0, "transform");
    }

    #[test]
    fn a_failed_merge_is_tried_again_later_and_later() {
        let now = Instant::now();
        let mut progress = unmerged(now);
        assert!(progress.is_due(now));
        progress.begin();
        assert!(!progress.is_due(now));
        progress.end(now, None);
        assert!(!progress.is_due(now + EVERY) && progress.is_due(now + EVERY * 2));
        progress.begin();
        // Changes that come meanwhile are for the next one.
        progress.is_behind = true;
        progress.end(now, Some(BTreeMap::new()));
        assert!(!progress.is_due(now) && progress.is_due(now + EVERY));
    }
}
