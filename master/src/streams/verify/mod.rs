//! `drumline stream verify`: whether a stream's tables hold every record once, as far as it can be seen.
//!
//! Three witnesses that know nothing of each other are compared: the ranges in each table's log (`chain.rs`),
//! the counts that workers put into their offers, and the records that a worker finds in Kafka when it reads the
//! same ranges again (`compare.rs`). What the rows themselves say (`_topic, _partition, _offset`) is asked in SQL
//! by whoever called, at the version named here. Changes nothing, and may run while the stream does.

mod chain;
mod compare;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use drumline_lake::Consumed;
use drumline_proto::v1::{
    CountRecords, FailureKind, StreamDefinition, VerifiedTable, VerifyStreamResponse, Violation,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::chain::Chain;
use self::compare::Counted;
use super::Partition;
use super::handle::Streams;
use super::tables::{StreamTables, all_targets, dead_letters_of};
use crate::Error;
use crate::cluster::Workers;

/// Partitions that are counted at a time, by each worker.
const AT_A_TIME: usize = 2;
/// Violations that are named; all are counted.
const NAMED: usize = 200;
const METADATA: [&str; 3] = ["_topic", "_partition", "_offset"];

/// What verifying needs of the master.
pub(super) struct Verifier {
    pub(super) streams: Streams,
    pub(super) tables: StreamTables,
    pub(super) workers: Workers,
}

/// A table and what its log tells.
struct Looked {
    name: String,
    consumed: Consumed,
    chain: Chain,
}

impl Verifier {
    /// Looks at every table of a stream, dead letters included, and at its topics.
    pub(super) async fn verify(
        &self,
        definition: &StreamDefinition,
    ) -> Result<VerifyStreamResponse, Error> {
        let mut response = VerifyStreamResponse {
            name: definition.name.clone(),
            ..VerifyStreamResponse::default()
        };
        let mut looked = Vec::new();
        for name in all_targets(definition) {
            match self.tables.consumed(&name).await? {
                Some(consumed) => {
                    let chain = chain::walk(&name, &definition.name, &consumed);
                    looked.push(Looked {
                        name,
                        consumed,
                        chain,
                    });
                }
                None => response.violations.push(Violation {
                    table: name,
                    what: "the table is gone: it was dropped or renamed".to_owned(),
                    ..Violation::default()
                }),
            }
        }
        let cuts = compare::cuts(looked.iter().map(|table| &table.chain));
        let counted = self.count(definition, cuts, &mut response.notes).await?;
        let letters = dead_letters_of(definition);
        let (of_letters, of_rows): (Vec<_>, Vec<_>) = looked
            .iter()
            .map(|table| (table.name.as_str(), &table.chain))
            .partition(|(name, _)| *name == letters);
        for letters in of_letters {
            let wrong = compare::compare_letters(letters, &of_rows);
            response.violations.extend(wrong);
        }
        for table in &looked {
            report(&mut response, table, table.name == letters, &counted);
        }
        response.notes.extend(notes_of_kafka(&looked, &counted));
        let found = response.violations.len();
        if found > NAMED {
            response.violations.truncate(NAMED);
            let more = found - NAMED;
            response.notes.push(format!("{more} more violations"));
        }
        Ok(response)
    }

    /// Has the workers count, a partition at a time each.
    async fn count(
        &self,
        definition: &StreamDefinition,
        cuts: BTreeMap<Partition, Vec<i64>>,
        notes: &mut Vec<String>,
    ) -> Result<BTreeMap<Partition, Counted>, Error> {
        let workers: Vec<String> = self.workers.alive().iter().map(|w| w.id.clone()).collect();
        if workers.is_empty() && !cuts.is_empty() {
            return Err(Error::NoWorkerToCount {
                stream: definition.name.clone(),
            });
        }
        let slots = Arc::new(Semaphore::new(AT_A_TIME * workers.len().max(1)));
        let mut asked = JoinSet::new();
        for ((partition, cuts), worker) in cuts.into_iter().zip(workers.iter().cycle()) {
            let (streams, worker) = (self.streams.clone(), worker.clone());
            let (slots, definition) = (Arc::clone(&slots), definition.clone());
            asked.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let request = CountRecords {
                    id: 0,
                    definition: Some(definition),
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                    cuts: cuts.clone(),
                };
                let answer = streams.count(worker.clone(), request).await;
                (partition, worker, cuts, answer)
            });
        }
        let mut counted = BTreeMap::new();
        while let Some(asked) = asked.join_next().await {
            let (partition, worker, cuts, answer) = asked.map_err(|error| Error::Bug {
                context: format!("counting a partition: {error}"),
            })?;
            let mut answer = answer.ok_or_else(|| Error::WorkerLeftCounting {
                worker,
                topic: partition.topic.clone(),
                partition: partition.partition,
            })?;
            match answer.failure.take() {
                None => {
                    counted.insert(partition, Counted { cuts, answer });
                }
                Some(failure) if failure.kind() == FailureKind::User => notes.push(format!(
                    "{}/{} was not counted: {}",
                    partition.topic, partition.partition, failure.message
                )),
                Some(failure) => {
                    return Err(Error::Count {
                        topic: partition.topic,
                        partition: partition.partition,
                        reason: super::wire::in_words(failure),
                    });
                }
            }
        }
        Ok(counted)
    }
}

