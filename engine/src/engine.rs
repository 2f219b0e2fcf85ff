//! The master's side: one [`Engine`] per process, which plans statements and starts jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlan;
use drumline_lake::Stores;

use crate::memory::Memory;
use crate::route::RouteFn;
use crate::transport::network::Network;
use crate::{Interrupt, Job, Options, Result, WorkerTarget};

/// Plans statements and starts jobs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) network: Arc<Network>,
    pub(crate) stores: Stores,
}

/// A statement that yields rows, bound to the tables it reads.
#[derive(Debug, Clone)]
pub struct Query {
    /// The plan, not optimised yet.
    pub plan: LogicalPlan,
    /// Session settings it runs with.
    pub settings: BTreeMap<String, String>,
}

impl Query {
    /// Schema of its rows.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }
}

impl Engine {
    /// An engine with its own memory pool and connections.
    pub fn new(options: Options) -> Result<Self> {
        let memory = Memory::new(options.memory_limit);
        let inner = Inner {
            runtime: crate::session::runtime_with(&options, &memory)?,
            memory,
            network: Arc::new(Network::new(&options)?),
            stores: options.stores,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The runtime of this process's part of jobs: its memory pool, object stores and spill folder.
    pub fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.inner.runtime
    }

    /// Plans a query for these workers and starts it. Each call is a new job with a fresh id; dropping
    /// the job's stream cancels it. A plan that needs no exchange, or gets no worker, runs in place.
    pub async fn start(
        &self,
        query: &Query,
        workers: Vec<WorkerTarget>,
        route: RouteFn,
    ) -> Result<Job> {
        self.start_under(query, workers, route, &Interrupt::default())
            .await
    }

    /// As [`Engine::start`], for who must be able to stop the job from another thread: raising `interrupt` does.
    pub async fn start_under(
        &self,
        query: &Query,
        workers: Vec<WorkerTarget>,
        route: RouteFn,
        interrupt: &Interrupt,
    ) -> Result<Job> {
        crate::launch::launch(&self.inner, query, &workers, &route, interrupt).await
    }

    /// Whether workers are of no use to a query: it is so small, or of such a kind, that it exchanges nothing.
    pub async fn runs_in_place(&self, query: &Query) -> Result<bool> {
        crate::launch::runs_in_place(&self.inner, query).await
    }
}
