//! `drumline stream dead-letters`: the records that could not become rows, and why.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use chrono::{DateTime, SecondsFormat, Utc};
use drumline_client::Client;
use drumline_client::proto::ReplayDeadLettersRequest;
use serde_json::json;

use super::Shape;
use crate::failure::{Failure, OrFail as _, Result};
use crate::output::{self, Columns};

/// Bytes of a value that are shown, and letters of it that fit into a line.
const BYTES: usize = 240;
const EXCERPT: usize = 60;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Dead letters are the rows of the stream's dead-letter table, so SQL sees all of them, whole.\n\n\
    Examples:\n  \
    drumline stream dead-letters beatlytica\n  \
    drumline stream dead-letters beatlytica --where \"reason LIKE 'malformed%'\" --limit 100 -o json\n  \
    drumline stream dead-letters beatlytica --replay"
)]
pub(super) struct Arguments {
    /// Name of the stream
    name: String,
    /// Show at most so many, the newest first (20 unless it is said), or decode at most so many again (all)
    #[arg(long)]
    limit: Option<u64>,
    /// Only those for which this is true: SQL over _topic, _partition, _offset, _timestamp, key, value, headers, reason, ingested_at
    #[arg(long = "where", value_name = "SQL", default_value = "true")]
    condition: String,
    /// Decode them again with the stream's present definition: those that pass become rows of their tables, once, and are
    /// dead no more; the others get their new reason
    #[arg(long)]
    replay: bool,
}

/// One dead letter, as far as it is shown.
struct Letter {
    topic: String,
    partition: i64,
    offset: i64,
    at: Option<i64>,
    ingested_at: Option<i64>,
    reason: String,
    value: Option<Vec<u8>>,
    bytes: Option<i64>,
}

pub(super) async fn run(client: &Client, arguments: Arguments, shape: Shape) -> Result {
    let Arguments {
        name,
        limit,
        condition,
        replay,
    } = arguments;
    if replay {
        return decode_again(client, name, limit, condition, shape).await;
    }
    let limit = limit.unwrap_or(20);
    let status = client.streams().status(&name).await?;
    let table = status
        .definition
        .map(|definition| definition.dead_letters)
        .filter(|table| !table.is_empty())
        .ok_or_else(|| Failure::failed(format!("stream {name} tells no table of dead letters")))?;
    let from = format!("FROM {} WHERE ({condition})", quoted(&table));
    let hex_letters = BYTES * 2;
    let sql = format!(
        "SELECT _topic, CAST(_partition AS BIGINT) AS p, _offset, CAST(to_unixtime(_timestamp) AS BIGINT) AS dated, \
         CAST(to_unixtime(ingested_at) AS BIGINT) AS at, reason, left(encode(value, 'hex'), {hex_letters}) AS begins, \
         CAST(octet_length(encode(value, 'hex')) / 2 AS BIGINT) AS size \
         {from} ORDER BY ingested_at DESC, _timestamp DESC, _topic, _partition, _offset DESC LIMIT {limit}"
    );
    let mut letters = Vec::new();
    for batch in client.collect_sql(&sql).await? {
        letters.extend(read(&batch)?);
    }
    if let Shape::Json = shape {
        return letters
            .iter()
            .try_for_each(|letter| output::print_json(&json_of(letter)));
    }
    let count = client
        .collect_sql(&format!("SELECT CAST(count(*) AS BIGINT) {from}"))
        .await?;
    let count = count.iter().find_map(|batch| {
        let counts = batch.column(0).as_primitive_opt::<Int64Type>()?;
        counts.iter().next().flatten()
    });
    output::print(&told(&name, &letters, count.unwrap_or_default()))
}

async fn decode_again(
    client: &Client,
    name: String,
    limit: Option<u64>,
    condition: String,
    shape: Shape,
) -> Result {
    let request = ReplayDeadLettersRequest {
        name: name.clone(),
        limit: limit.unwrap_or_default(),
        condition,
    };
    let done = client.streams().replay_dead_letters(request).await?;
    if let Shape::Json = shape {
        return output::print_json(&done);
    }
    let mut text = format!(
        "stream {name}: {} of {} dead letters passed\n",
        done.passed, done.letters
    );
    let rows: std::collections::BTreeMap<_, _> = done.rows.iter().collect();
    for (table, rows) in rows {
        text.push_str(&format!("table {table}: {}\n", output::rows(*rows)));
    }
    if !done.reasons.is_empty() {
        text.push_str(&format!("\n{}", super::show::reasons(&done.reasons)));
    }
    output::print(&text)
}

