//! Whether the process lives, and whether it can do its work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use drumline_lake::Catalog;
use tokio::sync::Semaphore;

use super::{Problem, Rest};

/// How long an answer of the lake counts: probes come often, and a lake's calls cost money.
const FRESH: Duration = Duration::from_secs(5);
/// How long the lake may take to answer.
const LAKE_LIMIT: Duration = Duration::from_secs(5);

/// Whether what the master depends on answers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readiness {
    catalog: Catalog,
    last: Arc<Mutex<Option<Seen>>>,
    /// One look at a time.
    looking: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    /// Why it is not ready.
    reason: Option<String>,
}

impl Readiness {
    pub(crate) fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            last: Arc::default(),
            looking: Arc::new(Semaphore::new(1)),
        }
    }

    /// Why the master cannot do its work; nothing if it can.
    async fn reason(&self) -> Option<String> {
        if let Some(seen) = self.fresh() {
            return seen.reason;
        }
        let _looking = self.looking.acquire().await;
        // Another may have looked meanwhile.
        if let Some(seen) = self.fresh() {
            return seen.reason;
        }
        let looked = tokio::time::timeout(LAKE_LIMIT, self.catalog.refresh()).await;
        let root = self.catalog.lake().root();
        let reason = match looked {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("the lake {root} does not answer: {error}")),
            Err(_) => Some(format!(
                "the lake {root} did not answer within {} s",
                LAKE_LIMIT.as_secs()
            )),
        };
        *self.lock() = Some(Seen {
            at: Instant::now(),
            reason: reason.clone(),
        });
        reason
    }

    fn fresh(&self) -> Option<Seen> {
        self.lock().clone().filter(|seen| seen.at.elapsed() < FRESH)
    }

    // A value is replaced whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The process lives
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The master can do its work
///
/// 503 with the reason while the lake does not answer, or the journal cannot be written.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses((status = 200, description = "It can", body = String, content_type = "text/plain"))
)]
pub(super) async fn ready(State(rest): State<Rest>) -> Result<&'static str, Problem> {
    if rest.shutdown.is_cancelled() {
        return Err(Problem::unavailable("the master is stopping"));
    }
    rest.facts.accepts()?;
    match rest.readiness.reason().await {
        None => Ok("ready\n"),
        Some(reason) => Err(Problem::unavailable(reason)
            .hint("check the lake's address, its credentials and the network")),
    }
}
