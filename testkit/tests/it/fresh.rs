//! `fresh(t)`: the table and the rest of its topic, each record once, while everything moves.
//!
//! `DRUMLINE_TIMES` says how often it is asked (`cargo xtask chaos fresh --times 1000`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, Kafka};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

const TOPIC: &str = "events";
const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(90);

/// What a fresh read is compared with: a read-committed consumer of its own.
struct Checker {
    consumer: BaseConsumer,
    records: BTreeMap<i32, Vec<(i64, i64)>>,
    next: BTreeMap<i32, i64>,
}

/// Count, sum and a hash that does not depend on the order.
#[derive(Debug, PartialEq, Eq, Default, Clone, Copy)]
struct Sums {
    count: i64,
    sum: i64,
    hash: i64,
}

const SUMS: &str = "count(*) c, sum(n) s, bit_xor(n * 1000003 + _offset * 7919) h";

impl Checker {
    fn new(kafka: &Kafka) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.brokers())
            .set("group.id", "checker")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions
                .add_partition_offset(TOPIC, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&partitions).unwrap();
        Self {
            consumer,
            records: BTreeMap::new(),
            next: (0..PARTITIONS).map(|partition| (partition, 0)).collect(),
        }
    }

    fn poll(&mut self, wait: Duration) -> bool {
        match self.consumer.poll(wait) {
            Some(Ok(message)) => {
                let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
                let value: Value = serde_json::from_str(text).unwrap();
                let records = self.records.entry(message.partition()).or_default();
                records.push((message.offset(), value["n"].as_i64().unwrap()));
                self.next.insert(message.partition(), message.offset() + 1);
                true
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => false,
            Some(Err(error)) => panic!("{error}"),
        }
    }

    /// Reads on until each partition is there, or nothing more comes.
    fn reach(&mut self, wanted: &BTreeMap<i32, i64>) {
        let begun = Instant::now();
        let behind = |checker: &Self| wanted.iter().any(|(at, to)| checker.next[at] < *to);
        while behind(self) {
            self.poll(Duration::from_millis(50));
            assert!(begun.elapsed() < PATIENCE, "{wanted:?} of {:?}", self.next);
        }
    }

    /// What the stream makes of a partition's records below an offset.
    fn below(&self, partition: i32, end: i64) -> Sums {
        let mut sums = Sums::default();
        for (offset, n) in self.records.get(&partition).into_iter().flatten() {
            if *offset < end && n % 10 != 3 {
                sums.count += 1;
                sums.sum += n;
                sums.hash ^= n * 1_000_003 + offset * 7_919;
            }
        }
        sums
    }
}

fn apply(cluster: &Cluster, kafka: &Kafka, format: &str) {
    let brokers = kafka.brokers();
    let text = format!(
        "name = \"fresh\"\nbrokers = \"{brokers}\"\nflush_interval = \"400ms\"\nformat = \"{format}\"\n\
         [[topic]]\ntopic = \"{TOPIC}\"\ntable = \"raw.events\"\nschema = {{ n = \"bigint\", at = \"bigint\" }}\n\
         transform = \"SELECT n, n % 4 AS part FROM input WHERE n % 10 <> 3\"\npartition_by = [\"part\"]\n"
    );
    cluster.apply_stream(&text).unwrap();
}

