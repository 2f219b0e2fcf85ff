//! A stream's definition changes while records come: each record is written by one of the two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, Kafka};

const PATIENCE: Duration = Duration::from_secs(90);

/// Sends numbers from 0 on until it is told to stop; how many there were.
fn feed(brokers: String, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<i64> {
    std::thread::spawn(move || {
        let producer = Producer::connect(&brokers, &BTreeMap::new()).unwrap();
        let mut n = 0i64;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..100 {
                let (key, value) = (n.to_string(), format!("{{\"n\":{n}}}"));
                let (key, value) = (key.as_bytes(), value.as_bytes());
                producer
                    .send("events", Some(key), Some(value), None)
                    .unwrap();
                n += 1;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        n
    })
}

fn stream(kafka: &Kafka, format: &str, routes: &[(&str, &str)]) -> String {
    let routes = routes.iter().map(|(table, transform)| {
        format!("[[topic.route]]\ntable = \"{table}\"\ntransform = \"{transform}\"\n")
    });
    format!(
        "name = \"changing\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\nformat = \"{format}\"\n\
         [[topic]]\ntopic = \"events\"\nschema = {{ n = \"bigint\" }}\n{}",
        kafka.brokers(),
        routes.collect::<String>()
    )
}

fn cuts_over(format: &str) {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("events", 3)]).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = feed(kafka.brokers(), Arc::clone(&stop));
    let first = [("rows", "SELECT n, 1 AS made FROM input")];
    cluster
        .apply_stream(&stream(&kafka, format, &first))
        .unwrap();
    cluster.wait_for_some("rows", PATIENCE).unwrap();
    for made in 2..=4 {
        let changed = format!("SELECT n, {made} AS made, n * {made} AS times{made} FROM input");
        let mut routes = vec![("rows", changed.as_str())];
        if made == 4 {
            routes.push(("beside", "SELECT n FROM input"));
        }
        cluster
            .apply_stream(&stream(&kafka, format, &routes))
            .unwrap();
        let sql = format!("SELECT count(*) > 0 AS found FROM rows WHERE made = {made}");
        let seen = drumline_testkit::poll(&sql, PATIENCE, || {
            let rows = cluster.sql(&sql).unwrap_or_default();
            Ok(rows.iter().any(|row| row["found"] == true).then_some(()))
        });
        seen.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let sent = feeder.join().unwrap();
    let wait = |sql: &str, expected| cluster.wait_for_number(sql, expected, PATIENCE).unwrap();
    wait("SELECT count(*) FROM rows", sent);
    wait("SELECT count(DISTINCT n) FROM rows", sent);
    // In each partition the definitions follow one another, without a row of one among those of another.
    let mixed = "SELECT count(*) FROM (SELECT made, lag(made) OVER (PARTITION BY _partition ORDER BY _offset) AS earlier \
                 FROM rows) WHERE made < earlier";
    wait(mixed, 0);
    wait("SELECT count(DISTINCT made) FROM rows", 4);
    wait(
        "SELECT count(*) FROM rows WHERE (made = 3) <> (times3 IS NOT NULL)",
        0,
    );
    wait(
        "SELECT count(*) FROM rows WHERE made = 4 AND times4 <> n * 4",
        0,
    );
    // The table that came with the last definition has what that one wrote, and nothing else.
    let beside = cluster
        .number("SELECT count(*) FROM rows WHERE made = 4")
        .unwrap();
    wait("SELECT count(*) FROM beside", beside);

    let wrong = [(
        "rows",
        "SELECT CAST(n AS VARCHAR) AS n, 5 AS made FROM input",
    )];
    let error = cluster
        .apply_stream(&stream(&kafka, format, &wrong))
        .unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("its column `n` is Int64, the stream yields Utf8"),
        "{error}"
    );
    wait("SELECT count(*) FROM rows", sent);
}

#[test]
fn a_changed_transform_begins_where_the_old_one_ended_in_delta_tables() {
    cuts_over("delta");
}

#[test]
fn a_changed_transform_begins_where_the_old_one_ended_in_plain_tables() {
    cuts_over("parquet");
}
