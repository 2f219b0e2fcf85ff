use std::time::{Duration, Instant};

use drumline_proto::v1::{self, FailureKind};

use crate::bed::{Bed, definition};

async fn refused(
    bed: &Bed,
    change: impl FnOnce(&mut v1::StreamDefinition),
) -> (String, FailureKind, String) {
    let mut definition = bed.definition.clone();
    change(&mut definition);
    let result = bed
        .host()
        .host
        .probe(&v1::Probe {
            id: 7,
            definition: Some(definition),
            ..Default::default()
        })
        .await;
    assert_eq!(result.id, 7);
    let failure = result.failure.expect("accepted");
    (result.key, failure.kind(), failure.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_by_its_key() {
    let bed = Bed::new(1).await;
    let (key, kind, message) =
        refused(&bed, |stream| stream.topics[0].topic = "listen".to_owned()).await;
    assert_eq!((key.as_str(), kind), ("topic[0].topic", FailureKind::User));
    assert_eq!(message, "topic listen does not exist (there is listens)");

    let (key, kind, message) = refused(&bed, |stream| {
        stream.topics[0].schema[1].r#type = "jsonb".to_owned()
    })
    .await;
    assert_eq!(
        (key.as_str(), kind),
        ("topic[0].schema[1].type", FailureKind::User)
    );
    assert!(
        message.contains("song") && message.contains("jsonb"),
        "{message}"
    );

    let (key, kind, message) = refused(&bed, |stream| {
        stream.topics[0].transform = "SELECT sonk FROM input".to_owned()
    })
    .await;
    assert_eq!(
        (key.as_str(), kind),
        ("topic[0].transform", FailureKind::User)
    );
    assert!(
        message.contains("sonk") && message.contains("song"),
        "{message}"
    );

    let (key, kind, message) = refused(&bed, |stream| {
        stream.topics[0].partition_by = vec!["hour".to_owned()]
    })
    .await;
    assert_eq!(
        (key.as_str(), kind),
        ("topic[0].partition_by", FailureKind::User)
    );
    assert!(
        message.contains("hour") && message.contains("part"),
        "{message}"
    );

    let (key, kind, _) = refused(&bed, |stream| {
        drop(stream.kafka.insert("no.such".to_owned(), "1".to_owned()))
    })
    .await;
    assert_eq!((key.as_str(), kind), ("kafka.no.such", FailureKind::User));

    let ours = |stream: &mut v1::StreamDefinition| {
        drop(
            stream
                .kafka
                .insert("isolation.level".to_owned(), "x".to_owned()),
        )
    };
    let (key, kind, _) = refused(&bed, ours).await;
    assert_eq!(
        (key.as_str(), kind),
        ("kafka.isolation.level", FailureKind::User)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_asked_for_is_not_created() {
    let bed = Bed::new(1).await;
    for _ in 0..2 {
        let (key, ..) = refused(&bed, |stream| stream.topics[0].topic = "other".to_owned()).await;
        assert_eq!(key, "topic[0].topic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_brokers_are_found_out_within_seconds() {
    let bed = Bed::new(1).await;
    let started = Instant::now();
    let away = definition("127.0.0.1:1");
    let (key, kind, message) = refused(&bed, |stream| *stream = away).await;
    assert_eq!((key.as_str(), kind), ("brokers", FailureKind::Retryable));
    assert!(
        message.starts_with("kafka at 127.0.0.1:1 cannot be reached"),
        "{message}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}
