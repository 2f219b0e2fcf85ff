//! Transforms that look things up in small tables of the lake.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_ingest::kafka::Producer;
use drumline_testkit::cluster::{Options, rows};
use drumline_testkit::{Cluster, Kafka, poll};

const PATIENCE: Duration = Duration::from_secs(90);

fn send(kafka: &Kafka, songs: std::ops::Range<i64>) {
    let producer = Producer::connect(&kafka.brokers(), &BTreeMap::new()).unwrap();
    for song in songs {
        let value = format!("{{\"song\":{song}}}");
        producer
            .send("plays", None, Some(value.as_bytes()), None)
            .unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

#[test]
fn rows_find_their_match_in_the_newest_version_and_commits_tell_which() {
    let kafka = Kafka::start().unwrap();
    kafka.create_topics(&[("plays", 2)]).unwrap();
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster.sql("CREATE SCHEMA dims").unwrap();
    cluster
        .sql("CREATE TABLE dims.songs AS SELECT value AS id, 'song ' || value AS title FROM generate_series(0, 9)")
        .unwrap();
    let text = format!(
        "name = \"playing\"\nbrokers = \"{}\"\nflush_interval = \"300ms\"\nlookup_refresh = \"500ms\"\n\
         [[topic]]\ntopic = \"plays\"\nschema = {{ song = \"bigint\" }}\n\
         transform = \"SELECT song, s.title FROM input LEFT JOIN dims.songs AS s ON song = s.id\"\n",
        kafka.brokers()
    );
    cluster.apply_stream(&text).unwrap();
    send(&kafka, 0..20);
    let wait = |sql: &str, expected| cluster.wait_for_number(sql, expected, PATIENCE).unwrap();
    wait("SELECT count(*) FROM plays", 20);
    wait(
        "SELECT count(*) FROM plays WHERE title = 'song ' || song",
        10,
    );
    wait("SELECT count(*) FROM plays WHERE title IS NULL", 10);

    cluster
        .sql("INSERT INTO dims.songs SELECT value, 'late ' || value FROM generate_series(10, 19)")
        .unwrap();
    // Files close, and between them the newer table is found.
    let mut sent = 20;
    let found = poll("a row made with the newer table", PATIENCE, || {
        send(&kafka, 10..20);
        sent += 10;
        let late = cluster.number("SELECT count(*) FROM plays WHERE title = 'late ' || song");
        Ok((late.unwrap_or(0) > 0).then_some(()))
    });
    found.unwrap();
    let log = std::path::Path::new(cluster.lake()).join("default/plays/_delta_log");
    let versions: Vec<String> = std::fs::read_dir(log)
        .unwrap()
        .filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok())
        .filter(|text| text.contains("\"drumline.definition\":1"))
        .collect();
    for version in ["{\"dims.songs\":0}", "{\"dims.songs\":1}"] {
        let told = format!("\"drumline.lookups\":{version}");
        assert!(
            versions.iter().any(|text| text.contains(&told)),
            "{told}: {versions:?}"
        );
    }

    // What is not written yet is looked up, too: in the newest version.
    wait("SELECT count(*) FROM plays", sent);
    let paused = cluster.run(&["stream", "pause", "playing"]).unwrap();
    assert!(paused.status.success());
    send(&kafka, 15..25);
    let fresh = |condition: &str| {
        let sql = format!("SELECT count(*) FROM fresh(plays) WHERE {condition}");
        cluster.number(&sql).unwrap()
    };
    assert_eq!(fresh("true"), sent + 10);
    assert_eq!(fresh("song >= 20 AND title IS NULL"), 5);
    let late = "SELECT count(*) FROM plays WHERE title = 'late ' || song";
    let late = cluster.number(late).unwrap();
    assert_eq!(fresh("title = 'late ' || song"), late + 5);
    let resumed = cluster.run(&["stream", "resume", "playing"]).unwrap();
    assert!(resumed.status.success());
    wait("SELECT count(*) FROM plays WHERE song >= 20", 5);
    // After a while without records the first file, too, is made with the newest version (`lookup_refresh` is half a second).
    cluster
        .sql("INSERT INTO dims.songs VALUES (21, 'late 21')")
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    send(&kafka, 21..22);
    wait(
        "SELECT count(*) FROM plays WHERE song = 21 AND title = 'late 21'",
        1,
    );

    // A key that is there twice stops the stream and is named.
    cluster
        .sql("INSERT INTO dims.songs VALUES (3, 'again')")
        .unwrap();
    let reason = poll("the stream fails", PATIENCE, || {
        send(&kafka, 0..1);
        let output = cluster.run(&["stream", "status", "playing", "-o", "json"])?;
        let status = rows(&output)?.remove(0);
        let is_failing = status["state"] == "failing";
        Ok(is_failing.then(|| status["last_error"].as_str().unwrap_or_default().to_owned()))
    });
    let reason = reason.unwrap();
    assert!(
        reason.contains("dims.songs") && reason.contains("its key 3 is there twice"),
        "{reason}"
    );
}
