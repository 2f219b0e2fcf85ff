//! Numbers for the topic partitions that one source reads.
//!
//! A source may read several topics, and everything behind it (rows, positions, ranges) is told apart by one
//! number, its place. For the first topic a place is the partition itself.

use std::collections::HashMap;
use std::sync::Arc;

/// Partitions that one topic can have here; Kafka's own limits lie far below.
const STRIDE: i32 = 1 << 20;

/// Topics that one source can read.
pub(crate) const MOST_TOPICS: usize = (i32::MAX / STRIDE) as usize;

/// The topics of a source. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    topics: Vec<String>,
    numbers: HashMap<String, i32>,
}

impl Places {
    /// Of these topics, of which there are at most [`MOST_TOPICS`].
    pub(crate) fn new(topics: impl IntoIterator<Item = String>) -> Self {
        let topics: Vec<String> = topics.into_iter().take(MOST_TOPICS).collect();
        let numbers = topics.iter().cloned().zip(0..).collect();
        Self(Arc::new(Inner { topics, numbers }))
    }

    pub(crate) fn one(topic: &str) -> Self {
        Self::new([topic.to_owned()])
    }

    /// The place of a partition, if its topic is read here.
    pub(crate) fn place(&self, topic: &str, partition: i32) -> Option<i32> {
        let number = match self.0.topics.as_slice() {
            // Nearly always: no hashing for every record.
            [only] => (only == topic).then_some(0)?,
            _ => *self.0.numbers.get(topic)?,
        };
        (0..STRIDE)
            .contains(&partition)
            .then_some(number * STRIDE + partition)
    }

    pub(crate) fn topic(&self, place: i32) -> &str {
        let number = usize::try_from(place / STRIDE).ok();
        number
            .and_then(|number| self.0.topics.get(number))
            .map_or("", String::as_str)
    }

    pub(crate) fn partition(&self, place: i32) -> i32 {
        place % STRIDE
    }

    pub(crate) fn topics(&self) -> &[String] {
        &self.0.topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_topic_and_partition() {
        let places = Places::new(["a".to_owned(), "b".to_owned()]);
        for (topic, partition) in [("a", 0), ("a", 63), ("b", 0), ("b", 1_000_000)] {
            let place = places.place(topic, partition).unwrap();
            assert_eq!(
                (places.topic(place), places.partition(place)),
                (topic, partition)
            );
        }
        assert_eq!(places.place("c", 0), None);
        assert_eq!(places.place("a", STRIDE), None);
    }

    #[test]
    fn one_topic_keeps_kafkas_numbers() {
        let places = Places::one("a");
        assert_eq!(places.place("a", 7), Some(7));
        assert_eq!(places.place("b", 7), None);
    }

    #[test]
    fn the_last_topic_has_places_too() {
        let places = Places::new((0..MOST_TOPICS + 5).map(|n| format!("t{n}")));
        let last = format!("t{}", MOST_TOPICS - 1);
        let place = places.place(&last, STRIDE - 1).unwrap();
        assert_eq!(
            (places.topic(place), places.partition(place)),
            (last.as_str(), STRIDE - 1)
        );
    }
}
