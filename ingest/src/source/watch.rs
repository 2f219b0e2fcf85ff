//! What librdkafka tells beside records: its statistics, and why a connection broke.
//!
//! librdkafka mends connections by itself and reports no more than that all brokers are down, so
//! whether reading stands still is taken from its statistics: the brokers that serve our partitions
//! must be connected, and must answer. The same statistics show partitions that nobody fetches although their
//! leader is there: librdkafka can lose one while brokers come and go, and waits for a follower that hangs as long as
//! for any answer. Those need a new connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, ClientContext};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Result;
use crate::kafka::context::Observer;
use crate::machine::Positions;
use crate::places::Places;

/// A broker that is gone for so long is worth telling: leaders change within seconds.
const AWAY_AFTER: Duration = Duration::from_secs(5);
/// A broker that says nothing for so long, and longer than a fetch may wait for records, hangs.
const SILENT_AFTER: Duration = Duration::from_secs(10);
/// What it has to answer beyond the time that a fetch may wait.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// A partition that nobody fetches for so long is not going to be: leaders, followers and offsets are found within
/// seconds.
const ADRIFT_AFTER: Duration = Duration::from_secs(20);
/// Statistics come twice a second, and are looked at while what was read is taken.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(5);

/// The consumer's context: keeps what was said last.
pub(super) struct Watch {
    places: Places,
    silent_after: Duration,
    told: Mutex<Option<Told>>,
    observer: Observer,
}

/// What statistics said last.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Beyond what was read and beyond transaction markers, where nothing waits to be taken.
    pub next: Positions,
    pub ends: Positions,
    /// How many partitions each topic has.
    pub partitions: BTreeMap<String, u32>,
    /// Places whose leader does not serve them, and why.
    away: HashMap<i32, String>,
    /// Places that nobody fetches although their leader is there, and why.
    adrift: HashMap<i32, String>,
}

impl Told {
    /// Why some of these partitions cannot be read, if one cannot.
    pub(super) fn missing<'a>(&self, mut places: impl Iterator<Item = &'a i32>) -> Option<String> {
        places.find_map(|place| self.away.get(place).cloned())
    }

    /// Those of these partitions that nobody fetches although their leader is there, and why.
    pub(super) fn adrift<'a>(
        &self,
        places: impl Iterator<Item = &'a i32>,
    ) -> BTreeMap<i32, String> {
        let adrift = |place: &i32| Some((*place, self.adrift.get(place)?.clone()));
        places.filter_map(adrift).collect()
    }
}

/// Since when nobody fetches a partition.
#[derive(Debug, Default)]
pub(super) struct Drift {
    since: BTreeMap<i32, Instant>,
    looked: Option<Instant>,
}

impl Drift {
    /// The first of these partitions that has been adrift for too long, and why. Then all is forgotten: a new
    /// connection has its own time.
    pub(super) fn look(
        &mut self,
        now: Instant,
        adrift: BTreeMap<i32, String>,
    ) -> Option<(i32, String)> {
        let looked = self.looked.replace(now);
        // Nobody looked for a while, because nobody took what was read: what was then may have ended and begun anew.
        if looked.is_some_and(|looked| now.saturating_duration_since(looked) > LOOKED_AT_WITHIN) {
            self.since.clear();
        }
        self.since.retain(|place, _| adrift.contains_key(place));
        for (place, reason) in adrift {
            let since = *self.since.entry(place).or_insert(now);
            if now.saturating_duration_since(since) >= ADRIFT_AFTER {
                self.since.clear();
                return Some((place, reason));
            }
        }
        None
    }
}

/// Since when partitions cannot be read, and the first reason: later ones only follow from it.
#[derive(Debug, Default)]
pub(super) struct Absence {
    began: Option<(Instant, String)>,
}

impl Absence {
    /// The reason, once it has lasted.
    pub(super) fn look(&mut self, now: Instant, missing: Option<String>) -> Option<String> {
        let Some(reason) = missing else {
            self.began = None;
            return None;
        };
        let (since, first) = self.began.get_or_insert((now, reason));
        (now.saturating_duration_since(*since) >= AWAY_AFTER).then(|| first.clone())
    }
}

