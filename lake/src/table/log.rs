//! A table's log, whatever its format: read it, follow it, add to it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;
use uuid::Uuid;

use super::delta::{self, Decoded, library};
use super::state::{Definition, Done, Proposal, State, Step};
use super::{Commit, ConsumedBy, MadeBy, Operation, TableChange, plain};
use crate::record_log::{CHECKPOINT_INTERVAL, Created, RecordLog};
use crate::root::path_of;
use crate::{Error, Format, Lake, Object, ObjectKind, Result, StatementId, Version};

/// A state, and what the Delta library knows besides (none: the state knows all from the first record on).
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub state: Arc<State>,
    pub loaded: Option<library::Loaded>,
}

impl Known {
    pub(super) fn with(&self, state: State) -> Self {
        Self {
            state: Arc::new(state),
            loaded: self.loaded.clone(),
        }
    }
}

/// What a record means to a commit that was worked out before it.
#[derive(Debug)]
pub(super) struct Effect {
    /// It added new rows, and did nothing else.
    pub appends_only: bool,
    /// It moved rows between files, and changed none.
    pub rearranges_only: bool,
    /// It changed columns, or what readers and writers must know.
    pub redefines: bool,
    /// Paths of the files that it added or took away, those whose rows it marked as deleted among them.
    pub touches: HashSet<String>,
    /// Words for people.
    pub made_by: String,
}

/// After how many versions a Delta table gets a checkpoint.
pub(crate) fn checkpoint_interval(
    table: &str,
    properties: &BTreeMap<String, String>,
) -> Result<u64> {
    let property = "delta.checkpointInterval";
    let Some(value) = properties.get(property) else {
        return Ok(CHECKPOINT_INTERVAL);
    };
    let interval = value.parse().ok().filter(|interval| *interval >= 1);
    interval.ok_or_else(|| Error::Property {
        table: table.to_owned(),
        property: property.to_owned(),
        value: value.clone(),
        accepted: "a number of versions, from 1 on",
    })
}

impl Effect {
    /// Whether a change may stand beside it: one of them only moved rows between files, and not those of the same
    /// files.
    fn is_beside(&self, change: &TableChange) -> bool {
        let moves_rows = change.operation == Operation::Optimize && !self.redefines;
        let mut files = change.remove.iter();
        (self.rearranges_only || moves_rows) && !files.any(|path| self.touches.contains(path))
    }
}

#[derive(Debug, Clone)]
pub(super) struct TableLog {
    table: String,
    id: Uuid,
    format: Format,
    location: Url,
    path: Path,
    store: Arc<dyn ObjectStore>,
    records: RecordLog,
}

impl TableLog {
    pub(super) fn new(lake: &Lake, table: &str, object: &Object) -> Result<Self> {
        let path = path_of(&object.location)?;
        let folder = match object.format {
            Format::Delta => path.clone().join("_delta_log"),
            Format::Parquet => {
                let folder = object.log.as_deref().ok_or_else(|| {
                    Error::bug(format!("the catalog tells no log of table '{table}'"))
                })?;
                lake.own_folder().join("commits").join(folder)
            }
        };
        let label = format!("table '{table}'");
        let store = match object.kind {
            ObjectKind::External => lake.stores().get(&object.location)?,
            ObjectKind::Table | ObjectKind::View => lake.store().clone(),
        };
        Ok(Self {
            table: table.to_owned(),
            id: object.id,
            format: object.format,
            location: object.location.clone(),
            path,
            records: RecordLog::new(store.clone(), folder, label),
            store,
        })
    }

    pub(super) fn location(&self) -> &Path {
        &self.path
    }

