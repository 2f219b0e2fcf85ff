//! What one application is told: from its beginning to whoever watches, then as it happens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drumline_proto::v1::{ApplicationEvent, application_event};
use futures::Stream;
use tokio::sync::watch;

use crate::journal::Progress;

/// Append-only; clones share it. Only the bus appends.
#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    events: Arc<Mutex<Vec<ApplicationEvent>>>,
    length: watch::Sender<Length>,
    /// How far the journal has come: nobody is told what a killed master would not know again.
    journal: Option<watch::Receiver<Progress>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Length {
    events: usize,
    complete: bool,
}

impl EventLog {
    pub(super) fn new(journal: Option<watch::Receiver<Progress>>) -> Self {
        Self {
            events: Arc::default(),
            length: watch::Sender::new(Length::default()),
            journal,
        }
    }

    /// Appends an event. `ApplicationFinished` completes the log: what comes after it is dropped.
    pub(super) fn append(&self, event: ApplicationEvent) {
        if self.is_complete() {
            return;
        }
        let complete = matches!(
            event.event,
            Some(application_event::Event::ApplicationFinished(_))
        );
        let mut events = self.lock();
        events.push(event);
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

    /// Every event from the first, each once it is durable; ends after the application's end. While the journal
    /// cannot be written, events are told all the same.
    pub(crate) fn watch(&self) -> impl Stream<Item = ApplicationEvent> + Send + use<> {
        let state = (self.clone(), self.length.subscribe(), 0);
        futures::stream::unfold(state, |(mut log, mut length, next)| async move {
            let has_more = |length: &Length| length.events > next || length.complete;
            length.wait_for(has_more).await.ok()?;
            let event = log.lock().get(next).cloned()?;
            if let Some(journal) = &mut log.journal {
                // A journal that is gone belongs to a master that is.
                let has_come = |progress: &Progress| progress.is_past(event.sequence);
                journal.wait_for(has_come).await.ok()?;
            }
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

    fn event(sequence: u64, event: application_event::Event) -> ApplicationEvent {
        ApplicationEvent {
            sequence,
            at_unix_millis: 0,
            event: Some(event),
        }
    }

    fn started(sequence: u64) -> ApplicationEvent {
        event(
            sequence,
            application_event::Event::StatementStarted(StatementStarted::default()),
        )
    }

    fn finished(sequence: u64) -> ApplicationEvent {
        event(
            sequence,
            application_event::Event::ApplicationFinished(ApplicationFinished::default()),
        )
    }

    #[tokio::test]
    async fn watcher_sees_the_past_then_the_present_then_the_end() {
        let log = EventLog::new(None);
        log.append(started(1));
        let mut watch = Box::pin(log.watch());
        assert_eq!(watch.next().await.unwrap().sequence, 1);
        assert!(
            watch.next().now_or_never().is_none(),
            "nothing more has happened"
        );
        log.append(started(5));
        assert_eq!(watch.next().await.unwrap().sequence, 5);
        log.append(finished(7));
        log.append(started(8));
        assert_eq!(watch.next().await.unwrap().sequence, 7);
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn late_watcher_sees_everything() {
        let log = EventLog::new(None);
        log.append(started(1));
        log.append(finished(2));
        assert_eq!(log.watch().count().await, 2);
        log.completed().await;
    }
}
