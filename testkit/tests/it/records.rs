//! The same facts wherever they are looked at: REST, the command line, SQL.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use drumline_testkit::cluster::{Cluster, Options};
use drumline_testkit::poll;
use serde_json::Value;

fn cluster() -> Cluster {
    Cluster::start(Options {
        workers: 2,
        ..Options::default()
    })
    .unwrap()
}

/// The body of an answer; HTTP 1.0, so that it comes as it is.
fn get(cluster: &Cluster, path: &str) -> Value {
    let url = cluster.url();
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    let token = cluster.token().unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

fn stdout(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.run(arguments).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn lines(cluster: &Cluster, arguments: &[&str]) -> Vec<Value> {
    let text = stdout(cluster, arguments);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn rest_command_line_and_sql_tell_the_same_of_jobs() {
    let cluster = cluster();
    cluster
        .sql("CREATE TABLE numbers AS SELECT value AS n FROM generate_series(1, 1000)")
        .unwrap();
    cluster
        .sql("SET drumline.bytes_per_task = 1; SELECT n % 7, count(*) FROM numbers GROUP BY 1")
        .unwrap();

    let rest = get(&cluster, "/api/v1/jobs");
    let rest = rest["items"].as_array().unwrap();
    assert!(rest.len() >= 2, "{rest:#?}");
    assert_eq!(&lines(&cluster, &["jobs", "-o", "json"]), rest);

    let table = stdout(&cluster, &["jobs"]);
    assert_eq!(table.lines().count(), rest.len() + 1, "{table}");
    for job in rest {
        let id = job["id"].as_str().unwrap();
        let line = table.lines().find(|line| line.starts_with(id)).unwrap();
        assert!(line.contains(job["state"].as_str().unwrap()), "{line}");
        let one = &lines(&cluster, &["jobs", id, "-o", "json"])[0];
        assert_eq!(one["id"], id);
        assert!(!one["plan"].as_str().unwrap().is_empty());
        let tasks = lines(&cluster, &["tasks", id, "-o", "json"]);
        let in_stages = job["stages"].as_array().unwrap().iter();
        let in_stages: usize = in_stages
            .map(|stage| stage["tasks"].as_array().unwrap().len())
            .sum();
        assert_eq!(tasks.len(), in_stages);
    }
    // The question itself is a job too, which came after.
    let known = rest.len();
    let sql = cluster
        .sql("SELECT id, state FROM system.jobs ORDER BY id")
        .unwrap();
    let ids: Vec<&Value> = sql.iter().take(known).map(|row| &row["id"]).collect();
    let expected: Vec<&Value> = rest.iter().rev().map(|job| &job["id"]).collect();
    assert_eq!(ids, expected);

    let csv = stdout(&cluster, &["workers", "-o", "csv"]);
    assert!(csv.starts_with("id,state,cores,"), "{csv}");
    assert_eq!(csv.lines().count(), 3, "{csv}");
}

#[test]
fn what_is_not_known_is_said_by_name() {
    let cluster = cluster();
    for arguments in [
        &["apps", "019a"][..],
        &["jobs", "019a"],
        &["stages", "019a"],
        &["tasks", "019a"],
        &["workers", "019a"],
        &["cancel", "019a"],
        &["logs", "--component", "019a"],
    ] {
        let output = cluster.run(arguments).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("`019a`"), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
    let output = cluster.run(&["jobs", "--state", "happy"]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`succeeded`"));
}

#[test]
fn an_application_is_cancelled_from_the_command_line() {
    let cluster = cluster();
    let endless =
        "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b";
    let mut running = cluster.spawn("endless", &["sql", "-c", endless]).unwrap();
    let id = poll("it runs", Duration::from_secs(30), || {
        let running = lines(&cluster, &["apps", "--state", "running", "-o", "json"]);
        let first = running.first().map(|record| record["id"].as_str().unwrap());
        Ok(first.map(str::to_owned))
    })
    .unwrap();
    let said = stdout(&cluster, &["cancel", &id]);
    assert_eq!(said, format!("application {id} is cancelled\n"));
    running.wait(Duration::from_secs(10)).unwrap();
    let record = &lines(&cluster, &["apps", &id, "-o", "json"])[0];
    assert_eq!(record["state"], "cancelled");
}

#[test]
fn logs_of_master_and_workers_are_read_with_their_ids() {
    let cluster = cluster();
    cluster.sql("SELECT 1").unwrap();
    let application = lines(&cluster, &["apps", "-o", "json"])[0]["id"].clone();
    let logged = lines(&cluster, &["logs", "-o", "json"]);
    let about = logged
        .iter()
        .filter(|line| line["application"] == application);
    let messages: Vec<&str> = about
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert!(messages.contains(&"application accepted"), "{messages:?}");
    assert!(messages.contains(&"application ended"), "{messages:?}");
    assert!(logged.iter().all(|line| line["component"] == "master"));

    let worker = lines(&cluster, &["workers", "-o", "json"])[0]["id"].clone();
    let worker = worker.as_str().unwrap();
    let logged = stdout(&cluster, &["logs", "--component", worker]);
    assert!(logged.contains("joined the cluster"), "{logged}");
    assert_eq!(
        stdout(&cluster, &["logs", "--component", worker, "-n", "0"]),
        ""
    );
}
