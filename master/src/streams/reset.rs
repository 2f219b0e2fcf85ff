//! Moving where the tables of a paused stream go on: told first, then done, one commit for each table.
//!
//! A table refuses a move that does not begin at its own offset, so nothing that was offered meanwhile is lost.

use std::collections::BTreeSet;

use drumline_lake::{Commit, MadeBy, OffsetMove, Operation, Table, TableChange};
use drumline_proto::v1::{
    PartitionEdges, Position, ResetPartition, ResetStreamRequest, ResetStreamResponse, ResetTable,
    StartFrom, StreamDefinition,
};

use super::apply::{Applier, Refusal, user};
use super::beginnings::check_position;
use super::tables::{all_targets, targets_of};
use super::{Partition, TableOffsets, service};
use crate::Error;

/// How often a table's rows may be changed by others while they are being deleted.
const TRIES: u32 = 5;

impl Applier {
    pub(crate) async fn reset(
        &self,
        definition: StreamDefinition,
        request: ResetStreamRequest,
    ) -> ResetStreamResponse {
        let _turn = self.turn.lock().await;
        match self.reset_checked(definition, request).await {
            Ok(response) => response,
            Err(Refusal { failure, .. }) => ResetStreamResponse {
                failure: Some(failure),
                ..ResetStreamResponse::default()
            },
        }
    }

    async fn reset_checked(
        &self,
        definition: StreamDefinition,
        request: ResetStreamRequest,
    ) -> Result<ResetStreamResponse, Refusal> {
        let name = definition.name.clone();
        if !definition.paused {
            return Err(user(
                "stream",
                format!("stream {name} is not paused: it would go on while its tables are moved"),
                format!("drumline stream pause {name}"),
            ));
        }
        let to = request.to.clone().unwrap_or_default();
        let asked = asked(&definition, &to);
        let probed = self.probe(&asked, true).await?;
        if let Some(failure) = probed.failure {
            let key = probed.key;
            return Err(Refusal { key, failure });
        }
        let topics: BTreeSet<String> = probed.partitions.keys().cloned().collect();
        let definition = definition.matching(&probed.matched.into_iter().collect());
        check_named(&definition, &request, &topics)?;
        check_position("to", &to, &probed.partitions, &|_| true)?;
        self.check_alone(&definition, &topics).await?;
        let failed = |error: Error| Refusal {
            key: String::new(),
            failure: service::failure_of(&error),
        };
        let (held, progress) = self.tables.read(&definition).await.map_err(failed)?;
        let moves = moves(&definition, &request, &to, &held, &probed.edges).map_err(failed)?;
        if request.truncate
            && let Some((table, partition)) = left_behind(&moves, &held)
        {
            return Err(user(
                "table",
                format!(
                    "table {table} would lose its rows of {}/{}, which would not be read again",
                    partition.topic, partition.partition
                ),
                "truncate with every partition of the table going back, or delete what is read again with DELETE",
            ));
        }
        let mut response = ResetStreamResponse {
            partitions: moves,
            ..ResetStreamResponse::default()
        };
        let tables: BTreeSet<&str> = response
            .partitions
            .iter()
            .map(|moved| moved.table.as_str())
            .collect();
        for table in tables {
            let mut row = ResetTable {
                table: table.to_owned(),
                rows: progress.get(table).map_or(0, |progress| progress.rows),
                version: 0,
            };
            if request.apply {
                let moves = moves_of(table, &response.partitions);
                (row.rows, row.version) = self
                    .move_table(&name, table, moves, request.truncate)
                    .await
                    .map_err(failed)?;
            }
            response.tables.push(row);
        }
        if request.apply {
            let mut offsets = TableOffsets::default();
            for moved in &response.partitions {
                let partition = Partition {
                    topic: moved.topic.clone(),
                    partition: moved.partition,
                };
                let table = offsets.0.entry(moved.table.clone()).or_default();
                table.insert(partition, moved.to);
            }
            let (_, progress) = self.tables.read(&definition).await.map_err(failed)?;
            self.streams.moved(name.clone(), offsets, progress).await;
        }
        Ok(response)
    }

