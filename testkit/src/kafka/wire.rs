//! A few requests of the Kafka protocol, by hand: enough to know that a broker works, and to make,
//! grow and shorten topics. So tests do not judge our Kafka client by our Kafka client.
//!
//! Layouts: <https://kafka.apache.org/protocol.html>, Metadata v1, CreateTopics v2,
//! DeleteRecords v1, CreatePartitions v1.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const METADATA: (i16, i16) = (3, 1);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const DELETE_RECORDS: (i16, i16) = (21, 1);
const CREATE_PARTITIONS: (i16, i16) = (37, 1);
const TOPIC_ALREADY_EXISTS: i16 = 36;
const WAIT: Duration = Duration::from_secs(10);

/// How many brokers this one names, itself among them. An open port alone may belong to one that is still starting.
pub(super) fn known_brokers(port: u16) -> Result<i32> {
    // No topics asked for.
    let answer = ask(port, METADATA, &0_i32.to_be_bytes())?;
    let brokers = answer.first_chunk().context("metadata is cut off")?;
    Ok(i32::from_be_bytes(*brokers))
}

/// Creates topics with a number of partitions each, every one on so many brokers; those that are there stay as they
/// are.
pub(super) fn create_topics(port: u16, topics: &[(&str, u32)], replicas: i16) -> Result<()> {
    let mut wanted = Vec::new();
    for (name, partitions) in topics {
        put_text(&mut wanted, name)?;
        wanted.extend(i32::try_from(*partitions)?.to_be_bytes());
        wanted.extend(replicas.to_be_bytes());
        // No assignments, no settings.
        wanted.extend([0; 8]);
    }
    create(port, topics.len(), &wanted)
}

/// Creates a topic whose partitions are on these brokers, led by the first of them.
pub(super) fn create_placed_topic(port: u16, name: &str, partitions: &[&[i32]]) -> Result<()> {
    let mut wanted = Vec::new();
    put_text(&mut wanted, name)?;
    // How many partitions and replicas is told by the assignments.
    wanted.extend((-1_i32).to_be_bytes());
    wanted.extend((-1_i16).to_be_bytes());
    wanted.extend(i32::try_from(partitions.len())?.to_be_bytes());
    for (partition, brokers) in (0_i32..).zip(partitions) {
        wanted.extend(partition.to_be_bytes());
        wanted.extend(i32::try_from(brokers.len())?.to_be_bytes());
        wanted.extend(brokers.iter().flat_map(|broker| broker.to_be_bytes()));
    }
    // No settings.
    wanted.extend([0; 4]);
    create(port, 1, &wanted)
}

fn create(port: u16, topics: usize, wanted: &[u8]) -> Result<()> {
    let mut body = Vec::new();
    body.extend(i32::try_from(topics)?.to_be_bytes());
    body.extend(wanted);
    body.extend(i32::try_from(WAIT.as_millis())?.to_be_bytes());
    // Not only to validate.
    body.push(0);
    let answer = ask(port, CREATE_TOPICS, &body)?;
    // Throttle time and the number of topics come first.
    let mut rest = answer.get(8..).context("answer is cut off")?;
    for _ in 0..topics {
        let name = take_text(&mut rest)?;
        let code = i16::from_be_bytes(take(&mut rest)?);
        let message = take_text(&mut rest)?;
        if code != 0 && code != TOPIC_ALREADY_EXISTS {
            bail!("topic {name}: error {code}: {message}");
        }
    }
    Ok(())
}

/// Gives a topic more partitions, so that it has `total`.
pub(super) fn create_partitions(port: u16, topic: &str, total: u32) -> Result<()> {
    let mut body = 1_i32.to_be_bytes().to_vec();
    put_text(&mut body, topic)?;
    body.extend(i32::try_from(total)?.to_be_bytes());
    // No assignments.
    body.extend((-1_i32).to_be_bytes());
    body.extend(i32::try_from(WAIT.as_millis())?.to_be_bytes());
    // Not only to validate.
    body.push(0);
    let answer = ask(port, CREATE_PARTITIONS, &body)?;
    let mut rest = answer.get(8..).context("answer is cut off")?;
    take_text(&mut rest)?;
    let code = i16::from_be_bytes(take(&mut rest)?);
    let message = take_text(&mut rest)?;
    ensure!(code == 0, "topic {topic}: error {code}: {message}");
    Ok(())
}

/// Drops a partition's records below `before`, as retention does.
pub(super) fn delete_records(port: u16, topic: &str, partition: i32, before: i64) -> Result<()> {
    let mut body = 1_i32.to_be_bytes().to_vec();
    put_text(&mut body, topic)?;
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(before.to_be_bytes());
    body.extend(i32::try_from(WAIT.as_millis())?.to_be_bytes());
    let answer = ask(port, DELETE_RECORDS, &body)?;
    let mut rest = answer.get(8..).context("answer is cut off")?;
    take_text(&mut rest)?;
    // The number of partitions, then of the one: its index, its new first offset, an error.
    let _: [u8; 8] = take(&mut rest)?;
    let low = i64::from_be_bytes(take(&mut rest)?);
    let code = i16::from_be_bytes(take(&mut rest)?);
    ensure!(
        code == 0 && low == before,
        "topic {topic} partition {partition}: error {code}, begins at {low}"
    );
    Ok(())
}

/// Sends one request, gives the answer's body.
fn ask(port: u16, (key, version): (i16, i16), body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let mut request = Vec::new();
    // Key, version, correlation id, no client id: ten bytes.
    request.extend(i32::try_from(10 + body.len())?.to_be_bytes());
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend((-1_i16).to_be_bytes());
    request.extend(body);
    stream.write_all(&request)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size))?];
    stream.read_exact(&mut answer)?;
    ensure!(
        answer.get(..4) == Some(&[0, 0, 0, 1]),
        "an answer to another request"
    );
    Ok(answer.split_off(4))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (head, tail) = rest.split_first_chunk().context("answer is cut off")?;
    *rest = tail;
    Ok(*head)
}

fn put_text(body: &mut Vec<u8>, text: &str) -> Result<()> {
    body.extend(i16::try_from(text.len())?.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}

/// A text with its length before it; length -1: none.
fn take_text(rest: &mut &[u8]) -> Result<String> {
    let length = i16::from_be_bytes(take(rest)?);
    let (text, tail) = rest
        .split_at_checked(usize::try_from(length).unwrap_or(0))
        .context("answer is cut off")?;
    *rest = tail;
    Ok(String::from_utf8_lossy(text).into_owned())
}
