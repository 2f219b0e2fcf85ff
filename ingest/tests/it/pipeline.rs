use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use drumline_ingest::HostEvent;

use crate::bed::{Bed, DEADLINE, TOPIC, answer, event};

/// Rows, different numbers, lowest, highest, different places.
async fn counted(bed: &Bed) -> Vec<i64> {
    let sql = "SELECT count(*), count(DISTINCT n), CAST(min(n) AS BIGINT), CAST(max(n) AS BIGINT), \
               count(DISTINCT concat(_topic, '/', _partition, '/', _offset)) FROM listens";
    let batches = bed.query(sql).await;
    batches[0]
        .columns()
        .iter()
        .map(|column| column.as_primitive::<Int64Type>().value(0))
        .collect()
}

/// What is counted when each of 0 to `rows` arrived once.
fn numbers(rows: i64) -> Vec<i64> {
    vec![rows, rows, 0, rows - 1, rows]
}

#[tokio::test(flavor = "multi_thread")]
async fn records_become_rows_in_partitioned_files() {
    let bed = Bed::new(3).await;
    for key in 0..10 {
        bed.send(&key.to_string(), (0..100).map(|n| event(key * 100 + n)));
    }
    let mut host = bed.host();
    host.host.assign(bed.assign(1, 3).await);
    bed.commit_until(&mut host, 1000).await;
    assert_eq!(counted(&bed).await, numbers(1000));
    assert_eq!(bed.consumed("rejected").await, 1000);
    let wrong = "SELECT * FROM listens WHERE part <> n % 2 OR song <> 'song ' || n \
                 OR at <> to_timestamp_millis(1541106106796 + n)";
    assert_eq!(
        bed.query(wrong)
            .await
            .iter()
            .map(|batch| batch.num_rows())
            .sum::<usize>(),
        0
    );
    host.host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_from_what_the_tables_hold() {
    let bed = Bed::new(2).await;
    let send = |from: i64, to: i64| {
        for key in ["a", "b", "c"] {
            bed.send(
                key,
                (from..to)
                    .filter(|n| ["a", "b", "c"][usize::try_from(n % 3).unwrap()] == key)
                    .map(event),
            );
        }
    };
    send(0, 300);
    let mut host = bed.host();
    host.host.assign(bed.assign(1, 2).await);
    bed.commit_until(&mut host, 300).await;
    send(300, 600);
    // One table takes the offer, the other does not, and the answer is lost.
    let offer = loop {
        let offer = host.offer().await;
        if offer.tables.iter().any(|table| table.table == "listens") {
            break offer;
        }
    };
    for table in offer.tables.iter().filter(|table| table.table == "listens") {
        bed.commit_table(&offer, table).await;
    }
    drop(host);
    assert!(bed.consumed("listens").await > bed.consumed("rejected").await);

    let mut host = bed.host();
    host.host.assign(bed.assign(2, 2).await);
    bed.commit_until(&mut host, 600).await;
    assert_eq!(counted(&bed).await, numbers(600));
    while bed.consumed("rejected").await < 600 {
        let offer = host.offer().await;
        bed.commit(&offer).await;
        host.host.offer_answer(answer(&offer, true));
    }
    host.host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_first_commit_was_lost_gets_its_rows_from_the_beginning() {
    let bed = Bed::new(1).await;
    bed.send("k", [event(0), b"no json".to_vec(), event(1)]);
    let mut host = bed.host();
    host.host.assign(bed.assign(1, 1).await);
    let offer = host.offer().await;
    for table in offer.tables.iter().filter(|table| table.table == "listens") {
        bed.commit_table(&offer, table).await;
    }
    drop(host);
    assert_eq!(
        (
            bed.consumed("listens").await,
            bed.consumed("rejected").await
        ),
        (3, 0)
    );

    let mut host = bed.host();
    host.host.assign(bed.assign(2, 1).await);
    while bed.consumed("rejected").await < 3 {
        let offer = host.offer().await;
        bed.commit(&offer).await;
        host.host.offer_answer(answer(&offer, true));
    }
    assert_eq!(counted(&bed).await, vec![2, 2, 0, 1, 2]);
    let letters = bed.query("SELECT _offset FROM rejected").await;
    assert_eq!(
        letters.iter().map(|batch| batch.num_rows()).sum::<usize>(),
        1
    );
    host.host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_dead_letters_with_their_bytes_and_nothing_else_is_lost() {
    let bed = Bed::new(1).await;
    let large = [
        br#"{"ts":1,"song":""#.as_slice(),
        &vec![b'x'; 1 << 20],
        b"\"}",
    ]
    .concat();
    let bad: [(&[u8], &str); 5] = [
        (
            b"{\"ts\":",
            "malformed json at byte 6: the record ends too early",
        ),
        (br#"{"song":"x"}"#, "required field \"ts\" is missing"),
        (
            br#"{"ts":"1"}"#,
            "field \"ts\": expected bigint, found a string",
        ),
        (
            b"{\"ts\":1,\"song\":\"\xc3\x28\"}",
            "invalid utf-8 at byte 16",
        ),
        (
            &large,
            "record of 1048594 bytes is over the limit of 65536 bytes",
        ),
    ];
    for (n, (value, _)) in bad.iter().enumerate() {
        bed.send("k", [event(i64::try_from(n).unwrap()), value.to_vec()]);
    }
    bed.producer.send(TOPIC, Some(b"tomb"), None, None).unwrap();
    bed.send("k", [event(5)]);
    let mut host = bed.host();
    host.host.assign(bed.assign(1, 1).await);
    bed.commit_until(&mut host, 12).await;
    assert_eq!(counted(&bed).await, numbers(6));
    let letters = bed
        .query("SELECT _offset, key, value, reason, _topic FROM rejected ORDER BY _offset")
        .await;
    let letters = arrow::compute::concat_batches(&letters[0].schema(), &letters).unwrap();
    assert_eq!(
        letters.column(0).as_primitive::<Int64Type>().values(),
        &[1, 3, 5, 7, 9, 10]
    );
    let text = |column: usize| {
        let text = arrow::compute::cast(letters.column(column), &arrow::datatypes::DataType::Utf8)
            .unwrap();
        text.as_string::<i32>()
            .iter()
            .map(|value| value.unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let values =
        arrow::compute::cast(letters.column(2), &arrow::datatypes::DataType::Binary).unwrap();
    let values: Vec<_> = values
        .as_binary::<i32>()
        .iter()
        .map(|value| value.map(<[u8]>::to_vec))
        .collect();
    for (row, (value, reason)) in bad.iter().enumerate() {
        assert_eq!(values[row].as_deref(), Some(&value[..]));
        assert_eq!(
            (text(3)[row].as_str(), text(4)[row].as_str()),
            (*reason, TOPIC)
        );
    }
    assert_eq!(
        (values[5].as_deref(), text(3)[5].as_str()),
        (None, "null value")
    );
    host.host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_offer_ends_the_stream_and_discards_open_files() {
    let bed = Bed::new(1).await;
    bed.send("k", (0..10).map(event));
    let mut host = bed.host();
    host.host.assign(bed.assign(1, 1).await);
    let offer = host.offer().await;
    bed.send("k", (10..20).map(event));
    host.host.offer_answer(answer(&offer, false));
    // Shutdown waits for the stream's end: whatever it still had to say is there when it returns.
    host.host.shutdown().await;
    while let Ok(event) = host.events.try_recv() {
        assert!(matches!(event, HostEvent::Positions(_)), "{event:?}");
    }
    // A later epoch starts from what the tables hold: nothing.
    let mut host = bed.host();
    host.host.assign(bed.assign(2, 1).await);
    bed.commit_until(&mut host, 20).await;
    assert_eq!(counted(&bed).await, numbers(20));
    host.host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_epoch_offers_nothing_and_leaves_no_open_file() {
    let mut bed = Bed::new(1).await;
    bed.definition.flush_interval_millis = 3_600_000;
    bed.send("k", (0..10).map(event));
    let mut host = bed.host();
    host.host.assign(bed.assign(1, 1).await);
    let read = |event: &HostEvent| match event {
        HostEvent::Positions(report) => report.ends.iter().any(|end| end.position == 10),
        other => panic!("{other:?}"),
    };
    let until = Instant::now() + DEADLINE;
    while !read(&host.events.recv().await.unwrap()) {
        assert!(Instant::now() < until, "not read in time");
    }
    host.host.revoke("listening", 1);
    host.host.shutdown().await;
    while let Ok(event) = host.events.try_recv() {
        assert!(matches!(event, HostEvent::Positions(_)), "{event:?}");
    }
    assert_eq!(bed.staged(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_after_the_broker_was_away() {
    let bed = Bed::new(1).await;
    bed.send("k", (0..10).map(event));
    let mut host = bed.host();
    host.host.assign(bed.assign(1, 1).await);
    bed.commit_until(&mut host, 10).await;
    bed.kafka.set_reachable(false).unwrap();
    let away = host.report(|report| !report.waiting.is_empty()).await;
    assert!(
        away.waiting.contains(bed.kafka.brokers()) && away.waiting.contains("cannot be reached"),
        "{away:?}"
    );
    bed.kafka.set_reachable(true).unwrap();
    host.report(|report| report.waiting.is_empty()).await;
    bed.send("k", (10..20).map(event));
    bed.commit_until(&mut host, 20).await;
    assert_eq!(counted(&bed).await, numbers(20));
    host.host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_kafka_does_not_have_is_a_failure() {
    let bed = Bed::new(1).await;
    bed.send("k", (0..10).map(event));
    let mut assign = bed.assign(1, 1).await;
    for table in ["listens", "rejected"] {
        assign.partitions[0]
            .table_offsets
            .insert(table.to_owned(), 500);
    }
    let mut host = bed.host();
    host.host.assign(assign);
    let failure = host.failure().await;
    assert_eq!(
        failure.message,
        "topic listens partition 0 ends at offset 10, but table rejected goes on at 500"
    );
    host.host.shutdown().await;
}
