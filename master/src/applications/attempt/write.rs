//! Statements that write, up to their staged files.

use drumline_lake::{Copying, NewCopy, PreparedCopy, StagedFile, WriteTarget};

use super::super::commit::{Staged, Summary, Target};
use super::super::machine::Outcome;
use super::super::target::{Prepared, prepare};
use super::{Attempt, Ended};
use crate::catalog::PinnedTables;

impl Attempt {
    /// Runs a write up to its staged files.
    pub(super) async fn write(
        &self,
        write: drumline_engine::Write,
        tables: &PinnedTables,
    ) -> Result<Ended, Ended> {
        let statement = self.statement_id();
        let attempt = self.staging_name();
        let prepared = prepare(&write, &self.services.names, tables, &statement, &attempt).await?;
        let (target, write_target) = match prepared {
            Prepared::Run(target, write_target) => (target, write_target),
            Prepared::Skip(summary) => return Ok(Ended::done(summary)),
        };
        let kept = self.kept(&write, &attempt).await?;
        let ended = self.changed(write, target, write_target).await;
        let lake = self.services.names.catalog().lake().clone();
        lake.discard(kept).await;
        ended
    }

    /// Runs what a write reads more than once, and keeps its rows aside. Answers with the files.
    async fn kept(
        &self,
        write: &drumline_engine::Write,
        attempt: &str,
    ) -> Result<Vec<StagedFile>, Ended> {
        let lake = self.services.names.catalog().lake().clone();
        let mut kept = Vec::new();
        for (number, source) in write.sources().to_vec().into_iter().enumerate() {
            let name = format!("{attempt}-source-{number}");
            let target = WriteTarget::aside(&lake, &name, source.schema())?;
            let folder = target.folder.clone();
            let rows = self.collect(&source.query(&self.settings, target)?).await?;
            let files = drumline_engine::staged_files(&rows)?;
            source.keep(&folder, &files)?;
            kept.extend(files);
        }
        Ok(kept)
    }

    /// Runs a write, whose sources have been run.
    async fn changed(
        &self,
        write: drumline_engine::Write,
        target: Target,
        write_target: Box<WriteTarget>,
    ) -> Result<Ended, Ended> {
        let statement = self.statement_id();
        let write = self.narrowed(write).await?;
        if write.is_idle() {
            let message = format!("{} is as it should be", write.table);
            return Ok(Ended::done(Summary::message(message)));
        }
        let mode = write.mode.clone();
        let rows = match write.is_empty() {
            true => Vec::new(),
            false => self.collect(&write.into_query(*write_target)?).await?,
        };
        let files = drumline_engine::staged_files(&rows)?;
        let change = mode.change(&files, drumline_engine::staged_counts(&rows)?)?;
        Ok(Ended {
            staged: Some(Staged {
                target,
                statement,
                files,
                change,
                upkeep_epoch: self.upkeep_epoch(),
            }),
            ..Ended::of(Outcome::Staged)
        })
    }

    /// Runs a copy up to its staged files.
    pub(super) async fn copy(&self, copy: drumline_engine::Copy) -> Result<Ended, Ended> {
        let statement = self.statement_id();
        let new = NewCopy {
            location: copy.location.clone(),
            schema: copy.input.schema(),
            partition_columns: copy.partition_by.clone(),
            encoding: copy.encoding,
            existing: copy.existing,
            properties: copy.properties.clone(),
            statement: statement.clone(),
        };
        let names = &self.services.names;
        let prepared = PreparedCopy::prepare(names.catalog(), names.locations(), new).await?;
        let prepared = match prepared {
            Copying::Run(prepared) => prepared,
            Copying::Already(committed) => {
                let summary = Summary::copied(&copy.location, committed);
                return Ok(Ended::done(summary));
            }
        };
        let attempt = self.staging_name();
        let query = copy.into_query(prepared.begin(&attempt).await?)?;
        let rows = match self.collect(&query).await {
            Ok(rows) => rows,
            Err(failed) => {
                prepared.give_up(&attempt).await;
                return Err(failed);
            }
        };
        Ok(Ended {
            staged: Some(Staged {
                target: Target::Folder(prepared),
                statement,
                files: drumline_engine::staged_files(&rows)?,
                change: None,
                upkeep_epoch: None,
            }),
            ..Ended::of(Outcome::Staged)
        })
    }

    /// Keeps this attempt's files apart from those of any other, of anybody.
    fn staging_name(&self) -> String {
        format!(
            "{}-{}-{}",
            self.application.id,
            self.id.ordinal,
            self.told_id().attempt
        )
    }

    /// The write of those files alone that hold a row which changes: found by a job of its own.
    async fn narrowed(
        &self,
        write: drumline_engine::Write,
    ) -> Result<drumline_engine::Write, Ended> {
        let found = match write.search() {
            Some(search) => self.collect(&search).await?,
            None => Vec::new(),
        };
        let doubled = write.doubled();
        match write.narrowed(&found)? {
            Ok(write) => Ok(write),
            Err(twice) => {
                let row = match doubled {
                    Some(query) => self.collect(&query).await?,
                    None => Vec::new(),
                };
                Err(twice.error(&row).into())
            }
        }
    }
}
