//! The budget as tasks use it: each topic has a share, tells it what it holds, and is told what to do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use tokio::sync::watch;

use super::{Action, Event, Id, Machine};

/// All memory that a host gives to its streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Mutex<Inner>>);

struct Inner {
    machine: Machine,
    orders: BTreeMap<Id, watch::Sender<Order>>,
    last: Id,
    /// Where the process's other users of memory see what streams hold.
    reservation: Option<MemoryReservation>,
}

/// What a share is told, as it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// Close the largest open files until the others hold no more than this.
    pub shrink: Option<u64>,
    /// Take no more records for now.
    pub paused: bool,
}

impl Budget {
    pub(crate) fn new(limit: u64, pool: Option<&Arc<dyn MemoryPool>>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            machine: Machine::new(limit),
            orders: BTreeMap::new(),
            last: 0,
            reservation: pool.map(|pool| MemoryConsumer::new("streams").register(pool)),
        })))
    }

    /// Bytes that all streams hold.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.lock().machine.used()
    }

    /// A share for one topic, which would like to read so many bytes ahead.
    pub(crate) fn join(&self, wanted: u64) -> Share {
        let mut inner = self.lock();
        inner.last += 1;
        let (id, ahead) = (inner.last, inner.machine.ahead(wanted));
        let (sender, orders) = watch::channel(Order::default());
        inner.orders.insert(id, sender);
        inner.step(Event::Came { id, ahead });
        drop(inner);
        Share {
            budget: self.clone(),
            id,
            orders,
            ahead,
        }
    }

    // Every step leaves it whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn step(&mut self, event: Event) {
        for action in self.machine.step(event) {
            let (id, shrink, paused) = match action {
                Action::Shrink { id, to } => (id, Some(to), None),
                Action::Pause { id } => (id, None, Some(true)),
                Action::Resume { id } => (id, None, Some(false)),
            };
            if let Some(orders) = self.orders.get(&id) {
                orders.send_modify(|order| {
                    order.shrink = shrink.or(order.shrink);
                    order.paused = paused.unwrap_or(order.paused);
                });
            }
        }
        if let Some(reservation) = &self.reservation {
            reservation.resize(usize::try_from(self.machine.used()).unwrap_or(usize::MAX));
        }
    }
}

/// One topic's share. It is given back when dropped.
pub(crate) struct Share {
    budget: Budget,
    id: Id,
    orders: watch::Receiver<Order>,
    ahead: u64,
}

impl Share {
    /// Bytes that it may read ahead.
    pub(crate) fn ahead(&self) -> u64 {
        self.ahead
    }

    /// Tells what its open files hold, and those that are being closed.
    pub(crate) fn holds(&self, open: u64, closing: u64) {
        let id = self.id;
        self.budget.lock().step(Event::Holds { id, open, closing });
    }

    /// Tells that it has closed what it was told to.
    pub(crate) fn shrunk(&self, open: u64, closing: u64) {
        let (id, mut inner) = (self.id, self.budget.lock());
        if let Some(orders) = inner.orders.get(&id) {
            orders.send_modify(|order| order.shrink = None);
        }
        inner.step(Event::Shrunk { id, open, closing });
    }

    /// Waits for another order than before.
    pub(crate) async fn ordered(&mut self) -> Order {
        // The budget outlives its shares.
        let _ = self.orders.changed().await;
        *self.orders.borrow_and_update()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut inner = self.budget.lock();
        inner.orders.remove(&self.id);
        inner.step(Event::Gone { id: self.id });
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    use super::*;

    #[tokio::test]
    async fn the_largest_is_told_and_all_others_see_what_is_held() {
        const MIB: u64 = 1 << 20;
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let budget = Budget::new(100 * MIB, Some(&pool));
        let (small, mut large) = (budget.join(MIB), budget.join(MIB));
        small.holds(20 * MIB, 0);
        large.holds(70 * MIB, 0);
        let order = large.ordered().await;
        assert_eq!((order.shrink, order.paused), (Some(53 * MIB), false));
        assert_eq!(pool.reserved() as u64, 92 * MIB);
        large.shrunk(50 * MIB, 0);
        let order = large.ordered().await;
        assert_eq!(order, Order::default());
        drop((small, large));
        assert_eq!((pool.reserved(), budget.used()), (0, 0));
    }
}
