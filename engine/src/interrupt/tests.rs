use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::prelude::SessionContext;
use drumline_lake::Stores;
use futures::StreamExt;
use tokio::task::JoinHandle;

use super::*;

/// What a plan gives first.
type First = Option<datafusion::common::Result<RecordBatch>>;

/// Every one of them computes for hours and hands on next to nothing.
const ENDLESS: [(&str, &str); 5] = [
    (
        "cross join",
        "select count(*) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b",
    ),
    (
        "nested loops that find nothing",
        "select count(*) from generate_series(1, 1000000) a join generate_series(1, 1000000) b \
         on a.value + b.value < 0",
    ),
    (
        "hash join of one key that finds nothing",
        "select count(*) from generate_series(1, 1000000) a join generate_series(1, 1000000) b \
         on a.value * 0 = b.value * 0 and a.value + b.value < 0",
    ),
    (
        "hash join of one key",
        "select count(*) from generate_series(1, 1000000) a join generate_series(1, 1000000) b \
         on a.value * 0 = b.value * 0",
    ),
    (
        "cross join under a window and a sort",
        "select max(n) from (select row_number() over (order by a.value, b.value) as n \
         from generate_series(1, 100000) a cross join generate_series(1, 1000000) b)",
    ),
];

/// Much less than the two seconds that a cancel may take.
const SOON: Duration = Duration::from_millis(700);

fn session(more: &[(&str, &str)]) -> (SessionContext, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = crate::Options::new(Stores::from_env(), folder.path());
    let runtime = crate::runtime(&options).unwrap();
    let settings: BTreeMap<String, String> = more
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    (crate::local_session(&runtime, &settings).unwrap(), folder)
}

async fn plan(context: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    let frame = context.sql(sql).await.unwrap();
    frame.create_physical_plan().await.unwrap()
}

/// Threads that compute; none of them is the test's own, as in a master and in a worker.
struct Compute {
    runtime: tokio::runtime::Runtime,
    /// Of its threads, at most fifteen letters.
    name: &'static str,
}

impl Compute {
    fn new(name: &'static str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name)
            .enable_all()
            .build()
            .unwrap();
        Self { runtime, name }
    }

    /// Has a plan computed; answers once it has been for a while.
    async fn begin(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        task: Arc<TaskContext>,
    ) -> JoinHandle<First> {
        let before = self.ticks();
        let running = self
            .runtime
            .spawn(async move { execute_stream(plan, task).unwrap().next().await });
        let until = Instant::now() + Duration::from_secs(60);
        while !running.is_finished() && self.ticks() < before + 30 {
            assert!(Instant::now() < until, "{}: nothing is computed", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running
    }

    /// Processor time of its threads, in hundredths of a second (proc_pid_stat(5), fields 14 and 15).
    fn ticks(&self) -> u64 {
        let mine = format!("({}) ", self.name);
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        // A thread that is over between the two looks counts no more.
        let stats =
            threads.filter_map(|it| std::fs::read_to_string(it.unwrap().path().join("stat")).ok());
        let ticks = stats.filter_map(|stat| {
            let (_, fields) = stat.split_once(&mine)?;
            let used = fields.split(' ').skip(11).take(2);
            Some(used.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
        });
        ticks.sum()
    }
}

#[tokio::test]
async fn whatever_computes_stops_soon_after_its_interrupt() {
    let compute = Compute::new("interrupted");
    for joins in ["true", "false"] {
        let (context, _folder) = session(&[("datafusion.optimizer.prefer_hash_join", joins)]);
        for (name, sql) in ENDLESS {
            let interrupt = Interrupt::default();
            let plan = interruptible(&plan(&context, sql).await, &interrupt).unwrap();
            let task = context.task_ctx();
            let running = compute.begin(plan, task).await;
            assert!(!running.is_finished(), "{name} ended before its interrupt");
            let since = Instant::now();
            interrupt.raise();
            let first = running.await.unwrap();
            assert!(matches!(first, Some(Err(_))), "{name}: {first:?}");
            assert!(since.elapsed() < SOON, "{name}: {:?}", since.elapsed());
        }
    }
    compute.runtime.shutdown_background();
}

#[tokio::test]
async fn a_task_that_computes_lets_itself_be_aborted() {
    let compute = Compute::new("aborted");
    let (context, _folder) = session(&[]);
    for (name, sql) in [ENDLESS[0], ENDLESS[3]] {
        let plan = interruptible(&plan(&context, sql).await, &Interrupt::default()).unwrap();
        let task = context.task_ctx();
        let running = compute.begin(plan, task).await;
        let since = Instant::now();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled(), "{name}");
        assert!(since.elapsed() < SOON, "{name}: {:?}", since.elapsed());
    }
    compute.runtime.shutdown_background();
}

#[tokio::test]
async fn a_plan_with_checks_looks_and_answers_as_without() {
    let (context, _folder) = session(&[]);
    let sql = "select a.value % 7 as k, count(*) from generate_series(1, 1000) a \
               left join generate_series(1, 500) b on a.value = b.value and a.value < b.value + 1 \
               group by 1 order by 1";
    let plain = plan(&context, sql).await;
    // Of a plan of its own: some operators run once.
    let checked = interruptible(&plan(&context, sql).await, &Interrupt::default()).unwrap();
    let shown =
        |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
    assert_eq!(shown(&checked), shown(&plain));
    let answer =
        |plan: Arc<dyn ExecutionPlan>| datafusion::physical_plan::collect(plan, context.task_ctx());
    let (checked, plain) = (answer(checked).await.unwrap(), answer(plain).await.unwrap());
    assert_eq!(checked, plain);
}

#[test]
fn a_child_stops_with_its_parent_and_not_the_other_way_round() {
    let parent = Interrupt::default();
    let (first, second) = (parent.child(), parent.child());
    first.raise();
    assert!(first.check().is_err());
    assert!(second.check().is_ok() && parent.check().is_ok());
    parent.raise();
    assert!(second.check().is_err());
}