/// Sends in small transactions, some of which are aborted.
fn produce(kafka: &Kafka, sent: &AtomicU64, stop: &AtomicBool) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("transactional.id", "fresh")
        .set("linger.ms", "5")
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        producer.begin_transaction().unwrap();
        let aborts = n / 50 % 7 == 5;
        for _ in 0..50 {
            let value = format!("{{\"n\":{n},\"at\":{n}}}");
            let record = BaseRecord::<str, str>::to(TOPIC)
                .payload(&value)
                .partition(i32::try_from(n * 31 % i64::from(PARTITIONS)).unwrap());
            producer.send(record).map_err(|(error, _)| error).unwrap();
            n += 1;
        }
        // Or what is not sent yet cannot be aborted.
        producer.flush(Duration::from_secs(30)).unwrap();
        match aborts {
            true => producer.abort_transaction(Duration::from_secs(30)).unwrap(),
            false => producer
                .commit_transaction(Duration::from_secs(30))
                .unwrap(),
        }
        sent.fetch_add(50, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks once, and compares with the topic.
fn check(cluster: &Cluster, checker: &mut Checker) -> i64 {
    while checker.poll(Duration::ZERO) {}
    let known = checker.next.clone();
    let sql =
        format!("SELECT _partition p, max(_offset) o, {SUMS} FROM fresh(raw.events) GROUP BY 1");
    let rows = cluster.sql(&sql).unwrap();
    let number = |row: &Value, key: &str| row[key].as_i64().unwrap();
    let found: BTreeMap<i32, (i64, Sums)> = rows
        .iter()
        .map(|row| {
            let sums = Sums {
                count: number(row, "c"),
                sum: number(row, "s"),
                hash: number(row, "h"),
            };
            let partition = i32::try_from(number(row, "p")).unwrap();
            (partition, (number(row, "o"), sums))
        })
        .collect();
    let ends: BTreeMap<i32, i64> = known
        .iter()
        .map(|(partition, known)| {
            let seen = found.get(partition).map_or(0, |(last, _)| last + 1);
            (*partition, seen.max(*known))
        })
        .collect();
    checker.reach(&ends);
    let mut total = 0;
    for (partition, end) in &ends {
        let sums = found
            .get(partition)
            .map_or_else(Sums::default, |(_, sums)| *sums);
        assert_eq!(
            sums,
            checker.below(*partition, *end),
            "partition {partition} below {end}; known before {known:?}, found {found:?}"
        );
        total += sums.count;
    }
    total
}

fn times(default: u64) -> u64 {
    let given = std::env::var("DRUMLINE_TIMES").ok();
    given.map_or(default, |times| times.parse().unwrap())
}

fn always_the_prefix(format: &str, times: u64) {
    let kafka = Arc::new(Kafka::start().unwrap());
    kafka
        .create_topics(&[(TOPIC, u32::try_from(PARTITIONS).unwrap())])
        .unwrap();
    let mut cluster = Cluster::start(Options::default()).unwrap();
    apply(&cluster, &kafka, format);
    let (stop, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let producing = {
        let (kafka, sent, stop) = (Arc::clone(&kafka), Arc::clone(&sent), Arc::clone(&stop));
        std::thread::spawn(move || produce(&kafka, &sent, &stop))
    };
    let mut checker = Checker::new(&kafka);
    let (mut committed_beside, mut versions, mut last) = (0, 0, 0);
    for time in 0..times {
        if time == times / 2 {
            // Its share of the stream is taken from the others.
            cluster.start_worker().unwrap();
        }
        // Plain Parquet has neither.
        let upkept = format == "delta" && versions > 0;
        if time % 4 == 1 && upkept {
            cluster.sql("OPTIMIZE raw.events").unwrap();
        }
        if time % 8 == 3 && upkept {
            let vacuum = "SET drumline.vacuum_shortest = 10; VACUUM raw.events RETAIN 0.005 HOURS";
            cluster.sql(vacuum).unwrap();
        }
        let found = check(&cluster, &mut checker);
        assert!(found >= last, "{found} after {last}");
        last = found;
        let written = cluster.number("SELECT count(*) FROM raw.events").unwrap();
        committed_beside += u64::from(written > 0);
        let newest = cluster.sql("DESCRIBE HISTORY raw.events LIMIT 1").unwrap();
        versions = newest
            .first()
            .and_then(|row| row["version"].as_u64())
            .unwrap_or_default();
    }
    stop.store(true, Ordering::Relaxed);
    producing.join().unwrap();
    eprintln!(
        "{times} fresh reads of {format}: always the topic's prefix; {last} rows at the end, {} sent, version \
         {versions} of the table",
        sent.load(Ordering::Relaxed)
    );
    assert!(
        committed_beside > 0 && versions > 2,
        "nothing was committed meanwhile"
    );
    assert!(last > 0);

    if format != "delta" {
        return;
    }
    // What changed rows is no prefix any more.
    cluster.sql("DELETE FROM raw.events WHERE n = 10").unwrap();
    let refused = cluster
        .run(&["sql", "-c", "SELECT count(*) FROM fresh('raw.events')"])
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("changed rows of it (DELETE)"), "{said}");
}

#[test]
fn a_fresh_read_is_always_the_topics_prefix() {
    always_the_prefix("delta", times(16));
}

#[test]
fn a_fresh_read_of_plain_parquet_is_always_the_topics_prefix() {
    always_the_prefix("parquet", times(8));
}

#[test]
fn what_kafka_dropped_before_the_table_had_it_is_named() {
    let kafka = Kafka::start().unwrap();
    kafka
        .create_topics(&[(TOPIC, u32::try_from(PARTITIONS).unwrap())])
        .unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    apply(&cluster, &kafka, "delta");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .create()
        .unwrap();
    let send = |count: i64| {
        for n in 0..count {
            let value = format!("{{\"n\":{}}}", n * 10);
            let record = BaseRecord::<str, str>::to(TOPIC)
                .payload(&value)
                .partition(0);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    };
    send(10);
    let sql = "SELECT count(*) FROM raw.events";
    cluster.wait_for_number(sql, 10, PATIENCE).unwrap();
    let pause = cluster.run(&["stream", "pause", "fresh"]).unwrap();
    assert!(pause.status.success());
    send(10);
    let fresh = "SELECT count(*) FROM fresh(raw.events)";
    assert_eq!(cluster.number(fresh).unwrap(), 20);
    kafka.drop_records(TOPIC, 0, 15).unwrap();
    let refused = cluster.run(&["sql", "-c", fresh]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("[10, 15) are gone before the table had them"),
        "{said}"
    );
    assert_eq!(cluster.number(sql).unwrap(), 10);
    let nobody = cluster
        .run(&["sql", "-c", "SELECT 1 FROM fresh(fresh_dead_letters)"])
        .unwrap();
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(
        said.contains("it holds the dead letters of stream fresh"),
        "{said}"
    );
}
