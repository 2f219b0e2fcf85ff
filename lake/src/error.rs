//! The crate's one error: each variant names its object, and answers whose fault it is and what to do.

use object_store::Error as StoreError;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose turn it is after an error. Independent of any wire format; shared by all crates above `lake`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request cannot succeed as it stands: the user has to change something.
    User,
    /// The same request may succeed later, unchanged.
    Retryable,
    /// A state that should not be: report it.
    Bug,
}

/// What can go wrong with a lake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A URL that names no object store of a known kind.
    #[error("cannot use '{url}' as a storage location: {reason}")]
    Location {
        /// The URL as given.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The folder of a local lake cannot be had.
    #[error("the lake's folder '{path}' cannot be made: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A location outside the lake, or inside the part that belongs to Drumline itself.
    #[error("location '{location}' is not allowed: {reason}")]
    LocationRefused {
        /// The location as given.
        location: String,
        /// Why not.
        reason: String,
    },
    /// The object store answered with an error.
    #[error("cannot {action} '{path}': {source}")]
    Store {
        /// A verb: read, write, list.
        action: &'static str,
        /// Full location of the object.
        path: String,
        /// The store's own error.
        source: StoreError,
    },
    /// The lake refuses a test write.
    #[error("the lake '{root}' cannot be written: {source}")]
    NotWritable {
        /// Root of the lake.
        root: String,
        /// The store's own error.
        source: StoreError,
    },
    /// No object of this name.
    #[error("{kind} '{name}' does not exist")]
    NotFound {
        /// table, view, schema or stream
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The name is taken.
    #[error("{kind} '{name}' already exists")]
    AlreadyExists {
        /// table, view, schema or stream
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A name that stands for something else than was meant.
    #[error("'{name}' is no {wanted}: it is a {found}")]
    WrongKind {
        /// The name.
        name: String,
        /// What was meant.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A property that an object does not have.
    #[error("'{name}' has no property '{property}'")]
    NoProperty {
        /// The object.
        name: String,
        /// The property.
        property: String,
    },
    /// A schema that still holds objects.
    #[error(
        "schema '{schema}' is not empty: it holds {objects} object(s), for example '{example}'"
    )]
    SchemaNotEmpty {
        /// Name of the schema.
        schema: String,
        /// How many objects it holds.
        objects: usize,
        /// One of them.
        example: String,
    },
    /// The location of a new table holds another table's or someone else's data.
    #[error("location '{location}' of table '{table}' is already in use: {reason}")]
    LocationTaken {
        /// Table to be made.
        table: String,
        /// Where.
        location: String,
        /// By whom.
        reason: String,
    },
    /// A name that cannot be used.
    #[error("'{name}' cannot be used as a name: {reason}")]
    Name {
        /// As given.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A column whose type or name a table cannot hold.
    #[error("column '{column}' of table '{table}' cannot be stored: {reason}")]
    Column {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Why not.
        reason: String,
    },
    /// A table property that means something to writers, with a value that does not.
    #[error("property '{property}' of table '{table}' is '{value}': it takes {accepted}")]
    Property {
        /// The table.
        table: String,
        /// Name of the property.
        property: String,
        /// Its value.
        value: String,
        /// What it could be.
        accepted: &'static str,
    },
    /// Rows that do not fit the table's schema.
    #[error("rows do not fit table '{table}': {reason}")]
    Rows {
        /// The table.
        table: String,
        /// What does not fit.
        reason: String,
    },
    /// The table's offset is not where the commit starts: somebody else committed, or this commit landed before.
    #[error(
        "table '{table}' is at offset {found} of {topic}/{partition}, but the commit starts at {expected}"
    )]
    OffsetsMoved {
        /// The table.
        table: String,
        /// Kafka topic.
        topic: String,
        /// Kafka partition.
        partition: i32,
        /// Where the commit starts.
        expected: i64,
        /// Where the table is.
        found: i64,
    },
    /// A stream read another topic than the one whose records the table holds, of the same name.
    #[error(
        "table '{table}' holds records of topic {topic} by the id {held}, and the commit's are of the one by the id {offered}: the topic was deleted and made again"
    )]
    TopicReplaced {
        /// The table.
        table: String,
        /// Kafka topic.
        topic: String,
        /// Kafka's id of the topic that the table holds.
        held: String,
        /// That of the topic the commit was read from.
        offered: String,
    },
    /// The same application and ordinal once committed another text.
    #[error(
        "statement {ordinal} of application '{application}' was committed to table '{table}' with another text"
    )]
    StatementChanged {
        /// The table.
        table: String,
        /// The application's id.
        application: String,
        /// The statement's position in it.
        ordinal: u32,
    },
    /// A commit that somebody else made in between changed what this one rests on.
    #[error("table '{table}' was changed while the statement ran: version {version}, {made_by}")]
    Conflict {
        /// The table.
        table: String,
        /// Version that the other commit made.
        version: u64,
        /// What made it.
        made_by: String,
    },
    /// Upkeep that another master has taken over.
    #[error(
        "another master keeps the lake's tables fit now: this was begun in epoch {epoch}, and it is {newest}"
    )]
    NotOwner {
        /// The epoch in which it was begun.
        epoch: u64,
        /// The newest one.
        newest: u64,
    },
    /// Too many others were faster, again and again.
    #[error("gave up changing {object} after losing {attempts} races")]
    Contended {
        /// catalog, or a table
        object: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The store never told whether the commit landed; repeating it is safe and will tell.
    #[error("it is unknown whether a commit to {object} landed: {source}")]
    OutcomeUnknown {
        /// catalog, or a table
        object: String,
        /// The store's last error.
        source: StoreError,
    },
    /// A version of a table that never was, or that is not kept any more.
    #[error("table '{table}' has no {asked}: {there_is}")]
    NoVersion {
        /// The table.
        table: String,
        /// What was asked for.
        asked: String,
        /// The versions there are.
        there_is: String,
    },
    /// A table that another writer made with something that this build does not read.
    #[error("table '{table}' uses the Delta feature '{feature}', which Drumline does not read")]
    Feature {
        /// The table.
        table: String,
        /// As Delta calls it.
        feature: String,
    },
    /// A table can only be read.
    #[error("table '{table}' cannot be written: {reason}")]
    ReadOnly {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// A name of a table that a stream goes by.
    #[error("table '{table}' is written by stream '{stream}'")]
    WrittenByStream {
        /// The table.
        table: String,
        /// The stream.
        stream: String,
    },
    /// Something later versions bring.
    #[error("{what} is not supported yet")]
    NotYet {
        /// What was asked for.
        what: String,
    },
    /// A record in the lake that cannot be read.
    #[error("'{path}' cannot be read: {reason}")]
    Corrupt {
        /// The object.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The Delta library refused.
    #[error("delta table '{table}': {source}")]
    Delta {
        /// The table, or its location.
        table: String,
        /// The library's error.
        source: Box<deltalake_core::DeltaTableError>,
    },
    /// Parquet could not be encoded.
    #[error("cannot encode Parquet for table '{table}': {source}")]
    Parquet {
        /// The table.
        table: String,
        /// The library's error.
        source: parquet::errors::ParquetError,
    },
    /// A state that cannot be.
    #[error("internal error: {context}")]
    Bug {
        /// What was found.
        context: String,
    },
}

impl Error {
    /// Whose turn it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Location { .. }
            | Self::Folder { .. }
            | Self::LocationRefused { .. }
            | Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::SchemaNotEmpty { .. }
            | Self::LocationTaken { .. }
            | Self::Name { .. }
            | Self::Column { .. }
            | Self::Rows { .. }
            | Self::Property { .. }
            | Self::StatementChanged { .. }
            | Self::ReadOnly { .. }
            | Self::NoVersion { .. }
            | Self::WrongKind { .. }
            | Self::NoProperty { .. }
            | Self::Feature { .. }
            | Self::WrittenByStream { .. }
            | Self::NotYet { .. }
            | Self::NotWritable { .. } => ErrorKind::User,
            Self::Store { source, .. } => store_kind(source),
            Self::TopicReplaced { .. } => ErrorKind::User,
            Self::OffsetsMoved { .. }
            | Self::NotOwner { .. }
            | Self::Conflict { .. }
            | Self::Contended { .. }
            | Self::OutcomeUnknown { .. } => ErrorKind::Retryable,
            Self::Delta { source, .. } => match source.as_ref() {
                deltalake_core::DeltaTableError::ObjectStore { source } => store_kind(source),
                _ => ErrorKind::User,
            },
            Self::Corrupt { .. } | Self::Parquet { .. } | Self::Bug { .. } => ErrorKind::Bug,
        }
    }

    /// The next step for the user, when there is one worth naming.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Location { .. } => {
                "use a path, file:///path, gs://bucket/prefix or s3://bucket/prefix"
            }
            Self::LocationRefused { .. } => {
                "give a path under the lake's root, such as 'listen_events/'; an operator can let external tables read another folder: drumline master --allow-location URL"
            }
            Self::Folder { .. } => {
                "check the rights on the folder above it, or name another with --lake"
            }
            Self::NotWritable { .. } => "check the rights on the folder or bucket, and credentials",
            Self::AlreadyExists { .. } => "use IF NOT EXISTS, or drop it first",
            Self::SchemaNotEmpty { .. } => {
                "drop what it holds first, or all at once with DROP SCHEMA … CASCADE"
            }
            Self::WrongKind { wanted, found, .. } => {
                return Some(format!(
                    "write {} instead of {}",
                    keyword(found),
                    keyword(wanted)
                ));
            }
            Self::WrittenByStream { stream, .. } => {
                return Some(format!(
                    "delete the stream first: drumline stream delete {stream} (its tables and their rows stay)"
                ));
            }
            Self::NoProperty { .. } => "UNSET TBLPROPERTIES IF EXISTS passes over it",
            Self::LocationTaken { .. } => "choose another LOCATION",
            Self::StatementChanged { .. } => "submit the changed script as a new application",
            Self::TopicReplaced { .. } => {
                "`drumline stream delete` it, and apply it with other table names to read the new topic"
            }
            Self::OffsetsMoved { .. } => "resume the stream from the table's offsets",
            Self::NoVersion { .. } => "DESCRIBE HISTORY lists the versions of a table",
            Self::Feature { .. } => {
                "write the table anew without it, or read it with the program that wrote it"
            }
            Self::NotOwner { .. } => {
                "nothing is to be done: the other master keeps the lake's tables fit"
            }
            Self::OutcomeUnknown { .. } => {
                "see whether it is there (DESCRIBE HISTORY of the table) before you run the statement again"
            }
            Self::Conflict { .. } => {
                "run the statement again, when nobody else changes the same rows"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    pub(crate) fn store(action: &'static str, path: impl ToString, source: StoreError) -> Self {
        Self::Store {
            action,
            path: path.to_string(),
            source,
        }
    }

    pub(crate) fn bug(context: impl Into<String>) -> Self {
        Self::Bug {
            context: context.into(),
        }
    }
}

/// The word that SQL has for a kind of object.
fn keyword(noun: &str) -> &'static str {
    match noun {
        "view" => "VIEW",
        _ => "TABLE",
    }
}

fn store_kind(source: &StoreError) -> ErrorKind {
    match source {
        StoreError::Generic { .. } | StoreError::JoinError { .. } => ErrorKind::Retryable,
        _ => ErrorKind::User,
    }
}

impl From<Error> for datafusion::error::DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}
