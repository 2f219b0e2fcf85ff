//! Dead letters decoded again: what passes, what stays dead, and what a crash in between leaves.

use drumline_lake::{Commit, MadeBy, OffsetRange, Operation, StagedFile, TableChange, replay_id};
use drumline_proto::v1;

use crate::bed::{Bed, Host, TOPIC};

/// Of four bad records, those at offsets 1 and 3 fit once `n` is taken as a text.
async fn bed_with_letters() -> (Bed, Host) {
    let bed = Bed::new(1).await;
    let values: [&[u8]; 6] = [
        br#"{"ts":1,"song":"a","n":1}"#,
        br#"{"ts":2,"song":"b","n":"2"}"#,
        b"{",
        br#"{"ts":4,"song":"d","n":"4"}"#,
        br#"{"song":"e","n":5}"#,
        br#"{"ts":6,"song":"f","n":6}"#,
    ];
    bed.send("k", values.map(<[u8]>::to_vec));
    let mut host = bed.host();
    host.host.assign(bed.assign(1, 1).await);
    bed.commit_until(&mut host, 6).await;
    (bed, host)
}

/// What a master would ask for now.
async fn order(bed: &Bed, condition: &str) -> v1::ReplayLetters {
    let assign = bed.assign(9, 1).await;
    let mut definition = bed.definition.clone();
    let topic = &mut definition.topics[0];
    topic.schema[2].r#type = "varchar".to_owned();
    topic.transform = "SELECT to_timestamp_millis(ts) AS at, song, CAST(n AS INTEGER) AS n, \
                       CAST(n AS INTEGER) % 2 AS part FROM input"
        .to_owned();
    let letters = bed.tables["rejected"].snapshot().await.unwrap();
    v1::ReplayLetters {
        id: 5,
        definition: Some(definition),
        location: letters.location.to_string(),
        files: letters.files.iter().map(|file| file.path.clone()).collect(),
        condition: condition.to_owned(),
        tables: assign.tables,
        ..Default::default()
    }
}

fn files(json: &[u8]) -> Vec<StagedFile> {
    serde_json::from_slice(json).unwrap()
}

fn letters(ranges: &[v1::OffsetRange]) -> Vec<(i64, i64)> {
    ranges.iter().map(|range| (range.from, range.to)).collect()
}

fn made_by(ranges: &[v1::OffsetRange]) -> MadeBy {
    let range = |range: &v1::OffsetRange| OffsetRange {
        topic: range.topic.clone(),
        partition: range.partition,
        from: range.from,
        to: range.to,
        ..Default::default()
    };
    MadeBy::Replay {
        id: replay_id("listening", 1, 1),
        stream: "listening".to_owned(),
        letters: ranges.iter().map(range).collect(),
    }
}

async fn commit_rows(bed: &Bed, answer: &v1::LettersReplayed) {
    for table in &answer.tables {
        let commit = Commit::append(made_by(&table.ranges), files(&table.files_json));
        bed.tables[&table.table].commit(commit).await.unwrap();
    }
}

async fn take_away(bed: &Bed, answer: &v1::LettersReplayed) {
    let table = &bed.tables["rejected"];
    let commit = Commit {
        change: Some(TableChange {
            operation: Operation::Update,
            base: table.snapshot().await.unwrap().version,
            remove: answer.read.clone(),
            rows: Some(answer.letters),
            columns: None,
            redefines: None,
        }),
        ..Commit::append(made_by(&answer.removed), files(&answer.letters_json))
    };
    table.commit(commit).await.unwrap();
}

async fn count(bed: &Bed, sql: &str) -> i64 {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let rows = bed.query(sql).await;
    rows[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_pass_become_rows_and_the_others_stay_dead_with_their_new_reason() {
    let (bed, host) = bed_with_letters().await;
    let answer = host.host.replay(order(&bed, "").await).await;
    assert_eq!((answer.id, answer.failure.clone()), (5, None));
    assert_eq!((answer.letters, answer.passed), (4, 2), "{answer:?}");
    assert_eq!(letters(&answer.removed), [(1, 2), (3, 4)]);
    assert_eq!(answer.reasons.values().sum::<u64>(), 2, "{answer:?}");
    commit_rows(&bed, &answer).await;
    take_away(&bed, &answer).await;
    assert_eq!(count(&bed, "SELECT count(*) FROM listens").await, 4);
    let exact = format!(
        "SELECT count(*) FROM listens WHERE _topic = '{TOPIC}' AND _partition = 0 \
         AND ((_offset = 1 AND n = 2) OR (_offset = 3 AND n = 4))"
    );
    assert_eq!(count(&bed, &exact).await, 2);
    let left = "SELECT count(*) FROM rejected WHERE _offset IN (2, 4) AND value IS NOT NULL";
    assert_eq!(count(&bed, left).await, 2);
    assert_eq!(count(&bed, "SELECT count(*) FROM rejected").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_letters_that_were_asked_for_are_decoded() {
    let (bed, host) = bed_with_letters().await;
    let answer = host.host.replay(order(&bed, "_offset >= 3").await).await;
    assert_eq!((answer.letters, answer.passed), (2, 1), "{answer:?}");
    commit_rows(&bed, &answer).await;
    take_away(&bed, &answer).await;
    assert_eq!(count(&bed, "SELECT count(*) FROM rejected").await, 3);
    let mut limited = order(&bed, "").await;
    limited.limit = 1;
    let answer = host.host.replay(limited).await;
    assert_eq!(answer.letters, 1, "{answer:?}");
    let wrong = host.host.replay(order(&bed, "nothing > 3").await).await;
    let failure = wrong.failure.unwrap();
    assert!(failure.message.contains("nothing"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_committed_before_a_crash_are_not_written_again() {
    let (bed, host) = bed_with_letters().await;
    let answer = host.host.replay(order(&bed, "_offset = 1").await).await;
    commit_rows(&bed, &answer).await;
    // Here the master is gone; the letters are all there still.
    let last = bed.tables["listens"]
        .last_replay("listening")
        .await
        .unwrap();
    let (number, done) = last.unwrap();
    assert_eq!((number, done[0].from, done[0].to), (1, 1, 2));
    let mut again = order(&bed, "").await;
    let done = done.into_iter().map(|range| v1::OffsetRange {
        topic: range.topic,
        partition: range.partition,
        from: range.from,
        to: range.to,
        ..Default::default()
    });
    again.done = vec![v1::ReplayedTable {
        table: "listens".to_owned(),
        letters: done.collect(),
    }];
    // Even where nothing else is asked for, they are taken away.
    let mut only = again.clone();
    only.condition = "false".to_owned();
    let answer = host.host.replay(only).await;
    assert_eq!((answer.letters, answer.passed), (1, 1), "{answer:?}");
    assert!(answer.tables.is_empty(), "{answer:?}");

    let answer = host.host.replay(again).await;
    assert_eq!((answer.letters, answer.passed), (4, 2), "{answer:?}");
    let rows: Vec<_> = answer
        .tables
        .iter()
        .map(|table| letters(&table.ranges))
        .collect();
    assert_eq!(rows, [[(3, 4)]], "the first is in already");
    assert_eq!(letters(&answer.removed), [(1, 2), (3, 4)]);
    host.host.shutdown().await;
}
