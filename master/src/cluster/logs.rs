//! Questions to workers about their logs, and the answers, which come over the workers' calls.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drumline_engine::LogLine;
use drumline_proto::v1::{LogLines, LogRequest, MasterMessage, log_request, master_message};
use tokio::sync::oneshot;

use super::Workers;

/// How long a worker may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Questions that wait for their answers.
#[derive(Debug, Default)]
pub(crate) struct LogQuestions {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    newest: u64,
    by_id: HashMap<u64, (String, oneshot::Sender<LogLines>)>,
}

impl LogQuestions {
    fn ask(&self, worker: &str) -> (u64, oneshot::Receiver<LogLines>) {
        let (reply, answer) = oneshot::channel();
        let mut open = self.lock();
        // Whoever asked may have gone, and the worker too.
        open.by_id.retain(|_, (_, reply)| !reply.is_closed());
        open.newest += 1;
        let id = open.newest;
        open.by_id.insert(id, (worker.to_owned(), reply));
        (id, answer)
    }

    /// Takes what a worker said; only its own questions can be answered with it.
    pub(super) fn answer(&self, worker: &str, lines: LogLines) {
        let mut open = self.lock();
        let is_asked = open
            .by_id
            .get(&lines.id)
            .is_some_and(|(asked, _)| asked == worker);
        if is_asked && let Some((_, reply)) = open.by_id.remove(&lines.id) {
            // Whoever asked may have gone.
            let _ = reply.send(lines);
        }
    }

    // Inserts and removes are whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workers {
    /// Lines of a worker's log; nothing if it does not answer.
    pub(crate) async fn log(&self, worker: &str, from: log_request::From) -> Option<Vec<LogLine>> {
        let (id, answer) = self.logs.ask(worker);
        let request = LogRequest {
            id,
            from: Some(from),
        };
        let message = MasterMessage {
            message: Some(master_message::Message::LogRequest(request)),
        };
        self.send(worker, message).await;
        let lines = tokio::time::timeout(ANSWER_LIMIT, answer)
            .await
            .ok()?
            .ok()?;
        let lines = lines.lines.into_iter().map(|line| LogLine {
            number: line.number,
            text: line.text.into(),
        });
        Some(lines.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_answers_its_own_questions_only() {
        let questions = LogQuestions::default();
        let (id, mut answer) = questions.ask("a");
        let lines = LogLines { id, lines: vec![] };
        questions.answer("b", lines.clone());
        assert!(answer.try_recv().is_err());
        questions.answer("a", lines.clone());
        assert_eq!(answer.try_recv().unwrap(), lines);
        // Twice is once.
        questions.answer("a", lines);
    }
}
