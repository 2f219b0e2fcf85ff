//! `drumline cancel`: stops an application.

use std::time::Duration;

use serde_json::Value;

use crate::config::MasterArg;
use crate::failure::{Failure, OrFail as _, Result};
use crate::output;
use crate::records::Client;

/// How long the end may take; the master cuts off what does not stop by itself.
const WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// Stop an application and wait until nothing of it runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 once it is cancelled, with 1 where it had ended in another way before.\n\n\
    Examples:\n  drumline cancel 0198c2d0-5b1e-7c3a-9f00-3a1b2c4d5e6f"
)]
pub(crate) struct Arguments {
    /// Id of the application, as `drumline apps` shows it
    id: String,
    #[command(flatten)]
    master: MasterArg,
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let client = Client::new(&arguments.master.resolve()?)?;
    let id = arguments.id;
    client.post(&["applications", &id, "cancel"]).await?;
    let ended = async {
        loop {
            let record = client.get(&["applications", &id]).await?;
            let record: Value = serde_json::from_str(record.get())
                .or_fail(|| format!("cannot read application {id}"))?;
            let state = record["state"].as_str().unwrap_or_default().to_owned();
            if !matches!(state.as_str(), "waiting" | "running") {
                return Ok::<_, Failure>(state);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let state = tokio::time::timeout(WAIT, ended).await.map_err(|_| {
        Failure::failed(format!(
            "application {id} was asked to stop, and still runs after {} s",
            WAIT.as_secs()
        ))
        .hint(format!(
            "see what runs with `drumline jobs --application {id}`"
        ))
    })??;
    match state.as_str() {
        "cancelled" => output::print(&format!("application {id} is cancelled\n")),
        state => Err(Failure::failed(format!(
            "application {id} had ended before: {state}"
        ))),
    }
}
