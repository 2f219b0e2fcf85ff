//! Answers of the cluster are those of one session.

use crate::cluster::{Cluster, forced};

const QUERIES: &[&str] = &[
    "select kind, count(*), sum(amount), min(at), max(id) from events group by kind",
    "select count(distinct user_id), count(distinct kind) from events",
    "select u.state, count(*), sum(e.amount) from events e join users u on e.user_id = u.user_id group by u.state",
    "select u.name, e.id from users u left join events e on e.user_id = u.user_id and e.amount < 50",
    "select id, kind from events where amount between 100 and 120 union all select user_id, state from users",
    "select kind from events union select state from users",
    "with per_user as (select user_id, count(*) c, sum(amount) s from events group by user_id) \
     select a.c, count(*), sum(b.s) from per_user a join per_user b on a.user_id = b.user_id group by a.c",
    "select id, amount, row_number() over (partition by user_id order by amount, id) from events where id % 97 = 0",
    "select name from users where user_id not in (select user_id from events where user_id is not null)",
    "select count(*) from events where amount > (select avg(amount) from events)",
    "select e.kind, u.state, count(*) from events e cross join users u where u.user_id < 3 group by e.kind, u.state",
    "select a.id, b.id from events a join events b on a.user_id = b.user_id and a.amount < b.amount \
     where a.user_id between 1 and 50",
    "select date_trunc('hour', at), count(*) from events group by 1",
    "select count(*) from events where kind like '%3 with%' or kind is null",
];

const ORDERED: &[&str] = &[
    "select id, user_id, kind from events order by amount desc, id",
    "select id, amount from events order by amount, id limit 17",
    "select kind, sum(amount) s from events group by kind order by s desc, kind limit 3",
];

async fn equal(partitions: &str, more: &[(&str, &str)]) {
    let cluster = Cluster::start().await;
    let partitions = [("datafusion.execution.target_partitions", partitions)];
    let settings = forced(&[&partitions, more].concat());
    for sql in QUERIES {
        let mut expected = cluster.local_rows(sql).await;
        let mut rows = cluster
            .rows(sql, settings.clone())
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        expected.sort_unstable();
        rows.sort_unstable();
        assert!(!expected.is_empty(), "{sql} tests nothing");
        assert_eq!(rows, expected, "{sql}");
    }
    for sql in ORDERED {
        let expected = cluster.local_rows(sql).await;
        let rows = cluster
            .rows(sql, settings.clone())
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(rows, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_equal_with_two_partitions() {
    equal("2", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_equal_with_sixteen_partitions_and_no_broadcast() {
    let partitioned = [
        (
            "datafusion.optimizer.hash_join_single_partition_threshold",
            "0",
        ),
        (
            "datafusion.optimizer.hash_join_single_partition_threshold_rows",
            "0",
        ),
    ];
    equal("16", &partitioned).await;
}

// So few bytes cannot be cut into as many parts as there are partitions of all tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_are_read_once_with_any_number_of_partitions() {
    let cluster = Cluster::start().await;
    let sql = "select count(*), sum(user_id), count(distinct state) from users";
    let expected = cluster.local_rows(sql).await;
    for partitions in 2..96 {
        let partitions = partitions.to_string();
        let settings = forced(&[("datafusion.execution.target_partitions", &partitions)]);
        let rows = cluster.rows(sql, settings).await;
        let rows = rows.unwrap_or_else(|error| panic!("{partitions} partitions: {error}"));
        assert_eq!(rows, expected, "{partitions} partitions");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_equal_when_hardly_anything_may_be_buffered() {
    equal(
        "4",
        &[("distributed.worker_connection_buffer_budget_bytes", "1")],
    )
    .await;
}
