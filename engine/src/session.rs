//! How sessions are built, on the master, on workers and for streams. Nowhere else is one built.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::sanity_checker::SanityCheckPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_distributed::{
    DistributedConfig, DistributedExt, RouteTasksHandler, SessionStateBuilderExt,
    WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerQueryContext, WorkerResolver,
    WorkerSessionBuilder,
};
use drumline_lake::Stores;
use http::HeaderMap;
use url::Url;

use crate::fences::fenced;
use crate::float_bounds::without_float_pruning;
use crate::functions::{self, JsonOperators};
use crate::interrupt::{Interrupt, interruptible};
use crate::joins::PlainKeys;
use crate::lake_write::{LakePlanner, LakeWriteCodec};
use crate::lenient::lenient;
use crate::meaning::{self, Decimals, SqlTypes};
use crate::memory::Memory;
use crate::orders::KeptOrders;
use crate::row_numbers::with_row_numbers;
use crate::scan::{self, CutScans};
use crate::settings::{self, Settings};
use crate::tasks::{TASK_HEADER, Task, Tasks};
use crate::topics::{self, Reader, TopicReader, TopicScanCodec};
use crate::transport::client::Channels;
use crate::transport::network::Network;
use crate::windows::SortedWindows;
use crate::{Error, Options, Result};

/// The runtime of a process: its object stores, its memory, its spill folder. One per process.
pub fn runtime(options: &Options) -> Result<Arc<RuntimeEnv>> {
    runtime_with(options, &Memory::new(options.memory_limit))
}

/// What does not belong to a job (streams) draws from `memory` like one job.
pub(crate) fn runtime_with(options: &Options, memory: &Arc<Memory>) -> Result<Arc<RuntimeEnv>> {
    std::fs::create_dir_all(&options.work_dir).map_err(|source| Error::WorkDir {
        path: options.work_dir.clone(),
        source,
    })?;
    let builder = RuntimeEnvBuilder::new()
        .with_object_store_registry(options.stores.registry())
        // Others fill external tables: what was listed once must not be believed again.
        .with_object_list_cache_limit(0)
        .with_temp_file_path(&options.work_dir)
        .with_memory_pool(memory.pool("", &Interrupt::default()));
    Ok(builder.build_arc()?)
}

/// A session that runs everything in this process: stream transforms, tests.
pub fn local_session(runtime: &Arc<RuntimeEnv>, settings: &Settings) -> Result<SessionContext> {
    let mut config = settings::set_defaults(SessionConfig::new());
    settings::apply(&mut config, settings)?;
    let builder = with_meaning(SessionStateBuilder::new(), &config)
        .with_default_features()
        .with_config(config)
        .with_physical_optimizer_rules(physical_rules())
        .with_runtime_env(Arc::clone(runtime));
    let state = with_functions(builder).build();
    Ok(SessionContext::new_with_state(state))
}

/// What a job's session needs to reach its workers.
pub(crate) struct Distribution<R> {
    pub(crate) workers: Vec<Url>,
    pub(crate) channels: Channels,
    pub(crate) routes: R,
    pub(crate) stores: Stores,
}

