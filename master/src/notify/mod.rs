//! Tells a webhook what somebody should look at: an application that failed, a stream that fails, a worker
//! that was lost or is set aside.
//!
//! Nothing waits for it. What does not fit into its queue is counted, and the next notice says how many were
//! left out. The URL is a secret: it is shown nowhere but as its host.

mod notice;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::backoff::Backoff;
use crate::facts::{Fact, Facts};
use crate::{Error, Result};
use notice::{Notice, Notices};

/// Notices that wait for a webhook that does not answer.
const QUEUE: usize = 256;
const ATTEMPTS: u32 = 6;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where notices go.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
}

impl Webhook {
    /// Takes an `http` or `https` URL.
    pub fn new(url: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::Webhook {
            reason: reason.to_owned(),
        };
        let url = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(Self { url }),
            _ => Err(wrong("it is neither http nor https")),
        }
    }

    fn shown(&self) -> String {
        format!(
            "{}://{}/…",
            self.url.scheme(),
            self.url.host_str().unwrap_or_default()
        )
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Starts listening at once; the future sends, until `shutdown`.
pub(crate) fn start(
    webhook: Webhook,
    facts: &Facts,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>> {
    drumline_security::install_crypto();
    let client = reqwest::Client::builder()
        .timeout(ANSWER_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("drumline/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::Webhook {
            reason: error.without_url().to_string(),
        })?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let hears = hear(facts.listen(), queue);
    let sender = Sender { client, webhook };
    Ok(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = hears => {}
            () = sender.send_all(waiting) => {}
        }
    })
}

async fn hear(mut facts: broadcast::Receiver<Arc<Fact>>, queue: mpsc::Sender<Notice>) {
    let mut notices = Notices::default();
    loop {
        let fact = match facts.recv().await {
            Ok(fact) => fact,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "the webhook is not told of some of what happened");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let Some(mut notice) = notices.of(&fact) else {
            continue;
        };
        notice.left_out = notices.left_out();
        match queue.try_send(notice) {
            Ok(()) => notices.sent(),
            Err(_) => notices.full(),
        }
    }
}

struct Sender {
    client: reqwest::Client,
    webhook: Webhook,
}

impl Sender {
    async fn send_all(self, mut waiting: mpsc::Receiver<Notice>) {
        let mut backoff = Backoff::new(rand::random());
        while let Some(notice) = waiting.recv().await {
            for attempt in 1..=ATTEMPTS {
                let Err(reason) = self.send(&notice).await else {
                    break;
                };
                tracing::warn!(webhook = ?self.webhook, attempt, reason, "webhook was not told");
                if attempt < ATTEMPTS {
                    tokio::time::sleep(backoff.before(attempt + 1)).await;
                }
            }
        }
    }

    /// The reason never has the URL in it.
    async fn send(&self, notice: &Notice) -> Result<(), String> {
        let request = self.client.post(self.webhook.url.clone()).json(notice);
        let answer = request
            .send()
            .await
            .map_err(|error| chain(&error.without_url()))?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("it answered {}", answer.status())),
        }
    }
}

/// The whole chain of an error: the first link says little.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests;