    pub(super) fn folder(&self) -> &Path {
        self.records.folder()
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn contended(&self) -> Error {
        self.records.contended()
    }

    /// The newest state, from nothing.
    pub(super) async fn load(&self) -> Result<Known> {
        match self.format {
            Format::Parquet => Ok(Known {
                state: Arc::new(plain::load(&self.records, &self.path).await?),
                loaded: None,
            }),
            Format::Delta => {
                let (state, loaded) = self.load_delta(None).await?;
                Ok(Known {
                    state: Arc::new(state),
                    loaded: Some(loaded),
                })
            }
        }
    }

    async fn load_delta(&self, version: Option<u64>) -> Result<(State, library::Loaded)> {
        library::load(
            &self.table,
            &self.store,
            &self.location,
            &self.path,
            &self.records,
            version,
        )
        .await
    }

    /// The state at an earlier version.
    pub(super) async fn load_at(&self, version: u64) -> Result<State> {
        match self.format {
            Format::Parquet => plain::load_at(&self.records, &self.path, version).await,
            Format::Delta => Ok(self.load_delta(Some(version)).await?.0),
        }
    }

    /// What a record tells of the version it made; none if it is gone.
    pub(super) async fn describe(&self, version: u64) -> Result<Option<Version>> {
        let Some((bytes, written_at)) = self.records.read_dated(version).await? else {
            return Ok(None);
        };
        let mut told = match self.format {
            Format::Parquet => plain::describe(&self.records, version, &bytes)?,
            Format::Delta => delta::describe(&self.records, version, &bytes)?,
        };
        told.at.get_or_insert(written_at);
        Ok(Some(told))
    }

    /// The versions whose records are there without a gap up to the newest: the first of them.
    pub(super) async fn first_told(&self, newest: u64) -> Result<u64> {
        let there = self.records.numbers().await?.records;
        let mut first = newest;
        while first > 0 && there.contains(&(first - 1)) {
            first -= 1;
        }
        Ok(first)
    }

    /// What a record tells of what the table consumed.
    pub(super) async fn consumed(&self, version: u64) -> Result<ConsumedBy> {
        let Some(bytes) = self.records.read(version).await? else {
            return Err(Error::Corrupt {
                path: self.records.path(version).to_string(),
                reason: "it was removed while the log was read".to_owned(),
            });
        };
        let (told, effect, offsets, transactions) = match self.format {
            Format::Parquet => (
                plain::describe(&self.records, version, &bytes)?,
                plain::effect(&self.records, version, &bytes)?,
                Some(plain::offsets(&self.records, version, &bytes)?),
                Vec::new(),
            ),
            Format::Delta => (
                delta::describe(&self.records, version, &bytes)?,
                delta::effect(&self.records, version, &bytes)?,
                delta::offsets(&self.records, version, &bytes)?.map(|(offsets, _)| offsets),
                delta::stream_transactions(&self.records, version, &bytes)?,
            ),
        };
        Ok(ConsumedBy {
            version,
            words: effect.made_by,
            made_by: told.made_by,
            offsets,
            transactions,
            rows_added: told.rows_added,
            removes: told.files_removed > 0,
            rearranges_only: effect.rearranges_only
                || told.operation.as_deref() == Some(Operation::Optimize.delta_name()),
        })
    }

    /// The oldest version that its records still tell of.
    pub(super) async fn oldest(&self) -> Result<u64> {
        if self.records.read(0).await?.is_some() {
            return Ok(0);
        }
        let numbers = self.records.numbers().await?;
        let oldest = numbers.checkpoints.first().or(numbers.records.first());
        Ok(oldest.copied().unwrap_or_default())
    }

    /// The newest state, from an older one.
    pub(super) async fn follow(&self, known: &Known) -> Result<Known> {
        let records = self.records.read_from(known.state.version + 1).await?;
        if records.is_empty() {
            return Ok(known.clone());
        }
        let mut state = known.state.as_ref().clone();
        for bytes in records {
            match self.decode(&state, state.version + 1, &bytes)? {
                Decoded::Step(step) => state = state.apply(*step),
                Decoded::Reload => return self.load().await,
            }
        }
        Ok(known.with(state))
    }

    fn decode(&self, state: &State, version: u64, bytes: &[u8]) -> Result<Decoded> {
        match self.format {
            Format::Parquet => {
                let step = plain::decode_record(&self.records, &self.path, version, bytes)?;
                Ok(Decoded::Step(Box::new(step)))
            }
            Format::Delta => delta::decode_record(&self.records, &state.definition, version, bytes),
        }
    }

    /// Adds a record; the step that it is, or none if somebody else took its number.
    pub(super) async fn add(
        &self,
        definition: &Definition,
        loaded: Option<&library::Loaded>,
        proposal: &Proposal<'_>,
    ) -> Result<Option<Step>> {
        let bytes = match self.format {
            Format::Parquet => plain::encode_record(self.id, &self.path, definition, proposal)?,
            Format::Delta => {
                let protocol = match loaded {
                    Some(loaded) => loaded.raised(proposal)?,
                    None => delta::raised(definition, proposal),
                };
                let location = self.path.as_ref();
                delta::encode_record(self.id, location, definition, proposal, protocol)?
            }
        };
        let created = self
            .records
            .create(proposal.version, bytes.clone(), proposal.attempt)
            .await?;
        match (created, self.format) {
            (Created::Taken, _) => Ok(None),
            (Created::Landed, Format::Parquet) => {
                plain::decode_record(&self.records, &self.path, proposal.version, &bytes).map(Some)
            }
            (Created::Landed, Format::Delta) => Ok(Some(delta::step(self.path.as_ref(), proposal))),
        }
    }

    /// Whose first record lies here, if there is any. None in the inside: not ours.
    pub(super) async fn owner(&self) -> Result<Option<Option<Uuid>>> {
        let Some(bytes) = self.records.read(0).await? else {
            return Ok(None);
        };
        match self.format {
            Format::Parquet => {
                let (id, _) = plain::decode_first(&self.records, &self.path, &bytes)?;
                Ok(Some(Some(id)))
            }
            Format::Delta => Ok(Some(delta::table_id(&self.records, &bytes)?)),
        }
    }

    /// The commit of a statement, if it is in: `None` only if it surely is not.
    pub(super) async fn find(&self, known: &Known, id: &StatementId) -> Result<Option<Done>> {
        let last = match (known.state.statements.get(&id.application), &known.loaded) {
            (Some(done), _) => Some((i64::from(done.ordinal), Some(done))),
            (None, None) => None,
            (None, Some(loaded)) => {
                let ordinal = loaded.last_ordinal(&id.application).await?;
                ordinal.map(|ordinal| (ordinal, None))
            }
        };
        match last {
            Some((ordinal, Some(done))) if ordinal == i64::from(id.ordinal) => {
                done.matches(&self.table, id)?;
                Ok(Some(done.clone()))
            }
            Some((ordinal, _)) if ordinal >= i64::from(id.ordinal) => {
                self.search(&known.state, id).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The application is at least this far, so its record is somewhere back in the log.
    async fn search(&self, state: &State, id: &StatementId) -> Result<Done> {
        for version in (0..=state.version).rev() {
            let Some(bytes) = self.records.read(version).await? else {
                break;
            };
            let statement = match (version, self.format) {
                (0, Format::Parquet) => {
                    let (_, first) = plain::decode_first(&self.records, &self.path, &bytes)?;
                    first.statements.into_iter().next()
                }
                (_, Format::Delta) => delta::statement(&self.records, state, version, &bytes)?,
                (_, Format::Parquet) => {
                    plain::decode_record(&self.records, &self.path, version, &bytes)?.statement
                }
            };
            if let Some((application, done)) = statement
                && application == id.application
                && done.ordinal == id.ordinal
            {
                done.matches(&self.table, id)?;
                return Ok(done);
            }
        }
        Err(Error::bug(format!(
            "table '{}' holds later statements of application '{}', but not statement {}",
            self.table, id.application, id.ordinal
        )))
    }

    /// A checkpoint that fails costs the next opener some time, no more.
    pub(super) async fn checkpoint(&self, state: &State) {
        // Earlier versions of plain tables are found by the interval that all of them have.
        let interval = match self.format {
            Format::Delta => checkpoint_interval(&self.table, &state.definition.properties),
            Format::Parquet => Ok(CHECKPOINT_INTERVAL),
        };
        let interval = interval.unwrap_or(CHECKPOINT_INTERVAL);
        if state.version == 0 || !state.version.is_multiple_of(interval) {
            return;
        }
        let written = match self.format {
            Format::Delta => {
                library::checkpoint(&self.table, &self.store, &self.location, &self.path).await
            }
            Format::Parquet => match plain::encode_checkpoint(state) {
                Ok(bytes) => self.records.write_checkpoint(state.version, bytes).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = written {
            tracing::warn!(table = %self.table, version = state.version, %error, "no checkpoint");
        }
    }

    /// Refuses files that were staged before the table became another one: planned anew, their rows fit it.
    pub(super) fn check_staged(&self, state: &State, commit: &Commit) -> Result<()> {
        let redefines = |change: &TableChange| change.redefines.is_some();
        let number = state.definition.number();
        let mut files = commit.files.iter();
        let is_old = files.any(|file| file.definition != number);
        match is_old && !commit.change.as_ref().is_some_and(redefines) {
            true => Err(Error::Conflict {
                table: self.table.clone(),
                version: state.version,
                made_by: "a change of its columns or constraints".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Refuses a change that rests on what the table no longer holds, naming the commit that came before it.
    pub(super) async fn check_change(&self, state: &State, commit: &Commit) -> Result<()> {
        let is_of_a_stream = matches!(
            commit.made_by,
            MadeBy::Stream { .. } | MadeBy::Replay { .. }
        );
        if is_of_a_stream && state.definition.has_checks() {
            return Err(Error::ReadOnly {
                table: self.table.clone(),
                reason: "it has CHECK constraints, which streams do not keep".to_owned(),
            });
        }
        let Some(change) = &commit.change else {
            return Ok(());
        };
        let append_only = state.definition.properties.get("delta.appendOnly");
        let keeps_rows = change.operation == Operation::Optimize || change.redefines.is_some();
        let changes_rows = !keeps_rows && !change.remove.is_empty();
        if changes_rows && append_only.is_some_and(|value| value == "true") {
            return Err(Error::ReadOnly {
                table: self.table.clone(),
                reason: "it takes new rows only (delta.appendOnly)".to_owned(),
            });
        }
        for version in change.base + 1..=state.version {
            let Some(bytes) = self.records.read(version).await? else {
                break;
            };
            let effect = match self.format {
                Format::Parquet => plain::effect(&self.records, version, &bytes)?,
                Format::Delta => delta::effect(&self.records, version, &bytes)?,
            };
            // Files of the old columns, appended or put together meanwhile, would follow a change of columns.
            let keeps_columns = change.redefines.is_none();
            if !(keeps_columns && (effect.appends_only || effect.is_beside(change))) {
                return Err(Error::Conflict {
                    table: self.table.clone(),
                    version,
                    made_by: effect.made_by,
                });
            }
        }
        match state.removed_by(commit) {
            Some(_) => Ok(()),
            // The table is not what it was, and its log does not tell why.
            None => Err(Error::Conflict {
                table: self.table.clone(),
                version: state.version,
                made_by: "somebody".to_owned(),
            }),
        }
    }

    /// When a record was written, and the files it took away; `None` where there is no such
    /// record any more.
    pub(super) async fn removals(
        &self,
        version: u64,
    ) -> Result<Option<(DateTime<Utc>, Vec<String>)>> {
        let Some(bytes) = self.records.read(version).await? else {
            return Ok(None);
        };
        match self.format {
            Format::Delta => delta::removals(&self.records, version, &bytes).map(Some),
            Format::Parquet => plain::removals(&self.records, version, &bytes).map(Some),
        }
    }

    /// Refuses files that were not staged for this table.
    pub(super) fn check(
        &self,
        definition: &Definition,
        commit: &Commit,
        staging: &Path,
    ) -> Result<()> {
        let home = match self.format {
            Format::Delta => &self.path,
            Format::Parquet => staging,
        };
        for file in &commit.files {
            let columns = file.partition_values.iter().map(|value| &value.0);
            let inside = file
                .path
                .strip_prefix(home.as_ref())
                .is_some_and(|rest| rest.starts_with('/'));
            if !inside || !columns.eq(&definition.partition_columns) {
                return Err(Error::bug(format!(
                    "'{}' was not staged for table '{}'",
                    file.path, self.table
                )));
            }
        }
        Ok(())
    }
}
