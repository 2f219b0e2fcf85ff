//! From a query to a running job.

use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::ExplainFormat;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::{
    RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter,
};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{StreamExt, stream};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::board::Board;
use crate::engine::Inner;
use crate::explain;
use crate::float_bounds::without_float_pruning;
use crate::interrupt::{Interrupt, RaiseOnDrop, interruptible};
use crate::job::{Head, JobWatch, StageInfo};
use crate::one_task::large_on_a_worker;
use crate::route::RouteFn;
use crate::row_numbers::with_row_numbers;
use crate::scan::read_here;
use crate::session::{Distribution, job_session};
use crate::settings::{self, Settings};
use crate::stages::{Routes, Stages, distributed_part, identified};
use crate::topics::{needs_workers, on_workers};
use crate::transport::client::Channels;
use crate::{Error, Job, Query, Result, WorkerTarget};

const TARGET_PARTITIONS: &str = "datafusion.execution.target_partitions";
/// With one partition DataFusion plans no repartitioning, and where there is none nothing is distributed.
const FEWEST_PARTITIONS: usize = 2;
const MOST_TASKS: &str = "distributed.max_tasks_per_stage";
/// Computed rows that wait for their reader.
const BATCHES_AHEAD: usize = 2;

pub(crate) async fn launch(
    inner: &Inner,
    query: &Query,
    workers: &[WorkerTarget],
    route: &RouteFn,
    interrupt: &Interrupt,
) -> Result<Job> {
    let board = Arc::new(Board::new(workers));
    let routes = Routes::default();
    let memory_of = Uuid::now_v7().to_string();
    let runtime = inner.memory.of_job(&inner.runtime, &memory_of, interrupt);
    let channels = Channels::new(Arc::clone(&inner.network), Some(Arc::clone(&board)));
    let distribution = Distribution {
        workers: workers.iter().map(|worker| worker.url.clone()).collect(),
        channels,
        routes: routes.clone(),
        stores: inner.stores.clone(),
    };
    let settings = with_partitions(&query.settings, workers);
    let state = job_session(&runtime, &settings, distribution)?;
    if let LogicalPlan::Explain(explained) = &query.plan
        && explained.explain_format == ExplainFormat::Indent
        && !explained.verbose
    {
        let rows = explain::explain(&state, explained, !workers.is_empty()).await?;
        let stream = RecordBatchStreamAdapter::new(rows.schema(), stream::iter([Ok(rows)]));
        let job = Prepared {
            id: Uuid::now_v7(),
            stages: Vec::new(),
            display: String::new(),
        };
        return Ok(job.run(&state, board, Box::pin(stream), Head::default(), interrupt));
    }
    let plan = physical_plan(&state, &query.plan, !workers.is_empty()).await?;
    if workers.is_empty() && needs_workers(&plan) {
        return Err(Error::NoReader);
    }
    let plan = identified(&plan, Uuid::now_v7())?;
    let prepared = prepare(&plan, workers, route, &routes)?;
    let plan = read_here(plan, &|scan| {
        without_float_pruning(with_row_numbers(scan)?, &runtime)
    })?;
    let plan = interruptible(&plan, interrupt)?;
    let head = Head(Some(Arc::clone(&plan)));
    let stream = apart(execute_stream(plan, state.task_ctx())?, interrupt.clone());
    Ok(prepared.run(&state, board, stream, head, interrupt))
}

/// Whether the query exchanges nothing, however many workers there are: plans it for some that are not there.
pub(crate) async fn runs_in_place(inner: &Inner, query: &Query) -> Result<bool> {
    if matches!(query.plan, LogicalPlan::Explain(_)) {
        return Ok(true);
    }
    let nobody = |port: u16| Url::parse(&format!("http://127.0.0.1:{port}"));
    let (Ok(one), Ok(other)) = (nobody(1), nobody(2)) else {
        return Err(Error::bug("an address of nobody is no URL"));
    };
    let distribution = Distribution {
        workers: vec![one, other],
        channels: Channels::new(Arc::clone(&inner.network), None),
        routes: Routes::default(),
        stores: inner.stores.clone(),
    };
    let settings = with_partitions(&query.settings, &[]);
    let state = job_session(&inner.runtime, &settings, distribution)?;
    let plan = physical_plan(&state, &query.plan, true).await?;
    Ok(distributed_part(&plan).is_none())
}

