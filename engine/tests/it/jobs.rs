//! What a job tells about itself, and which settings reach its tasks.

use std::collections::BTreeSet;

use drumline_engine::Query;
use drumline_engine::route;
use futures::StreamExt;

use crate::cluster::{Cluster, EVENTS, PATIENCE, Settings, collect, forced};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_uses_both_workers_and_says_what_its_tasks_did() {
    let cluster = Cluster::start().await;
    let mut job = cluster
        .job(
            "select user_id, kind, count(*) from events group by 1, 2",
            forced(&[]),
        )
        .await
        .unwrap();
    let stages = job.stages.clone();
    assert!(stages.len() >= 2, "{stages:?}");
    let used: BTreeSet<&String> = stages.iter().flat_map(|stage| &stage.workers).collect();
    assert_eq!(used.len(), 2, "{stages:?}");

    collect(&mut job).await.unwrap();
    let facts = job.watch.facts(PATIENCE).await;
    let tasks: usize = stages.iter().map(|stage| stage.tasks as usize).sum();
    assert_eq!(facts.len(), tasks);
    for fact in &facts {
        let stage = stages
            .iter()
            .find(|stage| stage.stage == fact.stage)
            .unwrap();
        assert_eq!(fact.worker, stage.workers[fact.task as usize], "{facts:?}");
        assert!(!fact.elapsed.is_zero());
    }
    assert_eq!(
        facts.iter().map(|fact| fact.work.rows_read).sum::<u64>(),
        EVENTS as u64,
        "{facts:?}"
    );
    let sent: Vec<_> = facts
        .iter()
        .filter(|fact| fact.rows_exchanged > 0 && fact.bytes_exchanged > 0)
        .collect();
    let senders: BTreeSet<&String> = sent.iter().map(|fact| &fact.worker).collect();
    assert_eq!(senders.len(), 2, "{facts:?}");
    assert!(
        job.watch.display().contains("Stage 1"),
        "{}",
        job.watch.display()
    );
    for worker in &cluster.workers {
        worker.idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_jobs_sort_by_time_distributed_or_not() {
    let cluster = Cluster::start().await;
    let mut before = uuid::Uuid::nil();
    for (settings, is_distributed) in [
        (forced(&[]), true),
        (Settings::new(), false),
        (forced(&[]), true),
    ] {
        let sql = "select kind, count(*) from events group by 1";
        let mut job = cluster.job(sql, settings).await.unwrap();
        assert_eq!(!job.stages.is_empty(), is_distributed);
        assert_eq!(job.id.get_version_num(), 7);
        assert!(job.id > before);
        before = job.id;
        // Its tasks are found by it, on each worker.
        assert_eq!(collect(&mut job).await.unwrap().len(), 8);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_table_is_read_in_place() {
    let cluster = Cluster::start().await;
    let mut job = cluster
        .job(
            "select state, count(*) from users group by state",
            Settings::new(),
        )
        .await
        .unwrap();
    assert!(job.stages.is_empty());
    assert_eq!(collect(&mut job).await.unwrap().len(), 3);
    assert!(job.watch.facts(PATIENCE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_that_is_large_enough_is_read_by_several_tasks() {
    let cluster = Cluster::start().await;
    for sql in [
        "select * from users",
        "select state, count(*) from users group by state",
        "select count(*) from users where user_id > 1",
    ] {
        let mut job = cluster.job(sql, forced(&[])).await.unwrap();
        let tasks = job.stages.iter().map(|stage| stage.tasks).max();
        assert_eq!(tasks, Some(2), "{sql}: {}", job.watch.display());
        let mut rows = collect(&mut job).await.unwrap();
        let mut expected = cluster.local_rows(sql).await;
        rows.sort_unstable();
        expected.sort_unstable();
        assert_eq!(rows, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_workers_a_query_runs_in_place() {
    let cluster = Cluster::start().await;
    let plan = cluster
        .local
        .state()
        .create_logical_plan("select count(*) from events")
        .await
        .unwrap();
    let query = Query {
        plan,
        settings: Settings::new(),
    };
    let mut job = cluster
        .engine
        .start(&query, Vec::new(), route::spread(0))
        .await
        .unwrap();
    assert_eq!(collect(&mut job).await.unwrap(), [EVENTS.to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_start_is_a_job_of_its_own() {
    let cluster = Cluster::start().await;
    let plan = cluster
        .local
        .state()
        .create_logical_plan("select kind, count(*) from events group by 1")
        .await
        .unwrap();
    let query = Query {
        plan,
        settings: forced(&[]),
    };
    let mut first = cluster
        .engine
        .start(&query, cluster.targets(), route::spread(0))
        .await
        .unwrap();
    let mut second = cluster
        .engine
        .start(&query, cluster.targets(), route::spread(1))
        .await
        .unwrap();
    assert_ne!(first.id, second.id);
    let (mut a, mut b) = (
        collect(&mut first).await.unwrap(),
        collect(&mut second).await.unwrap(),
    );
    a.sort_unstable();
    b.sort_unstable();
    assert_eq!(a, b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_reach_the_tasks() {
    let cluster = Cluster::start().await;
    let largest = async |settings| {
        let mut job = cluster
            .job("select id, kind from events where amount >= 0", settings)
            .await
            .unwrap();
        assert!(!job.stages.is_empty());
        let mut largest = 0;
        while let Some(batch) = job.stream.next().await {
            largest = batch.unwrap().num_rows().max(largest);
        }
        largest
    };
    assert!(largest(forced(&[])).await > 64);
    assert!(largest(forced(&[("datafusion.execution.batch_size", "64")])).await <= 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_shows_stages_and_runs_nothing() {
    let cluster = Cluster::start().await;
    let mut job = cluster
        .job(
            "explain select kind, count(*) from events group by 1",
            forced(&[]),
        )
        .await
        .unwrap();
    assert!(job.stages.is_empty());
    let text = collect(&mut job).await.unwrap().join("\n");
    for part in ["logical_plan", "distributed_plan", "Stage 1", "tasks=2"] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_analyze_shows_what_the_tasks_counted() {
    let cluster = Cluster::start().await;
    let mut job = cluster
        .job(
            "explain analyze select kind, count(*) from events group by 1",
            forced(&[]),
        )
        .await
        .unwrap();
    assert!(!job.stages.is_empty());
    let text = collect(&mut job).await.unwrap().join("\n");
    for part in ["Stage 1", "output_rows"] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lone_worker_can_read_is_not_read_by_the_master() {
    let cluster = Cluster::start().await;
    let start = async |sql: &str, settings: Settings| {
        let plan = cluster.local.state().create_logical_plan(sql).await;
        let query = Query {
            plan: plan.unwrap(),
            settings,
        };
        let lone = vec![cluster.targets().remove(0)];
        cluster.engine.start(&query, lone, route::spread(0)).await
    };
    for sql in [
        "select count(*), max(id) from events where amount > 5",
        "select kind, sum(amount) s from events group by kind order by s desc, kind",
        "select u.state, count(*) c from events e join users u on e.user_id = u.user_id group by 1 order by 1",
        "select id, value from events cross join generate_series(1, 3) where id < 20 order by id, value",
    ] {
        let mut job = start(sql, forced(&[])).await.unwrap();
        let stages: Vec<_> = job.stages.iter().map(|stage| stage.tasks).collect();
        assert_eq!(stages, [1], "{sql}: {}", job.watch.display());
        assert_eq!(job.stages[0].workers, ["w1"]);
        assert_eq!(
            collect(&mut job).await.unwrap(),
            cluster.local_rows(sql).await
        );
        // What is small is quicker in place.
        let mut job = start(sql, Settings::new()).await.unwrap();
        assert!(job.stages.is_empty(), "{sql}");
        collect(&mut job).await.unwrap();
    }
    // Its rounds leave their rows in one process, which has to be the one that asks.
    let sql = "with recursive n as (select min(id) a from events where amount >= 0 union all select a + 1 from n where a < 9) \
         select count(*) from n";
    let mut job = start(sql, forced(&[])).await.unwrap();
    assert!(job.stages.is_empty());
    assert_eq!(collect(&mut job).await.unwrap(), ["10"]);

    let explain = "explain analyze select max(amount) from events where id > 1";
    let mut job = start(explain, forced(&[])).await.unwrap();
    let text = collect(&mut job).await.unwrap().join("\n");
    assert!(text.contains("output_rows"), "{text}");
}
