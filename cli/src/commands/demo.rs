//! `drumline demo`: Kafka, lake, distributed SQL, answers.

use crate::failure::{Failure, Result};

/// Show the whole path on real listening events.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) async fn run(_arguments: Arguments) -> Result {
    Err(Failure::failed("the demo is not here yet"))
}
