//! Debezium's changes, kept as a current-state table: right under deletions, out of order, replay, restarts.
//!
//! `DRUMLINE_TEST_CHANGES` says how many changes (100,000 by `cargo xtask chaos changes`),
//! `DRUMLINE_FROM_SEED` which.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, Kafka};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(240);
const KEYS: u64 = 1_000;
/// Changes that may change places.
const WINDOW: usize = 64;

/// A small generator of numbers: the same seed gives the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn index(&mut self, sides: usize) -> usize {
        usize::try_from(self.roll(sides as u64)).unwrap()
    }
}

fn told(variable: &str, otherwise: u64) -> u64 {
    let told = std::env::var(variable).ok();
    told.map_or(otherwise, |text| text.parse().unwrap())
}

/// Key and value of a record.
type Sent = (u64, Option<String>);

/// What a source's table holds, change by change.
struct Table {
    dice: Dice,
    rows: HashMap<u64, u64>,
    deletions: u64,
}

impl Table {
    /// The next change; a deletion with its tombstone.
    fn change(&mut self, lsn: u64) -> Vec<Sent> {
        let key = self.dice.roll(KEYS);
        let source = json!({ "connector": "postgresql", "lsn": lsn, "table": "customers" });
        let row = |value: u64| json!({ "id": key, "value": value, "name": format!("n{value}") });
        let before = self.rows.get(&key).map(|value| row(*value));
        if before.is_some() && self.dice.roll(10) < 2 {
            self.rows.remove(&key);
            self.deletions += 1;
            // Sources tell of a deleted row all, its key, or nothing.
            let before = match self.dice.roll(3) {
                0 => before,
                1 => Some(json!({ "id": key, "value": null, "name": null })),
                _ => None,
            };
            let change = json!({ "before": before, "after": null, "op": "d", "ts_ms": lsn, "source": source });
            return vec![(key, Some(change.to_string())), (key, None)];
        }
        let value = self.dice.roll(1_000_000);
        let op = match self.rows.insert(key, value) {
            Some(_) => "u",
            None => "c",
        };
        let change = json!({ "before": before, "after": row(value), "op": op, "ts_ms": lsn, "source": source });
        vec![(key, Some(change.to_string()))]
    }
}

#[test]
fn the_current_state_is_that_of_a_replay_in_a_map() {
    let (total, seed) = (
        told("DRUMLINE_TEST_CHANGES", 20_000),
        told("DRUMLINE_FROM_SEED", 20_261_121),
    );
    println!("{total} changes, seed {seed}");
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("customers", 4)]).unwrap();
    let mut cluster = Cluster::start(Options {
        workers: 2,
        ..Default::default()
    })
    .unwrap();
    let text = format!(
        "name = \"cdc\"\nbrokers = \"{}\"\nflush_interval = \"500ms\"\n\
         [[topic]]\ntopic = \"customers\"\ndecode = {{ envelope = \"debezium\" }}\n\
         schema = {{ id = \"bigint\", value = \"bigint\", name = \"varchar\" }}\n\
         required = [\"id\", \"value\"]\nkeep = \"latest\"\nkeys = [\"id\"]\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();

    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    let send = |(key, value): &Sent| {
        let key = json!({ "id": key }).to_string();
        let value = value.as_ref().map(String::as_bytes);
        producer
            .send("customers", Some(key.as_bytes()), value, None)
            .unwrap();
    };
    let mut table = Table {
        dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        rows: HashMap::new(),
        deletions: 0,
    };
    let mut order = Dice(seed | 1);
    let mut sent: Vec<Sent> = Vec::new();
    let mut waiting: Vec<Sent> = Vec::new();
    let (mut replayed, mut records) = (0, 0);
    for lsn in 1..=total {
        waiting.extend(table.change(lsn));
        // Any of those that wait goes first: changes of one key too come out of order.
        while waiting.len() > WINDOW || (lsn == total && !waiting.is_empty()) {
            let at = order.index(waiting.len());
            let change = waiting.swap_remove(at);
            send(&change);
            sent.push(change);
            records += 1;
        }
        // The connector starts again and sends what it had sent, and far older changes come late.
        if order.roll(total / 20) == 0 && !sent.is_empty() {
            let from = sent.len().saturating_sub(order.index(500));
            let late = sent[order.index(sent.len())].clone();
            sent[from..].iter().chain([&late]).for_each(send);
            replayed += sent.len() - from + 1;
        }
        if lsn == total / 3 {
            producer.flush(Duration::from_secs(30)).unwrap();
            cluster.kill_master().unwrap();
            cluster.start_master().unwrap();
        }
        if lsn == total * 2 / 3 {
            producer.flush(Duration::from_secs(30)).unwrap();
            cluster.worker(0).unwrap().kill().unwrap();
            cluster.start_worker().unwrap();
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    assert!(table.deletions > 0 && replayed > 0);

    // Every key and what it holds, as one number that both can compute.
    let expected = table.rows.iter().fold(0i64, |sum, (key, value)| {
        sum + i64::try_from(key * 31 + value * 7).unwrap()
    });
    cluster
        .wait_for_number(
            "SELECT sum(id * 31 + value * 7) FROM customers",
            expected,
            PATIENCE,
        )
        .unwrap();
    let rows = cluster
        .sql("SELECT id, value, name FROM customers ORDER BY id")
        .unwrap();
    assert_eq!(rows.len(), table.rows.len());
    for row in &rows {
        let value = table.rows[&row["id"].as_u64().unwrap()];
        assert_eq!(row["value"].as_u64(), Some(value), "{row}");
        assert_eq!(row["name"], format!("n{value}"), "{row}");
    }
    // Each record of the topic is there once: a changes table that doubles would still give the right state.
    let doubled = cluster.number(
        "SELECT count(*) - count(DISTINCT _partition * 100000000 + _offset) FROM customers_changes",
    );
    assert_eq!(doubled.unwrap(), 0);
    let dead = cluster.number("SELECT count(*) FROM cdc_dead_letters");
    assert_eq!(dead.unwrap(), 0);
    let verified = cluster.run(&["stream", "verify", "cdc"]).unwrap();
    assert!(
        verified.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );
    println!(
        "{records} records and {replayed} again, {} deletions: {} rows, as in the map",
        table.deletions,
        rows.len()
    );
}