/// Puts into the answer what is known of one table.
fn report(
    response: &mut VerifyStreamResponse,
    table: &Looked,
    are_letters: bool,
    counted: &BTreeMap<Partition, Counted>,
) {
    let Looked {
        name,
        consumed,
        chain,
    } = table;
    let snapshot = &consumed.snapshot;
    response.violations.extend(chain.violations.iter().cloned());
    let mut partitions = Vec::new();
    for (partition, track) in &chain.tracks {
        let same = counted
            .get(partition)
            .filter(|counted| is_same_topic(table, partition, counted));
        let compared = compare::compare(name, are_letters, partition, track, same);
        response.violations.extend(compared.violations);
        let (seen, at) = (&compared.partition, name_of(partition));
        if seen.commits_without_counts > 0 {
            response.notes.push(format!(
                "table {name}, {at}: {} commits are of a build that kept no counts",
                seen.commits_without_counts
            ));
        }
        if track.earlier_gone {
            response.notes.push(format!(
                "table {name}, {at}: what was committed before offset {} was not seen; the log \
                 begins at version {}",
                track.begin, consumed.first
            ));
        }
        partitions.push(compared.partition);
    }
    let held = snapshot.rows();
    if chain.by_others.is_empty() {
        if chain.is_counted && chain.added != held {
            response.violations.push(Violation {
                table: name.clone(),
                version: snapshot.version,
                what: format!("it holds {held} rows, its commits added {}", chain.added),
                ..Violation::default()
            });
        }
    } else {
        let shown = chain.by_others.iter().take(5).map(u64::to_string);
        let shown: Vec<_> = shown.collect();
        let more = match chain.by_others.len() > shown.len() {
            true => ", …",
            false => "",
        };
        response.notes.push(format!(
            "table {name}: others than streams changed rows (version {}{more}): rows that are missing \
             now may have been deleted",
            shown.join(", ")
        ));
    }
    let has = |column: &&str| snapshot.schema.field_with_name(column).is_ok();
    response.tables.push(VerifiedTable {
        table: name.clone(),
        kind: match are_letters {
            true => "dead letters",
            false => "rows",
        }
        .to_owned(),
        version: snapshot.version,
        first_version: consumed.first,
        commits: chain.commits,
        rows: held,
        metadata_columns: METADATA.iter().all(has),
        changed_by_others: chain.is_merged || !chain.by_others.is_empty(),
        partitions,
    });
}

/// Says what Kafka could not tell, and why.
fn notes_of_kafka(looked: &[Looked], counted: &BTreeMap<Partition, Counted>) -> BTreeSet<String> {
    let mut notes = BTreeSet::new();
    for (partition, counted) in counted {
        let (at, answer) = (name_of(partition), &counted.answer);
        if looked.iter().any(|t| !is_same_topic(t, partition, counted)) {
            notes.insert(format!(
                "topic {} was deleted and made again: its records were not counted",
                partition.topic
            ));
            continue;
        }
        let first = counted.cuts.first().copied().unwrap_or_default();
        let last = counted.cuts.last().copied().unwrap_or_default();
        if answer.low > first {
            notes.insert(format!(
                "{at}: kafka has nothing before offset {} any more: counted from the first commit after it",
                answer.low
            ));
        }
        if answer.high < last {
            notes.insert(format!(
                "{at}: kafka ends at offset {}, the tables at {last}",
                answer.high
            ));
        }
        if answer.compacted {
            notes.insert(format!(
                "topic {} is compacted: kafka may have fewer records than were read",
                partition.topic
            ));
        }
    }
    notes
}

/// Whether the topic that was counted is the one that the table took its records from.
fn is_same_topic(table: &Looked, partition: &Partition, counted: &Counted) -> bool {
    let held = table.consumed.snapshot.topic_ids.get(&partition.topic);
    let found = &counted.answer.topic_id;
    held.is_none_or(|held| found.is_empty() || held == found)
}

fn name_of(partition: &Partition) -> String {
    format!("{}/{}", partition.topic, partition.partition)
}
