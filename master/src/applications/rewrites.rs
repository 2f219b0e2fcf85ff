//! Statements that rewrite one table take turns, in the order in which they came.
//!
//! Two of them that run side by side would find at their commits that one has worked for nothing; the one that takes
//! longer would find that again and again. Appends have no part in this: they never conflict. Turns are a courtesy
//! among the statements of one master; what is right is decided by the commit, against everybody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use drumline_engine::{Planned, WriteMode};
use drumline_lake::TableName;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::catalog::PinnedTables;

/// Whose turn it is, by table.
#[derive(Debug, Default)]
pub(crate) struct Rewrites {
    tables: Mutex<HashMap<Uuid, Weak<Line>>>,
    /// How many turns are over.
    over: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Line {
    // Tokio's is fair: who comes first waits in front.
    turn: Arc<tokio::sync::Mutex<()>>,
    waiting: AtomicU32,
}

/// A place in a line; it is given up when dropped.
struct Place<'a>(&'a Line);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The turn of one statement, once it has one. It outlives attempts: who lost a race against another master is still
/// the next here.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<Option<Ticket>>);

/// A turn. It passes on when dropped.
#[derive(Debug)]
struct Ticket {
    table: Uuid,
    over: Arc<AtomicU64>,
    _turn: OwnedMutexGuard<()>,
    // After the turn: as long as that is held, its line is known.
    _line: Arc<Line>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Before the turn passes on: whoever has it sees that something may have changed.
        self.over.fetch_add(1, Ordering::SeqCst);
    }
}

impl Turn {
    /// Whether it is this statement's turn to rewrite this table.
    pub(super) fn is_of(&self, table: Uuid) -> bool {
        self.slot()
            .as_ref()
            .is_some_and(|ticket| ticket.table == table)
    }

    /// Waits for it, and tells how many are before it.
    pub(super) async fn take(&self, rewrites: &Rewrites, table: Uuid, queued: impl FnOnce(u32)) {
        let ticket = rewrites.ticket(table, queued).await;
        *self.slot() = Some(ticket);
    }

    /// Lets the next one have it.
    pub(super) fn pass(&self) {
        *self.slot() = None;
    }

    // A slot is whole at every step, so a poisoned lock is still good.
    fn slot(&self) -> MutexGuard<'_, Option<Ticket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rewrites {
    /// How many turns are over: a plan that was made before another number may be of a table that has changed.
    pub(super) fn over(&self) -> u64 {
        self.over.load(Ordering::SeqCst)
    }

    /// Waits for a turn, and tells how many are before it.
    async fn ticket(&self, table: Uuid, queued: impl FnOnce(u32)) -> Ticket {
        let line = self.line(table);
        let turn = match Arc::clone(&line.turn).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => {
                let before = line.waiting.fetch_add(1, Ordering::Relaxed) + 1;
                let _place = Place(&line);
                queued(before);
                Arc::clone(&line.turn).lock_owned().await
            }
        };
        Ticket {
            table,
            over: Arc::clone(&self.over),
            _turn: turn,
            _line: line,
        }
    }

    fn line(&self, table: Uuid) -> Arc<Line> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = tables.get(&table).and_then(Weak::upgrade) {
            return line;
        }
        tables.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Line::default());
        tables.insert(table, Arc::downgrade(&line));
        line
    }
}

/// The table that a statement rests on and changes, so that another that does would make it start again.
pub(super) fn rewritten(planned: &Planned, tables: &PinnedTables) -> Option<Uuid> {
    let Planned::Write(write) = planned else {
        return None;
    };
    match write.mode {
        WriteMode::Create(_) | WriteMode::Append => None,
        WriteMode::Extend(_) | WriteMode::Overwrite(_) | WriteMode::Rewrite(_) => {
            let name = TableName::new(&write.table.schema, &write.table.name);
            Some(tables.catalog().get(&name)?.id)
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const TABLE: Uuid = Uuid::from_u128(1);

    #[tokio::test]
    async fn turns_come_in_the_order_of_arrival() {
        let rewrites = Rewrites::default();
        let first = rewrites
            .ticket(TABLE, |_| panic!("nobody is before it"))
            .await;
        let told = Mutex::new(Vec::new());
        let tell = |before| told.lock().unwrap().push(before);
        let mut second = Box::pin(rewrites.ticket(TABLE, tell));
        let mut third = Box::pin(rewrites.ticket(TABLE, tell));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        assert_eq!(*told.lock().unwrap(), [1, 2]);
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "the second waits");
        drop(second.await);
        assert_eq!(third.await.table, TABLE);
    }

    #[tokio::test]
    async fn a_turn_is_kept_until_it_is_passed() {
        let rewrites = Rewrites::default();
        let turn = Turn::default();
        assert!(!turn.is_of(TABLE));
        turn.take(&rewrites, TABLE, |_| ()).await;
        assert!(turn.is_of(TABLE) && !turn.is_of(Uuid::from_u128(2)));
        let next = Turn::default();
        let mut waiting = Box::pin(next.take(&rewrites, TABLE, |_| ()));
        assert!((&mut waiting).now_or_never().is_none());
        let planned = rewrites.over();
        turn.pass();
        assert!(!turn.is_of(TABLE));
        waiting.await;
        assert!(next.is_of(TABLE));
        assert_ne!(
            rewrites.over(),
            planned,
            "what was planned before may be old"
        );
    }

    #[tokio::test]
    async fn who_stops_waiting_holds_nobody_up() {
        let rewrites = Rewrites::default();
        let first = rewrites.ticket(TABLE, |_| ()).await;
        let mut gone = Box::pin(rewrites.ticket(TABLE, |_| ()));
        assert!((&mut gone).now_or_never().is_none());
        let mut waiting = Box::pin(rewrites.ticket(TABLE, |_| ()));
        assert!((&mut waiting).now_or_never().is_none());
        drop(gone);
        assert_eq!(rewrites.line(TABLE).waiting.load(Ordering::Relaxed), 1);
        drop(first);
        assert_eq!(waiting.await.table, TABLE);
    }

    #[tokio::test]
    async fn tables_do_not_wait_for_each_other() {
        let rewrites = Rewrites::default();
        let _held = rewrites.ticket(TABLE, |_| ()).await;
        let other = Uuid::from_u128(2);
        drop(
            rewrites
                .ticket(other, |_| panic!("nobody is before it"))
                .await,
        );
        // Lines that nobody stands in are forgotten.
        rewrites.ticket(Uuid::from_u128(3), |_| ()).await;
        assert_eq!(rewrites.tables.lock().unwrap().len(), 2);
    }
}
