//! Scans of topics: each offset once, on workers alone, in as many tasks as are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use drumline_engine::{
    Error, Query, Result, Span, TimeOffsets, TopicReader, TopicTable, TopicTimes, WorkerTarget,
    route,
};
use drumline_proto::v1;
use futures::stream;

use crate::cluster::{Cluster, Settings, collect, forced};

/// A topic that has a record at every offset.
#[derive(Debug)]
pub struct Numbers;

fn columns() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("_partition", DataType::Int32, false),
        Field::new("_offset", DataType::Int64, false),
        Field::new("_timestamp", utc, true),
    ]))
}

impl TopicReader for Numbers {
    fn read(&self, scan: v1::TopicScan) -> SendableRecordBatchStream {
        let schema = StreamReader::try_new(scan.schema.as_slice(), None)
            .unwrap()
            .schema();
        let wanted: Vec<usize> = scan.columns.iter().map(|at| *at as usize).collect();
        let schema = Arc::new(schema.project(&wanted).unwrap());
        assert_eq!(scan.groups.len(), 1, "a partition reads one group");
        let places: Vec<(i32, i64)> = scan
            .groups
            .iter()
            .flat_map(|group| &group.ranges)
            .flat_map(|range| (range.from..range.to).map(|offset| (range.partition, offset)))
            .collect();
        let columns: Vec<ArrayRef> =
            wanted
                .iter()
                .map(|at| match at {
                    0 => Arc::new(places.iter().map(|place| place.0).collect::<Int32Array>())
                        as ArrayRef,
                    1 => Arc::new(places.iter().map(|place| place.1).collect::<Int64Array>())
                        as ArrayRef,
                    other => panic!("nobody asked for column {other}"),
                })
                .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).unwrap();
        Box::pin(RecordBatchStreamAdapter::new(
            schema,
            stream::iter([Ok(batch)]),
        ))
    }
}

/// An offset's record is as many seconds old.
#[derive(Debug)]
struct Seconds;

#[async_trait]
impl TopicTimes for Seconds {
    async fn at(&self, _: &v1::TopicSource, instants: &[i64]) -> Result<TimeOffsets> {
        let offsets = |millis: &i64| {
            (
                *millis,
                BTreeMap::from([(0, millis / 1000), (1, millis / 1000)]),
            )
        };
        Ok(instants.iter().map(offsets).collect())
    }
}

async fn bed() -> Cluster {
    let cluster = Cluster::start().await;
    let mut schema = StreamWriter::try_new(Vec::new(), &columns()).unwrap();
    schema.finish().unwrap();
    let spans = [(0, 10, 60_010), (1, 0, 40_000), (2, 5, 5)];
    let spans = spans.map(|(partition, from, to)| Span {
        partition,
        from,
        to,
    });
    let table = TopicTable::records(
        v1::TopicSource::default(),
        &schema.into_inner().unwrap(),
        spans.to_vec(),
        Arc::new(Seconds),
    );
    cluster
        .local
        .register_table("topic", Arc::new(table.unwrap()))
        .unwrap();
    cluster
}

fn sum(offsets: std::ops::Range<i64>) -> i64 {
    offsets.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_offset_is_read_once_by_both_workers() {
    let cluster = bed().await;
    let sql = "select count(*), sum(_offset), count(distinct _partition) from topic";
    let mut job = cluster.job(sql, forced(&[])).await.unwrap();
    let used: BTreeSet<String> = job.stages[0].workers.iter().cloned().collect();
    assert_eq!(used.len(), 2, "{:?}", job.stages);
    let expected = format!("100000|{}|2", sum(10..60_010) + sum(0..40_000));
    assert_eq!(collect(&mut job).await.unwrap(), [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_task_can_do_is_still_done_by_a_worker() {
    let cluster = bed().await;
    let plan = |sql: &'static str| {
        let state = cluster.local.state();
        async move { state.create_logical_plan(sql).await.unwrap() }
    };
    for sql in [
        "select count(*), max(_offset) from topic where _offset < 100",
        "select count(*), max(n) from (select _offset n from topic where _offset < 100 order by 1 limit 1000)",
    ] {
        let query = Query {
            plan: plan(sql).await,
            settings: Settings::new(),
        };
        assert!(!cluster.engine.runs_in_place(&query).await.unwrap());
        let one: Vec<WorkerTarget> = cluster.targets().into_iter().take(1).collect();
        let mut job = cluster
            .engine
            .start(&query, one, route::spread(0))
            .await
            .unwrap();
        assert_eq!(job.stages.len(), 1, "{sql}: {:?}", job.stages);
        assert_eq!(collect(&mut job).await.unwrap(), ["190|99"], "{sql}");
        let nobody = cluster.engine.start(&query, vec![], route::spread(0)).await;
        let error = nobody.err().unwrap();
        assert!(matches!(error, Error::NoReader), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_meet_tables_however_the_plan_is_cut() {
    let cluster = bed().await;
    for (sql, expected) in [
        (
            "select count(*) from topic t join users u on u.user_id = t._offset",
            "990",
        ),
        (
            "select count(*) from events e join topic t on t._offset = e.id and t._partition = 1",
            "40000",
        ),
        (
            "select count(*) from (select id from events union all select _offset from topic)",
            "220000",
        ),
        (
            "select count(*) from users where user_id not in (select _offset from topic where _partition = 0)",
            "10",
        ),
        (
            "select (select max(_offset) from topic) + count(*) from users",
            "60509",
        ),
    ] {
        for settings in [
            Settings::new(),
            forced(&[]),
            forced(&[("datafusion.optimizer.prefer_hash_join", "false")]),
        ] {
            let rows = cluster.rows(sql, settings.clone()).await.unwrap();
            assert_eq!(rows, [expected], "{sql} {settings:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_on_places_and_times_leave_ranges_out() {
    let cluster = bed().await;
    let check = async |filter: &str, ranges: &str| {
        let sql = format!("select _offset from topic where {filter}");
        let job = cluster.job(&sql, Settings::new()).await.unwrap();
        let plan = job.watch.display().to_owned();
        assert!(
            plan.contains(&format!("ranges=[{ranges}]")),
            "{filter}: {plan}"
        );
    };
    check("_partition = 1", "1:[0, 40000)").await;
    check("_partition < 1 and _offset >= 60000", "0:[60000, 60010)").await;
    check("_partition = 0 and _offset + 0 >= 60000", "0:[10, 60010)").await;
}
