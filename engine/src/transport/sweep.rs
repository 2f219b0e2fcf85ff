//! Gives back what tasks held that are over.
//!
//! The library keeps plans in a cache, which lets go of a removed plan, and with it of the hash tables in it,
//! when it is used the next time and some time has passed. On a worker that nobody asks, that is never. So
//! once tasks have ended the cache is used a few times.

use std::time::Duration;

use datafusion_distributed::{
    ExecuteTaskRequest, MaybeEncoded, ProducerHead, SetPlanRequest, TaskKey, Worker,
};
use futures::{StreamExt, stream};
use http::HeaderMap;
use tokio::sync::watch;
use url::Url;
use uuid::Uuid;

/// Longer than the cache waits between two looks at what it can let go of.
const EVERY: Duration = Duration::from_millis(350);
/// What was let go of is freed a few looks later.
const TIMES: usize = 4;

/// A task that does not exist. It has a plan that cannot be read, so nobody waits for it.
const NOBODY: TaskKey = TaskKey {
    query_id: Uuid::nil(),
    stage_id: 0,
    task_number: 0,
};

/// Until the tasks' host is gone.
pub(super) async fn sweep(worker: Worker, mut running: watch::Receiver<u32>, url: Url) {
    let mut before = *running.borrow_and_update();
    while running.changed().await.is_ok() {
        let now = *running.borrow_and_update();
        if now < before {
            touch(&worker, &url).await;
        }
        before = now;
    }
}

async fn touch(worker: &Worker, url: &Url) {
    let unreadable = SetPlanRequest {
        task_key: NOBODY,
        task_count: 1,
        plan: MaybeEncoded::Encoded(Vec::new()),
        work_unit_feed_declarations: Vec::new(),
        target_worker_url: url.clone(),
        query_start_time_ns: 0,
    };
    let messages = stream::empty().boxed();
    drop(
        worker
            .coordinator_channel(HeaderMap::new(), unreadable, messages)
            .await,
    );
    for _ in 0..TIMES {
        tokio::time::sleep(EVERY).await;
        let rows = ExecuteTaskRequest {
            task_key: NOBODY,
            target_partition_start: 0,
            target_partition_end: 0,
            producer_head: ProducerHead::None,
        };
        drop(worker.execute_task(rows).await);
    }
}