    /// Rows that the table held, and the version that says where it goes on now.
    async fn move_table(
        &self,
        stream: &str,
        table: &str,
        moves: Vec<OffsetMove>,
        truncate: bool,
    ) -> Result<(u64, u64), Error> {
        let _told = self.tables.goes_back(table);
        let table: Table = self.tables.table(table).await?;
        let made_by = MadeBy::Reset {
            stream: stream.to_owned(),
            moves,
        };
        let mut tries = 0;
        loop {
            let snapshot = table.snapshot().await?;
            let files = snapshot.files.iter().filter(|_| truncate);
            let change = TableChange {
                operation: Operation::Delete,
                base: snapshot.version,
                remove: files.map(|file| file.path.clone()).collect(),
                rows: Some(snapshot.rows()),
                columns: None,
                redefines: None,
            };
            let commit = Commit {
                change: truncate.then_some(change),
                ..Commit::append(made_by.clone(), Vec::new())
            };
            tries += 1;
            match table.commit(commit).await {
                Err(drumline_lake::Error::Conflict { .. }) if tries < TRIES => {}
                committed => return Ok((snapshot.rows(), committed?.version)),
            }
        }
    }
}

/// The definition that a worker is to look at: every topic begins where the tables are to go on.
fn asked(definition: &StreamDefinition, to: &Position) -> StreamDefinition {
    let mut asked = StreamDefinition {
        start: Some(to.clone()),
        until: None,
        ..definition.clone()
    };
    for topic in &mut asked.topics {
        topic.start = None;
    }
    asked
}

/// A topic or a table that was named must be the stream's.
fn check_named(
    definition: &StreamDefinition,
    request: &ResetStreamRequest,
    topics: &BTreeSet<String>,
) -> Result<(), Refusal> {
    let tables = all_targets(definition);
    for (kind, named, known) in [
        ("topic", &request.topic, topics),
        ("table", &request.table, &tables),
    ] {
        if !named.is_empty() && !known.contains(named) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            return Err(user(
                kind,
                format!("stream {} has no {kind} `{named}`", definition.name),
                format!("it has {}", known.join(", ")),
            ));
        }
    }
    Ok(())
}

/// What a reset changes: nothing where a table stands there already, or nothing was said of a partition.
fn moves(
    definition: &StreamDefinition,
    request: &ResetStreamRequest,
    to: &Position,
    held: &TableOffsets,
    edges: &[PartitionEdges],
) -> Result<Vec<ResetPartition>, Error> {
    let mut moves = Vec::new();
    let is_meant = |asked: &str, name: &str| asked.is_empty() || asked == name;
    for edge in edges.iter().filter(|edge| is_said_of(to, edge)) {
        if !is_meant(&request.topic, &edge.topic) {
            continue;
        }
        if !(edge.first..=edge.end).contains(&edge.start) {
            return Err(Error::StreamStart {
                topic: edge.topic.clone(),
                partition: edge.partition,
                start: edge.start,
                first: edge.first,
                end: edge.end,
            });
        }
        let partition = Partition {
            topic: edge.topic.clone(),
            partition: edge.partition,
        };
        let own = held.of(&partition);
        let targets = targets_of(definition, &edge.topic);
        for table in targets
            .iter()
            .filter(|table| is_meant(&request.table, table))
        {
            let from = own.get(table).copied();
            if from == Some(edge.start) {
                continue;
            }
            moves.push(ResetPartition {
                table: table.clone(),
                topic: edge.topic.clone(),
                partition: edge.partition,
                from: from.unwrap_or(-1),
                to: edge.start,
                first: edge.first,
                end: edge.end,
            });
        }
    }
    moves.sort_by(|a, b| (&a.table, &a.topic, a.partition).cmp(&(&b.table, &b.topic, b.partition)));
    Ok(moves)
}

/// A table whose rows are to be deleted, and a partition of it that does not go back.
fn left_behind(moves: &[ResetPartition], held: &TableOffsets) -> Option<(String, Partition)> {
    let tables: BTreeSet<&String> = moves.iter().map(|moved| &moved.table).collect();
    tables.into_iter().find_map(|table| {
        let goes_back = |partition: &Partition, next: i64| {
            next == 0
                || moves.iter().any(|moved| {
                    moved.table == *table
                        && moved.topic == partition.topic
                        && moved.partition == partition.partition
                        && moved.to < next
                })
        };
        let held = held.0.get(table)?;
        let left = held
            .iter()
            .find(|(partition, next)| !goes_back(partition, **next));
        left.map(|(partition, _)| (table.clone(), partition.clone()))
    })
}

