//! Measurements: Drumline beside what it is compared with, in the same run, on the same files.
//!
//! Answers are checked whenever they are measured; a fast wrong answer is a failure.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use drumline_client::{Client, Options};
use drumline_testkit::Cluster;

mod peer;
pub mod stream;
pub mod tpcds;
pub mod tpch;
pub mod versus;

pub use peer::InProcess;

/// A client of a cluster, with its admin's token.
pub async fn connect(cluster: &Cluster) -> anyhow::Result<Client> {
    let mut options = Options::default();
    options.token = Some(cluster.token()?);
    Ok(Client::connect_with(&cluster.url(), options).await?)
}