impl Watch {
    /// The context of a consumer with these settings.
    pub(super) fn new(places: Places, config: &ClientConfig) -> Result<Self> {
        let waits = config
            .get("fetch.wait.max.ms")
            .and_then(|millis| millis.parse().ok());
        let waits = Duration::from_millis(waits.unwrap_or_default());
        Ok(Self {
            places,
            silent_after: SILENT_AFTER.max(waits + ANSWERS_WITHIN),
            told: Mutex::default(),
            observer: Observer::of(config)?,
        })
    }

    /// What brokers said of us.
    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    pub(super) fn take(&self) -> Option<Told> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl ConsumerContext for Watch {}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.observer.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.observer.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.observer.generate_oauth_token(config)
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else {
            return;
        };
        let broken = self.observer.broken();
        let told = statistics.told(&self.places, broken.as_deref(), self.silent_after);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }
}

/// The part of librdkafka's statistics (its STATISTICS.md) that is looked at.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    // `logical`: the group's coordinator, a second connection under the same id.
    source: String,
    state: String,
    // Requests without an answer yet, and microseconds since anything came.
    #[serde(default)]
    waitresp_cnt: i64,
    #[serde(default)]
    rxidle: i64,
    // What its thread fetches: `TOPIC-PARTITION`.
    #[serde(default)]
    toppars: HashMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Topic {
    partitions: HashMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    #[serde(default = "nobody")]
    leader: i32,
    // Whom it is fetched from.
    #[serde(default = "nobody")]
    broker: i32,
    #[serde(default)]
    fetch_state: String,
    fetchq_cnt: i64,
    eof_offset: i64,
    ls_offset: i64,
}

/// No broker's id.
const NOBODY: i32 = -1;

fn nobody() -> i32 {
    NOBODY
}

impl Statistics {
    fn told(&self, places: &Places, broken: Option<&str>, silent_after: Duration) -> Told {
        let mut told = Told::default();
        for (topic, partition) in self.topics.iter().flat_map(|(name, topic)| {
            topic
                .partitions
                .values()
                .map(move |partition| (name, partition))
        }) {
            // -1 is where librdkafka keeps what has no partition yet.
            let Some(place) = places.place(topic, partition.partition) else {
                continue;
            };
            *told.partitions.entry(topic.clone()).or_default() += 1;
            if partition.ls_offset >= 0 {
                told.ends.insert(place, partition.ls_offset);
            }
            if partition.fetchq_cnt == 0 && partition.eof_offset >= 0 {
                told.next.insert(place, partition.eof_offset);
            }
            let away = match (partition.leader, partition.broker) {
                (NOBODY, _) => Some("a partition has no leader".to_owned()),
                (leader, NOBODY) => self.away(leader, broken, silent_after),
                // Its leader, or a follower in the consumer's own rack: then leaders need no connection.
                (_, broker) => self.away(broker, broken, silent_after),
            };
            if let Some(reason) = away {
                told.away.insert(place, reason);
            }
            if let Some(reason) = self.adrift(topic, partition, silent_after) {
                told.adrift.insert(place, reason);
            }
        }
        told
    }

    /// Why nobody fetches a partition whose leader is there.
    fn adrift(&self, topic: &str, partition: &Partition, silent_after: Duration) -> Option<String> {
        let leader = self.broker(partition.leader)?;
        // A leader that we need nothing of is not connected to.
        if !(leader.is_up() || leader.state == "INIT") || leader.is_silent(silent_after) {
            return None;
        }
        let Some(serves) = self.broker(partition.broker) else {
            return Some("no broker is asked for it".to_owned());
        };
        let name = format!("{topic}-{}", partition.partition);
        if !serves.toppars.contains_key(&name) {
            return Some(format!("broker {} is not asked for it", serves.nodeid));
        }
        match partition.fetch_state.as_str() {
            "active" => {}
            // An error is on its way, behind the records that were fetched before it; or whether the log was truncated
            // is being asked, and a new connection would not ask again.
            "none" | "validate-epoch-wait" => return None,
            state => {
                let broker = serves.nodeid;
                return Some(format!(
                    "fetching it from broker {broker} is in state {state}"
                ));
            }
        }
        let is_gone = !serves.is_up() || serves.is_silent(silent_after);
        (serves.nodeid != leader.nodeid && is_gone).then(|| {
            let (follower, leader) = (serves.nodeid, leader.nodeid);
            format!("broker {follower}, a follower that it is read from, does not answer, and its leader, broker {leader}, is there")
        })
    }

