//! Streams on the master: who consumes which partitions, and the commits of what workers offer.
//!
//! `coordinator.rs`, `stream.rs`, `cutover.rs` and `look.rs` decide, purely; `runner.rs` carries out, for whoever has a
//! handle (`handle.rs`), and tells what happens (`told.rs`); `tables.rs` reads and commits through `lake`; `apply.rs`
//! keeps a definition once all is looked at that can be wrong, with `definition.rs` (it by itself), `targets.rs` (its
//! tables and their columns) and `beginnings.rs` (where these begin); `service.rs` answers clients; `wire.rs` words
//! what goes to workers; `bounds.rs` says where streams end that do, `reset.rs` moves where tables go on; `latest.rs`
//! keeps current-state tables up to their changes; `grow.rs` and `widen.rs` give tables the columns that workers find
//! to be missing.
//! Invariant: a stream's definition lives in the catalog, its offsets live in its tables, and the
//! master keeps neither anywhere else.

mod apply;
mod balance;
mod beginnings;
mod bounds;
mod coordinator;
mod cutover;
mod definition;
pub(crate) mod grow;
mod handle;
mod latest;
mod look;
mod replay;
mod reset;
mod runner;
mod service;
mod statements;
mod status;
mod stream;
mod tables;
mod targets;
#[cfg(test)]
mod tests;
mod told;
mod verify;
mod widen;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use drumline_proto::v1::ProbeResult;

pub(crate) use handle::Streams;
pub(crate) use latest::Keeper as LatestRows;
pub(crate) use runner::start;
pub(crate) use service::StreamsService;
pub(crate) use statements::Statements as StreamStatements;
pub(crate) use status::requests_per_million;
pub(crate) use tables::StreamTables;

/// A Kafka topic partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

/// How many partitions each topic of a stream has, and which topics its patterns match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) topics: BTreeMap<String, u32>,
    /// Number of the `[[topic]]` whose pattern a topic matches.
    pub(crate) matched: BTreeMap<String, u32>,
}

impl Layout {
    fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.topics.iter().flat_map(|(topic, count)| {
            (0..*count).map(move |partition| Partition {
                topic: topic.clone(),
                partition: partition as i32,
            })
        })
    }
}

impl From<ProbeResult> for Layout {
    fn from(probed: ProbeResult) -> Self {
        Self {
            topics: probed.partitions.into_iter().collect(),
            matched: probed.matched.into_iter().collect(),
        }
    }
}

/// Next offset per partition, as each target table of a stream holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableOffsets(pub(crate) BTreeMap<String, BTreeMap<Partition, i64>>);

impl TableOffsets {
    /// Takes over what other says, table by table, partition by partition.
    fn advance(&mut self, newer: TableOffsets) {
        for (table, offsets) in newer.0 {
            self.0.entry(table).or_default().extend(offsets);
        }
    }

    /// Where `partition` has to be read from: the smallest offset of the tables it goes to. Nothing
    /// while one of them has none (nothing is committed yet, its first commit failed, or it is new):
    /// then all that Kafka has is read, and the others leave out what they have.
    fn resume_from(&self, partition: &Partition, targets: &BTreeSet<String>) -> Option<i64> {
        let held: Option<Vec<i64>> = targets
            .iter()
            .map(|table| self.0.get(table)?.get(partition).copied())
            .collect();
        held?.into_iter().min()
    }

    fn of(&self, partition: &Partition) -> BTreeMap<String, i64> {
        let held = self
            .0
            .iter()
            .filter_map(|(table, held)| Some((table.clone(), *held.get(partition)?)));
        held.collect()
    }
}
