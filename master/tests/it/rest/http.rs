//! As much of an HTTP client as the tests need.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longer than any wait that can go well.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    call(address, "GET", path).await
}

pub async fn post(address: SocketAddr, path: &str) -> Answer {
    call(address, "POST", path).await
}

pub async fn call(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = ask(address, method, path).await;
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut text))
        .await
        .expect("an answer in time")
        .unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

// Version 1.0: bodies come as they are, and the connection ends with them.
async fn ask(address: SocketAddr, method: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Server-sent events as they arrive.
pub struct Events {
    lines: tokio::io::Lines<BufReader<TcpStream>>,
    pub sequences: Vec<u64>,
}

#[derive(Debug)]
pub struct Event {
    pub name: String,
    pub data: Value,
}

impl Events {
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        let mut lines = BufReader::new(ask(address, "GET", path).await).lines();
        let status = lines.next_line().await.unwrap().unwrap();
        assert!(status.contains(" 200 "), "{status}");
        while !lines.next_line().await.unwrap().unwrap().is_empty() {}
        Self {
            lines,
            sequences: vec![],
        }
    }

    pub async fn next(&mut self) -> Event {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = tokio::time::timeout(DEADLINE, self.lines.next_line())
                .await
                .expect("an event in time")
                .unwrap()
                .expect("the stream goes on");
            match line.split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("id", value)) => self.sequences.push(value.parse().unwrap()),
                Some(("data", value)) => data.push_str(value),
                _ if line.is_empty() && !name.is_empty() => {
                    let data = serde_json::from_str(&data).unwrap();
                    return Event { name, data };
                }
                _ => {}
            }
        }
    }

    /// Reads on until a fact of this kind.
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await;
            assert_eq!(event.name, "fact", "{event:?}");
            if event.data["event"] == kind {
                return event.data;
            }
        }
    }

    /// Whether the stream comes to its end.
    pub async fn ended(mut self) -> bool {
        let rest = async { while let Ok(Some(_)) = self.lines.next_line().await {} };
        tokio::time::timeout(DEADLINE, rest).await.is_ok()
    }
}