fn told(stream: &str, letters: &[Letter], count: i64) -> String {
    if letters.is_empty() {
        return format!("stream {stream}: no dead letters\n");
    }
    let mut columns = Columns::new(&[
        "TOPIC",
        "PARTITION",
        "OFFSET",
        "BROKER'S DATE",
        "BYTES",
        "REASON",
        "VALUE",
    ]);
    for letter in letters {
        columns.row([
            letter.topic.clone(),
            letter.partition.to_string(),
            letter.offset.to_string(),
            moment(letter.at),
            letter
                .bytes
                .map_or("-".to_owned(), |bytes| bytes.to_string()),
            letter.reason.clone(),
            excerpt(letter.value.as_deref()),
        ]);
    }
    let mut text = columns.render();
    if count > letters.len() as i64 {
        text.push_str(&format!(
            "{} of {count}; --limit shows more\n",
            letters.len()
        ));
    }
    text
}

fn json_of(letter: &Letter) -> serde_json::Value {
    json!({
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.at.map(|at| moment(Some(at))),
        "ingested_at": letter.ingested_at.map(|at| moment(Some(at))),
        "reason": letter.reason,
        "bytes": letter.bytes,
        "value": letter.value.as_deref().map(|value| String::from_utf8_lossy(value)),
    })
}

fn read(batch: &RecordBatch) -> Result<Vec<Letter>> {
    let text = |column: usize| {
        arrow::compute::cast(batch.column(column), &DataType::Utf8)
            .or_fail(|| "the master's answer makes no sense".to_owned())
    };
    let number = |column: usize| {
        arrow::compute::cast(batch.column(column), &DataType::Int64)
            .or_fail(|| "the master's answer makes no sense".to_owned())
    };
    let texts = [text(0)?, text(5)?, text(6)?];
    let [topics, reasons, values] = texts.each_ref().map(|column| column.as_string::<i32>());
    let numbers = [number(1)?, number(2)?, number(3)?, number(4)?, number(7)?];
    let [partitions, offsets, dates, ingested, bytes] = numbers
        .each_ref()
        .map(|column| column.as_primitive::<Int64Type>());
    let letters = (0..batch.num_rows()).map(|row| Letter {
        topic: topics.value(row).to_owned(),
        partition: partitions.value(row),
        offset: offsets.value(row),
        at: dates.is_valid(row).then(|| dates.value(row)),
        ingested_at: ingested.is_valid(row).then(|| ingested.value(row)),
        reason: reasons.value(row).to_owned(),
        value: values.is_valid(row).then(|| unhex(values.value(row))),
        bytes: bytes.is_valid(row).then(|| bytes.value(row)),
    });
    Ok(letters.collect())
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| Some(digit.to_digit(16)? as u8))
        .collect();
    let bytes = digits.chunks_exact(2);
    bytes.map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The beginning of a value on one line.
fn excerpt(value: Option<&[u8]>) -> String {
    let Some(value) = value else {
        return "NULL".to_owned();
    };
    let text = String::from_utf8_lossy(value);
    let mut line: String = text
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(EXCERPT)
        .collect();
    if text.chars().count() > EXCERPT {
        line.push('…');
    }
    line
}

fn moment(seconds: Option<i64>) -> String {
    seconds
        .and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0))
        .map_or("-".to_owned(), |at| {
            at.to_rfc3339_opts(SecondsFormat::Secs, true)
        })
}

/// A table's name as SQL takes it, whatever its letters.
fn quoted(table: &str) -> String {
    let parts: Vec<String> = table
        .split('.')
        .map(|part| format!("\"{}\"", part.replace('"', "\"\"")))
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_shown_on_one_line_each() {
        let letter = |offset, value: Option<&[u8]>| Letter {
            topic: "auth_events".to_owned(),
            partition: 2,
            offset,
            at: Some(1_541_000_000),
            ingested_at: None,
            reason: "null value".to_owned(),
            value: value.map(<[u8]>::to_vec),
            bytes: value.map(|value| value.len() as i64),
        };
        let letters = [letter(1, None), letter(3, Some(b"{\"ts\":\n1,\xff"))];
        insta::assert_snapshot!(told("s", &letters, 9), @r#"
        TOPIC        PARTITION  OFFSET  BROKER'S DATE         BYTES  REASON      VALUE
        auth_events          2       1  2018-10-31T15:33:20Z      -  null value  NULL
        auth_events          2       3  2018-10-31T15:33:20Z     10  null value  {"ts": 1,�
        2 of 9; --limit shows more
        "#);
        assert_eq!(unhex("7b22ff"), b"{\"\xff");
        assert_eq!(quoted("a.B"), "\"a\".\"B\"");
        assert!(excerpt(Some(&[b'x'; 200])).ends_with("x…"));
    }
}
