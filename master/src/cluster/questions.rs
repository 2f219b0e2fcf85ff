//! Questions to workers, and the answers, which come over the workers' calls.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Questions of one kind that wait for their answers.
#[derive(Debug)]
pub(crate) struct Questions<A> {
    open: Mutex<Open<A>>,
}

#[derive(Debug)]
struct Open<A> {
    newest: u64,
    by_id: HashMap<u64, (String, oneshot::Sender<A>)>,
}

impl<A> Default for Questions<A> {
    fn default() -> Self {
        Self {
            open: Mutex::new(Open {
                newest: 0,
                by_id: HashMap::new(),
            }),
        }
    }
}

impl<A> Questions<A> {
    /// A question's number, and where its answer comes.
    pub(super) fn ask(&self, worker: &str) -> (u64, oneshot::Receiver<A>) {
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
    pub(super) fn answer(&self, worker: &str, id: u64, said: A) {
        let mut open = self.lock();
        let is_asked = open
            .by_id
            .get(&id)
            .is_some_and(|(asked, _)| asked == worker);
        if is_asked && let Some((_, reply)) = open.by_id.remove(&id) {
            // Whoever asked may have gone.
            let _ = reply.send(said);
        }
    }

    /// Nobody answers any more that a lost worker was asked.
    pub(super) fn forget(&self, worker: &str) {
        self.lock().by_id.retain(|_, (asked, _)| asked != worker);
    }

    // Inserts and removes are whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Open<A>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_answers_its_own_questions_only() {
        let questions = Questions::default();
        let (id, mut answer) = questions.ask("a");
        questions.answer("b", id, 1);
        assert!(answer.try_recv().is_err());
        questions.answer("a", id, 2);
        assert_eq!(answer.try_recv().unwrap(), 2);
        // Twice is once.
        questions.answer("a", id, 3);
    }

    #[test]
    fn who_waits_for_a_lost_worker_hears_of_it() {
        let questions = Questions::<u8>::default();
        let (_, mut lost) = questions.ask("a");
        let (other, mut there) = questions.ask("b");
        questions.forget("a");
        assert_eq!(
            lost.try_recv().unwrap_err(),
            oneshot::error::TryRecvError::Closed
        );
        questions.answer("b", other, 1);
        assert_eq!(there.try_recv().unwrap(), 1);
    }
}
