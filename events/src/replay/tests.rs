use std::io::Write as _;

use serde_json::{Value, json};

use super::*;

fn one(line: &str) -> Vec<(Topic, Value)> {
    let replay = Replay::from_bytes([("a.json", line.as_bytes())]).unwrap();
    replay
        .map(|event| (event.topic, serde_json::from_slice(&event.json).unwrap()))
        .collect()
}

fn entry(change: Value) -> String {
    let mut entry = json!({
        "artist": "Sinéad O'Connor", "auth": "Logged In", "firstName": "Walter", "gender": "M", "itemInSession": 3,
        "lastName": "Frye", "length": 246.30812, "level": "free", "location": "New York-Newark-Jersey City, NY-NJ-PA",
        "method": "PUT", "page": "NextSong", "registration": 1540919166796.0, "sessionId": 38,
        "song": "Say \"yes\"", "status": 200, "ts": 1541105830796i64, "userAgent": "\"Mozilla\"", "userId": "39"
    });
    for (key, value) in change.as_object().unwrap() {
        entry[key] = value.clone();
    }
    entry.to_string()
}

#[test]
fn the_example_log_gives_its_known_totals_in_event_time_order() {
    let replay = crate::example::replay().unwrap();
    assert_eq!(
        Topic::ALL.map(|topic| replay.remaining(topic)),
        [8_056, 6_820, 182]
    );
    let events: Vec<Event> = replay.collect();
    assert!(events.is_sorted_by_key(|event| event.ts_millis));
    for event in &events {
        let value: Value = serde_json::from_slice(&event.json).unwrap();
        assert_eq!(value["ts"], event.ts_millis);
        if event.topic == Topic::AuthEvents {
            assert_eq!(value["success"], true);
        }
    }
}

#[test]
fn a_song_is_a_page_view_and_a_listen_with_all_fields_in_order() {
    let records = Replay::from_bytes([("a.json", entry(json!({})).as_bytes())]).unwrap();
    let records: Vec<(Topic, String)> = records
        .map(|event| (event.topic, String::from_utf8(event.json).unwrap()))
        .collect();
    let person = r#""city":"New York-Newark-Jersey City","zip":null,"state":"NY","userAgent":"\"Mozilla\"","lon":null,"lat":null,"userId":"39","lastName":"Frye","firstName":"Walter","gender":"M","registration":1540919166796"#;
    let song = r#""artist":"Sinéad O'Connor","song":"Say \"yes\"","duration":246.30812"#;
    let page = format!(
        r#"{{"ts":1541105830796,"sessionId":38,"page":"NextSong","auth":"Logged In","method":"PUT","status":200,"level":"free","itemInSession":3,{person},{song}}}"#
    );
    let listen = format!(
        r#"{{{song},"ts":1541105830796,"sessionId":38,"auth":"Logged In","level":"free","itemInSession":3,{person}}}"#
    );
    assert_eq!(
        records,
        [(Topic::PageViewEvents, page), (Topic::ListenEvents, listen)]
    );
}

#[test]
fn a_login_succeeded_unless_its_status_says_otherwise() {
    for (page, status, success) in [
        ("Login", 307, true),
        ("Login", 200, true),
        ("Login", 401, false),
        ("Login", 500, false),
        ("Logout", 307, true),
    ] {
        let records = one(&entry(
            json!({ "page": page, "status": status, "userId": "", "artist": null }),
        ));
        assert_eq!(records[1].0, Topic::AuthEvents);
        assert_eq!(records[1].1["success"], success, "{page} {status}");
        assert_eq!(records[1].1["userId"], "");
    }
}

#[test]
fn locations_split_at_their_last_comma_and_keep_the_first_state() {
    for (location, city, state) in [
        (
            json!("Phoenix-Mesa-Scottsdale, AZ"),
            json!("Phoenix-Mesa-Scottsdale"),
            json!("AZ"),
        ),
        (
            json!("New York, Newark, NY-NJ-PA"),
            json!("New York, Newark"),
            json!("NY"),
        ),
        (json!("Nowhere"), json!("Nowhere"), Value::Null),
        (Value::Null, Value::Null, Value::Null),
    ] {
        let records = one(&entry(json!({ "location": location })));
        assert_eq!(
            (&records[0].1["city"], &records[0].1["state"]),
            (&city, &state)
        );
    }
}

