use datafusion::arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

use super::*;

fn state() -> State {
    let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
    State::new(Arc::new(Definition {
        schema: Arc::new(schema),
        partition_columns: Vec::new(),
        properties: BTreeMap::new(),
    }))
}

fn stream(ranges: &[(i32, i64, i64)]) -> MadeBy {
    MadeBy::Stream {
        stream: "s".to_owned(),
        epoch: 1,
        ranges: ranges
            .iter()
            .map(|&(partition, from, to)| OffsetRange {
                topic: "t".to_owned(),
                partition,
                from,
                to,
                ..OffsetRange::default()
            })
            .collect(),
        lookups: Default::default(),
        definition: 0,
    }
}

fn file(path: &str) -> DataFile {
    DataFile::new(path.to_owned(), 1, 1, Vec::new(), None)
}

#[test]
fn a_partition_seen_first_may_start_anywhere_and_then_nowhere_else() {
    let mut state = state();
    state.offsets = state.offsets_after("x", &stream(&[(0, 70, 80)])).unwrap();
    let error = state
        .offsets_after("x", &stream(&[(0, 79, 90)]))
        .unwrap_err();
    assert!(matches!(
        error,
        Error::OffsetsMoved {
            expected: 79,
            found: 80,
            partition: 0,
            ..
        }
    ));
    let next = state.offsets_after("x", &stream(&[(0, 80, 90), (1, 5, 6)]));
    assert_eq!(next.unwrap()["t"], BTreeMap::from([(0, 90), (1, 6)]));
}

#[test]
fn a_partition_named_twice_is_a_bug() {
    let error = state()
        .offsets_after("x", &stream(&[(0, 0, 5), (0, 5, 9)]))
        .unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Bug);
}

#[test]
fn later_records_tell_what_is_published() {
    let unpublished = |version| Unpublished {
        version,
        source: format!("s{version}"),
        target: Some(format!("t{version}")),
        replaced: false,
    };
    let step = |version, published_below| Step {
        version,
        publish: vec![unpublished(version)],
        published_below,
        ..Step::default()
    };
    let state = state().apply(step(1, 0)).apply(step(2, 1));
    assert_eq!(state.published_below(), 1);
    let state = state.apply(step(3, 3));
    assert_eq!(state.unpublished, [unpublished(3)]);
}

proptest! {
    /// Every position is committed once: whatever is offered, ranges that get in never overlap or leave a gap.
    #[test]
    fn accepted_ranges_are_seamless(offers in prop::collection::vec((0..3_i32, 0..20_i64, 0..20_i64), 1..60)) {
        let mut state = state();
        let mut accepted: BTreeMap<i32, Vec<(i64, i64)>> = BTreeMap::new();
        for (partition, from, length) in offers {
            let to = from + length;
            if let Ok(next) = state.offsets_after("x", &stream(&[(partition, from, to)])) {
                state.offsets = next;
                accepted.entry(partition).or_default().push((from, to));
            }
        }
        for ranges in accepted.values() {
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].1, pair[1].0);
            }
        }
    }

    /// Applying adds and removes is a set of paths, in the order of arrival.
    #[test]
    fn files_are_what_was_added_and_not_removed(steps in prop::collection::vec((any::<bool>(), 0..8_u8), 1..40)) {
        let mut state = state();
        let mut expected: Vec<String> = Vec::new();
        for (number, (add, path)) in steps.into_iter().enumerate() {
            let path = path.to_string();
            expected.retain(|known| *known != path);
            let mut step = Step { version: number as u64 + 1, ..Step::default() };
            if add {
                expected.push(path.clone());
                step.add.push(file(&path));
            } else {
                step.remove.insert(path);
            }
            state = state.apply(step);
        }
        let found: Vec<_> = state.files.iter().map(|file| file.path.clone()).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_reset_moves_a_position_either_way_from_where_it_was_seen() {
    let mut state = state();
    state.offsets = state.offsets_after("x", &stream(&[(0, 70, 80)])).unwrap();
    let reset = |from, to| MadeBy::Reset {
        stream: "s".to_owned(),
        moves: vec![OffsetMove {
            topic: "t".to_owned(),
            partition: 0,
            from,
            to,
        }],
    };
    let error = state.offsets_after("x", &reset(Some(70), 0)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::OffsetsMoved {
                expected: 70,
                found: 80,
                ..
            }
        ),
        "{error}"
    );
    assert!(state.offsets_after("x", &reset(None, 0)).is_err());
    for to in [0, 200] {
        let next = state.offsets_after("x", &reset(Some(80), to)).unwrap();
        assert_eq!(next["t"], BTreeMap::from([(0, to)]));
    }
}