/// The session that plans one job and runs its head.
pub(crate) fn job_session(
    runtime: &Arc<RuntimeEnv>,
    settings: &Settings,
    distribution: Distribution<impl RouteTasksHandler>,
) -> Result<SessionState> {
    let mut config = settings::set_defaults(SessionConfig::new())
        .with_distributed_option_extension(DistributedConfig::default());
    settings::apply(&mut config, settings)?;
    let mut optimizers = physical_rules();
    optimizers.insert(0, Arc::new(CutScans));
    optimizers.insert(0, Arc::new(PlainKeys));
    optimizers.push(Arc::new(SortedWindows));
    let builder = with_meaning(SessionStateBuilder::new(), &config)
        .with_default_features()
        .with_config(config)
        .with_runtime_env(Arc::clone(runtime))
        .with_physical_optimizer_rules(optimizers)
        .with_query_planner(Arc::new(LakePlanner::new(distribution.stores.clone())))
        .with_distributed_user_codec(LakeWriteCodec::new(distribution.stores))
        .with_distributed_user_codec(TopicScanCodec)
        .with_distributed_worker_resolver(Workers(distribution.workers))
        .with_distributed_channel_resolver(distribution.channels)
        .with_distributed_desired_task_count_handler(scan::desired_tasks)
        .with_distributed_scale_up_leaf_node_handler(topics::scale_up)
        .with_distributed_scale_up_leaf_node_handler(scan::scale_up)
        .with_distributed_route_tasks_handler(distribution.routes)
        .with_distributed_passthrough_headers(settings::to_headers(settings)?)?
        .with_distributed_planner();
    let mut state = with_functions(builder).build();
    // Statements have a moment of their own; this is for plans that came from elsewhere.
    state.mark_start_execution();
    Ok(state)
}

/// DataFusion's rules for physical plans, and what they get wrong put right.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = fenced(PhysicalOptimizer::default().rules);
    let last_look = SanityCheckPlan::new();
    let is_last_look =
        |rule: &Arc<dyn PhysicalOptimizerRule + Send + Sync>| rule.name() == last_look.name();
    let at = rules.iter().position(is_last_look).unwrap_or(rules.len());
    rules.insert(at, Arc::new(KeptOrders));
    rules
}

/// Adds our functions to those that a builder has.
fn with_functions(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    builder
        .scalar_functions()
        .get_or_insert_default()
        .extend(functions::all());
    builder
        .aggregate_functions()
        .get_or_insert_default()
        .extend(functions::aggregates());
    builder
}

/// Makes plans mean what [`crate::meaning`] says.
fn with_meaning(builder: SessionStateBuilder, config: &SessionConfig) -> SessionStateBuilder {
    builder
        .with_analyzer_rules(meaning::rules())
        .with_optimizer_rules(lenient(Optimizer::new().rules))
        .with_expr_planners(vec![Arc::new(Decimals), Arc::new(JsonOperators)])
        .with_type_planner(Arc::new(SqlTypes::of(config.options())))
}

struct Workers(Vec<Url>);

impl WorkerResolver for Workers {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.0.clone())
    }
}

/// Builds the session of each task on a worker.
pub(crate) struct WorkerSessions {
    network: Arc<Network>,
    tasks: Tasks,
    stores: Stores,
    memory: Arc<Memory>,
    topics: Option<Arc<Reader>>,
}

impl WorkerSessions {
    pub(crate) fn new(
        network: Arc<Network>,
        tasks: Tasks,
        stores: Stores,
        memory: Arc<Memory>,
        topics: Option<Arc<dyn TopicReader>>,
    ) -> Self {
        Self {
            network,
            tasks,
            stores,
            memory,
            topics: topics.map(|reader| Arc::new(Reader(reader))),
        }
    }
}

#[async_trait]
impl WorkerSessionBuilder for WorkerSessions {
    async fn build_session_state(
        &self,
        context: WorkerQueryContext,
    ) -> Result<SessionState, DataFusionError> {
        let WorkerQueryContext {
            mut builder,
            headers,
        } = context;
        let mut config = settings::set_defaults(builder.config().take().unwrap_or_default());
        settings::apply(&mut config, &settings::from_headers(&headers)?)?;
        // The planner on the master needs this one; here it makes both sessions the same.
        config
            .options_mut()
            .optimizer
            .enable_physical_uncorrelated_scalar_subquery = false;
        if let Some((name, task)) = task_of(&headers, &self.tasks) {
            if let Some(runtime) = builder.runtime_env() {
                let job = name.split('/').next().unwrap_or(name);
                *runtime = self.memory.of_job(runtime, job, task.interrupt());
            }
            config.set_extension(task);
        }
        if let Some(reader) = &self.topics {
            config.set_extension(Arc::clone(reader));
        }
        // Whoever prepares the plan is told the settings alone, and looks for stores.
        if let Some(runtime) = builder.runtime_env() {
            config.set_extension(Arc::clone(runtime));
        }
        let state = with_functions(builder)
            .with_config(config)
            .with_distributed_user_codec(LakeWriteCodec::new(self.stores.clone()))
            .with_distributed_user_codec(TopicScanCodec)
            .with_distributed_channel_resolver(Channels::new(Arc::clone(&self.network), None))
            .with_distributed_worker_plan_rewrite_handler(prepare_plan)
            .build();
        Ok(state)
    }
}