#[test]
fn other_pages_are_page_views_only() {
    let records = one(&entry(json!({ "page": "Home" })));
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].0, Topic::PageViewEvents);
}

#[test]
fn fields_that_other_eventsim_versions_leave_out_are_null() {
    let records = one(r#"{"ts":5,"page":"Home","sessionId":7,"userId":39}"#);
    assert_eq!(records[0].1["userId"], "39");
    assert_eq!(records[0].1["registration"], Value::Null);
    let records = one(r#"{"ts":5,"page":"Home","sessionId":7}"#);
    assert_eq!(records[0].1["userId"], "");
}

#[test]
fn keys_are_the_user_or_the_session_where_nobody_is_logged_in() {
    let log = [entry(json!({})), entry(json!({ "userId": "" }))].join("\n");
    let keys: Vec<String> = Replay::from_bytes([("a", log.as_bytes())])
        .unwrap()
        .map(|event| event.key)
        .collect();
    assert_eq!(keys, ["39", "39", "38", "38"]);
}

#[test]
fn lines_of_one_instant_keep_the_order_of_files_and_lines() {
    let line =
        |ts: i64, session: i64| format!(r#"{{"ts":{ts},"page":"Home","sessionId":{session}}}"#);
    let first = [line(2, 1), line(1, 2), line(2, 3)].join("\n");
    let second = [line(1, 4), line(2, 5)].join("\r\n");
    let replay = Replay::from_bytes([("a", first.as_bytes()), ("b", second.as_bytes())]).unwrap();
    let order: Vec<i64> = replay
        .map(|event| {
            serde_json::from_slice::<Value>(&event.json).unwrap()["sessionId"]
                .as_i64()
                .unwrap()
        })
        .collect();
    assert_eq!(order, [2, 4, 1, 3, 5]);
}

#[test]
fn packed_files_give_the_same_events_as_plain_ones() {
    let folder = tempfile::tempdir().unwrap();
    let log = [entry(json!({})), entry(json!({ "page": "Logout" }))].join("\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(log.as_bytes()).unwrap();
    let files = [
        ("plain.json", log.clone().into_bytes()),
        ("log.json.gz", gzip.finish().unwrap()),
        ("log.json.zst", zstd::encode_all(log.as_bytes(), 1).unwrap()),
    ]
    .map(|(name, bytes)| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    });
    let [plain, gzip, zstd] =
        files.map(|file| Replay::open([file]).unwrap().collect::<Vec<Event>>());
    assert_eq!(plain.len(), 4);
    assert_eq!(plain, gzip);
    assert_eq!(plain, zstd);
}

#[test]
fn a_malformed_line_is_named_with_its_file_and_number() {
    let good = entry(json!({}));
    for (bad, reason) in [
        ("{\"ts\":1", "EOF while parsing an object (column 7)"),
        (
            r#"{"page":"Home","sessionId":1}"#,
            "missing field `ts` (column 29)",
        ),
        (
            r#"{"ts":"soon","page":"Home","sessionId":1}"#,
            "expected a whole number",
        ),
        (
            r#"{"ts":1.5,"page":"Home","sessionId":1}"#,
            "1.5 is not a whole number",
        ),
        ("[1]", "expected a JSON object"),
    ] {
        let log = format!("{good}\n\n{bad}\n{good}");
        let error = Replay::from_bytes([("day.json", log.as_bytes())])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("day.json, line 3: ") && error.contains(reason),
            "{error}"
        );
    }
    let error = Replay::from_bytes([(
        "day.json",
        b"{\"ts\":1,\"page\":\"\xff\",\"sessionId\":1}".as_slice(),
    )]);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("day.json, line 1: ")
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Replay::open(["/nowhere/at-all.json"]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot read /nowhere/at-all.json: ")
    );
}
