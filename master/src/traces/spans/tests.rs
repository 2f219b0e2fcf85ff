use super::*;
use crate::facts::{Body, Event, Fact, JobEnd, StagePlan, TaskName};

const APPLICATION: &str = "019a0000-0000-7000-8000-000000000001";

fn history(events: Vec<Event>) -> History {
    let mut history = History::default();
    for (sequence, event) in (1..).zip(events) {
        let at = 1000 * i64::try_from(sequence).unwrap();
        history.apply(&Fact {
            sequence,
            at,
            event,
        });
    }
    history
}

fn failed_job() -> Vec<Event> {
    let application = || APPLICATION.to_owned();
    let task = || TaskName {
        application: application(),
        job: "j".into(),
        stage: 1,
        task: 0,
    };
    vec![
        Event::ApplicationAccepted {
            application: application(),
            name: "nightly".into(),
            source: String::new(),
            submitted_by: "airflow".into(),
            body: Body::Sql("SELECT 1".into()),
            settings: Default::default(),
        },
        Event::StatementStarted {
            application: application(),
            statement: 1,
            sql: "SELECT 1".into(),
        },
        Event::JobPlanned {
            application: application(),
            statement: 1,
            attempt: 1,
            job: "j".into(),
            stages: vec![StagePlan {
                stage: 1,
                tasks: 2,
                partitions: 2,
                workers: vec!["w1".into(), "w2".into()],
            }],
            plan: String::new(),
        },
        Event::TaskStarted {
            task: task(),
            worker: "w1".into(),
        },
        Event::JobEnded {
            application: application(),
            job: "j".into(),
            end: JobEnd::Failed,
            elapsed_micros: 0,
            reason: "division by zero".into(),
            metrics: Default::default(),
        },
        Event::ApplicationFinished {
            application: application(),
            state: State::Failed,
            failure: None,
            statement: 1,
        },
    ]
}

#[test]
fn what_failed_hangs_together_and_says_why() {
    let spans = of_end(&history(failed_job()), APPLICATION);
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    // The task that never started has no span.
    assert_eq!(
        names,
        [
            "application nightly",
            "statement 1",
            "job, attempt 1",
            "stage 1",
            "task 1.0"
        ]
    );
    for (parent, child) in spans.iter().zip(&spans[1..]) {
        assert_eq!(child.parent_span_id, parent.span_context.span_id());
        assert!(child.start_time >= parent.start_time, "{child:?}");
        assert!(child.end_time <= parent.end_time, "{child:?}");
    }
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert_eq!(spans[2].status, Status::error("division by zero"));
    assert_eq!(
        spans[0].span_context.trace_id().to_string(),
        APPLICATION.replace('-', "")
    );
}

#[test]
fn a_statement_that_succeeded_is_told_once() {
    let mut events = failed_job();
    events.insert(
        5,
        Event::StatementFinished {
            application: APPLICATION.to_owned(),
            statement: 1,
            rows: 1,
            table: String::new(),
            version: 0,
            files: 0,
            already_committed: false,
            elapsed_micros: 10,
            message: String::new(),
        },
    );
    let history = history(events);
    assert_eq!(of_statement(&history, APPLICATION, 1).len(), 4);
    assert_eq!(of_end(&history, APPLICATION).len(), 1);
}

#[test]
fn the_ids_of_spans_do_not_change() {
    // Another build must go on with the traces of this one.
    assert_eq!(Subject::Application.id().to_string(), "e3b0c44298fc1c14");
}