fn task_of<'a>(headers: &'a HeaderMap, tasks: &Tasks) -> Option<(&'a str, Arc<Task>)> {
    let name = headers.get(TASK_HEADER)?.to_str().ok()?;
    Some((name, tasks.named(name)?))
}

/// Makes a task's plan stop with its task, and keeps it: its operators count the rows they read.
fn prepare_plan(
    event: WorkerPlanRewriteEvent<'_>,
) -> Result<WorkerPlanRewriteEventResponse, DataFusionError> {
    let Some(runtime) = event.session_config.get_extension::<RuntimeEnv>() else {
        return Err(Error::bug("a task's session has no runtime").into());
    };
    let plan = without_float_pruning(with_row_numbers(event.plan)?, &runtime)?;
    let Some(task) = event.session_config.get_extension::<Task>() else {
        return Ok(WorkerPlanRewriteEventResponse::new(plan));
    };
    let plan = interruptible(&plan, task.interrupt())?;
    task.runs(&plan);
    Ok(WorkerPlanRewriteEventResponse::new(plan))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use drumline_lake::Stores;

    use super::*;
    use crate::stages::Routes;

    fn entries(state: &SessionState) -> BTreeMap<String, Option<String>> {
        let options = state.config().options();
        let own = options
            .entries()
            .into_iter()
            .filter(|entry| entry.key.starts_with("datafusion."));
        let own = own.map(|entry| (entry.key, entry.value));
        let extensions = options.extensions.iter().flat_map(|(prefix, extension)| {
            let entries = extension.entries().into_iter();
            entries.map(move |entry| (format!("{prefix}.{}", entry.key), entry.value))
        });
        own.chain(extensions).collect()
    }

    #[tokio::test]
    async fn a_tasks_session_has_the_settings_of_its_job() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(Stores::from_env(), folder.path());
        let runtime = runtime(&options).unwrap();
        let network = Arc::new(Network::new(&options).unwrap());
        let given = [
            ("datafusion.execution.target_partitions", "7"),
            ("datafusion.execution.batch_size", "100"),
            ("datafusion.execution.time_zone", "Europe/Zurich"),
            ("datafusion.execution.parquet.pushdown_filters", "false"),
            ("drumline.bytes_per_task", "5"),
            ("distributed.compression", "zstd"),
        ];
        let given: Settings = given
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let distribution = Distribution {
            workers: Vec::new(),
            channels: Channels::new(Arc::clone(&network), None),
            routes: Routes::default(),
            stores: Stores::from_env(),
        };
        let job = job_session(&runtime, &given, distribution).unwrap();
        let config = SessionConfig::default()
            .with_distributed_option_extension(DistributedConfig::default());
        let context = WorkerQueryContext {
            builder: SessionStateBuilder::new()
                .with_default_features()
                .with_config(config)
                .with_runtime_env(Arc::clone(&runtime)),
            headers: settings::to_headers(&given).unwrap(),
        };
        let task = WorkerSessions::new(
            network,
            Tasks::new(),
            Stores::from_env(),
            Memory::new(None),
            None,
        )
        .build_session_state(context)
        .await
        .unwrap();
        let (job, task) = (entries(&job), entries(&task));
        for (key, value) in &given {
            assert_eq!(job.get(key), Some(&Some(value.clone())), "{key}");
        }
        let keys: BTreeSet<&String> = job.keys().chain(task.keys()).collect();
        for key in keys {
            assert_eq!(job.get(key), task.get(key), "{key}");
        }
    }
}