/// The plan as it runs, where there are workers and where there are none; its stages are not numbered yet.
pub(crate) async fn physical_plan(
    state: &SessionState,
    plan: &LogicalPlan,
    has_workers: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    if !is_recursive(plan)? {
        let plan = on_workers(state.create_physical_plan(plan).await?)?;
        return match has_workers {
            true => large_on_a_worker(plan, state.config_options()),
            false => Ok(plan),
        };
    }
    // Each round of a recursive query reads what the round before left in this process.
    let mut state = state.clone();
    let options = state.config_mut().options_mut();
    options.set(MOST_TASKS, "1")?;
    on_workers(state.create_physical_plan(plan).await?)
}

fn is_recursive(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::RecursiveQuery(_));
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// Computes on a task of its own: who reads the rows can wait for something else at the same time, and can
/// go away at once. Then what computes is interrupted.
fn apart(mut rows: SendableRecordBatchStream, interrupt: Interrupt) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), BATCHES_AHEAD);
    let sender = builder.tx();
    builder.spawn(async move {
        while let Some(next) = rows.next().await {
            if sender.send(next).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    let raise = RaiseOnDrop(interrupt);
    let received = builder.build().inspect(move |_| {
        // Lives as long as the stream.
        let _ = &raise;
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, received))
}

/// As many partitions as a worker has cores, unless the session says otherwise.
fn with_partitions(settings: &Settings, workers: &[WorkerTarget]) -> Settings {
    let mut settings = settings.clone();
    settings
        .entry(TARGET_PARTITIONS.to_owned())
        .or_insert_with(|| {
            let cores = match workers.iter().map(|worker| worker.cores as usize).max() {
                Some(cores) => cores,
                None => std::thread::available_parallelism().map_or(1, usize::from),
            };
            cores.max(FEWEST_PARTITIONS).to_string()
        });
    settings
}

struct Prepared {
    id: Uuid,
    stages: Vec<StageInfo>,
    display: String,
}

fn prepare(
    plan: &Arc<dyn ExecutionPlan>,
    workers: &[WorkerTarget],
    route: &RouteFn,
    routes: &Routes,
) -> Result<Prepared> {
    let display = explain::text(plan);
    let Some(distributed) = distributed_part(plan) else {
        return Ok(Prepared {
            id: Uuid::now_v7(),
            stages: Vec::new(),
            display,
        });
    };
    let stages = Stages::of(&distributed)?;
    let routed = stages.route(workers, route)?;
    routes.set(routed.urls);
    Ok(Prepared {
        id: stages.query,
        stages: routed.infos,
        display: explain::text(&distributed),
    })
}

impl Prepared {
    fn run(
        self,
        state: &SessionState,
        board: Arc<Board>,
        stream: SendableRecordBatchStream,
        head: Head,
        interrupt: &Interrupt,
    ) -> Job {
        let expected = self.stages.iter().map(|stage| stage.tasks as usize).sum();
        let watch = JobWatch {
            tasks: board.subscribe(),
            expected,
            display: self.display.into(),
            head,
            interrupt: interrupt.clone(),
        };
        let deadline = match settings::of(state.config().options()).job_deadline {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        };
        Job {
            id: self.id,
            stages: self.stages,
            schema: stream.schema(),
            stream: guarded(stream, deadline, board),
            watch,
        }
    }
}

/// The rows until the deadline or the first error, whose lost worker is named by its id.
fn guarded(
    rows: SendableRecordBatchStream,
    limit: Option<Duration>,
    board: Arc<Board>,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let deadline = limit.map(|limit| (Instant::now() + limit, limit));
    let guarded = stream::unfold(Some(rows), move |rows| {
        let board = Arc::clone(&board);
        async move {
            let mut rows = rows?;
            let next = match deadline {
                None => rows.next().await,
                Some((at, limit)) => match tokio::time::timeout_at(at, rows.next()).await {
                    Ok(next) => next,
                    Err(_) => Some(Err(Error::DeadlineExceeded { limit }.into())),
                },
            };
            match next? {
                Ok(batch) => Some((Ok(batch), Some(rows))),
                Err(error) => Some((Err(named(error, &board)), None)),
            }
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, guarded))
}

fn named(error: DataFusionError, board: &Board) -> DataFusionError {
    match Error::from(error) {
        Error::WorkerLost { worker, reason } => Error::WorkerLost {
            worker: board.worker_id(&worker),
            reason,
        },
        Error::WorkerRefused { worker, reason } => Error::WorkerRefused {
            worker: board.worker_id(&worker),
            reason,
        },
        Error::Failed {
            kind,
            message,
            hint,
            worker: Some(worker),
        } => Error::Failed {
            kind,
            message,
            hint,
            worker: Some(board.worker_id(&worker)),
        },
        other => other,
    }
    .into()
}
