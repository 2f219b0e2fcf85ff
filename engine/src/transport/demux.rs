//! One call's messages, handed to one stream per partition.
//!
//! The queues of the partitions have no bound of their own: a bound would let a partition that nobody reads
//! yet stop those that somebody waits for, and joins that read one side first would never end. All
//! queues together have a byte budget. Above it nothing is pulled, except while a partition that is being
//! waited for is empty: the same rule as DataFusion's own repartitioning follows.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use arrow_flight::FlightData;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::Stream;
use futures::future::poll_fn;
use tonic::Status;

/// The side that reads the call.
pub(super) struct Feeder {
    shared: Arc<Mutex<Shared>>,
}

/// The rows of one partition.
pub(super) struct PartitionRows {
    shared: Arc<Mutex<Shared>>,
    partition: usize,
}

/// Whether to read the call's next message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pull {
    /// Somebody can use it.
    Next,
    /// Every partition's reader is gone, or has all its rows.
    Nobody,
}

struct Shared {
    queues: Vec<Queue>,
    queued: usize,
    budget: usize,
    reservation: MemoryReservation,
    feeder: Option<Waker>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Result<FlightData, Status>>,
    /// Set while its reader waits for a message.
    reader: Option<Waker>,
    started: bool,
    ended: bool,
    dropped: bool,
}

/// Queues for `partitions` partitions that hold `budget` bytes together, accounted in `reservation`.
pub(super) fn demux(
    partitions: usize,
    budget: usize,
    reservation: MemoryReservation,
) -> (Feeder, Vec<PartitionRows>) {
    let shared = Arc::new(Mutex::new(Shared {
        queues: (0..partitions).map(|_| Queue::default()).collect(),
        queued: 0,
        budget,
        reservation,
        feeder: None,
    }));
    let rows = (0..partitions).map(|partition| PartitionRows {
        shared: Arc::clone(&shared),
        partition,
    });
    let rows = rows.collect();
    (Feeder { shared }, rows)
}

