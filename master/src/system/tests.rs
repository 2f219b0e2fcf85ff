use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use datafusion::prelude::SessionContext;

use super::*;
use crate::facts::{Event, Fact, JobEnd, OperatorMetrics, StagePlan, TaskMetrics, TaskName};

fn history() -> History {
    let task = TaskName {
        application: "a".into(),
        job: "j".into(),
        stage: 1,
        task: 0,
    };
    let metrics = TaskMetrics {
        rows_read: 5,
        operators: vec![OperatorMetrics {
            name: "FilterExec".into(),
            rows_out: 4,
            ..OperatorMetrics::default()
        }],
        ..TaskMetrics::default()
    };
    let events = [
        Event::ApplicationAccepted {
            application: "a".into(),
            name: "<script>".into(),
            source: String::new(),
            submitted_by: "me".into(),
            body: crate::facts::Body::Plan,
            settings: Default::default(),
        },
        Event::StatementStarted {
            application: "a".into(),
            statement: 1,
            sql: "SELECT".into(),
        },
        Event::JobPlanned {
            application: "a".into(),
            statement: 1,
            attempt: 1,
            job: "j".into(),
            stages: vec![StagePlan {
                stage: 1,
                tasks: 1,
                partitions: 1,
                workers: vec!["w".into()],
            }],
            plan: "plan".into(),
        },
        Event::TaskEnded {
            task,
            worker: "w".into(),
            failed: false,
            metrics,
        },
        Event::JobEnded {
            application: "a".into(),
            job: "j".into(),
            end: JobEnd::Succeeded,
            elapsed_micros: 9,
            reason: String::new(),
            metrics: TaskMetrics {
                rows_read: 2,
                elapsed_micros: 1,
                ..TaskMetrics::default()
            },
        },
    ];
    let mut history = History::default();
    for (index, event) in events.into_iter().enumerate() {
        history.apply(&Fact {
            sequence: index as u64,
            at: 1000,
            event,
        });
    }
    history
}

async fn query(sql: &str) -> RecordBatch {
    let session = SessionContext::new();
    let history = history();
    for name in names() {
        let provider = table(name, &history).unwrap().unwrap();
        session.register_table(name, provider).unwrap();
    }
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[tokio::test]
async fn every_table_can_be_read_with_and_without_rows() {
    for name in names() {
        let empty = table(name, &History::default()).unwrap().unwrap();
        assert_eq!(empty.schema(), schema(name).unwrap(), "{name}");
        query(&format!("SELECT * FROM {name}")).await;
    }
    assert!(table("nothing", &History::default()).unwrap().is_none());
}

#[tokio::test]
async fn a_job_sums_what_its_tasks_and_its_head_did() {
    let row = query("SELECT rows_read, elapsed_micros, task_count, ended_at FROM jobs").await;
    assert_eq!(row.column(0).as_primitive::<Int64Type>().value(0), 7);
    assert_eq!(row.column(1).as_primitive::<Int64Type>().value(0), 9);
    assert_eq!(row.column(2).as_primitive::<Int64Type>().value(0), 1);
    let ended = row.column(3).as_primitive::<TimestampMillisecondType>();
    assert_eq!(ended.value(0), 1000);
}

#[tokio::test]
async fn a_time_that_has_not_come_is_null_and_text_is_text() {
    let row = query("SELECT ended_at, name, error FROM applications").await;
    assert!(row.column(0).is_null(0));
    assert_eq!(row.column(1).as_string::<i32>().value(0), "<script>");
    assert!(row.column(2).is_null(0));
    let operators = query("SELECT name, stage FROM operators").await;
    assert_eq!(
        operators.column(0).as_string::<i32>().value(0),
        "FilterExec"
    );
}
