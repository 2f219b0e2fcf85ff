//! Two requests of the Kafka protocol, by hand: enough to know that a broker works and to make
//! topics. So tests do not judge our Kafka client by our Kafka client.
//!
//! Layouts: <https://kafka.apache.org/protocol.html>, Metadata v1 and CreateTopics v2.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const METADATA: (i16, i16) = (3, 1);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const TOPIC_ALREADY_EXISTS: i16 = 36;
const WAIT: Duration = Duration::from_secs(10);

/// Whether the broker names itself. An open port alone may belong to one that is still starting.
pub(super) fn is_ready(port: u16) -> Result<bool> {
    // No topics asked for.
    let answer = ask(port, METADATA, &0_i32.to_be_bytes())?;
    let brokers = answer.first_chunk().context("metadata is cut off")?;
    Ok(i32::from_be_bytes(*brokers) > 0)
}

/// Creates topics with a number of partitions each; those that are there stay as they are.
pub(super) fn create_topics(port: u16, topics: &[(&str, u32)]) -> Result<()> {
    let mut body = Vec::new();
    body.extend(i32::try_from(topics.len())?.to_be_bytes());
    for (name, partitions) in topics {
        body.extend(i16::try_from(name.len())?.to_be_bytes());
        body.extend(name.as_bytes());
        body.extend(i32::try_from(*partitions)?.to_be_bytes());
        body.extend(1_i16.to_be_bytes());
        // No assignments, no settings.
        body.extend([0; 8]);
    }
    body.extend(i32::try_from(WAIT.as_millis())?.to_be_bytes());
    // Not only to validate.
    body.push(0);
    let answer = ask(port, CREATE_TOPICS, &body)?;
    // Throttle time and the number of topics come first.
    let mut rest = answer.get(8..).context("answer is cut off")?;
    for _ in topics {
        let name = take_text(&mut rest)?;
        let code = i16::from_be_bytes(take(&mut rest)?);
        let message = take_text(&mut rest)?;
        if code != 0 && code != TOPIC_ALREADY_EXISTS {
            bail!("topic {name}: error {code}: {message}");
        }
    }
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

/// A text with its length before it; length -1: none.
fn take_text(rest: &mut &[u8]) -> Result<String> {
    let length = i16::from_be_bytes(take(rest)?);
    let (text, tail) = rest
        .split_at_checked(usize::try_from(length).unwrap_or(0))
        .context("answer is cut off")?;
    *rest = tail;
    Ok(String::from_utf8_lossy(text).into_owned())
}