impl Feeder {
    /// Waits until the first reader has begun and there is room, or nobody is left.
    pub(super) async fn pull(&self) -> Pull {
        poll_fn(|context| {
            let mut shared = lock(&self.shared);
            if shared
                .queues
                .iter()
                .all(|queue| queue.dropped || queue.ended)
            {
                return Poll::Ready(Pull::Nobody);
            }
            let started = shared.queues.iter().any(|queue| queue.started);
            let starving = shared
                .queues
                .iter()
                .any(|queue| queue.reader.is_some() && !queue.ended);
            if started && (starving || shared.queued < shared.budget) {
                return Poll::Ready(Pull::Next);
            }
            shared.feeder = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until every reader is gone.
    pub(super) async fn abandoned(&self) {
        poll_fn(|context| {
            let mut shared = lock(&self.shared);
            if shared.queues.iter().all(|queue| queue.dropped) {
                return Poll::Ready(());
            }
            shared.feeder = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Queues a message; false where there is no such partition.
    pub(super) fn push(&self, partition: usize, message: FlightData) -> bool {
        let mut shared = lock(&self.shared);
        let size = size_of_message(&message);
        let Some(queue) = shared.queues.get_mut(partition) else {
            return false;
        };
        if queue.dropped || queue.ended {
            return true;
        }
        queue.messages.push_back(Ok(message));
        let reader = queue.reader.take();
        shared.queued += size;
        shared.reservation.grow(size);
        drop(shared);
        reader.into_iter().for_each(Waker::wake);
        true
    }

    /// Marks a partition as complete; false where there is no such partition.
    pub(super) fn end(&self, partition: usize) -> bool {
        let mut shared = lock(&self.shared);
        let Some(queue) = shared.queues.get_mut(partition) else {
            return false;
        };
        queue.ended = true;
        let reader = queue.reader.take();
        drop(shared);
        reader.into_iter().for_each(Waker::wake);
        true
    }

    /// Fails every partition that is not complete.
    pub(super) fn fail(&self, status: &Status) {
        let mut shared = lock(&self.shared);
        let mut readers = Vec::new();
        for queue in shared
            .queues
            .iter_mut()
            .filter(|queue| !queue.ended && !queue.dropped)
        {
            queue.messages.push_back(Err(status.clone()));
            queue.ended = true;
            readers.extend(queue.reader.take());
        }
        drop(shared);
        readers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Feeder {
    /// A reader must never take a lost feeder for the end of its rows.
    fn drop(&mut self) {
        self.fail(&Status::cancelled("the call was given up"));
    }
}

impl Stream for PartitionRows {
    type Item = Result<FlightData, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = lock(&self.shared);
        let shared = &mut *shared;
        let queue = &mut shared.queues[self.partition];
        let first = !std::mem::replace(&mut queue.started, true);
        let answer = match queue.messages.pop_front() {
            Some(Ok(message)) => {
                let size = size_of_message(&message);
                shared.queued -= size;
                shared.reservation.shrink(size);
                Poll::Ready(Some(Ok(message)))
            }
            Some(Err(status)) => Poll::Ready(Some(Err(status))),
            None if queue.ended => Poll::Ready(None),
            None => {
                queue.reader = Some(context.waker().clone());
                Poll::Pending
            }
        };
        if first || answer.is_pending() || shared.queued < shared.budget {
            shared.feeder.take().into_iter().for_each(Waker::wake);
        }
        answer
    }
}

impl Drop for PartitionRows {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        let queue = &mut shared.queues[self.partition];
        queue.dropped = true;
        queue.reader = None;
        let freed: usize = std::mem::take(&mut queue.messages)
            .iter()
            .flatten()
            .map(size_of_message)
            .sum();
        shared.queued -= freed;
        shared.reservation.shrink(freed);
        let feeder = shared.feeder.take();
        drop(shared);
        feeder.into_iter().for_each(Waker::wake);
    }
}

fn size_of_message(message: &FlightData) -> usize {
    message.data_header.len() + message.data_body.len()
}

/// The state is consistent after every statement, so that a panic elsewhere does not spoil it.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn queues(
        partitions: usize,
        budget: usize,
    ) -> (Feeder, Vec<PartitionRows>, Arc<dyn MemoryPool>) {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let (feeder, rows) = demux(
            partitions,
            budget,
            MemoryConsumer::new("test").register(&pool),
        );
        (feeder, rows, pool)
    }

    fn message(size: usize) -> FlightData {
        FlightData {
            data_body: vec![0; size].into(),
            ..Default::default()
        }
    }

    #[test]
    fn nothing_is_pulled_before_the_first_poll() {
        let (feeder, mut rows, _) = queues(2, 100);
        assert_eq!(feeder.pull().now_or_never(), None);
        assert!(rows[1].next().now_or_never().is_none());
        assert_eq!(feeder.pull().now_or_never(), Some(Pull::Next));
    }

    #[test]
    fn a_full_budget_stops_the_call_until_rows_are_read() {
        let (feeder, mut rows, pool) = queues(2, 100);
        assert!(rows[0].next().now_or_never().is_none());
        feeder.push(0, message(60));
        feeder.push(1, message(60));
        assert_eq!(pool.reserved(), 120);
        assert_eq!(feeder.pull().now_or_never(), None);
        assert!(rows[0].next().now_or_never().is_some());
        assert_eq!(feeder.pull().now_or_never(), Some(Pull::Next));
        assert_eq!(pool.reserved(), 60);
    }

    #[test]
    fn an_unread_partition_does_not_starve_one_that_is_waited_for() {
        let (feeder, mut rows, _) = queues(2, 100);
        feeder.push(1, message(1000));
        assert!(rows[0].next().now_or_never().is_none());
        assert_eq!(feeder.pull().now_or_never(), Some(Pull::Next));
        feeder.push(0, message(1));
        assert_eq!(feeder.pull().now_or_never(), None);
    }

    #[test]
    fn a_partition_ends_before_the_others() {
        let (feeder, mut rows, _) = queues(2, 100);
        feeder.push(0, message(1));
        feeder.end(0);
        assert!(
            rows[0]
                .next()
                .now_or_never()
                .flatten()
                .is_some_and(|message| message.is_ok())
        );
        assert!(
            rows[0]
                .next()
                .now_or_never()
                .is_some_and(|end| end.is_none())
        );
        assert!(rows[1].next().now_or_never().is_none());
    }

    #[test]
    fn a_lost_feeder_is_an_error_not_an_end() {
        let (feeder, mut rows, _) = queues(2, 100);
        feeder.end(0);
        drop(feeder);
        assert!(
            rows[0]
                .next()
                .now_or_never()
                .is_some_and(|end| end.is_none())
        );
        assert!(
            rows[1]
                .next()
                .now_or_never()
                .flatten()
                .is_some_and(|message| message.is_err())
        );
    }

    #[test]
    fn dropped_readers_free_their_bytes_and_end_the_call() {
        let (feeder, rows, pool) = queues(2, 100);
        feeder.push(0, message(60));
        feeder.push(1, message(60));
        drop(rows);
        assert_eq!(pool.reserved(), 0);
        assert_eq!(feeder.pull().now_or_never(), Some(Pull::Nobody));
        assert!(feeder.push(0, message(60)));
        assert_eq!(pool.reserved(), 0);
    }
}
