use std::collections::BTreeMap;

use super::*;

const APPLICATION: &str = "019a";
const JOB: &str = "019b";

fn accepted() -> Event {
    Event::ApplicationAccepted {
        application: APPLICATION.into(),
        name: "nightly".into(),
        source: "nightly.sql".into(),
        submitted_by: "airflow".into(),
        body: Body::Sql("SELECT 1".into()),
        settings: BTreeMap::new(),
    }
}

fn task(task: u32) -> TaskName {
    TaskName {
        application: APPLICATION.into(),
        job: JOB.into(),
        stage: 1,
        task,
    }
}

fn planned() -> Event {
    Event::JobPlanned {
        application: APPLICATION.into(),
        statement: 1,
        attempt: 1,
        job: JOB.into(),
        stages: vec![StagePlan {
            stage: 1,
            tasks: 2,
            partitions: 4,
            workers: vec!["w1".into(), "w2".into()],
        }],
        plan: "DistributedExec".into(),
    }
}

/// A statement with one job of two tasks, up to the end of the first.
fn half_done() -> Vec<Event> {
    vec![
        Event::MasterStarted {
            build: "1".into(),
            lake: "file:///lake".into(),
        },
        accepted(),
        Event::ApplicationStarted {
            application: APPLICATION.into(),
            statements: 1,
        },
        Event::StatementStarted {
            application: APPLICATION.into(),
            statement: 1,
            sql: "SELECT 1".into(),
        },
        planned(),
        Event::TaskStarted {
            task: task(0),
            worker: "w1".into(),
        },
        Event::TaskStarted {
            task: task(1),
            worker: "w2".into(),
        },
        Event::TaskEnded {
            task: task(0),
            worker: "w1".into(),
            failed: false,
            metrics: TaskMetrics {
                rows_read: 7,
                ..TaskMetrics::default()
            },
        },
    ]
}

fn history_of(events: impl IntoIterator<Item = Event>) -> History {
    let mut history = History::default();
    for (index, event) in events.into_iter().enumerate() {
        history.apply(&Fact {
            sequence: index as u64 + 1,
            at: 1000 + index as i64,
            event,
        });
    }
    history
}

#[test]
fn a_running_job_shows_each_task_and_the_stage_they_make() {
    let history = history_of(half_done());
    let stage = &history.jobs[JOB].stages[0];
    assert_eq!(stage.state, State::Running);
    assert_eq!(stage.tasks[0].state, State::Succeeded);
    assert_eq!(stage.tasks[0].metrics.rows_read, 7);
    assert_eq!(stage.tasks[1].state, State::Running);
    assert_eq!(stage.tasks[1].worker, "w2");
    let application = &history.applications[APPLICATION];
    assert_eq!(application.submitted_by, "airflow");
    assert_eq!(application.statements[0].jobs, [JOB]);
}

#[test]
fn the_end_of_an_application_ends_all_that_still_ran_in_it() {
    let mut events = half_done();
    events.push(Event::ApplicationFinished {
        application: APPLICATION.into(),
        state: State::Cancelled,
        failure: None,
        statement: 0,
    });
    let history = history_of(events);
    let job = &history.jobs[JOB];
    assert_eq!(job.state, State::Cancelled);
    assert_eq!(job.stages[0].tasks[0].state, State::Succeeded);
    assert_eq!(job.stages[0].tasks[1].state, State::Cancelled);
    let application = &history.applications[APPLICATION];
    assert_eq!(application.state, State::Cancelled);
    assert_eq!(application.statements[0].state, State::Cancelled);
}

#[test]
fn a_restarted_master_runs_nothing_of_what_ran_before_and_says_so() {
    let mut events = half_done();
    events.insert(
        1,
        Event::WorkerJoined {
            worker: "w1".into(),
            url: "http://127.0.0.1:1".into(),
            cores: 1,
            memory_bytes: 1,
            build: "1".into(),
            pid: 1,
        },
    );
    events.push(Event::MasterStarted {
        build: "2".into(),
        lake: "file:///lake".into(),
    });
    let history = history_of(events);
    assert_eq!(history.jobs[JOB].state, State::Failed);
    assert_eq!(history.jobs[JOB].reason, "the master was restarted");
    assert_eq!(history.workers["w1"].state, WorkerState::Lost);
    // What becomes of the application is for the master to say.
    assert_eq!(history.applications[APPLICATION].state, State::Running);
}

#[test]
fn facts_written_down_and_read_again_are_the_same() {
    for event in half_done() {
        let fact = Fact {
            sequence: 3,
            at: 5,
            event,
        };
        let text = serde_json::to_string(&fact).unwrap();
        assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact, "{text}");
    }
}

#[tokio::test]
async fn numbers_grow_and_listeners_and_logs_hear_what_was_published() {
    let facts = Facts::new();
    let mut live = facts.listen();
    for event in half_done() {
        facts.publish(event);
    }
    let mut last = 0;
    for _ in half_done() {
        let fact = live.try_recv().unwrap();
        assert!(fact.sequence > last);
        last = fact.sequence;
    }
    let log = facts.log(APPLICATION).unwrap();
    assert!(!log.is_complete());
    facts.publish(Event::ApplicationFinished {
        application: APPLICATION.into(),
        state: State::Succeeded,
        failure: None,
        statement: 0,
    });
    assert!(log.is_complete());
    facts.forget(APPLICATION);
    assert!(facts.log(APPLICATION).is_none());
    assert!(facts.history().jobs.is_empty());
}

#[test]
fn who_was_away_gets_what_is_left_or_is_told_that_it_is_too_much() {
    let facts = Facts::new();
    let missed = |after| match facts.follow(Some(after)).0 {
        Missed::Facts(facts) => Some(facts.iter().map(|fact| fact.sequence).collect::<Vec<_>>()),
        Missed::TooMany => None,
    };
    assert_eq!(missed(7), None, "nobody knows what was before");
    let mut live = facts.listen();
    let mut sequences = vec![];
    for event in half_done() {
        facts.publish(event);
        sequences.push(live.try_recv().unwrap().sequence);
    }
    assert_eq!(missed(sequences[0] - 1), Some(sequences.clone()));
    assert_eq!(missed(sequences[2]), Some(sequences[3..].to_vec()));
    assert_eq!(missed(*sequences.last().unwrap()), Some(vec![]));
    assert_eq!(missed(sequences[0] - 2), None);

    // What the next second brings again pushes nothing out.
    for _ in 0..10_000 {
        facts.publish(Event::WorkerReported {
            worker: "w1".into(),
            running_tasks: 1,
            memory_bytes: 1,
        });
    }
    assert_eq!(missed(sequences[2]), Some(sequences[3..].to_vec()));
    for _ in 0..5_000 {
        facts.publish(accepted());
    }
    assert_eq!(missed(sequences[2]), None);
}
