//! Tables: create, snapshot, commit, drop.
//!
//! A table is a log of numbered records (Delta's own, or ours for plain Parquet) folded into a state. Adding
//! the next record *is* the commit. A handle keeps the newest state it knows, so that a commit costs one put
//! when nobody else was there: the put itself tells if somebody was.
//!
//! Read next: `state` for what records do and which commits are refused, `log` for both formats' logs.

mod commit;
mod consumed;
mod create;
mod delta;
mod log;
mod past;
mod plain;
mod publish;
mod remove;
mod replays;
mod state;
pub(crate) mod unnamed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chrono::{DateTime, Utc};
pub use commit::{
    Commit, Committed, MadeBy, OffsetMove, OffsetRange, Operation, RangeCounts, Redefinition,
    TableChange,
};
pub use consumed::{Consumed, ConsumedBy};
pub use create::{NewTable, PreparedTable};
use datafusion::arrow::datatypes::{FieldRef, Schema};
use object_store::ObjectStore;
use object_store::path::Path;
pub use replays::replay_id;
use uuid::Uuid;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;

pub(crate) use self::create::check_properties;
pub(crate) use self::log::checkpoint_interval;
use self::log::{Known, TableLog};
pub(crate) use self::publish::publish;
use self::state::{Definition, Done, Proposal};
pub(crate) use self::state::{NUMBER, Unpublished};
use crate::moved;
use crate::record_log::{MAX_RACES, back_off};
use crate::root::path_of;
use crate::{
    DataFile, Encoding, Error, Format, Lake, Lease, Object, ObjectKind, Result, StatementId,
    TableName, TableSnapshot, WriteOptions, WriteTarget, columns,
};

/// A table that Drumline writes. Cheap to clone; all handles of one table in a process share what they know
/// of its newest state.
#[derive(Debug, Clone)]
pub struct Table {
    lake: Lake,
    name: TableName,
    object: Arc<Object>,
    log: TableLog,
    shared: Arc<Shared>,
}

/// What all handles of one table share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Commits of one process take turns: they would only race each other.
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Option<Known>>,
    /// Earlier versions, those last asked for first.
    past: Mutex<past::Past>,
    /// The files of snapshots that may still be read.
    held: Mutex<Vec<Weak<[Arc<DataFile>]>>>,
}

impl Shared {
    /// Whether anybody but this has files of a snapshot at hand.
    fn is_held(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = || known.iter().map(|known| &known.state).chain(past.iter());
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.iter().filter_map(Weak::upgrade);
        // All that are empty may be one.
        held.filter(|files| !files.is_empty()).any(|files| {
            let ours = ours().filter(|state| Arc::ptr_eq(&state.files, &files));
            Arc::strong_count(&files) > ours.count() + 1
        })
    }
}

impl Table {
    /// Opens a table that the catalog names. Reads nothing yet.
    pub async fn open(lake: &Lake, name: &TableName, object: &Object) -> Result<Self> {
        Self::handle(lake, name, object)
    }

    fn handle(lake: &Lake, name: &TableName, object: &Object) -> Result<Self> {
        match object.kind {
            ObjectKind::Table => {}
            ObjectKind::View => {
                return Err(Error::NotFound {
                    kind: "table",
                    name: name.to_string(),
                });
            }
            // A log of others is read as ours are.
            ObjectKind::External if object.is_foreign_delta() => {}
            ObjectKind::External => {
                return Err(Error::ReadOnly {
                    table: name.to_string(),
                    reason: "it is an external table: others write it".to_owned(),
                });
            }
        }
        Ok(Self {
            lake: lake.clone(),
            name: name.clone(),
            log: TableLog::new(lake, &name.to_string(), object)?,
            object: Arc::new(object.clone()),
            shared: lake.shared_table(object.id),
        })
    }

    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// What the catalog says of it.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The newest version. Completes what a crashed committer may have left half published.
    pub async fn snapshot(&self) -> Result<TableSnapshot> {
        let known = self.refresh().await?;
        let known = self.complete(known).await?;
        Ok(self.snapshot_of(&known.state))
    }

