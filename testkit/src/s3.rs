//! An S3 server: [moto](https://docs.getmoto.org), which keeps objects in memory and knows conditional puts.
//!
//! Signatures are made and not checked. It shows that what we send is what S3's clients send, and that what we rest
//! on (create-only puts, lists, ranges, uploads in parts) is there; for faults there is [`gcs`](crate::gcs).

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use object_store::aws::{AmazonS3, AmazonS3Builder};

use crate::kafka::cache_folder;
use crate::process::{Process, poll};

/// The pinned version; `xtask setup` reads the same file.
const REQUIREMENTS: &str = include_str!("../moto.requirements");

const SCRIPT: &str = include_str!("s3.py");

/// A machine that is busy included.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// A running server. Dropping it kills it, and with it all that it holds.
pub struct S3 {
    port: u16,
    _process: Process,
    _logs: tempfile::TempDir,
}

impl S3 {
    /// Starts a server on a free loopback port that has these buckets, empty.
    pub fn start(buckets: &[&str]) -> Result<Self> {
        let folder = cache_folder()?.join("moto");
        let there = std::fs::read_to_string(folder.join("ready")).unwrap_or_default();
        ensure!(
            there == REQUIREMENTS,
            "moto is not in {}: run `cargo xtask setup`",
            folder.display()
        );
        let logs = tempfile::Builder::new().prefix("drumline-s3-").tempdir()?;
        let mut command = Command::new(folder.join("bin/python"));
        command.args(["-I", "-c", SCRIPT]).args(buckets);
        let process = Process::start("s3", command, logs.path())?;
        let log = logs.path().join("s3.log");
        let port = poll("the S3 server's port", UP_WITHIN, || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let port = said.lines().find_map(|line| line.strip_prefix("port "));
            Ok(port.and_then(|port| port.trim().parse().ok()))
        })
        .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self {
            port,
            _process: process,
            _logs: logs,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a process needs in its environment to come here, by the names that S3's users know.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ENDPOINT", self.base_url()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "somebody".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// A client of one bucket.
    pub fn store(&self, bucket: &str) -> Result<AmazonS3> {
        AmazonS3Builder::new()
            .with_endpoint(self.base_url())
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("somebody")
            .with_secret_access_key("secret")
            .with_bucket_name(bucket)
            .build()
            .with_context(|| format!("no client for bucket {bucket}"))
    }
}
