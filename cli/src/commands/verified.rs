//! `drumline stream verify`: what was found, for people and for programs.

use drumline_client::Streams;
use drumline_client::proto::{VerifyStreamResponse, Violation};

use crate::failure::{Failure, Result};
use crate::output::{self, Columns};

/// Has a stream's tables looked at; fails where one of them does not hold each record once.
pub(super) async fn verify(streams: &Streams, name: &str, as_json: bool) -> Result {
    let mut found = streams.verify(name).await?;
    match as_json {
        true => {
            // For naming what is wrong; many, and of no use without it.
            for table in &mut found.tables {
                for partition in &mut table.partitions {
                    partition.ranges.clear();
                }
            }
            output::print_json(&found)?;
        }
        false => output::print(&table(&found))?,
    }
    match found.violations.len() {
        0 => Ok(()),
        count => Err(Failure::failed(format!(
            "stream {name} does not hold each record once: {count} violation{}",
            if count == 1 { "" } else { "s" }
        ))
        .hint(
            "pause the stream and keep the logs of master and workers: this should never happen",
        )),
    }
}

fn table(found: &VerifyStreamResponse) -> String {
    let mut columns = Columns::new(&[
        "TABLE",
        "VERSION",
        "TOPIC",
        "PARTITION",
        "FROM",
        "TO",
        "RECORDS",
        "ROWS",
        "FILTERED",
        "DEAD LETTERS",
        "IN KAFKA",
        "COUNTED FROM",
    ]);
    for table in &found.tables {
        for partition in &table.partitions {
            let (in_kafka, from) = match partition.found_from {
                ..0 => ("-".to_owned(), "-".to_owned()),
                from => (partition.found.to_string(), from.to_string()),
            };
            columns.row([
                table.table.clone(),
                table.version.to_string(),
                partition.topic.clone(),
                partition.partition.to_string(),
                partition.from.to_string(),
                partition.to.to_string(),
                partition.records.to_string(),
                partition.rows.to_string(),
                partition.filtered.to_string(),
                partition.dead_letters.to_string(),
                in_kafka,
                from,
            ]);
        }
    }
    let mut text = columns.render();
    if !found.notes.is_empty() {
        text.push('\n');
    }
    for note in &found.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if !found.violations.is_empty() {
        text.push('\n');
    }
    for violation in &found.violations {
        text.push_str(&format!("violation: {}\n", words(violation)));
    }
    let tables = found.tables.len();
    let commits: u64 = found.tables.iter().map(|table| table.commits).sum();
    if found.violations.is_empty() {
        text.push_str(&format!(
            "\nstream {}: whole; {commits} commits of {tables} tables hold each record once\n",
            found.name
        ));
    }
    text
}

fn words(violation: &Violation) -> String {
    let Violation {
        table,
        topic,
        partition,
        version,
        from,
        to,
        what,
    } = violation;
    match topic.as_str() {
        "" => format!("table {table} version {version}: {what}"),
        _ => format!("table {table} version {version}, {topic}/{partition} [{from}, {to}): {what}"),
    }
}

#[cfg(test)]
mod tests {
    use drumline_client::proto::{VerifiedPartition, VerifiedTable};

    use super::*;

    fn found(violations: Vec<Violation>) -> VerifyStreamResponse {
        VerifyStreamResponse {
            name: "small".to_owned(),
            tables: vec![VerifiedTable {
                table: "events".to_owned(),
                kind: "rows".to_owned(),
                version: 4,
                commits: 3,
                partitions: vec![VerifiedPartition {
                    topic: "events".to_owned(),
                    to: 50,
                    records: 48,
                    rows: 45,
                    filtered: 2,
                    dead_letters: 1,
                    found: 38,
                    found_from: 10,
                    ..VerifiedPartition::default()
                }],
                ..VerifiedTable::default()
            }],
            violations,
            notes: vec!["events/0: kafka has nothing before offset 10 any more".to_owned()],
        }
    }

    #[test]
    fn a_whole_stream_is_said_to_be_whole_and_from_where_it_was_counted() {
        insta::assert_snapshot!(table(&found(Vec::new())), @r"
        TABLE   VERSION  TOPIC   PARTITION  FROM  TO  RECORDS  ROWS  FILTERED  DEAD LETTERS  IN KAFKA  COUNTED FROM
        events        4  events          0     0  50       48    45         2             1        38            10

        note: events/0: kafka has nothing before offset 10 any more

        stream small: whole; 3 commits of 1 tables hold each record once
        ");
    }

    #[test]
    fn a_violation_names_table_partition_version_and_range() {
        let violation = Violation {
            table: "events".to_owned(),
            topic: "events".to_owned(),
            partition: 0,
            version: 3,
            from: 20,
            to: 30,
            what: "no commit holds this range".to_owned(),
        };
        let text = table(&found(vec![violation]));
        assert!(
            text.contains(
                "violation: table events version 3, events/0 [20, 30): no commit holds this range"
            ),
            "{text}"
        );
        assert!(!text.contains("whole"), "{text}");
    }
}
