//! What a restarted master takes up again: decided purely, from the journal's facts.

use std::collections::BTreeMap;
use std::time::Duration;

use drumline_engine::{Engine, Planned};
use drumline_lake::ErrorKind;
use tokio::sync::watch;

use super::attempt::Source;
use crate::catalog::Names;
use crate::facts::{Body, Event, Fact};
use crate::failure::Failure;

/// How long an application waits for the one before it to join the line.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// An application that was not over when its master ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unfinished {
    pub(super) id: String,
    pub(super) body: Body,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) place: Place,
    /// A job of the statement had a turn.
    has_run: bool,
}

/// Where an application goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Its text had been read.
    pub(super) is_started: bool,
    /// The first statement that is not known to be done; from 1.
    pub(super) statement: u32,
    /// That statement had begun: what it does may have been done.
    pub(super) has_begun: bool,
    /// Attempts of it so far.
    pub(super) attempts: u32,
    /// Rows of its result may be with a client.
    pub(super) delivered: bool,
}

/// What is to be taken up, in the order it joins the line: first what ran, then what waited, each by age.
pub(crate) fn unfinished<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Vec<Unfinished> {
    let mut open: BTreeMap<&str, Unfinished> = BTreeMap::new();
    for fact in facts {
        let Some(id) = fact.event.application() else {
            continue;
        };
        if let Event::ApplicationAccepted { body, settings, .. } = &fact.event {
            let accepted = Unfinished {
                id: id.to_owned(),
                body: body.clone(),
                settings: settings.clone(),
                place: Place {
                    statement: 1,
                    ..Place::default()
                },
                has_run: false,
            };
            open.insert(id, accepted);
        }
        let Some(application) = open.get_mut(id) else {
            continue;
        };
        let place = &mut application.place;
        match &fact.event {
            Event::ApplicationStarted { .. } => place.is_started = true,
            Event::StatementStarted { statement, .. } if *statement == place.statement => {
                place.has_begun = true;
            }
            Event::JobPlanned {
                statement, attempt, ..
            } if *statement == place.statement => {
                place.attempts = place.attempts.max(*attempt);
                application.has_run = true;
            }
            Event::JobRetried {
                statement, attempt, ..
            } if *statement == place.statement => {
                // The attempt that was to come.
                place.attempts = place.attempts.max(attempt.saturating_sub(1));
            }
            Event::DeliveryStarted { statement, .. } if *statement == place.statement => {
                place.delivered = true;
            }
            Event::StatementFinished { statement, .. } if *statement >= place.statement => {
                *place = Place {
                    is_started: true,
                    statement: statement + 1,
                    ..Place::default()
                };
                application.has_run = false;
            }
            Event::ApplicationFinished { .. } => {
                open.remove(id);
            }
            _ => {}
        }
    }
    let mut unfinished: Vec<Unfinished> = open.into_values().collect();
    // Stable, and ids sort by age.
    unfinished.sort_by_key(|application| !application.has_run);
    unfinished
}

impl Unfinished {
    /// Why it cannot go on, if it cannot.
    pub(super) fn lost(&self) -> Option<Failure> {
        let delivered = self.place.delivered.then_some(self.place.statement);
        cannot_go_on(self.body == Body::Plan, delivered)
    }
}

/// Why an application does not outlive its master, if so. `delivered`: the statement of whose result rows may be with
/// a client.
pub(super) fn cannot_go_on(is_plan: bool, delivered: Option<u32>) -> Option<Failure> {
    let why = match (is_plan, delivered) {
        (true, _) => "the master was stopped, and a logical plan is not kept".to_owned(),
        (false, Some(statement)) => format!(
            "the master was stopped after rows of statement {statement}'s result had been handed out"
        ),
        (false, None) => return None,
    };
    Some(Failure {
        hint: "run it again".to_owned(),
        ..Failure::new(ErrorKind::Retryable, why)
    })
}

/// The settings that the statements before `statement` leave behind.
pub(super) async fn settings_before(
    engine: &Engine,
    names: &Names,
    statements: &[Source],
    statement: u32,
    mut settings: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Failure> {
    let before = usize::try_from(statement.saturating_sub(1)).unwrap_or(usize::MAX);
    for source in statements.iter().take(before) {
        let Source::Sql(statement) = source else {
            continue;
        };
        if !statement.changes_settings() {
            continue;
        }
        let tables = names.pin().await?;
        if let Planned::Set { key, value } = engine.plan(statement, tables, &settings).await? {
            change(&mut settings, key, value);
        }
    }
    Ok(settings)
}

/// Sets one, or takes it back to its default.
pub(super) fn change(settings: &mut BTreeMap<String, String>, key: String, value: Option<String>) {
    match value {
        Some(value) => {
            settings.insert(key, value);
        }
        None => {
            settings.remove(&key);
        }
    }
}

/// An application's turn to join the line of jobs for the first time, so that those that are taken up queue in
/// their old order. Passed on when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    before: watch::Receiver<bool>,
    mine: watch::Sender<bool>,
}

