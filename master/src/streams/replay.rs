//! Decoding dead letters again: a worker decodes, transforms and stages; the tables get their rows, each in one commit
//! that says which letters they were; and then the letters are taken away.
//!
//! A crash in between neither loses nor doubles: a table that tells of a later replay than the dead letters do has its
//! rows already, so the next replay leaves these letters out for it, and takes them away.

use std::time::Duration;

use drumline_lake::{
    Commit, Committed, MadeBy, OffsetRange, Operation, StagedFile, TableChange, replay_id,
};
use drumline_proto::v1::{
    LettersReplayed, OfferedTable, ReplayDeadLettersRequest, ReplayDeadLettersResponse,
    ReplayLetters, ReplayedTable, StreamDefinition,
};
use uuid::Uuid;

use super::apply::{Applier, Refusal};
use super::service;
use super::tables::{all_targets, dead_letters_of};
use crate::Error;

/// How often somebody else may rewrite the dead letters while they are decoded.
const TRIES: u32 = 5;
/// How long a worker may decode.
const WITHIN: Duration = Duration::from_secs(600);

impl Applier {
    pub(crate) async fn replay(
        &self,
        definition: StreamDefinition,
        request: ReplayDeadLettersRequest,
    ) -> ReplayDeadLettersResponse {
        let _turn = self.replaying.lock().await;
        match self.replay_checked(&definition, request).await {
            Ok(response) => response,
            Err(Refusal { failure, .. }) => ReplayDeadLettersResponse {
                failure: Some(failure),
                ..ReplayDeadLettersResponse::default()
            },
        }
    }

    async fn replay_checked(
        &self,
        definition: &StreamDefinition,
        request: ReplayDeadLettersRequest,
    ) -> Result<ReplayDeadLettersResponse, Refusal> {
        let failed = |error: Error| Refusal {
            key: String::new(),
            failure: service::failure_of(&error),
        };
        let mut response = ReplayDeadLettersResponse::default();
        let mut condition = request.condition;
        for attempt in 1..=TRIES {
            let (mut order, number, base) = self.order(definition).await.map_err(failed)?;
            order.condition.clone_from(&condition);
            order.limit = request.limit;
            let answer = self.streams.replay_letters(order, WITHIN).await;
            let Some(answer) = answer else {
                return Err(super::apply::refusal(
                    drumline_proto::v1::FailureKind::Retryable,
                    "",
                    "no worker decoded the dead letters in time",
                    "`drumline workers` shows who is there; a lower --limit asks for less",
                ));
            };
            if let Some(failure) = answer.failure {
                let key = String::new();
                return Err(Refusal { key, failure });
            }
            // Again is only about taking letters away.
            if attempt == 1 {
                add_up(&mut response, &answer);
            }
            if answer.read.is_empty() {
                break;
            }
            let committed = self.commit_replay(definition, number, base, answer).await;
            match committed {
                Ok(()) => break,
                // The rows are in: what is left is to take their letters away, from the files of now.
                Err(Error::Lake(drumline_lake::Error::Conflict { .. })) if attempt < TRIES => {
                    condition = "false".to_owned();
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let (_, progress) = self.tables.read(definition).await.map_err(failed)?;
        self.streams
            .moved(definition.name.clone(), Default::default(), progress)
            .await;
        Ok(response)
    }

    /// What a worker is asked for, the number of this replay, and the version of the dead letters that it reads.
    async fn order(
        &self,
        definition: &StreamDefinition,
    ) -> Result<(ReplayLetters, u32, u64), Error> {
        let stream = &definition.name;
        let letters = self.tables.table(dead_letters_of(definition)).await?;
        let held = letters.snapshot().await?;
        let last = letters.last_replay(stream).await?;
        let taken_away = last.map_or(0, |(number, _)| number);
        let mut newest = taken_away;
        let mut done = Vec::new();
        for name in all_targets(definition) {
            if name == dead_letters_of(definition) {
                continue;
            }
            let table = self.tables.table(&name).await?;
            let Some((number, ranges)) = table.last_replay(stream).await? else {
                continue;
            };
            newest = newest.max(number);
            if number > taken_away {
                done.push(ReplayedTable {
                    table: name,
                    letters: ranges.into_iter().map(to_wire).collect(),
                });
            }
        }
        let topics = definition.topics.iter().flat_map(|topic| topic.names());
        // None of them, too: the dead letters' own place.
        let topics = topics.chain([""]).map(str::to_owned).collect();
        let order = ReplayLetters {
            definition: Some(definition.clone()),
            lake: self.tables.lake(),
            location: held.location.to_string(),
            files: held.files.iter().map(|file| file.path.clone()).collect(),
            done,
            tables: self.tables.write_targets(definition, &topics).await?,
            ..ReplayLetters::default()
        };
        Ok((order, newest + 1, held.version))
    }

    async fn commit_replay(
        &self,
        definition: &StreamDefinition,
        number: u32,
        base: u64,
        answer: LettersReplayed,
    ) -> Result<(), Error> {
        // Two that took the same number are told apart.
        let id = replay_id(&definition.name, number, Uuid::new_v4().as_u64_pair().0);
        let made_by = |letters: Vec<OffsetRange>| MadeBy::Replay {
            id: id.clone(),
            stream: definition.name.clone(),
            letters,
        };
        for offered in &answer.tables {
            let table = self.tables.table(&offered.table).await?;
            let commit = Commit::append(made_by(ranges(offered)), files(&offered.files_json)?);
            let _told = self.tables.goes_back(&offered.table);
            let _: Committed = table.commit(commit).await?;
        }
        let letters = self.tables.table(dead_letters_of(definition)).await?;
        let removed = answer.removed.into_iter().map(of_wire).collect();
        let commit = Commit {
            change: Some(TableChange {
                operation: Operation::Update,
                base,
                remove: answer.read,
                rows: Some(answer.letters),
                columns: None,
                redefines: None,
            }),
            ..Commit::append(made_by(removed), files(&answer.letters_json)?)
        };
        letters.commit(commit).await?;
        Ok(())
    }
}

fn add_up(response: &mut ReplayDeadLettersResponse, answer: &LettersReplayed) {
    response.letters += answer.letters;
    response.passed += answer.passed;
    for table in &answer.tables {
        *response.rows.entry(table.table.clone()).or_default() += table.rows;
    }
    for (reason, count) in &answer.reasons {
        *response.reasons.entry(reason.clone()).or_default() += count;
    }
}

fn ranges(offered: &OfferedTable) -> Vec<OffsetRange> {
    offered.ranges.iter().cloned().map(of_wire).collect()
}

fn files(json: &[u8]) -> Result<Vec<StagedFile>, Error> {
    match json {
        [] => Ok(Vec::new()),
        json => serde_json::from_slice(json).map_err(|source| Error::Bug {
            context: format!("files of a replay: {source}"),
        }),
    }
}

fn to_wire(range: OffsetRange) -> drumline_proto::v1::OffsetRange {
    drumline_proto::v1::OffsetRange {
        topic: range.topic,
        partition: range.partition,
        from: range.from,
        to: range.to,
        ..Default::default()
    }
}

fn of_wire(range: drumline_proto::v1::OffsetRange) -> OffsetRange {
    OffsetRange {
        topic: range.topic,
        partition: range.partition,
        from: range.from,
        to: range.to,
        ..Default::default()
    }
}
