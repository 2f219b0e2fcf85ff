//! Workers with little memory: what can be done with less is, and what cannot says what it needs.

use std::process::Output;

use drumline_testkit::Cluster;
use drumline_testkit::cluster::{Options, rows};

const ROWS: u64 = 3_000_000;

/// Two workers with less memory than one side of a join of the table takes.
fn small() -> Cluster {
    let cluster = Cluster::start(Options {
        environment: vec![
            ("DRUMLINE_WORKER__MEMORY".to_owned(), "96MiB".to_owned()),
            ("DRUMLINE_MASTER__MEMORY".to_owned(), "2GiB".to_owned()),
        ],
        ..Default::default()
    })
    .unwrap();
    cluster
        .sql(&format!(
            "CREATE TABLE numbers AS SELECT value AS n, md5(CAST(value AS varchar)) AS text \
             FROM generate_series(1, {ROWS})"
        ))
        .unwrap();
    cluster
}

fn ask(cluster: &Cluster, sql: &str) -> (Output, String) {
    let output = cluster
        .run(&[
            "sql",
            "-o",
            "json",
            "--settings",
            "drumline.bytes_per_task=1",
            "-c",
            sql,
        ])
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn a_join_that_does_not_fit_sorts_and_what_cannot_is_explained() {
    let cluster = small();
    let (output, said) = ask(
        &cluster,
        "SELECT count(*) AS rows, sum(a.n) AS total, max(length(a.text || b.text)) AS longest \
         FROM numbers a JOIN numbers b ON a.n = b.n",
    );
    println!("{said}");
    let answer = rows(&output).unwrap();
    assert_eq!(answer[0]["rows"], ROWS, "{answer:?}");
    assert_eq!(answer[0]["total"], ROWS * (ROWS + 1) / 2, "{answer:?}");
    assert_eq!(answer[0]["longest"], 64, "{answer:?}");
    assert!(
        said.contains("hash join") || said.contains("broadcast side of a join"),
        "the first attempt did not run out of memory: {said}"
    );
    assert!(said.contains("its joins sort now"), "{said}");

    let (output, said) = ask(
        &cluster,
        "SELECT sum(length(a.text || b.text)) FROM numbers a CROSS JOIN numbers b",
    );
    println!("{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["out of memory: the ", " asked for ", "--memory"] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    assert_eq!(
        cluster.number("SELECT count(*) FROM numbers").unwrap(),
        ROWS as i64,
        "the cluster goes on"
    );
}
