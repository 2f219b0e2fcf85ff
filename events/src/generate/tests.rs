use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

fn records(options: Options, count: usize) -> Vec<(Generated, Value)> {
    let mut generator = Generator::new(options);
    (0..count)
        .map(|_| {
            let mut json = Vec::new();
            let generated = generator.write_next(&mut json);
            (generated, serde_json::from_slice(&json).unwrap())
        })
        .collect()
}

fn some() -> Options {
    Options {
        users: 500,
        ..Options::default()
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn bytes(options: Options, count: usize) -> Vec<u8> {
    let mut generator = Generator::new(options);
    let mut buffer = Vec::new();
    for _ in 0..count {
        generator.write_next(&mut buffer);
        buffer.push(b'\n');
    }
    buffer
}

#[test]
fn equal_seeds_give_equal_bytes_and_others_do_not() {
    let first = bytes(Options { seed: 7, ..some() }, 5_000);
    assert!(first == bytes(Options { seed: 7, ..some() }, 5_000));
    assert!(first != bytes(Options { seed: 8, ..some() }, 5_000));
}

#[test]
fn the_bytes_of_a_seed_stay_from_release_to_release() {
    // A change here is a change for every user who keeps expectations: name it in the changelog.
    assert_eq!(
        format!("{:016x}", fnv(&bytes(some(), 10_000))),
        "f4cafe157f3848bf"
    );
}

#[test]
fn every_record_has_its_topics_fields_in_order() {
    let mut seen = BTreeSet::new();
    let mut generator = Generator::new(some());
    for _ in 0..20_000 {
        let mut json = Vec::new();
        let generated = generator.write_next(&mut json);
        let text = std::str::from_utf8(&json).unwrap();
        let fields = crate::topics::fields(generated.topic);
        let places: Vec<usize> = fields
            .iter()
            .map(|field| text.find(&format!("\"{field}\":")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{text}");
        let value: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value.as_object().unwrap().len(), fields.len());
        assert_eq!(value["ts"], generated.ts_millis);
        seen.insert(generated.topic);
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn listens_and_logins_are_page_views_too() {
    let mut pages = BTreeMap::<String, u32>::new();
    let mut topics = BTreeMap::<Topic, u32>::new();
    for (generated, value) in records(
        Options {
            late_per_mille: 0,
            ..some()
        },
        50_000,
    ) {
        *topics.entry(generated.topic).or_default() += 1;
        if let Some(page) = value["page"].as_str() {
            *pages.entry(page.to_owned()).or_default() += 1;
        }
    }
    // The last page's second record may lie beyond the end.
    assert!(pages["NextSong"] - topics[&Topic::ListenEvents] <= 1);
    assert!(pages["Login"] + pages["Logout"] - topics[&Topic::AuthEvents] <= 1);
    for page in [
        "Home",
        "Settings",
        "Submit Upgrade",
        "Submit Downgrade",
        "Error",
        "Help",
    ] {
        assert!(pages.contains_key(page), "no {page} among {pages:?}");
    }
}

#[test]
fn levels_change_after_the_page_that_changes_them_and_only_then() {
    let mut level = BTreeMap::<String, String>::new();
    let mut submitted = BTreeMap::<String, bool>::new();
    let mut changes = 0;
    for (generated, value) in records(
        Options {
            late_per_mille: 0,
            ..some()
        },
        60_000,
    ) {
        let user = value["userId"].as_str().unwrap().to_owned();
        if generated.topic != Topic::PageViewEvents || user.is_empty() {
            continue;
        }
        let now = value["level"].as_str().unwrap().to_owned();
        let submits = submitted.insert(
            user.clone(),
            value["page"].as_str().unwrap().starts_with("Submit"),
        );
        if let Some(before) = level.insert(user, now.clone()) {
            assert_eq!(before != now, submits == Some(true));
            changes += u32::from(before != now);
        }
    }
    assert!(changes > 10, "{changes} changes");
}

#[test]
fn some_records_come_late_but_never_too_late() {
    let options = Options {
        late_per_mille: 20,
        max_lateness_millis: 60_000,
        ..some()
    };
    let mut newest = i64::MIN;
    let (mut late, mut latest) = (0, 0);
    for (generated, _) in records(options, 50_000) {
        if generated.ts_millis < newest {
            late += 1;
            latest = latest.max(newest - generated.ts_millis);
        }
        newest = newest.max(generated.ts_millis);
    }
    assert!((300..1_500).contains(&late), "{late} of 50,000 late");
    assert!((50_000..=60_000).contains(&latest), "{latest} ms");
    let in_order = records(
        Options {
            late_per_mille: 0,
            ..some()
        },
        50_000,
    );
    assert!(in_order.is_sorted_by_key(|(generated, _)| generated.ts_millis));
}

#[test]
fn plays_have_a_heavy_tail() {
    let mut plays = BTreeMap::<String, u32>::new();
    let mut total = 0;
    for (generated, value) in records(some(), 60_000) {
        if generated.topic == Topic::ListenEvents {
            *plays
                .entry(format!("{} {}", value["artist"], value["song"]))
                .or_default() += 1;
            total += 1;
        }
    }
    let mut counts: Vec<u32> = plays.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    // 1/H(9942) = 10.2 % for the first, half of it for the second.
    let first = f64::from(counts[0]) / f64::from(total);
    let second = f64::from(counts[1]) / f64::from(total);
    assert!((0.092..0.112).contains(&first), "{first}");
    assert!((0.044..0.058).contains(&second), "{second}");
    assert!(counts.len() > 3_000, "{} songs", counts.len());
}

#[test]
fn cities_keep_their_state_zip_and_place() {
    let mut places = BTreeMap::<String, BTreeSet<String>>::new();
    for (_, value) in records(some(), 50_000) {
        if !value["city"].is_null() {
            let place = format!("{} {} {}", value["zip"], value["lon"], value["lat"]);
            places
                .entry(format!("{}, {}", value["city"], value["state"]))
                .or_default()
                .insert(place);
        }
    }
    assert!(places.len() > 40);
    assert!(places.values().all(|place| place.len() == 1));
}

#[test]
fn event_time_goes_by_as_fast_as_the_rate_asked_for() {
    // Users sleep for a day and a half: only after several days does the mean show.
    let options = Options::default().for_rate(0.25);
    let start = options.start_millis;
    let mut generator = Generator::new(options);
    let mut buffer = Vec::new();
    let count = 200_000;
    let mut last = start;
    for _ in 0..count {
        buffer.clear();
        last = generator.write_next(&mut buffer).ts_millis;
    }
    let rate = f64::from(count) / ((last - start) / 1000) as f64;
    assert!(
        (0.225..0.275).contains(&rate),
        "{rate} records per second of event time"
    );
}
