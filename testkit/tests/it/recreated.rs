//! Topics that are deleted and made again, and topics with gaps: nothing wrong is taken, nothing stands still.

use std::time::Duration;

use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Kafka, poll};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(30);
const TOPIC: &str = "events";

fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers());
    config.create().unwrap()
}

fn create(kafka: &Kafka, settings: &[(&str, &str)]) {
    let (admin, options) = (admin(kafka), AdminOptions::new());
    poll("the topic is there", LIMIT, || {
        let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (k, v)| topic.set(k, v));
        let made = futures::executor::block_on(admin.create_topics([&topic], &options))?;
        // One that was just deleted lingers.
        Ok(made.iter().all(Result::is_ok).then_some(()))
    })
    .unwrap();
}

fn make_anew(kafka: &Kafka) {
    let (admin, options) = (admin(kafka), AdminOptions::new());
    let gone = futures::executor::block_on(admin.delete_topics(&[TOPIC], &options)).unwrap();
    assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    create(kafka, &[]);
}

fn send(kafka: &Kafka, records: impl Iterator<Item = (String, i64)>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers());
    let producer: BaseProducer = config.create().unwrap();
    for (key, n) in records {
        let value = format!("{{\"n\":{n}}}");
        let record = BaseRecord::to(TOPIC).key(&key).payload(&value);
        producer.send(record).unwrap();
    }
    producer.flush(LIMIT).unwrap();
}

fn numbers(range: std::ops::Range<i64>) -> impl Iterator<Item = (String, i64)> {
    range.map(|n| (n.to_string(), n))
}

