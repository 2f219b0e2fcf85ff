//! The world around the coordinator: what it is told, what it orders, and what goes wrong in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use drumline_proto::v1::Offer;

use super::parts::{
    Commit, Committing, Dice, Files, Read, Reading, Rows, Share, Starts, Table, ToWorker, Worker,
};
use super::{DEAD, PARTITIONS, Seen, TABLES, WORKERS, Without};
use crate::streams::TableOffsets;
use crate::streams::coordinator::{Action, Coordinator, Event};
use crate::streams::tests::{came, gone, offer, partition, put};

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) without: Without,
    pub(super) now: Instant,
    pub(super) generation: u64,
    pub(super) coordinator: Coordinator,
    pub(super) tables: [Table; 2],
    pub(super) ends: Vec<i64>,
    pub(super) workers: BTreeMap<&'static str, Worker>,
    pub(super) commits: Vec<Committing>,
    /// Files of offers that the coordinator has.
    pub(super) offered: BTreeMap<(String, u64, u64), Files>,
    /// Epochs that workers were given and that nothing has ended yet, in the order of what was decided.
    pub(super) granted: BTreeMap<String, u64>,
    pub(super) reads: Vec<Read>,
    pub(super) assigning: Vec<(String, u64, Starts)>,
    /// How many late puts had landed when the tables that shares go out from were read.
    pub(super) read_at: u64,
    pub(super) faults: bool,
    pub(super) seen: Seen,
}

