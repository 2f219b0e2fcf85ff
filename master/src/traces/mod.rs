//! Sends what applications did to a collector of OpenTelemetry traces, over OTLP (gRPC).
//!
//! Spans are read from the facts when a statement ends, so they agree with everything else that is shown. Nothing
//! waits for the collector: what it does not take in time is left out, and the log says how much.
//!
//! Read next: `spans.rs`, which shapes them, purely.

mod spans;

use std::sync::Arc;
use std::time::Duration;

use drumline_security::{Connector, Trust, endpoint};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::backoff::Backoff;
use crate::facts::{Event, Fact, Facts};
use crate::{Error, Result};

/// Statements that wait for a collector that does not answer.
const QUEUE: usize = 256;
const ATTEMPTS: u32 = 4;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What is not sent by then, after the master was told to stop, is left out.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where traces go.
#[derive(Clone, Debug)]
pub struct Collector {
    endpoint: Url,
}

impl Collector {
    /// Takes `http://HOST:PORT`, or `https` to a collector whose certificate this machine trusts.
    pub fn new(url: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::Collector {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let endpoint = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            // The URL is shown; headers are not.
            return Err(Error::Collector {
                url: endpoint.host_str().unwrap_or_default().to_owned(),
                reason: "it holds a user or a password".to_owned(),
            });
        }
        match endpoint.scheme() {
            "http" | "https" if endpoint.has_host() => Ok(Self { endpoint }),
            _ => Err(wrong("it is neither http nor https")),
        }
    }

    /// With the port said, which is 4317 where it is not.
    pub(crate) fn address(&self) -> String {
        let host = self.endpoint.host_str().unwrap_or_default();
        // A URL forgets a port that is its scheme's own.
        let port = self.endpoint.port().unwrap_or(4317);
        format!("{}://{host}:{port}", self.endpoint.scheme())
    }

    fn exporter(&self, cluster: &str) -> Result<SpanExporter> {
        let unusable = |reason: String| Error::Collector {
            url: self.address(),
            reason,
        };
        let trust = match self.endpoint.scheme() {
            "https" => Trust::system()?,
            _ => Trust::Plain,
        };
        let channel = endpoint(&self.address())?
            .connect_timeout(ANSWER_WITHIN)
            .timeout(ANSWER_WITHIN)
            .connect_with_connector_lazy(Connector::new(trust));
        let mut exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(ANSWER_WITHIN)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        exporter.set_resource(
            &Resource::builder()
                .with_service_name("drumline")
                .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                .with_attribute(KeyValue::new("service.instance.id", cluster.to_owned()))
                .build(),
        );
        Ok(exporter)
    }
}

/// Starts listening at once; the future sends, until `shutdown`. `cluster` tells this master from others.
pub(crate) fn start(
    collector: &Collector,
    cluster: &str,
    facts: &Facts,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>> {
    let exporter = collector.exporter(cluster)?;
    let address = collector.address();
    let (queue, waiting) = mpsc::channel(QUEUE);
    let hears = hear(facts.clone(), facts.listen(), queue);
    Ok(async move {
        let sends = send_all(exporter, address, waiting);
        tokio::pin!(sends);
        tokio::select! {
            () = &mut sends => return,
            // Dropped with the queue in it, so that sending comes to an end.
            () = async { tokio::select! { () = shutdown.cancelled() => {} () = hears => {} } } => {}
        }
        if tokio::time::timeout(LAST_WORDS, sends).await.is_err() {
            tracing::warn!("the last traces were not sent");
        }
    })
}

async fn hear(
    facts: Facts,
    mut told: broadcast::Receiver<Arc<Fact>>,
    queue: mpsc::Sender<Vec<SpanData>>,
) {
    let mut left_out: u64 = 0;
    loop {
        let fact = match told.recv().await {
            Ok(fact) => fact,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "traces lack some of what happened");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let spans = match &fact.event {
            Event::StatementFinished {
                application,
                statement,
                ..
            } => spans::of_statement(&facts.history(), application, *statement),
            Event::ApplicationFinished { application, .. } => {
                spans::of_end(&facts.history(), application)
            }
            _ => continue,
        };
        if !spans.is_empty() && queue.try_send(spans).is_err() {
            left_out += 1;
            // Powers of two, so that a collector that is away does not fill the log.
            if left_out.is_power_of_two() {
                tracing::warn!(
                    left_out,
                    "statements are left out of the traces: the collector is too slow"
                );
            }
        }
    }
}

async fn send_all(
    exporter: SpanExporter,
    address: String,
    mut waiting: mpsc::Receiver<Vec<SpanData>>,
) {
    let mut backoff = Backoff::new(rand::random());
    while let Some(spans) = waiting.recv().await {
        for attempt in 1..=ATTEMPTS {
            let Err(reason) = exporter.export(spans.clone()).await else {
                break;
            };
            tracing::warn!(collector = address, attempt, %reason, "traces were not taken");
            if attempt < ATTEMPTS {
                tokio::time::sleep(backoff.before(attempt + 1)).await;
            }
        }
    }
}