impl Turn {
    /// The turn after this one.
    pub(super) fn after(before: watch::Receiver<bool>) -> (Self, watch::Receiver<bool>) {
        let (mine, next) = watch::channel(false);
        (Self { before, mine }, next)
    }

    /// Waits until the one before has joined the line, is over, or takes too long.
    pub(super) async fn comes(&self) {
        let mut before = self.before.clone();
        let _ = tokio::time::timeout(TURN_WITHIN, before.wait_for(|passed| *passed)).await;
    }

    pub(super) fn pass(&self) {
        self.mine.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::State;

    fn facts(events: Vec<Event>) -> Vec<Fact> {
        let fact = |(index, event)| Fact {
            sequence: index as u64 + 1,
            at: 0,
            event,
        };
        events.into_iter().enumerate().map(fact).collect()
    }

    fn accepted(id: &str, body: Body) -> Event {
        Event::ApplicationAccepted {
            application: id.into(),
            name: String::new(),
            source: String::new(),
            submitted_by: String::new(),
            body,
            settings: BTreeMap::new(),
        }
    }

    fn sql(id: &str) -> Event {
        accepted(id, Body::Sql("SELECT 1".into()))
    }

    fn started(id: &str) -> Event {
        Event::ApplicationStarted {
            application: id.into(),
            statements: 3,
        }
    }

    fn begun(id: &str, statement: u32) -> Event {
        Event::StatementStarted {
            application: id.into(),
            statement,
            sql: String::new(),
        }
    }

    fn planned(id: &str, statement: u32, attempt: u32) -> Event {
        Event::JobPlanned {
            application: id.into(),
            statement,
            attempt,
            job: "j".into(),
            stages: vec![],
            plan: String::new(),
        }
    }

    fn done(id: &str, statement: u32) -> Event {
        Event::StatementFinished {
            application: id.into(),
            statement,
            rows: 0,
            table: String::new(),
            version: 0,
            files: 0,
            already_committed: false,
            elapsed_micros: 0,
            message: String::new(),
        }
    }

    fn over(id: &str, state: State) -> Event {
        Event::ApplicationFinished {
            application: id.into(),
            state,
            failure: None,
            statement: 0,
        }
    }

    fn places(events: Vec<Event>) -> Vec<(String, Place)> {
        unfinished(&facts(events))
            .into_iter()
            .map(|application| (application.id, application.place))
            .collect()
    }

    #[test]
    fn an_application_goes_on_with_the_first_statement_that_is_not_done() {
        let found = places(vec![
            sql("a"),
            started("a"),
            begun("a", 1),
            planned("a", 1, 2),
            done("a", 1),
            begun("a", 2),
            planned("a", 2, 1),
        ]);
        let place = Place {
            is_started: true,
            statement: 2,
            has_begun: true,
            attempts: 1,
            delivered: false,
        };
        assert_eq!(found, [("a".to_owned(), place)]);
    }

    #[test]
    fn what_is_over_stays_over_and_so_does_what_was_cancelled() {
        let found = places(vec![
            sql("a"),
            over("a", State::Succeeded),
            sql("b"),
            started("b"),
            over("b", State::Cancelled),
        ]);
        assert_eq!(found, []);
    }

    #[test]
    fn what_ran_goes_before_what_waited_and_each_by_age() {
        let events = vec![
            sql("a"),
            sql("b"),
            sql("c"),
            sql("d"),
            planned("d", 1, 1),
            planned("b", 1, 1),
        ];
        let order: Vec<String> = places(events).into_iter().map(|(id, _)| id).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }

    #[test]
    fn a_plan_and_a_result_that_was_handed_out_cannot_go_on_and_say_why() {
        let delivery = Event::DeliveryStarted {
            application: "b".into(),
            statement: 1,
        };
        let found = unfinished(&facts(vec![
            accepted("a", Body::Plan),
            sql("b"),
            begun("b", 1),
            delivery,
            sql("c"),
        ]));
        let why = |index: usize| found[index].lost();
        assert!(why(0).unwrap().message.contains("logical plan"));
        let handed_out = why(1).unwrap();
        assert!(handed_out.message.contains("handed out"));
        assert_eq!(handed_out.kind, ErrorKind::Retryable);
        assert_eq!(why(2), None);
    }

    #[tokio::test]
    async fn turns_come_one_after_another_and_one_that_is_over_passes_its_own_on() {
        let (_begin, first) = watch::channel(true);
        let (a, next) = Turn::after(first);
        let (b, next) = Turn::after(next);
        let (c, _) = Turn::after(next);
        a.comes().await;
        let early = tokio::time::timeout(Duration::from_millis(50), b.comes()).await;
        assert!(early.is_err(), "a has not passed its turn on");
        a.pass();
        tokio::time::timeout(Duration::from_secs(1), b.comes())
            .await
            .unwrap();
        drop(b);
        tokio::time::timeout(Duration::from_secs(1), c.comes())
            .await
            .unwrap();
    }
}
