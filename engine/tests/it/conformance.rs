//! Statements and the answers that DuckDB and PostgreSQL give to them, in `tests/conformance/*.slt`: run in one
//! process, and on two workers that share every scan.
//!
//! ```text
//! # a comment
//! onlyif drumline            the next record is for one of `drumline` and `duckdb`
//! statement ok
//! statement count 3          it changes so many rows
//! statement error nowhere    it is refused, by us in words that hold these
//! query                      rows in any order, columns between bars, behind `----`
//! query ordered              rows in this order
//! ```
//!
//! Records end at a blank line. `testkit/src/conform.py` gives the same files to DuckDB, and can write its answers
//! into them.

use std::path::{Path, PathBuf};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use drumline_engine::{Planned, Result};

use crate::cluster::{Cluster, Settings, forced};
use crate::lake::{Done, Home};

/// What a record expects.
#[derive(Debug)]
enum Expected {
    Ok,
    Count(u64),
    Error(String),
    Rows { ordered: bool, rows: Vec<String> },
}

#[derive(Debug)]
struct Record {
    line: usize,
    sql: String,
    expected: Expected,
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    files
}

fn records(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    let mut is_ours = true;
    while let Some((number, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(engine) = line.strip_prefix("onlyif ") {
            is_ours = engine == "drumline";
            assert!(is_ours || engine == "duckdb", "line {number}: {line}");
            continue;
        }
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let is_query = kind == "query";
        let mut sql = Vec::new();
        let mut rows = Vec::new();
        let mut is_answer = false;
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
            match (is_query && line == "----", is_answer) {
                (true, _) => is_answer = true,
                (false, true) => rows.push(line.to_owned()),
                (false, false) => sql.push(line),
            }
        }
        let expected = match (kind, rest.split_once(' ').unwrap_or((rest, ""))) {
            ("statement", ("ok", "")) => Expected::Ok,
            ("statement", ("count", count)) => Expected::Count(count.parse().unwrap()),
            ("statement", ("error", words)) => Expected::Error(words.to_owned()),
            ("query", (order @ ("" | "ordered"), "")) => Expected::Rows {
                ordered: order == "ordered",
                rows,
            },
            _ => panic!("line {}: {line}", number + 1),
        };
        assert!(is_answer == is_query, "line {}: no answer", number + 1);
        if is_ours {
            records.push(Record {
                line: number + 1,
                sql: sql.join("\n"),
                expected,
            });
        }
        is_ours = true;
    }
    records
}

/// Rows as the files have them.
fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default()
        .with_null("NULL")
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    let row = |row: usize| {
        let values = columns.iter().map(|column| column.value(row).to_string());
        values.collect::<Vec<_>>().join("|")
    };
    (0..batch.num_rows()).map(row).collect()
}

impl Home {
    /// What is wrong with the answer to a record, if anything.
    async fn differs(&self, record: &Record) -> Option<String> {
        let sql = &record.sql;
        match &record.expected {
            Expected::Rows { ordered, rows } => {
                let mut found = match self.answer(sql).await {
                    Ok(found) => found,
                    Err(error) => return Some(error.to_string()),
                };
                let mut rows = rows.clone();
                if !ordered {
                    found.sort();
                    rows.sort();
                }
                (found != rows).then(|| format!("{found:#?}\ninstead of\n{rows:#?}"))
            }
            Expected::Ok => self.run(sql).await.err().map(|error| error.to_string()),
            Expected::Count(count) => match self.run(sql).await {
                Ok(Done::Wrote(committed)) if committed.rows == *count => None,
                Ok(Done::Wrote(committed)) => {
                    Some(format!("{} rows instead of {count}", committed.rows))
                }
                Ok(_) => Some("nothing was written".to_owned()),
                Err(error) => Some(error.to_string()),
            },
            Expected::Error(words) => match self.run(sql).await {
                Ok(_) => Some("it is not refused".to_owned()),
                Err(error) => {
                    let message = format!("{error} ({})", error.hint().unwrap_or_default());
                    (!message.contains(words.as_str())).then_some(message)
                }
            },
        }
    }

    async fn answer(&self, sql: &str) -> Result<Vec<String>> {
        match self.plan(sql).await? {
            Planned::Query(query) => {
                let rows = self.collect(&query).await?;
                Ok(rows.iter().flat_map(texts).collect())
            }
            other => panic!("{sql} is no query: {other:?}"),
        }
    }
}

async fn conforms(home: impl AsyncFn() -> Home) {
    let only = std::env::var("CONFORMANCE").unwrap_or_default();
    let mut wrong = Vec::new();
    for file in files() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        let records = records(&std::fs::read_to_string(&file).unwrap());
        assert!(!records.is_empty(), "{name} is empty");
        let home = home().await;
        for record in records {
            if let Some(difference) = home.differs(&record).await {
                wrong.push(format!(
                    "{name}:{}: {}\n{difference}\n",
                    record.line, record.sql
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_duckdb_and_postgresql_in_one_process() {
    conforms(Home::new).await;
}

async fn conforms_on_two_workers(settings: Settings) {
    let cluster = Cluster::start().await;
    conforms(async || {
        let mut home = Home::new().await;
        home.workers = cluster.targets();
        home.settings = settings.clone();
        home
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_duckdb_and_postgresql_on_two_workers() {
    conforms_on_two_workers(forced(&[])).await;
}

/// Scans too small for a worker are read where the answer is put together, beside what workers compute.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_duckdb_and_postgresql_beside_two_workers() {
    conforms_on_two_workers(Settings::new()).await;
}

/// Plans that exchange nothing run on a worker where their scans together are large; the rest is as it comes.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_duckdb_and_postgresql_on_one_of_two_workers() {
    conforms_on_two_workers(forced(&[("drumline.bytes_per_task", "1500")])).await;
}

#[test]
fn records_are_read_as_they_are_written() {
    let read = records(
        "# c\n\nstatement ok\nCREATE\n  TABLE t\n\nonlyif duckdb\nstatement count 3\nDELETE\n\n\
         statement error no way\nDROP\n\nquery ordered\nSELECT 1\n----\n1|NULL\n2|\n",
    );
    let read = format!("{read:?}");
    assert_eq!(
        read,
        "[Record { line: 3, sql: \"CREATE\\n  TABLE t\", expected: Ok }, \
         Record { line: 11, sql: \"DROP\", expected: Error(\"no way\") }, \
         Record { line: 14, sql: \"SELECT 1\", expected: Rows { ordered: true, rows: [\"1|NULL\", \"2|\"] } }]"
    );
}