impl World {
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.now += Duration::from_millis(150);
        let name = WORKERS[self.dice.roll(WORKERS.len())];
        match self.dice.roll(20) {
            0 if self.faults => {
                let partition = self.dice.roll(PARTITIONS as usize);
                self.ends[partition] += 1 + self.dice.roll(6) as i64;
            }
            1 | 2 => self.read(name),
            3 | 4 => self.offer(name),
            5..=7 => self.hear(name),
            8 | 9 => self.deliver(name)?,
            10..=12 => self.commit()?,
            13 | 14 => self.read_tables()?,
            15 => self.assign(),
            16 => self.join(name)?,
            17 => self.tell(Event::Tick)?,
            18 if self.faults && self.dice.one_in(3) => self.fault(name)?,
            19 => self.notice(name)?,
            _ => {}
        }
        Ok(())
    }

    /// Something breaks.
    fn fault(&mut self, name: &'static str) -> Result<(), String> {
        let what = self.dice.roll(7);
        let Some(worker) = self.workers.get_mut(name) else {
            return Ok(());
        };
        match what {
            0 if worker.is_alive => {
                self.seen.losses += 1;
                let member = worker.is_member;
                // What it had said may still arrive.
                let outbox = std::mem::take(&mut worker.outbox);
                *worker = Worker {
                    is_member: member,
                    outbox,
                    ..Worker::default()
                };
            }
            1 | 2 if worker.is_alive => worker.is_frozen = true,
            3 if self.dice.one_in(2) => self.lose_master()?,
            4 => {
                // Somebody rewrites a table: no offset moves.
                let table = self.dice.roll(2);
                self.tables[table].version += 1;
            }
            // A worker loses its share by itself: its disk is full, say.
            5 if worker.is_alive && worker.is_connected => {
                if let Some(share) = worker.share.take() {
                    self.tell(Event::AssignmentFailed {
                        worker: name.to_owned(),
                        stream: "s".to_owned(),
                        epoch: share.epoch,
                        reason: "disk full".to_owned(),
                    })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn lose_master(&mut self) -> Result<(), String> {
        self.seen.masters += 1;
        self.generation += 1;
        // Only puts that had gone out may still land; nobody waits for them.
        self.commits
            .retain(|commit| matches!(commit.state, Commit::Putting { .. }));
        self.reads.clear();
        self.assigning.clear();
        self.offered.clear();
        self.granted.clear();
        self.coordinator = Coordinator::new(1 + self.generation * 1_000_000);
        for worker in self.workers.values_mut() {
            worker.is_member = false;
            worker.inbox.clear();
            worker.outbox.clear();
            worker.hang_up();
        }
        self.tell(put(PARTITIONS))
    }

    /// The master notices that a worker is silent; a worker that its call is over.
    fn notice(&mut self, name: &'static str) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(name) else {
            return Ok(());
        };
        if worker.is_member && (worker.is_frozen || !worker.is_connected) {
            worker.is_member = false;
            worker.inbox.clear();
            worker.outbox.clear();
            self.tell(gone(name))?;
        }
        let Some(worker) = self.workers.get_mut(name) else {
            return Ok(());
        };
        if worker.is_frozen && (!self.faults || self.dice.one_in(2)) {
            worker.is_frozen = false;
            if !worker.is_member {
                worker.hang_up();
            }
        }
        Ok(())
    }

    fn join(&mut self, name: &'static str) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(name) else {
            return Ok(());
        };
        if worker.is_member || worker.is_frozen {
            return Ok(());
        }
        *worker = Worker {
            is_alive: true,
            is_member: true,
            is_connected: true,
            ..Worker::default()
        };
        self.tell(came(name))
    }

    /// A worker reads some records of a partition.
    fn read(&mut self, name: &str) {
        let (dice, ends) = (&mut self.dice, &self.ends);
        let Some(share) = self.workers.get_mut(name).and_then(Worker::working) else {
            return;
        };
        for (partition, reading) in &mut share.partitions {
            let end = ends.get(*partition as usize).copied().unwrap_or(0);
            if dice.one_in(2) && reading.next < end {
                let some = 1 + dice.roll(5) as i64;
                reading.next = (reading.next + some).min(end);
            }
        }
    }

    /// A worker closes its files and offers them, one offer at a time.
    fn offer(&mut self, name: &str) {
        let without = self.without;
        let Some(worker) = self.workers.get_mut(name) else {
            return;
        };
        let Some(share) = worker.working().filter(|share| share.open.is_none()) else {
            return;
        };
        let mut ranges: [Vec<(i32, i64, i64)>; 2] = Default::default();
        let mut rows: Rows = Default::default();
        for (partition, reading) in &mut share.partitions {
            for (table, rows) in rows.iter_mut().enumerate() {
                let from = reading.tables[table];
                if from >= reading.next {
                    continue;
                }
                ranges[table].push((*partition, from, reading.next));
                // Files hold what was read since the last closing; below a table's own start they leave out.
                let first = match without {
                    Without::OwnOffsets => reading.starts[0].min(reading.starts[1]).max(
                        match from == reading.starts[table] {
                            true => i64::MIN,
                            false => from,
                        },
                    ),
                    _ => from,
                };
                let is_here = |offset: &i64| (offset % DEAD == 0) == (table == 1);
                rows.extend(
                    (first..reading.next)
                        .filter(is_here)
                        .map(|o| (*partition, o)),
                );
            }
        }
        if ranges.iter().all(Vec::is_empty) {
            return;
        }
        share.offers += 1;
        let id = share.offers;
        let reach = share
            .partitions
            .iter()
            .map(|(p, reading)| (*p, reading.next));
        share.open = Some((id, reach.collect()));
        if without == Without::AnswerFirst {
            share.settle();
            share.open = None;
        }
        let mut made = offer(share.epoch, id, &[]);
        for (table, ranges) in made.tables.iter_mut().zip(ranges) {
            table.ranges = offer(0, 0, &ranges).tables.remove(0).ranges;
        }
        let rows = match made.tables.iter().position(|table| table.ranges.is_empty()) {
            // A table without a range is no part of the offer.
            Some(empty) => {
                let mut rows = rows;
                rows[empty].clear();
                rows
            }
            None => rows,
        };
        worker.outbox.push_back((made, rows));
    }

    /// A worker hears one message of its master.
    fn hear(&mut self, name: &str) {
        let Some(worker) = self
            .workers
            .get_mut(name)
            .filter(|worker| !worker.is_frozen)
        else {
            return;
        };
        match worker.inbox.pop_front() {
            Some(ToWorker::Assign { epoch, starts }) => {
                let newer = worker
                    .share
                    .as_ref()
                    .is_none_or(|share| share.epoch < epoch);
                if newer {
                    let partitions = starts.into_iter().map(|(partition, held)| {
                        let of = |table: &str| held.get(table).copied().unwrap_or(0);
                        let tables = TABLES.map(of);
                        let next = tables[0].min(tables[1]);
                        let reading = Reading {
                            next,
                            tables,
                            starts: tables,
                        };
                        (partition, reading)
                    });
                    worker.share = Some(Share {
                        epoch,
                        partitions: partitions.collect(),
                        ..Share::default()
                    });
                }
            }
            Some(ToWorker::Revoke { epoch }) => {
                worker.share.take_if(|share| share.epoch <= epoch);
            }
            Some(ToWorker::Answer {
                epoch,
                id,
                committed,
            }) => {
                let share = worker.share.as_mut().filter(|share| share.epoch == epoch);
                let Some(share) = share else { return };
                let is_open = share.open.as_ref().is_some_and(|(open, _)| *open == id);
                match (is_open, committed) {
                    (true, true) => {
                        share.settle();
                        share.open = None;
                    }
                    // What was offered is given up; the master assigns anew.
                    (true, false) => worker.share = None,
                    (false, _) => {}
                }
            }
            None => {}
        }
    }

    /// An offer reaches the master.
    fn deliver(&mut self, name: &'static str) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(name).filter(|worker| worker.is_member) else {
            return Ok(());
        };
        let Some((mut offer, rows)) = worker.outbox.pop_front() else {
            return Ok(());
        };
        let made_under = offer.epoch;
        if self.without == Without::EpochCheck
            && let Some(share) = self.coordinator.streams()["s"].shares.get(name)
        {
            offer.epoch = share.epoch;
        }
        let key = (name.to_owned(), offer.epoch, offer.id);
        self.offered.insert(key, (rows, made_under));
        self.tell(Event::Offered {
            worker: name.to_owned(),
            offer,
        })
    }

    /// One step of one commit that is under way.
    fn commit(&mut self) -> Result<(), String> {
        if self.commits.is_empty() {
            return Ok(());
        }
        let at = self.dice.roll(self.commits.len());
        let luck = match self.faults {
            true => self.dice.roll(12),
            false => 0,
        };
        let mut commit = self.commits.swap_remove(at);
        let is_orphan = commit.generation != self.generation;
        // An orphan's put lands when it likes, or never.
        if is_orphan && self.faults && !self.dice.one_in(4) {
            self.commits.push(commit);
            return Ok(());
        }
        if is_orphan && luck > 8 {
            return Ok(());
        }
        let name = commit.offer.tables[commit.at].table.clone();
        let number = TABLES.iter().position(|table| **table == name).unwrap_or(0);
        let ranges: Vec<(i32, i64, i64)> = commit.offer.tables[commit.at]
            .ranges
            .iter()
            .map(|range| (range.partition, range.from, range.to))
            .collect();
        let attempt = (commit.generation, commit.commit.clone());
        let table = &mut self.tables[number];
        match commit.state {
            Commit::Deciding => {
                let fits = ranges.iter().all(|(partition, from, _)| {
                    table.offsets.get(partition).is_none_or(|held| held == from)
                });
                if !fits && self.without != Without::TableOffsetCheck {
                    self.seen.refused += 1;
                    return self.ended(commit, Err("moved".to_owned()));
                }
                commit.state = Commit::Putting {
                    version: table.version + 1,
                };
                self.commits.push(commit);
                Ok(())
            }
            Commit::Putting { version } => {
                let is_free = table.version + 1 == version;
                // Given up after a time-out, and it may land all the same.
                if luck == 8 && !is_orphan {
                    let late = Committing {
                        generation: u64::MAX,
                        ..commit.clone()
                    };
                    self.commits.push(late);
                    return self.ended(commit, Err("outcome unknown".to_owned()));
                }
                // It did not land, and says so.
                if luck == 9 {
                    commit.state = Commit::Deciding;
                    self.commits.push(commit);
                    return Ok(());
                }
                if is_free || self.without == Without::CreateOnlyPut {
                    let rows = &commit.rows[number];
                    self.seen.late_puts += u64::from(is_orphan);
                    table.land(version, attempt, &ranges, rows)?;
                } else if !table.landed.contains(&attempt) {
                    // Somebody else was faster: what we know is old.
                    commit.state = Commit::Deciding;
                    if !is_orphan {
                        self.commits.push(commit);
                    }
                    return Ok(());
                }
                if is_orphan {
                    return Ok(());
                }
                if luck == 10 && self.without == Without::LookAfterDoubt {
                    // Taken for not landed, and put again under the next number.
                    commit.state = Commit::Putting {
                        version: table.version + 1,
                    };
                    self.commits.push(commit);
                    return Ok(());
                }
                commit.at += 1;
                while commit.at < commit.offer.tables.len()
                    && commit.offer.tables[commit.at].ranges.is_empty()
                {
                    commit.at += 1;
                }
                if commit.at == commit.offer.tables.len() {
                    self.seen.commits += 1;
                    let held = reached(&commit.offer);
                    return self.ended(commit, Ok(held));
                }
                commit.state = Commit::Deciding;
                // The store fails for good, between two tables.
                if luck == 11 {
                    return self.ended(commit, Err("no space".to_owned()));
                }
                self.commits.push(commit);
                Ok(())
            }
        }
    }

    fn ended(
        &mut self,
        commit: Committing,
        result: Result<TableOffsets, String>,
    ) -> Result<(), String> {
        if commit.generation != self.generation || self.without == Without::WaitingForCommits {
            return Ok(());
        }
        self.tell(Event::CommitEnded {
            stream: "s".to_owned(),
            commit: commit.commit,
            result,
        })
    }

    /// A reading of the tables gets on by a table, or ends.
    fn read_tables(&mut self) -> Result<(), String> {
        if self.reads.is_empty() {
            return Ok(());
        }
        let at = self.dice.roll(self.reads.len());
        let found = &mut self.reads[at].found;
        let next = TABLES.iter().position(|table| !found.contains_key(*table));
        if let Some(next) = next {
            let held = self.tables[next].offsets.iter();
            let held = held.map(|(p, offset)| (partition(*p), *offset));
            found.insert(TABLES[next].to_owned(), held.collect());
            return Ok(());
        }
        let Read {
            mut read,
            late_puts,
            found,
        } = self.reads.swap_remove(at);
        self.read_at = late_puts;
        if self.without == Without::FreshReads {
            read = self.coordinator.streams()["s"].reads;
        }
        self.tell(Event::TablesRead {
            stream: "s".to_owned(),
            read,
            result: Ok(TableOffsets(found)),
        })
    }

    /// A share's targets are looked up, and it goes out, unless it was revoked meanwhile.
    fn assign(&mut self) {
        if self.assigning.is_empty() {
            return;
        }
        let at = self.dice.roll(self.assigning.len());
        let (worker, epoch, starts) = self.assigning.swap_remove(at);
        if !self.coordinator.holds("s", &worker, epoch) {
            return;
        }
        if let Some(worker) = self
            .workers
            .get_mut(worker.as_str())
            .filter(|w| w.is_member)
        {
            worker.inbox.push_back(ToWorker::Assign { epoch, starts });
        }
    }

    pub(super) fn tell(&mut self, event: Event) -> Result<(), String> {
        match &event {
            Event::WorkerGone { worker } => {
                self.granted.remove(worker);
            }
            Event::AssignmentFailed { worker, epoch, .. }
                if self.granted.get(worker) == Some(epoch) =>
            {
                self.granted.remove(worker);
            }
            _ => {}
        }
        for action in self.coordinator.step(self.now, event) {
            self.perform(action)?;
        }
        let mut held = BTreeSet::new();
        for share in self.coordinator.streams()["s"].shares.values() {
            for partition in &share.partitions {
                if !held.insert(partition) {
                    return Err(format!("{partition:?} is with two workers"));
                }
            }
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::ReadTables { read, .. } => self.reads.push(Read {
                read,
                late_puts: self.seen.late_puts,
                found: BTreeMap::new(),
            }),
            Action::AssignPartitions {
                worker,
                epoch,
                partitions,
                offsets,
                ..
            } => {
                let mut starts = BTreeMap::new();
                for partition in partitions {
                    let open = self.commits.iter().find(|commit| {
                        let tables = commit.offer.tables.iter();
                        let mut ranges = tables.flat_map(|table| &table.ranges);
                        commit.generation == self.generation
                            && ranges.any(|range| range.partition == partition.partition)
                    });
                    if let Some(open) = open {
                        let commit = &open.commit;
                        return Err(format!("{partition:?} goes out while {commit:?} is open"));
                    }
                    let held = offsets.of(&partition);
                    for (table, name) in self.tables.iter().zip(TABLES) {
                        let is_there = table.offsets.get(&partition.partition);
                        // Only a put that nobody waits for any more may have moved it meanwhile.
                        if held.get(name) != is_there && self.read_at == self.seen.late_puts {
                            return Err(format!(
                                "{partition:?} goes out from {held:?}, table {name} is at {is_there:?}"
                            ));
                        }
                    }
                    starts.insert(partition.partition, held);
                }
                self.granted.insert(worker.clone(), epoch);
                self.assigning.push((worker, epoch, starts));
            }
            Action::RevokeEpoch { worker, epoch, .. } => {
                self.granted.remove(&worker);
                if let Some(worker) = self
                    .workers
                    .get_mut(worker.as_str())
                    .filter(|w| w.is_member)
                {
                    worker.inbox.push_back(ToWorker::Revoke { epoch });
                }
            }
            Action::CommitOffer { commit, offer, .. } => {
                let key = (commit.worker.clone(), commit.epoch, commit.offer);
                let (rows, made_under) = self.offered.remove(&key).unwrap_or_default();
                let is_current = self.granted.get(&commit.worker) == Some(&commit.epoch);
                if !is_current || made_under != commit.epoch {
                    return Err(format!("a revoked epoch got to commit: {commit:?}"));
                }
                if self.without == Without::WaitingForCommits {
                    self.commits.push(Committing {
                        generation: self.generation,
                        commit: commit.clone(),
                        at: first(&offer),
                        rows,
                        state: Commit::Deciding,
                        offer: offer.clone(),
                    });
                    return self.tell(Event::CommitEnded {
                        stream: "s".to_owned(),
                        commit,
                        result: Ok(reached(&offer)),
                    });
                }
                self.commits.push(Committing {
                    generation: self.generation,
                    commit,
                    at: first(&offer),
                    rows,
                    state: Commit::Deciding,
                    offer,
                });
            }
            Action::AnswerOffer {
                commit, refusal, ..
            } => {
                let answer = ToWorker::Answer {
                    epoch: commit.epoch,
                    id: commit.offer,
                    committed: refusal.is_none(),
                };
                let worker = self.workers.get_mut(commit.worker.as_str());
                if let Some(worker) = worker.filter(|worker| worker.is_member) {
                    worker.inbox.push_back(answer);
                }
            }
            Action::ProbeStream { .. } | Action::ConfirmHold { .. } => {}
        }
        Ok(())
    }

    pub(super) fn is_read(&self) -> bool {
        self.tables.iter().all(|table| {
            (0..)
                .zip(&self.ends)
                .all(|(partition, end)| table.offsets.get(&partition).copied().unwrap_or(0) == *end)
        })
    }

    pub(super) fn count(&self) -> Result<Seen, String> {
        let mut seen = self.seen;
        for (partition, end) in (0..).zip(&self.ends) {
            for offset in 0..*end {
                let wanted = usize::from(offset % DEAD == 0);
                for (number, table) in self.tables.iter().enumerate() {
                    let times = table.rows.get(&(partition, offset)).copied().unwrap_or(0);
                    if times != u32::from(number == wanted) {
                        return Err(format!(
                            "record {partition}/{offset} is {times} times in table {}",
                            TABLES[number]
                        ));
                    }
                }
                seen.rows += 1;
            }
        }
        Ok(seen)
    }
}

/// The first table of an offer that has a range.
fn first(offer: &Offer) -> usize {
    let mut tables = offer.tables.iter();
    tables
        .position(|table| !table.ranges.is_empty())
        .unwrap_or(0)
}

/// Where the tables are once an offer is in.
fn reached(offer: &Offer) -> TableOffsets {
    let tables = offer.tables.iter().map(|table| {
        let ranges = table.ranges.iter();
        let held = ranges.map(|range| (partition(range.partition), range.to));
        (table.table.clone(), held.collect())
    });
    TableOffsets(tables.collect())
}
