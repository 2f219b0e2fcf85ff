//! The three topics and one record of them.

/// A topic of the music service, in Eventsim's Kafka shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// One record per song that began to play.
    ListenEvents,
    /// One record per page, songs included.
    PageViewEvents,
    /// One record per login and logout.
    AuthEvents,
}

impl Topic {
    /// All topics, in the order in which records of one moment are written.
    pub const ALL: [Topic; 3] = [
        Topic::PageViewEvents,
        Topic::ListenEvents,
        Topic::AuthEvents,
    ];

    /// The topic's name in Kafka.
    pub fn name(self) -> &'static str {
        match self {
            Topic::ListenEvents => "listen_events",
            Topic::PageViewEvents => "page_view_events",
            Topic::AuthEvents => "auth_events",
        }
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One record, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it goes.
    pub topic: Topic,
    /// Kafka key: the user's id, or the session's where nobody is logged in. Records of one key
    /// stay in order.
    pub key: String,
    /// Event time, milliseconds since the epoch (the record's `ts`).
    pub ts_millis: i64,
    /// The record: one JSON object, without a line end.
    pub json: Vec<u8>,
}

/// A topic's fields, in the order of its records.
#[cfg(test)]
pub(crate) fn fields(topic: Topic) -> Vec<&'static str> {
    let person = "city zip state userAgent lon lat userId lastName firstName gender registration";
    let text = match topic {
        Topic::ListenEvents => {
            format!("artist song duration ts sessionId auth level itemInSession {person}")
        }
        Topic::PageViewEvents => {
            format!(
                "ts sessionId page auth method status level itemInSession {person} artist song duration"
            )
        }
        Topic::AuthEvents => format!("ts sessionId level itemInSession {person} success"),
    };
    text.leak().split(' ').collect()
}
