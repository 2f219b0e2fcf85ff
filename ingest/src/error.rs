//! What can go wrong between Kafka and a staged file.

use std::collections::BTreeMap;

use drumline_lake::ErrorKind;
use drumline_proto::v1;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a stream, of its definition, or of Kafka.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No broker answers.
    #[error("kafka at {brokers} cannot be reached: {reason}")]
    Brokers {
        /// As the definition has it.
        brokers: String,
        /// What the client says.
        reason: String,
    },
    /// A broker answers, and does not let us in.
    #[error("kafka at {brokers} does not let us in ({mechanism}): {reason}")]
    Refused {
        /// As the definition has it.
        brokers: String,
        /// How we asked to be let in.
        mechanism: String,
        /// What the broker or the token's endpoint said.
        reason: String,
    },
    /// A setting that librdkafka does not take, or that is ours.
    #[error("kafka setting {setting}: {reason}")]
    KafkaSetting {
        /// Name of the setting.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
    /// librdkafka does not start.
    #[error("kafka client: {reason}")]
    KafkaClient {
        /// What the client says.
        reason: String,
    },
    /// Kafka does not have the topic.
    #[error("topic {topic} does not exist{}", similar(.candidates))]
    UnknownTopic {
        /// As the definition has it.
        topic: String,
        /// Topics with a name like it.
        candidates: Vec<String>,
    },
    /// Reading a topic failed.
    #[error("reading topic {topic} failed: {reason}")]
    Read {
        /// Which topic.
        topic: String,
        /// What Kafka says.
        reason: String,
        /// Whether the same again may succeed.
        passing: bool,
    },
    /// Kafka dropped records that a table has not got yet.
    #[error(
        "topic {topic} partition {partition} begins at offset {low} now: [{wanted}, {low}) are gone before table {table} had them"
    )]
    OffsetsLost {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: i32,
        /// The table that is furthest behind.
        table: String,
        /// Where it left off.
        wanted: i64,
        /// First offset that Kafka has.
        low: i64,
    },
    /// Kafka does not have what a table has already.
    #[error(
        "topic {topic} partition {partition} ends at offset {high}, but table {table} goes on at {wanted}"
    )]
    OffsetBeyondEnd {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: i32,
        /// The table that is furthest on.
        table: String,
        /// Where it left off.
        wanted: i64,
        /// End of what can be read.
        high: i64,
    },
    /// Kafka dropped records while a statement read them.
    #[error("records of topic {topic} that this statement reads are gone")]
    RecordsGone {
        /// Which topic.
        topic: String,
    },
    /// A topic was deleted, and another got its name.
    #[error("{}", replaced(.topic, .table, .was, .is, .left_off))]
    TopicReplaced {
        /// Which topic.
        topic: String,
        /// A table that took records of the old one; empty: it happened while the topic was read.
        table: String,
        /// Kafka's id of the old topic.
        was: String,
        /// Kafka's id of the new one.
        is: String,
        /// Where the table left off, by partition.
        left_off: BTreeMap<i32, i64>,
    },
    /// A topic could not be made.
    #[error("topic {topic} cannot be created: {reason}")]
    CreateTopic {
        /// Which topic, or topics.
        topic: String,
        /// What Kafka says.
        reason: String,
    },
    /// A record was not acknowledged.
    #[error("sending to topic {topic} failed: {reason}")]
    Delivery {
        /// Which topic.
        topic: String,
        /// What Kafka says.
        reason: String,
    },
    /// A deadline passed before everything was acknowledged.
    #[error("{records} records were not acknowledged in time")]
    Undelivered {
        /// How many.
        records: u32,
    },
    /// The cluster inside this process failed.
    #[error("embedded kafka: {reason}")]
    Embedded {
        /// What the mock cluster says.
        reason: String,
    },
    /// A definition that does not hold together.
    #[error("{reason}")]
    Definition {
        /// Key of the definition, e.g. `topic[0].schema[2].type`.
        key: String,
        /// What is wrong there, naming the object.
        reason: String,
    },
    /// A schema registry does not answer.
    #[error("schema registry {url} {reason}")]
    Registry {
        /// Its address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A statement reads a record whose schema does not come.
    #[error("the record at topic {topic}, partition {partition}, offset {offset} waits: {reason}")]
    Waiting {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// What for.
        reason: String,
    },
    /// A schema registry does not let us in.
    #[error("schema registry {url} refuses these credentials ({status})")]
    RegistryRefused {
        /// Its address.
        url: String,
        /// Its answer.
        status: u16,
    },
    /// A schema registry does not have something.
    #[error("schema registry {url} has no {what}")]
    NotRegistered {
        /// Its address.
        url: String,
        /// A subject, or a schema.
        what: String,
    },
    /// A transform that cannot be planned, or is not row by row.
    #[error("transform of topic {topic}: {reason}")]
    Transform {
        /// Whose transform.
        topic: String,
        /// DataFusion's words: position and candidates where it has them.
        reason: String,
    },
    /// A table that a transform looks things up in is of no use.
    #[error("lookup in table {table}: {reason}")]
    Lookup {
        /// Which table.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The result of a transform does not fit its table.
    #[error("rows of topic {topic} do not fit table {table}: {reason}")]
    Shape {
        /// Whose rows.
        topic: String,
        /// Whose schema.
        table: String,
        /// Where they differ.
        reason: String,
    },
    /// Staging failed.
    #[error("staging files of table {table} failed: {source}")]
    Stage {
        /// Which table.
        table: String,
        /// What the lake says.
        #[source]
        source: Box<drumline_lake::Error>,
    },
    /// Threads could not be started.
    #[error("starting a thread for {purpose} failed: {source}")]
    Thread {
        /// What it is for.
        purpose: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A state that cannot be.
    #[error("internal error: {context}")]
    Bug {
        /// Where, and what was found.
        context: String,
    },
}

fn replaced(
    topic: &str,
    table: &str,
    was: &str,
    is: &str,
    left_off: &BTreeMap<i32, i64>,
) -> String {
    let mut text =
        format!("topic {topic} was deleted and made again (its id was {was} and is {is} now)");
    if table.is_empty() {
        return text + " while it was read: what the old one still had is gone";
    }
    let shown = left_off.iter().take(4);
    let shown: Vec<_> = shown.map(|(p, next)| format!("{p} at {next}")).collect();
    let more = match left_off.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    text += &format!(
        ": what the old one had beyond where table {table} left off (partition {}{more}) is gone",
        shown.join(", ")
    );
    text
}

fn similar(candidates: &[String]) -> String {
    if candidates.is_empty() {
        String::new()
    } else {
        format!(" (there is {})", candidates.join(", "))
    }
}

impl Error {
    /// Whose fault it is, and whether the same again may succeed.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Brokers { .. }
            | Self::Read { passing: true, .. }
            | Self::Delivery { .. }
            | Self::Registry { .. }
            | Self::Waiting { .. }
            | Self::Undelivered { .. }
            | Self::Thread { .. } => ErrorKind::Retryable,
            Self::Refused { .. }
            | Self::KafkaSetting { .. }
            | Self::KafkaClient { .. }
            | Self::UnknownTopic { .. }
            | Self::Read { passing: false, .. }
            | Self::OffsetsLost { .. }
            | Self::OffsetBeyondEnd { .. }
            | Self::RecordsGone { .. }
            | Self::TopicReplaced { .. }
            | Self::CreateTopic { .. }
            | Self::Embedded { .. }
            | Self::Definition { .. }
            | Self::RegistryRefused { .. }
            | Self::NotRegistered { .. }
            | Self::Transform { .. }
            | Self::Lookup { .. }
            | Self::Shape { .. } => ErrorKind::User,
            Self::Stage { source, .. } => source.kind(),
            Self::Bug { .. } => ErrorKind::Bug,
        }
    }

    /// What to do next, where it can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Brokers { .. } => Some("check that kafka runs and that this machine reaches it".to_owned()),
            Self::Refused { mechanism, .. } => Some(match mechanism.as_str() {
                "TLS" => "check ssl.ca.location, and ssl.certificate.location and ssl.key.location where the brokers ask \
                          for a client's certificate"
                    .to_owned(),
                token if token.starts_with("OAUTHBEARER") => {
                    "check the sasl.oauthbearer settings, and that the brokers take this token".to_owned()
                }
                _ => "check sasl.username and sasl.password, sasl.mechanism, and with TLS ssl.ca.location".to_owned(),
            }),
            Self::UnknownTopic { topic, .. } => Some(format!("create {topic}, or correct its name; streams never create topics")),
            Self::OffsetsLost { .. } => Some(
                "retention was shorter than the stream was away; to go on without them: drumline stream pause NAME, \
                 drumline stream reset NAME --to earliest, drumline stream resume NAME".to_owned(),
            ),
            Self::OffsetBeyondEnd { .. } => Some(
                "the topic was made anew; to read it from its beginning: drumline stream pause NAME, \
                 drumline stream reset NAME --to earliest, drumline stream resume NAME".to_owned(),
            ),
            Self::RecordsGone { .. } => Some(
                "retention dropped them after the statement was planned, or the topic was made anew; run it again".to_owned(),
            ),
            Self::TopicReplaced { .. } => Some(
                "nothing of the new topic was taken; to read it from its beginning into the same tables: \
                 drumline stream pause NAME, drumline stream reset NAME --to earliest, drumline stream resume NAME"
                    .to_owned(),
            ),
            Self::Registry { .. } => Some(
                "check that it runs and that the workers reach it; the stream waits and goes on by itself".to_owned(),
            ),
            Self::Waiting { .. } => {
                Some("register the schema, or check that the registry answers, and run it again".to_owned())
            }
            Self::RegistryRefused { .. } => Some(
                "set username and password_env or password_file, or token_env or token_file, in [registry]".to_owned(),
            ),
            Self::NotRegistered { .. } => {
                Some("register the schema, or set subject in [topic.decode]".to_owned())
            }
            Self::Transform { .. } => {
                Some(
                    "a transform is SELECT … FROM input [LEFT JOIN table ON …] [WHERE …]; the columns of input are the \
                     topic's schema"
                        .to_owned(),
                )
            }
            Self::Lookup { .. } => Some(
                "put the table right, or apply the stream with another transform; a stream that runs waits, and goes on \
                 by itself once the table is right"
                    .to_owned(),
            ),
            Self::Stage { source, .. } => source.hint(),
            _ => None,
        }
    }

    /// The wire's form of this failure.
    pub fn failure(&self) -> v1::Failure {
        let kind = match self.kind() {
            ErrorKind::User => v1::FailureKind::User,
            ErrorKind::Retryable => v1::FailureKind::Retryable,
            ErrorKind::Bug => v1::FailureKind::Bug,
        };
        v1::Failure {
            kind: kind.into(),
            message: self.to_string(),
            hint: self.hint().unwrap_or_default(),
            ..Default::default()
        }
    }
}
