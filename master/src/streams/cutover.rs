//! Changing the definition of a stream that has written already: everything below some offset was written by the old
//! one, everything from it on is written by the new one. Pure.
//!
//! Each table holds its own offsets, so each has such a point by itself. But a commit that broke off may have left
//! the tables of a topic at different ones, and a record between them would be judged twice: refused by the old
//! transform for the dead letters, say, and taken by the new one for a table that is beyond it already. So a stream is
//! held first: nobody reads it, and if its tables stand apart, the old definition goes on until they are even.

use std::collections::BTreeSet;
use std::sync::Arc;

use drumline_proto::v1::StreamDefinition;

use super::coordinator::Action;
use super::stream::{Phase, Stream};
use super::tables::dead_letters_of;
use super::{Partition, TableOffsets};

/// How soon files are closed while tables catch up with one another.
const CATCH_UP_MILLIS: u64 = 200;

impl Stream {
    /// Nobody reads it from here on, but to make its tables even.
    pub(super) fn hold(&mut self, actions: &mut Vec<Action>) {
        if !self.holding {
            self.holding = true;
            self.revoke_all(actions);
            self.phase = Phase::Settling;
        }
    }

    /// It goes on as it was.
    pub(super) fn release(&mut self, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.holding) {
            self.revoke_all(actions);
            self.phase = match (self.definition.paused, &self.layout) {
                (true, _) => Phase::Paused,
                (false, Some(_)) => Phase::Settling,
                (false, None) => Phase::Probing { asked: None },
            };
        }
    }

    /// The tables have been read. Whether that is all that was to be done.
    pub(super) fn held(&mut self, actions: &mut Vec<Action>) -> bool {
        let is_done = self.holding && is_even(&self.definition, &self.offsets);
        if is_done {
            self.revoke_all(actions);
            self.planned.clear();
            self.phase = Phase::Held;
            let stream = self.definition.name.clone();
            actions.push(Action::ConfirmHold { stream });
        }
        is_done
    }

    /// A commit landed.
    pub(super) fn caught_up(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Running && self.holding && is_even(&self.definition, &self.offsets)
        {
            self.revoke_all(actions);
            self.phase = Phase::Settling;
        }
    }

    /// What workers get.
    pub(super) fn assigned_definition(&self) -> Arc<StreamDefinition> {
        match self.holding {
            false => Arc::clone(&self.definition),
            true => Arc::new(StreamDefinition {
                flush_interval_millis: CATCH_UP_MILLIS,
                flush_aligned: false,
                ..(*self.definition).clone()
            }),
        }
    }
}

/// Whether all tables that a partition goes to have the same offset of it.
pub(super) fn is_even(definition: &StreamDefinition, offsets: &TableOffsets) -> bool {
    let tables = offsets.0.values();
    let partitions: BTreeSet<&Partition> = tables.flat_map(|held| held.keys()).collect();
    partitions.into_iter().all(|partition| {
        let held = |table: &String| offsets.0.get(table).and_then(|held| held.get(partition));
        let mut each = sharing(definition, offsets, partition)
            .iter()
            .map(held)
            .collect::<Vec<_>>()
            .into_iter();
        let first = each.next().flatten();
        each.all(|other| other == first)
    })
}

/// The tables that a partition goes to. What a pattern matches is known from what its tables hold, also while
/// nobody can look at the brokers.
fn sharing(
    definition: &StreamDefinition,
    offsets: &TableOffsets,
    partition: &Partition,
) -> BTreeSet<String> {
    let named = definition.topics.iter().find(|t| t.reads(&partition.topic));
    let tables = |topic: &drumline_proto::v1::TopicDefinition| -> BTreeSet<String> {
        let routes = topic.all_routes().into_iter();
        routes.map(|route| route.table).collect()
    };
    let holds = |table: &String| {
        offsets
            .0
            .get(table)
            .is_some_and(|held| held.contains_key(partition))
    };
    let mut found = match named {
        Some(topic) => tables(topic),
        None => {
            let patterns = definition.topics.iter().filter(|t| !t.pattern.is_empty());
            let mut found = patterns.map(tables);
            found
                .find(|tables| tables.iter().any(holds))
                .unwrap_or_default()
        }
    };
    // Of a topic of others, that a shared table tells of, there is nothing to compare.
    if !found.is_empty() {
        found.insert(dead_letters_of(definition).to_owned());
    }
    found
}