/// Whether a position says anything of a partition: offsets may be given for some.
fn is_said_of(to: &Position, edge: &PartitionEdges) -> bool {
    let mut offsets = to.offsets.iter();
    to.from() != StartFrom::Offsets
        || offsets.any(|said| {
            (said.topic.is_empty() || said.topic == edge.topic)
                && (said.partition < 0 || said.partition == edge.partition)
        })
}

fn moves_of(table: &str, moves: &[ResetPartition]) -> Vec<OffsetMove> {
    let own = moves.iter().filter(|moved| moved.table == table);
    let moves = own.map(|moved| OffsetMove {
        topic: moved.topic.clone(),
        partition: moved.partition,
        from: (moved.from >= 0).then_some(moved.from),
        to: moved.to,
    });
    moves.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use drumline_proto::v1::{PartitionOffset, TopicDefinition};

    use super::*;

    fn definition() -> StreamDefinition {
        StreamDefinition {
            name: "s".to_owned(),
            dead_letters: "letters".to_owned(),
            topics: vec![TopicDefinition {
                topic: "t".to_owned(),
                table: "rows".to_owned(),
                start: Some(Position::default()),
                ..TopicDefinition::default()
            }],
            ..StreamDefinition::default()
        }
    }

    fn edge(partition: i32, start: i64) -> PartitionEdges {
        PartitionEdges {
            topic: "t".to_owned(),
            partition,
            first: 5,
            end: 90,
            start,
            until: None,
        }
    }

    fn moved(
        request: &ResetStreamRequest,
        to: &Position,
        edges: &[PartitionEdges],
    ) -> Vec<(String, i32, i64, i64)> {
        let at = |partition, next| {
            let topic = "t".to_owned();
            (Partition { topic, partition }, next)
        };
        let held = TableOffsets(BTreeMap::from([
            ("rows".to_owned(), BTreeMap::from([at(0, 40), at(1, 20)])),
            ("letters".to_owned(), BTreeMap::from([at(0, 40)])),
        ]));
        let moves = moves(&definition(), request, to, &held, edges).unwrap();
        let moves = moves.into_iter();
        moves
            .map(|moved| (moved.table, moved.partition, moved.from, moved.to))
            .collect()
    }

    #[test]
    fn every_table_moves_that_does_not_stand_there() {
        let edges = [edge(0, 40), edge(1, 40)];
        let all = moved(&ResetStreamRequest::default(), &Position::default(), &edges);
        let expected = [
            ("letters".to_owned(), 1, -1, 40),
            ("rows".to_owned(), 1, 20, 40),
        ];
        assert_eq!(all, expected);
        let one = ResetStreamRequest {
            table: "rows".to_owned(),
            ..ResetStreamRequest::default()
        };
        assert_eq!(moved(&one, &Position::default(), &edges), expected[1..]);
    }

    #[test]
    fn partitions_that_no_offset_is_given_for_stay() {
        let to = Position {
            from: StartFrom::Offsets.into(),
            offsets: vec![PartitionOffset {
                topic: "t".to_owned(),
                partition: 0,
                offset: 30,
            }],
            ..Position::default()
        };
        let moves = moved(
            &ResetStreamRequest::default(),
            &to,
            &[edge(0, 30), edge(1, 5)],
        );
        assert!(
            moves.iter().all(|moved| moved.1 == 0) && moves.len() == 2,
            "{moves:?}"
        );
    }

    #[test]
    fn rows_are_deleted_only_where_all_partitions_go_back() {
        let held = |next| {
            let at = |partition, next| {
                let topic = "t".to_owned();
                (Partition { topic, partition }, next)
            };
            TableOffsets(BTreeMap::from([(
                "rows".to_owned(),
                BTreeMap::from([at(0, 40), at(1, next)]),
            )]))
        };
        let back = [ResetPartition {
            table: "rows".to_owned(),
            topic: "t".to_owned(),
            to: 5,
            ..ResetPartition::default()
        }];
        assert_eq!(left_behind(&back, &held(20)).unwrap().1.partition, 1);
        assert_eq!(left_behind(&back, &held(0)), None, "nothing was read of it");
    }

    #[test]
    fn a_worker_is_asked_about_the_place_that_was_given() {
        let to = Position {
            from: StartFrom::Latest.into(),
            ..Position::default()
        };
        let asked = asked(&definition(), &to);
        assert_eq!(asked.start_of("t").from(), StartFrom::Latest);
    }
}
