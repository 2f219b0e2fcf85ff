//! The event log of one application: told from its beginning to whoever watches, then as it happens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use drumline_proto::v1::{ApplicationEvent, application_event};
use futures::Stream;
use tokio::sync::watch;

/// Append-only; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    events: Arc<Mutex<Vec<ApplicationEvent>>>,
    length: watch::Sender<Length>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Length {
    events: usize,
    complete: bool,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self {
            events: Arc::default(),
            length: watch::Sender::new(Length::default()),
        }
    }

    /// Appends an event. `ApplicationFinished` completes the log: what comes after it is dropped.
    pub(crate) fn append(&self, at: SystemTime, event: application_event::Event) {
        if self.is_complete() {
            return;
        }
        let complete = matches!(event, application_event::Event::ApplicationFinished(_));
        let since_epoch = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut events = self.lock();
        let sequence = events.len() as u64 + 1;
        events.push(ApplicationEvent {
            sequence,
            at_unix_millis: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
            event: Some(event),
        });
        let length = Length {
            events: events.len(),
            complete,
        };
        drop(events);
        self.length.send_replace(length);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.length.borrow().complete
    }

    /// Resolves when the application has ended.
    pub(crate) async fn completed(&self) {
        // Cannot fail: `self` holds the sender.
        let _ = self
            .length
            .subscribe()
            .wait_for(|length| length.complete)
            .await;
    }

    /// Every event from the first; ends after the application's end.
    pub(crate) fn watch(&self) -> impl Stream<Item = ApplicationEvent> + Send + use<> {
        let state = (self.clone(), self.length.subscribe(), 0);
        futures::stream::unfold(state, |(log, mut length, next)| async move {
            let has_more = |length: &Length| length.events > next || length.complete;
            length.wait_for(has_more).await.ok()?;
            let event = log.lock().get(next).cloned()?;
            Some((event, (log, length, next + 1)))
        })
    }

    // An append cannot leave the list half done, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Vec<ApplicationEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use drumline_proto::v1::{ApplicationFinished, StatementStarted};
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn started(ordinal: u32) -> application_event::Event {
        application_event::Event::StatementStarted(StatementStarted {
            ordinal,
            sql: String::new(),
        })
    }

    fn finished() -> application_event::Event {
        application_event::Event::ApplicationFinished(ApplicationFinished::default())
    }

    #[tokio::test]
    async fn watcher_sees_the_past_then_the_present_then_the_end() {
        let log = EventLog::new();
        log.append(SystemTime::now(), started(0));
        let mut watch = Box::pin(log.watch());
        assert_eq!(watch.next().await.unwrap().sequence, 1);
        assert!(
            watch.next().now_or_never().is_none(),
            "nothing more has happened"
        );
        log.append(SystemTime::now(), started(1));
        assert_eq!(watch.next().await.unwrap().sequence, 2);
        log.append(SystemTime::now(), finished());
        log.append(SystemTime::now(), started(2));
        assert_eq!(watch.next().await.unwrap().sequence, 3);
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn late_watcher_sees_everything() {
        let log = EventLog::new();
        log.append(SystemTime::now(), started(0));
        log.append(SystemTime::now(), finished());
        assert_eq!(log.watch().count().await, 2);
        log.completed().await;
    }
}
