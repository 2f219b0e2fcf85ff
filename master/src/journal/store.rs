//! The journal's database: redb, one record per fact under its sequence number.
//!
//! Formats: 0 held a fact's plain JSON; 1 puts its checksum before it. Names and fields of events are only
//! ever added to, so they need no format of their own.

use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::record;

/// What this build writes.
pub(crate) const FORMAT: u64 = 1;

const FACTS: TableDefinition<u64, &[u8]> = TableDefinition::new("facts");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// Pages that are held in memory: facts are written once and read at start only.
const CACHE: usize = 8 << 20;

/// An open database.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
}

/// A database, and what is in it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Store,
    /// Sequence numbers and JSON, in order.
    pub(super) records: Vec<(u64, Vec<u8>)>,
    /// The format it had, if it was an older one.
    pub(super) migrated_from: Option<u64>,
}

/// Why a database does not open.
#[derive(Debug)]
pub(super) enum Refusal {
    TooNew {
        found: u64,
    },
    /// It can be opened another time; nothing is wrong with what is in it.
    Unusable(redb::Error),
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        use std::io::ErrorKind;
        match error.into() {
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied
                        | ErrorKind::StorageFull
                        | ErrorKind::QuotaExceeded
                        | ErrorKind::ReadOnlyFilesystem
                        | ErrorKind::NotFound
                        | ErrorKind::IsADirectory
                ) =>
            {
                Self::Unusable(redb::Error::Io(error))
            }
            error @ redb::Error::DatabaseAlreadyOpen => Self::Unusable(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl Store {
    /// Makes an empty one.
    pub(super) fn create(path: &Path) -> Result<Self, redb::Error> {
        let database = Builder::new().set_cache_size(CACHE).create(path)?;
        let write = database.begin_write()?;
        write.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
        write.open_table(FACTS)?;
        write.commit()?;
        Ok(Self { database })
    }

    /// Opens one that is there, checks every page and every record, and brings it to this format.
    pub(super) fn open(path: &Path) -> Result<Opened, Refusal> {
        let database = Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .open(path)?;
        let found = format(&database)?;
        if found > FORMAT {
            return Err(Refusal::TooNew { found });
        }
        if found == 0 {
            migrate_from_0(&database)?;
        }
        let read = database.begin_read()?;
        let mut records = Vec::new();
        for entry in read.open_table(FACTS)?.iter()? {
            let (sequence, value) = entry?;
            let Some(json) = record::from_value(value.value()) else {
                let reason = format!("record {} is not what was written", sequence.value());
                return Err(Refusal::Damaged(reason));
            };
            records.push((sequence.value(), json.to_vec()));
        }
        Ok(Opened {
            store: Self { database },
            records,
            migrated_from: (found < FORMAT).then_some(found),
        })
    }

    /// Opens it again after a write that failed.
    pub(super) fn reopen(path: &Path) -> Result<Self, redb::Error> {
        let database = Builder::new().set_cache_size(CACHE).open(path)?;
        Ok(Self { database })
    }

    /// Adds records, and takes others out. All is on the disk when it returns.
    pub(super) fn write<'a>(
        &self,
        added: impl IntoIterator<Item = (u64, &'a [u8])>,
        removed: &[u64],
    ) -> Result<(), redb::Error> {
        // Durable at once: that is redb's default, `Durability::Immediate`.
        let write = self.database.begin_write()?;
        {
            let mut facts = write.open_table(FACTS)?;
            for (sequence, json) in added {
                facts.insert(sequence, record::to_value(json).as_slice())?;
            }
            for sequence in removed {
                facts.remove(sequence)?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

fn format(database: &Database) -> Result<u64, Refusal> {
    let read = database.begin_read()?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(Refusal::Damaged("it does not say its format".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let format = meta.get(FORMAT_KEY)?.map(|format| format.value());
    format.ok_or_else(|| Refusal::Damaged("it does not say its format".to_owned()))
}

/// Puts a checksum before every record: one transaction, all or nothing.
fn migrate_from_0(database: &Database) -> Result<(), Refusal> {
    let write = database.begin_write()?;
    {
        let mut facts = write.open_table(FACTS)?;
        let mut plain: Vec<(u64, Vec<u8>)> = Vec::new();
        for entry in facts.iter()? {
            let (sequence, json) = entry?;
            plain.push((sequence.value(), json.value().to_vec()));
        }
        for (sequence, json) in plain {
            facts.insert(sequence, record::to_value(&json).as_slice())?;
        }
        write.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
    }
    write.commit()?;
    Ok(())
}

/// Whether a database has been closed, is open, or has never been written to.
pub(super) fn is_there(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

/// Where a damaged database is kept.
pub(super) fn aside(path: &Path, now_millis: i64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".damaged-{now_millis}"));
    path.with_file_name(name)
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;

    /// A database of format 0.
    pub(in crate::journal) fn format_0(path: &Path, records: &[(u64, &str)]) {
        of_format(path, 0, records);
    }

    pub(in crate::journal) fn of_format(path: &Path, format: u64, records: &[(u64, &str)]) {
        let database = Database::create(path).unwrap();
        let write = database.begin_write().unwrap();
        {
            let mut meta = write.open_table(META).unwrap();
            meta.insert(FORMAT_KEY, format).unwrap();
            let mut facts = write.open_table(FACTS).unwrap();
            for (sequence, json) in records {
                facts.insert(sequence, json.as_bytes()).unwrap();
            }
        }
        write.commit().unwrap();
    }
}
