//! Debezium's changes, kept as a current-state table: right under deletions, out of order, replay, restarts.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, Kafka};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(240);
const KEYS: u64 = 1_000;

/// A small generator of numbers: the same seed gives the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn changes() -> u64 {
    let told = std::env::var("DRUMLINE_TEST_CHANGES").ok();
    told.and_then(|count| count.parse().ok()).unwrap_or(20_000)
}

#[test]
fn the_current_state_is_that_of_a_replay_in_a_map() {
    let seed = 20_261_121;
    println!("seed {seed}");
    let mut dice = Dice(seed);
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
         schema = {{ id = \"bigint\", value = \"bigint\", name = \"varchar\" }}\nrequired = [\"id\"]\n\
         keep = \"latest\"\nkeys = [\"id\"]\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();

    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    let send = |(key, value): &(u64, Option<String>)| {
        let value = value.as_ref().map(String::as_bytes);
        producer
            .send("customers", Some(key.to_string().as_bytes()), value, None)
            .unwrap();
    };
    let mut state: HashMap<u64, u64> = HashMap::new();
    let mut sent: Vec<(u64, Option<String>)> = Vec::new();
    let total = changes();
    for lsn in 1..=total {
        let key = dice.roll(KEYS);
        let source = json!({ "connector": "postgresql", "lsn": lsn, "table": "customers" });
        let row = |value: u64| json!({ "id": key, "value": value, "name": format!("n{value}") });
        let before = state.get(&key).map(|value| row(*value));
        let change = if before.is_some() && dice.roll(10) < 2 {
            state.remove(&key);
            json!({ "before": before, "after": null, "op": "d", "ts_ms": lsn, "source": source })
        } else {
            let value = dice.roll(1_000_000);
            state.insert(key, value);
            let op = if before.is_some() { "u" } else { "c" };
            json!({ "before": before, "after": row(value), "op": op, "ts_ms": lsn, "source": source })
        };
        let is_deletion = change["op"] == "d";
        let change = (key, Some(change.to_string()));
        send(&change);
        sent.push(change);
        if is_deletion {
            send(&(key, None));
        }
        // The connector starts again and sends what it had sent, and older changes come late.
        if dice.roll(total / 20) == 0 {
            let from = sent
                .len()
                .saturating_sub(usize::try_from(dice.roll(500)).unwrap());
            sent[from..].iter().for_each(send);
            let late = usize::try_from(dice.roll(sent.len() as u64)).unwrap();
            send(&sent[late]);
        }
        if lsn == total / 3 {
            producer.flush(Duration::from_secs(30)).unwrap();
            cluster
                .wait_for_number(
                    "SELECT count(*) > 0 FROM customers_changes",
                    1,
                    Duration::from_secs(1),
                )
                .ok();
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

    // Every key in order, and what it holds, as one number that both can compute.
    let expected = state.iter().fold(0i64, |sum, (key, value)| {
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
    assert_eq!(rows.len(), state.len());
    for row in &rows {
        let value = state[&row["id"].as_u64().unwrap()];
        assert_eq!(row["value"].as_u64(), Some(value), "{row}");
        assert_eq!(row["name"], format!("n{value}"), "{row}");
    }
    // Each record of the topic is there once: a changes table that doubles would still give the right state.
    let doubled = cluster.number(
        "SELECT count(*) - count(DISTINCT _partition * 100000000 + _offset) FROM customers_changes",
    );
    assert_eq!(doubled.unwrap(), 0);
    assert_eq!(
        cluster
            .number("SELECT count(*) FROM cdc_dead_letters")
            .unwrap(),
        0
    );
}