    fn snapshot_of(&self, state: &state::State) -> TableSnapshot {
        self.hold(&state.files);
        let offsets = state.offsets.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(|(partition, next)| ((topic.clone(), *partition), *next))
        });
        TableSnapshot {
            name: self.name.clone(),
            location: self.object.location.clone(),
            format: self.object.format,
            properties: properties(&self.object, &state.definition),
            version: state.version,
            schema: state.definition.schema.clone(),
            partition_columns: state.definition.partition_columns.clone(),
            files: state.files.clone(),
            offsets: offsets.collect(),
            topic_ids: state.topic_ids.clone(),
        }
    }

    /// The folder of its files.
    pub(crate) fn folder(&self) -> &Path {
        self.log.location()
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        self.log.store()
    }

    /// Files that commits took away and that are kept aside: where they are, and the path they had. Only plain
    /// Parquet tables have any.
    pub(crate) async fn replaced(&self) -> Result<BoxStream<'_, Result<(ObjectMeta, Path)>>> {
        let root = self.lake.path().clone();
        let place = moved::place_of(&root, self.folder().as_ref());
        let (Format::Parquet, Some(place)) = (self.object.format, place) else {
            return Ok(stream::empty().boxed());
        };
        let place = Path::parse(&place)
            .map_err(|error| Error::bug(format!("'{place}' is no path: {error}")))?;
        let listed = self.store().list(Some(&place)).map(move |found| {
            let found = found.map_err(|source| Error::store("list", &place, source))?;
            let before = moved::place_before(&root, found.location.as_ref());
            let before = before.and_then(|path| Path::parse(path).ok());
            Ok(before.map(|before| (found, before)))
        });
        Ok(listed.try_filter_map(async |found| Ok(found)).boxed())
    }

    /// Whether anybody in this process may still read a version of it.
    pub(crate) fn is_held(&self) -> bool {
        self.shared.is_held()
    }

    /// When a version was made, and the files it took away; `None` for one whose record is gone.
    pub(crate) async fn record_removals(
        &self,
        version: u64,
    ) -> Result<Option<(DateTime<Utc>, Vec<String>)>> {
        self.log.removals(version).await
    }

    /// Paths of files in snapshots that somebody in this process still holds.
    pub(crate) fn held_files(&self) -> BTreeSet<String> {
        let held = self.shared.held.lock();
        let held = held.unwrap_or_else(PoisonError::into_inner);
        let snapshots = held.iter().filter_map(Weak::upgrade);
        snapshots
            .flat_map(|files| {
                let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
                paths
            })
            .collect()
    }

    fn hold(&self, files: &Arc<[Arc<DataFile>]>) {
        let held = self.shared.held.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        held.retain(|files| files.strong_count() > 0);
        let handle = Arc::downgrade(files);
        if !held.iter().any(|known| known.ptr_eq(&handle)) {
            held.push(handle);
        }
    }

    /// Makes staged files visible, with what made them: whole or not at all. Repeating a commit is safe:
    /// a statement that is already in answers with `already`, offsets that moved are an error.
    pub async fn commit(&self, commit: Commit) -> Result<Committed> {
        let _turn = self.shared.turn.lock().await;
        let attempt = Uuid::new_v4();
        let mut known = match self.known() {
            Some(known) => known,
            None => self.refresh().await?,
        };
        for race in 1..=MAX_RACES {
            // What we know may be old; only the newest state may refuse.
            let decided = match self.decide(&known, &commit).await {
                Err(error) if error.kind() != crate::ErrorKind::Bug => {
                    known = self.refresh().await?;
                    self.decide(&known, &commit).await
                }
                decided => decided,
            };
            let offsets = match decided? {
                Decision::Already(done) => return Ok(done.committed(true)),
                Decision::Go(offsets) => offsets,
            };
            let state = &known.state;
            let proposal = Proposal {
                version: state.version + 1,
                attempt,
                commit: Some(&commit),
                remove: state.removed_by(&commit).unwrap_or_default(),
                definition: state.definition.changed_by(&commit)?,
                offsets,
                topic_ids: state.topic_ids_after(&commit.made_by),
                published_below: state.published_below(),
            };
            if let Some(step) = self
                .log
                .add(&state.definition, known.loaded.as_ref(), &proposal)
                .await?
            {
                let publish = step.publish.clone();
                let landed = self.learn(known.with(state.apply(step)));
                return Ok(self
                    .landed(landed, &commit, proposal.version, &publish)
                    .await);
            }
            back_off(race.min(4)).await;
            known = self.refresh().await?;
        }
        Err(self.log.contended())
    }

    /// Adds columns, which are null in all rows that are there. Repeating it is safe; with `if_not_exists`
    /// those that are there stay as they are.
    pub async fn add_columns(
        &self,
        more: &Schema,
        if_not_exists: bool,
        statement: StatementId,
    ) -> Result<Committed> {
        let mut race = 0;
        loop {
            // The statement that added them finds its commit before anything is asked of the columns.
            if let Some(done) = self.find_statement(&statement).await? {
                return Ok(done);
            }
            let snapshot = self.snapshot().await?;
            let is_new = |field: &&FieldRef| snapshot.schema.index_of(field.name()).is_err();
            let more: Vec<FieldRef> = match if_not_exists {
                false => more.fields().iter().cloned().collect(),
                true => more.fields().iter().filter(is_new).cloned().collect(),
            };
            let columns = match more.is_empty() {
                true => None,
                false => Some(snapshot.extended(&Schema::new(more))?.1),
            };
            let change = TableChange {
                operation: Operation::AddColumns,
                base: snapshot.version,
                remove: Vec::new(),
                rows: Some(0),
                columns,
                redefines: None,
            };
            let commit = Commit {
                change: Some(change),
                ..Commit::append(MadeBy::Statement(statement.clone()), Vec::new())
            };
            match self.commit(commit).await {
                Err(Error::Conflict { .. }) if race < MAX_RACES => {
                    race += 1;
                    back_off(race.min(4)).await;
                }
                committed => return committed,
            }
        }
    }

    /// Whether a statement has been committed here: lets a restarted master skip it without running it.
    pub async fn find_statement(&self, statement: &StatementId) -> Result<Option<Committed>> {
        let known = self.refresh().await?;
        let found = self.log.find(&known, statement).await?;
        Ok(found.map(|done| done.committed(true)))
    }

    /// Where and how writers stage files for this table. `attempt` separates one writer's files from
    /// another's; it must be a plain path segment.
    pub async fn write_target(&self, attempt: &str) -> Result<WriteTarget> {
        let known = match self.known() {
            Some(known) => known,
            None => self.refresh().await?,
        };
        write_target(
            &self.lake,
            &self.name,
            &self.object,
            &known.state.definition,
            attempt,
        )
    }

    async fn decide(&self, known: &Known, commit: &Commit) -> Result<Decision> {
        if self.object.kind == ObjectKind::External {
            return Err(Error::ReadOnly {
                table: self.name.to_string(),
                reason: "it is an external table: others write it".to_owned(),
            });
        }
        let state = &known.state;
        if let Some(id) = commit.made_by.statement()
            && let Some(done) = self.log.find(known, id).await?
        {
            return Ok(Decision::Already(done));
        }
        if let Some(loaded) = &known.loaded {
            loaded.check_writable()?;
        }
        if let Some(epoch) = commit.upkeep_epoch {
            Lease::of(&self.lake).check(epoch).await?;
        }
        let staging = self.lake.own_folder().join("staging");
        let changed = state.definition.changed_by(commit)?;
        let definition = changed.as_ref().unwrap_or(&state.definition);
        self.log.check(definition, commit, &staging)?;
        self.log.check_staged(state, commit)?;
        self.log.check_change(state, commit).await?;
        let table = self.name.to_string();
        Ok(Decision::Go(state.offsets_after(&table, &commit.made_by)?))
    }

    /// After the record is in nothing may fail any more: what is left is completed by the next opener.
    async fn landed(
        &self,
        known: Known,
        commit: &Commit,
        version: u64,
        publish: &[state::Unpublished],
    ) -> Committed {
        match self::publish::publish(self.log.store(), publish).await {
            Ok(()) => self.published(version),
            Err(error) => {
                tracing::warn!(table = %self.name, version, %error, "committed, but not all published yet");
            }
        }
        self.log.checkpoint(&known.state).await;
        Committed {
            version,
            already: false,
            rows: commit.rows(),
            files: commit.files.len(),
        }
    }

    async fn complete(&self, known: Known) -> Result<Known> {
        if known.state.unpublished.is_empty() {
            return Ok(known);
        }
        self::publish::complete(self.log.store(), &known.state.unpublished).await?;
        self.published(known.state.version);
        Ok(known)
    }

    /// Remembers that all files up to a version are published.
    fn published(&self, version: u64) {
        let mut slot = self.slot();
        if let Some(known) = slot.as_mut() {
            let mut state = known.state.as_ref().clone();
            state.unpublished.retain(|file| file.version > version);
            known.state = Arc::new(state);
        }
    }

    async fn refresh(&self) -> Result<Known> {
        let newer = match self.known() {
            Some(known) => self.log.follow(&known).await?,
            None => self.log.load().await?,
        };
        Ok(self.learn(newer))
    }

    /// Keeps the newer of what is known and what was found.
    fn learn(&self, found: Known) -> Known {
        let mut slot = self.slot();
        match slot.as_ref() {
            Some(known) if known.state.version >= found.state.version => known.clone(),
            _ => slot.insert(found).clone(),
        }
    }

    fn known(&self) -> Option<Known> {
        self.slot().clone()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

enum Decision {
    Already(Done),
    /// Commit, with these offsets after it.
    Go(state::Offsets),
}

impl Done {
    fn committed(&self, already: bool) -> Committed {
        Committed {
            version: self.version,
            already,
            rows: self.rows,
            files: self.files,
        }
    }
}

/// Delta's own properties are in its log; all others in the catalog, where they are changed.
fn properties(object: &Object, definition: &Definition) -> BTreeMap<String, String> {
    let own = definition.properties.iter();
    let mut all: BTreeMap<String, String> = own
        .filter(|(name, _)| name.starts_with("delta.") || name.starts_with("drumline."))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let others = object.properties.iter();
    let others = others.filter(|(name, _)| !name.starts_with("delta."));
    all.extend(others.map(|(name, value)| (name.clone(), value.clone())));
    all
}

fn write_target(
    lake: &Lake,
    name: &TableName,
    object: &Object,
    definition: &Definition,
    attempt: &str,
) -> Result<WriteTarget> {
    let plain = !attempt.is_empty()
        && attempt
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && attempt != ".."
        && attempt != ".";
    if !plain {
        return Err(Error::bug(format!(
            "'{attempt}' cannot name a staging folder"
        )));
    }
    let folder = match object.format {
        Format::Delta => object.location.clone(),
        Format::Parquet => lake.url_of(&lake.staging(attempt))?,
    };
    let options = WriteOptions::of(&name.to_string(), &properties(object, definition))?;
    // Fails here rather than on the workers.
    path_of(&folder)?;
    Ok(WriteTarget {
        table: name.to_string(),
        format: object.format,
        folder,
        schema_json: columns::to_json(&definition.schema)?,
        partition_columns: definition.partition_columns.clone(),
        definition: definition.number(),
        target_file_size: options.target_file_size,
        codec: options.codec,
        compression_level: options.compression_level,
        sort_by: options.sort_by,
        one_writer: false,
        encoding: Encoding::Parquet,
    })
}