fn apply(cluster: &Cluster, kafka: &Kafka, format: &str) {
    let text = format!(
        "name = \"small\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\nformat = \"{format}\"\n\
         [[topic]]\ntopic = \"{TOPIC}\"\nschema = {{ n = \"bigint\" }}\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();
}

fn run(cluster: &Cluster, arguments: &[&str]) {
    let output = cluster.run(arguments).unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn wait_for_reason(cluster: &Cluster, part: &str) -> String {
    let mut last = Value::Null;
    let found = poll(part, PATIENCE, || {
        let output = cluster.run(&["stream", "status", "small", "-o", "json"])?;
        last = rows(&output)?.remove(0);
        let reason = last["last_error"].as_str().unwrap_or_default();
        let is_it = last["state"] == "failing" && reason.contains(part);
        Ok(is_it.then(|| reason.to_owned()))
    });
    found.unwrap_or_else(|error| panic!("{error}: {last}"))
}

#[test]
fn a_longer_topic_of_the_same_name_stops_the_stream_and_says_what_is_lost() {
    for format in ["delta", "parquet"] {
        let kafka = Kafka::start().unwrap();
        create(&kafka, &[]);
        let mut cluster = Cluster::start(Options::default()).unwrap();
        apply(&cluster, &kafka, format);
        send(&kafka, numbers(0..50));
        let sql = format!("SELECT count(*) FROM {TOPIC}");
        cluster.wait_for_number(&sql, 50, PATIENCE).unwrap();
        run(&cluster, &["stream", "pause", "small"]);
        make_anew(&kafka);
        send(&kafka, numbers(1000..1200));
        // Another master knows it from the tables alone.
        cluster.kill_master().unwrap();
        cluster.start_master().unwrap();
        poll("the master answers", PATIENCE, || {
            let resumed = cluster.run(&["stream", "resume", "small"])?;
            Ok(resumed.status.success().then_some(()))
        })
        .unwrap();

        let reason = wait_for_reason(&cluster, "was deleted and made again");
        assert!(reason.contains("partition 0 at 50"), "{reason}");
        assert!(
            reason.contains("drumline stream reset NAME --to earliest"),
            "no next step: {reason}"
        );
        // Nor when it is tried again.
        let tries = |cluster: &mut Cluster| {
            let log = cluster.master().unwrap().log();
            log.matches("could not go on with its share").count()
        };
        let before = tries(&mut cluster);
        poll("another try", PATIENCE, || {
            Ok((tries(&mut cluster) > before).then_some(()))
        })
        .unwrap();
        assert_eq!(cluster.number(&sql).unwrap(), 50);
        let verified = cluster.run(&["stream", "verify", "small"]).unwrap();
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(said.contains("events was deleted and made again"), "{said}");

        // As the reason says.
        run(&cluster, &["stream", "pause", "small"]);
        let reset = ["stream", "reset", "small", "--to", "earliest", "--yes"];
        run(&cluster, &reset);
        run(&cluster, &["stream", "resume", "small"]);
        cluster.wait_for_number(&sql, 250, PATIENCE).unwrap();
        let highest = cluster.number(&format!("SELECT max(n) FROM {TOPIC}"));
        assert_eq!(highest.unwrap(), 1199);
    }
}

#[test]
fn a_topic_made_anew_while_it_is_read_is_not_taken_for_the_old_one() {
    let kafka = Kafka::start().unwrap();
    create(&kafka, &[]);
    let cluster = Cluster::start(Options::default()).unwrap();
    apply(&cluster, &kafka, "delta");
    send(&kafka, numbers(0..50));
    let sql = format!("SELECT count(*) FROM {TOPIC}");
    cluster.wait_for_number(&sql, 50, PATIENCE).unwrap();
    make_anew(&kafka);
    send(&kafka, numbers(1000..1200));
    wait_for_reason(&cluster, "was deleted and made again");
    let highest = cluster.number(&format!("SELECT max(n) FROM {TOPIC}"));
    assert_eq!(highest.unwrap(), 49);
    assert_eq!(cluster.number(&sql).unwrap(), 50);
    // What is behind offset 50 now is no rest of the table's.
    let fresh = format!("SELECT count(*) FROM fresh({TOPIC})");
    let fresh = cluster.run(&["sql", "-c", &fresh]).unwrap();
    let said = String::from_utf8_lossy(&fresh.stderr);
    assert!(
        said.contains("is another one than the table's records came from"),
        "{said}"
    );
}

/// Records that a plain consumer finds.
fn count(kafka: &Kafka) -> usize {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("group.id", "count")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(TOPIC, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&assignment).unwrap();
    let mut found = 0;
    loop {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(_)) => found += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => return found,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
}

#[test]
fn gaps_that_compaction_leaves_do_not_hold_a_stream_up() {
    let kafka = Kafka::start().unwrap();
    create(
        &kafka,
        &[
            ("cleanup.policy", "compact"),
            ("segment.bytes", "1048576"),
            ("segment.ms", "200"),
            ("min.cleanable.dirty.ratio", "0.01"),
        ],
    );
    // Two keys again and again, in segments that end: the last of each key stays.
    for round in 0..4_i64 {
        send(
            &kafka,
            (0..500).map(|n| ((n % 2).to_string(), round * 500 + n)),
        );
        // Longer than a segment's time: the next record begins a new one.
        std::thread::sleep(Duration::from_millis(400));
    }
    send(&kafka, numbers(5000..5010));
    let left = poll("kafka compacts", PATIENCE, || {
        let left = count(&kafka);
        Ok((left < 1000).then_some(left))
    })
    .unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    apply(&cluster, &kafka, "delta");
    poll("the stream is through", PATIENCE, || {
        let output = cluster.run(&["stream", "status", "small", "-o", "json"])?;
        let status = rows(&output)?.remove(0);
        let partition = &status["partitions"][0];
        let through = partition["committed"] == partition["end"] && status["lag"] == 0;
        Ok((through && partition["end"].as_i64() >= Some(2010)).then_some(()))
    })
    .unwrap();
    let taken = cluster
        .number(&format!("SELECT count(*) FROM {TOPIC}"))
        .unwrap();
    // Compaction may have gone on between the two readers; it never brings records back.
    assert!(taken <= left as i64 && taken >= 10, "{taken} of {left}");
    let verified = cluster.run(&["stream", "verify", "small"]).unwrap();
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}");
    assert!(said.contains("events is compacted"), "{said}");
}
