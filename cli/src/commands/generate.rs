//! `drumline generate`.
use crate::failure::{Failure, Result};
/// Show the whole path.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}
pub(crate) async fn run(_arguments: Arguments) -> Result {
    Err(Failure::failed("not here yet"))
}
