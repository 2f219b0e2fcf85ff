//! Brokers that ask who comes: every way to be let in, and what is said where nobody is.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use drumline_testkit::cluster::Options;
use drumline_testkit::kafka::secured::{PASSWORD, Secured};
use drumline_testkit::{Cluster, Kafka};

const TOPIC: &str = "events";
const PATIENCE: Duration = Duration::from_secs(90);

fn bed() -> (Kafka, Secured) {
    let kafka = Kafka::start_secured().unwrap();
    kafka.create_topics(&[(TOPIC, 2)]).unwrap();
    let secured = kafka.secured().unwrap().clone();
    (kafka, secured)
}

fn doctor(cluster: &Cluster, port: u16, settings: &[(String, String)]) -> (Output, String) {
    let mut arguments = vec!["doctor".to_owned(), format!("--brokers=127.0.0.1:{port}")];
    arguments.extend(
        settings
            .iter()
            .map(|(key, value)| format!("--kafka={key}={value}")),
    );
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = cluster.run(&arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

fn with(mut settings: Vec<(String, String)>, key: &str, value: &str) -> Vec<(String, String)> {
    settings.retain(|(known, _)| known != key);
    settings.push((key.to_owned(), value.to_owned()));
    settings
}

fn stream(port: u16, settings: &[(String, String)]) -> String {
    named("secured", TOPIC, port, settings)
}

fn named(name: &str, table: &str, port: u16, settings: &[(String, String)]) -> String {
    let settings: Vec<String> = settings
        .iter()
        .map(|(key, value)| format!("\"{key}\" = \"{value}\""))
        .collect();
    format!(
        "name = \"{name}\"\nbrokers = \"127.0.0.1:{port}\"\nflush_interval = \"300ms\"\n[kafka]\n{}\n\
         [[topic]]\ntopic = \"{TOPIC}\"\ntable = \"{table}\"\nschema = {{ n = \"bigint\" }}\n",
        settings.join("\n")
    )
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn every_mechanism_lets_in_who_knows_the_secret_and_tells_others_why_not() {
    let (_kafka, secured) = bed();
    let cluster = Cluster::start(Options {
        workers: 0,
        ..Options::default()
    })
    .unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let right = secured.with_password(mechanism);
        let (_, said) = doctor(&cluster, secured.sasl, &right);
        assert!(said.contains("1 brokers"), "{mechanism}: {said}");
        let begun = Instant::now();
        let wrong = with(right, "sasl.password", "guessed");
        let (output, said) = doctor(&cluster, secured.sasl, &wrong);
        assert_eq!(output.status.code(), Some(1), "{mechanism}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{mechanism}");
        for part in [
            format!("127.0.0.1:{}", secured.sasl),
            format!("{mechanism} over SASL_SSL"),
            "check sasl.username and sasl.password".to_owned(),
        ] {
            assert!(said.contains(&part), "{mechanism}: no {part} in {said}");
        }
        assert!(!said.contains("guessed"), "{said}");
    }
    let (_, said) = doctor(&cluster, secured.sasl, &secured.with_token());
    assert!(said.contains("1 brokers"), "{said}");

    let (_, said) = doctor(&cluster, secured.tls, &secured.with_certificate());
    assert!(said.contains("1 brokers"), "{said}");
    let (output, said) = doctor(&cluster, secured.tls, &secured.without_certificate());
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("ssl.certificate.location"), "{said}");
}

#[test]
fn a_stream_logs_in_with_a_secret_that_nobody_ever_sees() {
    let (kafka, secured) = bed();
    let cluster = Cluster::start(Options {
        environment: vec![
            (
                "DRUMLINE_WORKER__SECRETS".to_owned(),
                secured.folder().display().to_string(),
            ),
            ("RUST_LOG".to_owned(), "debug".to_owned()),
        ],
        ..Options::default()
    })
    .unwrap();
    let settings = secured.with_password("SCRAM-SHA-512");
    // In clear it is refused before anything is kept.
    let clear = with(settings.clone(), "sasl.password", PASSWORD);
    let refused = cluster
        .apply_stream(&stream(secured.sasl, &clear))
        .unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("is a secret"), "{refused}");
    assert!(!refused.contains(PASSWORD), "{refused}");
    // A wrong one is refused with what to do.
    let guess = secured.folder().join("guess");
    std::fs::write(&guess, "guessed").unwrap();
    let wrong = with(
        settings.clone(),
        "sasl.password",
        &format!("${{file:{}}}", guess.display()),
    );
    let begun = Instant::now();
    let refused = cluster
        .apply_stream(&stream(secured.sasl, &wrong))
        .unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("SCRAM-SHA-512 over SASL_SSL"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    // A file that is none of the secrets' is not opened.
    let passwd = with(settings.clone(), "sasl.password", "${file:/etc/passwd}");
    let refused = cluster
        .apply_stream(&stream(secured.sasl, &passwd))
        .unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("is in no folder for secrets"), "{refused}");

    cluster
        .apply_stream(&stream(secured.sasl, &settings))
        .unwrap();
    let producer = drumline_ingest::kafka::Producer::connect(
        &format!("127.0.0.1:{}", secured.sasl),
        &secured.with_password("PLAIN").into_iter().collect(),
    )
    .unwrap();
    for n in 0..100 {
        let value = format!("{{\"n\":{n}}}");
        producer
            .send(TOPIC, None, Some(value.as_bytes()), None)
            .unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let sql = format!("SELECT count(*) FROM {TOPIC}");
    cluster.wait_for_number(&sql, 100, PATIENCE).unwrap();
    assert_eq!(
        cluster.number("SELECT count(*) FROM kafka.events").unwrap(),
        100
    );
    assert_eq!(
        cluster
            .number("SELECT count(*) FROM fresh(events)")
            .unwrap(),
        100
    );
    // Tokens do for all of it too: to read, to look at the topic, to count it again.
    let tokens = secured.with_token();
    cluster
        .apply_stream(&named("tokens", "other", secured.sasl, &tokens))
        .unwrap();
    let sql = "SELECT count(*) FROM other";
    cluster.wait_for_number(sql, 100, PATIENCE).unwrap();
    for name in ["secured", "tokens"] {
        let verified = cluster.run(&["stream", "verify", name]).unwrap();
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(verified.status.success(), "{name}: {said}");
    }

    let status = cluster
        .run(&["stream", "status", "secured", "-o", "json"])
        .unwrap();
    assert!(!String::from_utf8_lossy(&status.stdout).contains(PASSWORD));
    let mut found = Vec::new();
    for folder in [
        Path::new(cluster.lake()),
        &cluster.path("state"),
        &cluster.path("logs"),
    ] {
        files(folder, &mut found);
    }
    assert!(found.len() > 5, "{found:?}");
    for path in found {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let holds = bytes
            .windows(PASSWORD.len())
            .any(|part| part == PASSWORD.as_bytes());
        assert!(!holds, "{} holds the password", path.display());
    }
    drop(kafka);
}