    fn broker(&self, id: i32) -> Option<&Broker> {
        let is_it = |broker: &&Broker| broker.nodeid == id && broker.source != "logical";
        self.brokers.values().find(is_it).filter(|_| id != NOBODY)
    }

    /// Why this broker does not serve what it should.
    fn away(&self, id: i32, broken: Option<&str>, silent_after: Duration) -> Option<String> {
        let Some(broker) = self.broker(id) else {
            return Some("no broker answers".to_owned());
        };
        if !broker.is_up() {
            return Some(broken.unwrap_or("no broker answers").to_owned());
        }
        broker
            .is_silent(silent_after)
            .then(|| "the broker is connected and does not answer".to_owned())
    }
}

impl Broker {
    fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "UP" | "REAUTH")
    }

    /// It was asked, and says nothing.
    fn is_silent(&self, silent_after: Duration) -> bool {
        let silent = Duration::from_micros(u64::try_from(self.rxidle).unwrap_or(0));
        self.waitresp_cnt > 0 && silent >= silent_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(state: &str, waitresp_cnt: i64, rxidle: i64, leader: i32) -> Told {
        let statistics = serde_json::json!({
            "brokers": {
                "a": { "nodeid": -1, "source": "configured", "state": "UP" },
                "b": { "nodeid": 1, "source": "learned", "state": state, "waitresp_cnt": waitresp_cnt, "rxidle": rxidle },
                "group": { "nodeid": 1, "source": "logical", "state": "DOWN" },
            },
            "topics": { "t": { "partitions": {
                "0": { "partition": 0, "leader": leader, "broker": 1, "fetchq_cnt": 0, "eof_offset": 7, "ls_offset": 9 },
                "1": { "partition": 1, "leader": 1, "fetchq_cnt": 3, "eof_offset": 5, "ls_offset": -1001 },
                "-1": { "partition": -1, "leader": -1, "fetchq_cnt": 0, "eof_offset": -1001, "ls_offset": -1001 },
            } } },
        });
        let statistics: Statistics = serde_json::from_value(statistics).unwrap();
        statistics.told(&Places::one("t"), Some("connection refused"), SILENT_AFTER)
    }

    #[test]
    fn an_end_counts_as_read_only_where_nothing_waits() {
        let told = told("UP", 1, 50_000, 1);
        assert_eq!(told.next, Positions::from([(0, 7)]));
        assert_eq!(told.ends, Positions::from([(0, 9)]));
        assert_eq!(told.partitions, BTreeMap::from([("t".to_owned(), 2)]));
        assert_eq!(told.missing([0, 1].iter()), None);
    }

    #[test]
    fn the_broker_that_serves_must_be_there_and_answer() {
        let missing = |told: &Told| told.missing([0].iter());
        assert_eq!(
            missing(&told("TRY_CONNECT", 0, -1, 1)).as_deref(),
            Some("connection refused")
        );
        assert_eq!(
            missing(&told("UP", 0, 0, -1)).as_deref(),
            Some("a partition has no leader")
        );
        assert_eq!(
            missing(&told("UP", 1, 12_000_000, 1)).as_deref(),
            Some("the broker is connected and does not answer")
        );
        // Nothing was asked: being quiet is right.
        assert_eq!(missing(&told("UP", 0, 600_000_000, 1)), None);
        // A follower serves: its leader, that we are not connected to, need not.
        assert_eq!(missing(&told("UP", 0, 0, 2)), None);
        assert_eq!(
            missing(&told("DOWN", 0, -1, 2)).as_deref(),
            Some("connection refused")
        );
        // Others' partitions are no concern of ours.
        assert_eq!(told("UP", 0, 0, -1).missing([1].iter()), None);
    }

    /// Why nobody fetches partition 0, led by broker 1: its entry in the statistics, and that of broker 2, a follower.
    fn adrift(partition: serde_json::Value, follower: (&str, i64), leader: &str) -> Option<String> {
        let mut entry = serde_json::json!({
            "partition": 0, "leader": 1, "broker": 2, "fetch_state": "active",
            "fetchq_cnt": 0, "eof_offset": 7, "ls_offset": 9,
        });
        for (key, value) in partition.as_object().unwrap() {
            entry[key] = value.clone();
        }
        let statistics = serde_json::json!({
            "brokers": {
                "a": { "nodeid": 1, "source": "learned", "state": leader, "toppars": {} },
                "b": { "nodeid": 2, "source": "learned", "state": follower.0, "waitresp_cnt": 1, "rxidle": follower.1,
                       "toppars": { "t-0": { "topic": "t", "partition": 0 } } },
            },
            "topics": { "t": { "partitions": { "0": entry } } },
        });
        let statistics: Statistics = serde_json::from_value(statistics).unwrap();
        let told = statistics.told(&Places::one("t"), None, SILENT_AFTER);
        assert_eq!(told.adrift([1].iter()), BTreeMap::new());
        told.adrift([0].iter()).remove(&0)
    }

    #[test]
    fn a_partition_that_nobody_fetches_while_its_leader_is_there_is_adrift() {
        let (none, well) = (serde_json::json!({}), ("UP", 90_000));
        assert_eq!(adrift(none.clone(), well, "INIT"), None);
        let why = |partition, follower| adrift(partition, follower, "INIT").unwrap();
        let silent = why(none.clone(), ("UP", 12_000_000));
        assert!(silent.contains("broker 2, a follower"), "{silent}");
        assert!(why(none.clone(), ("TRY_CONNECT", -1)).contains("a follower"));
        let nobody = serde_json::json!({ "broker": -1 });
        assert_eq!(why(nobody.clone(), well), "no broker is asked for it");
        let other = serde_json::json!({ "broker": 1 });
        assert_eq!(why(other, well), "broker 1 is not asked for it");
        let stopped = serde_json::json!({ "fetch_state": "offset-wait" });
        assert!(why(stopped.clone(), well).contains("offset-wait"));
        for state in ["none", "validate-epoch-wait"] {
            let state = serde_json::json!({ "fetch_state": state });
            assert_eq!(adrift(state, well, "UP"), None);
        }
        // Without a leader a new connection is of no use.
        for partition in [none, nobody, stopped] {
            assert_eq!(adrift(partition, ("UP", 12_000_000), "TRY_CONNECT"), None);
        }
    }

    #[test]
    fn only_who_stays_adrift_needs_a_new_connection() {
        let (mut drift, begun) = (Drift::default(), Instant::now());
        // Every second, as long as nothing changes.
        let mut look = |seconds: std::ops::RangeInclusive<u64>, places: &[i32]| {
            seconds
                .map(|second| {
                    let adrift = places.iter().map(|place| (*place, "why".to_owned()));
                    let found = drift.look(begun + Duration::from_secs(second), adrift.collect());
                    Some((second, found?.0))
                })
                .fold(None, Option::or)
        };
        assert_eq!(look(0..=9, &[1]), None);
        assert_eq!(look(10..=18, &[1, 2]), None);
        // 1 moved on meanwhile.
        assert_eq!(look(19..=19, &[2]), None);
        assert_eq!(look(20..=30, &[1, 2]), Some((30, 2)));
        // The new connection has as long again.
        assert_eq!(look(31..=51, &[1, 2]), Some((51, 1)));
        // So has what was not looked at for a while.
        assert_eq!(look(52..=60, &[1]), None);
        assert_eq!(look(90..=109, &[1]), None);
        assert_eq!(look(110..=110, &[1]), Some((110, 1)));
    }

    #[test]
    fn an_absence_is_told_once_it_has_lasted() {
        let (mut absence, now) = (Absence::default(), Instant::now());
        let gone = || Some("gone".to_owned());
        assert_eq!(absence.look(now, gone()), None);
        let later = Some("still gone".to_owned());
        assert_eq!(absence.look(now + AWAY_AFTER, later), gone());
        assert_eq!(absence.look(now + AWAY_AFTER, None), None);
        assert_eq!(absence.look(now + AWAY_AFTER, gone()), None);
    }
}
