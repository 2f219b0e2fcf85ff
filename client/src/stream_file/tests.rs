use std::path::Path;

use super::*;

const WHOLE: &str = r#"
name = "listening"
brokers = "${BROKERS:-127.0.0.1:9092}"
flush_interval = "2m"
target_file_size = "128MB"
start_from = "latest"
format = "parquet"
dead_letters = "raw.rejected"
paused = true
[kafka]
"security.protocol" = "ssl"
"fetch.min.bytes" = 1

[[topic]]
topic = "listen_events"
table = "raw.listens"
location = "listens/raw"
required = ["ts"]
transform = "SELECT * FROM input"
partition_by = ["month", "day"]
metadata_columns = false
format = "delta"
[topic.schema]
ts = "bigint"
song = "varchar"
artist = "varchar(200)"

[[topic]]
topic = "auth_events"
schema = { success = "boolean", ts = "bigint" }
"#;

fn read(text: &str) -> Result<v1::StreamDefinition> {
    parse_with(text, Path::new("s.toml"), &|name| {
        (name == "SET").then(|| "from-env:1".to_owned())
    })
}

#[test]
fn every_key_reaches_the_definition() {
    let stream = read(WHOLE).unwrap();
    assert_eq!(
        (stream.name.as_str(), stream.brokers.as_str()),
        ("listening", "127.0.0.1:9092")
    );
    assert_eq!(
        (stream.flush_interval_millis, stream.target_file_size),
        (120_000, 128_000_000)
    );
    assert_eq!(
        (stream.start_from(), stream.paused),
        (v1::StartFrom::Latest, true)
    );
    assert_eq!(
        (stream.format.as_str(), stream.dead_letters.as_str()),
        ("parquet", "raw.rejected")
    );
    assert_eq!(stream.kafka["security.protocol"], "ssl");
    assert_eq!(stream.kafka["fetch.min.bytes"], "1");
    let topic = &stream.topics[0];
    assert_eq!(
        (topic.topic.as_str(), topic.table.as_str()),
        ("listen_events", "raw.listens")
    );
    assert_eq!(
        (topic.location.as_str(), topic.format.as_str()),
        ("listens/raw", "delta")
    );
    assert_eq!(topic.transform, "SELECT * FROM input");
    assert_eq!(topic.partition_by, ["month", "day"]);
    assert!(!topic.metadata_columns);
}

#[test]
fn fields_keep_the_files_order_and_required_ones_are_marked() {
    let stream = read(WHOLE).unwrap();
    let fields = |at: usize| -> Vec<(&str, &str, bool)> {
        let fields = stream.topics[at].schema.iter();
        fields
            .map(|field| (field.name.as_str(), field.r#type.as_str(), field.required))
            .collect()
    };
    assert_eq!(
        fields(0),
        [
            ("ts", "bigint", true),
            ("song", "varchar", false),
            ("artist", "varchar(200)", false)
        ]
    );
    assert_eq!(
        fields(1),
        [("success", "boolean", false), ("ts", "bigint", false)]
    );
}

#[test]
fn what_is_left_out_has_defaults() {
    let text = "name = 's'\nbrokers = 'b:1'\n[[topic]]\ntopic = 'clicks'\nschema = { a = 'int' }";
    let stream = read(text).unwrap();
    assert_eq!(
        (stream.flush_interval_millis, stream.target_file_size),
        (60_000, 128_000_000)
    );
    assert_eq!(stream.start_from(), v1::StartFrom::Earliest);
    assert_eq!(
        (stream.dead_letters.as_str(), stream.format.as_str()),
        ("s_dead_letters", "delta")
    );
    let topic = &stream.topics[0];
    assert_eq!(
        (
            topic.table.as_str(),
            topic.format.as_str(),
            topic.location.as_str()
        ),
        ("clicks", "delta", "")
    );
    assert!(topic.metadata_columns && topic.partition_by.is_empty() && topic.transform.is_empty());
}

#[test]
fn a_topic_may_have_several_routes_and_a_table_several_topics() {
    let text = r#"
name = "s"
brokers = "b:1"
format = "parquet"
[[topic]]
topic = "events"
schema = { a = "int" }
[[topic.route]]
table = "raw.one"
[[topic.route]]
table = "two"
format = "delta"
partition_by = ["a"]
transform = "SELECT a FROM input"
[[topic]]
topics = ["x", "y"]
table = "two"
schema = { a = "int" }
[[topic]]
pattern = 'z\..*'
table = "two"
schema = { a = "int" }
"#;
    let stream = read(text).unwrap();
    let routes = stream.topics[0].all_routes();
    let seen: Vec<_> = routes
        .iter()
        .map(|route| {
            (
                route.table.as_str(),
                route.format.as_str(),
                route.partition_by.len(),
            )
        })
        .collect();
    assert_eq!(seen, [("raw.one", "parquet", 0), ("two", "delta", 1)]);
    assert!(stream.topics[0].table.is_empty());
    assert!(stream.topics[1].reads("y") && !stream.topics[1].reads("events"));
    assert_eq!(stream.topics[2].pattern, "z\\..*");
    assert_eq!(stream.topics[2].all_routes()[0].table, "two");

    for (from, to, message) in [
        (
            "topics = [",
            "topic = \"q\"\ntopics = [",
            "line 17: topic[1].topics: names topics a second time",
        ),
        (
            "\"y\"]",
            "\"events\"]",
            "line 16: topic[1].topics: events is there twice",
        ),
        (
            "table = \"raw.one\"",
            "",
            "topic[0].route[0].table: is missing",
        ),
        (
            "table = \"raw.one\"",
            "table = \"two\"",
            "topic[0].route[1].table: two is there twice",
        ),
        (
            "table = \"raw.one\"",
            "table = \"raw.one\"\ntable_name = 1",
            "topic[0].route[0].table_name",
        ),
        (
            "topic = \"events\"",
            "topic = \"events\"\ntable = \"t\"",
            "line 7: topic[0].table: table belongs into each [[topic.route]] here",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let error = read(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}\n{message}");
    }
}

#[test]
fn files_are_closed_by_rows_and_by_the_clock_where_the_file_says_so() {
    let rows = |rows: &str| {
        let text = WHOLE.replacen("target_file_size", &format!("{rows}\ntarget_file_size"), 1);
        read(&text)
    };
    let stream = rows("target_file_rows = 1_000_000\nflush_aligned = true").unwrap();
    assert_eq!(
        (stream.target_file_rows, stream.flush_aligned),
        (1_000_000, true)
    );
    let plain = read(WHOLE).unwrap();
    assert_eq!((plain.target_file_rows, plain.flush_aligned), (0, false));
    for wrong in ["0", "-1", "\"many\""] {
        let error = rows(&format!("target_file_rows = {wrong}")).unwrap_err();
        let (said, hint) = (error.to_string(), error.hint().unwrap_or_default());
        assert!(said.contains("line 5: target_file_rows: "), "{said}");
        assert!(hint.contains("a number from 1 on"), "{hint}");
    }
}

#[test]
fn environment_variables_are_put_into_texts_only() {
    let with = |brokers: &str| {
        read(&format!(
            "name = 's'\nbrokers = '{brokers}'\n[[topic]]\ntopic = 't'\nschema = {{ a = 'int' }}"
        ))
    };
    assert_eq!(with("${SET}").unwrap().brokers, "from-env:1");
    assert_eq!(with("${SET:-other:2}").unwrap().brokers, "from-env:1");
    assert_eq!(with("${UNSET:-other:2}").unwrap().brokers, "other:2");
    assert_eq!(with("a:1,${SET}").unwrap().brokers, "a:1,from-env:1");
    let plain = value::substitute("$${SET} costs $5", &|_| None, false);
    assert_eq!(plain.unwrap(), "${SET} costs $5");
}

#[test]
fn secrets_stay_where_they_are_and_are_never_in_a_definition() {
    let with = |password: &str| {
        read(&format!(
            "name = 's'\nbrokers = 'k:1'\n[kafka]\n'sasl.username' = '${{SET}}'\n'sasl.password' = {password}\n\
             [[topic]]\ntopic = 't'\nschema = {{ a = 'int' }}"
        ))
    };
    for (password, kept) in [
        ("'${env:KAFKA_PASSWORD}'", "${env:KAFKA_PASSWORD}"),
        ("{ env = 'KAFKA_PASSWORD' }", "${env:KAFKA_PASSWORD}"),
        (
            "{ file = '/run/secrets/kafka' }",
            "${file:/run/secrets/kafka}",
        ),
    ] {
        let settings = with(password).unwrap().kafka;
        assert_eq!(settings["sasl.password"], kept);
        assert_eq!(settings["sasl.username"], "from-env:1");
    }
    for password in ["'hush'", "'${SET}'"] {
        let error = with(password).unwrap_err();
        let (said, hint) = (error.to_string(), format!("{error:?}"));
        assert!(
            said.starts_with("s.toml, line 5: kafka.sasl.password: is a secret"),
            "{said}"
        );
        assert!(hint.contains("${file:/run/secrets/…}"), "{hint}");
        assert!(
            !hint.contains("hush") && !hint.contains("from-env"),
            "{hint}"
        );
    }
    for wrong in ["{ vault = 'x' }", "{ env = 'A', file = 'b' }", "{}"] {
        assert!(with(wrong).is_err(), "{wrong}");
    }
    let elsewhere = read(
        "name = 's'\nbrokers = '${env:KAFKA_BROKERS}'\n[[topic]]\ntopic = 't'\nschema = { a = 'int' }",
    );
    let error = elsewhere.unwrap_err().to_string();
    assert!(error.contains("only in settings of kafka"), "{error}");
}

const FORMATS_FILE: &str = r#"
name = "formats"
brokers = "b:1"
[registry]
url = "http://r:8081"
username = "me"
password_env = "SECRET"
[[topic]]
topic = "lines"
decode = { format = "csv", delimiter = "\t", quote = "none", null = "NULL", columns = ["b", "a"], tombstones = "skip" }
schema = { a = "json", b = "int" }
key_column = "text"
headers_column = "binary"
timestamp_column = true
[[topic]]
topic = "orders"
decode = "avro"
[[topic]]
topic = "changes"
decode = { envelope = "debezium" }
schema = { a = "int" }
keep = "latest"
keys = ["a"]
"#;

#[test]
fn formats_and_the_registry_reach_the_definition() {
    let stream = read(FORMATS_FILE).unwrap();
    let registry = stream.registry.unwrap();
    assert_eq!(
        (
            registry.url.as_str(),
            registry.username.as_str(),
            registry.password_env.as_str()
        ),
        ("http://r:8081", "me", "SECRET")
    );
    let topic = &stream.topics[0];
    let decode = topic.decode.clone().unwrap();
    assert_eq!(
        (
            decode.format.as_str(),
            decode.delimiter.as_str(),
            decode.quote.as_str()
        ),
        ("csv", "\t", "none")
    );
    assert_eq!(
        (
            decode.null_text.as_str(),
            decode.tombstones.as_str(),
            decode.columns.len()
        ),
        ("NULL", "skip", 2)
    );
    assert_eq!(
        (
            topic.key_column.as_str(),
            topic.headers_column.as_str(),
            topic.timestamp_column
        ),
        ("text", "binary", true)
    );
    let format = |at: usize| stream.topics[at].decode.clone().unwrap();
    assert_eq!(format(1).format, "avro");
    assert_eq!(
        (format(2).format, format(2).envelope),
        ("json".to_owned(), "debezium".to_owned())
    );
    for (from, to, message, accepted) in [
        (
            "decode = \"avro\"",
            "decode = \"arvo\"",
            "topic[1].decode: \"arvo\" is not accepted",
            "protobuf",
        ),
        (
            "decode = \"avro\"",
            "decode = 5",
            "topic[1].decode: is a number",
            "a table",
        ),
        ("decode = \"avro\"", "", "topic[1].schema: is missing", ""),
        (
            "null = ",
            "nul = ",
            "topic[0].decode.nul: unknown key",
            "delimiter",
        ),
        (
            "password_env",
            "password",
            "registry.password: is a secret",
            "password_file",
        ),
        (
            "url = \"http://r:8081\"",
            "",
            "registry.url: is missing",
            "",
        ),
    ] {
        let text = FORMATS_FILE.replacen(from, to, 1);
        let error = read(&text).unwrap_err();
        assert!(error.to_string().contains(message), "for {to}: {error}");
        assert!(
            error.hint().unwrap_or_default().contains(accepted),
            "for {to}: {error:?}"
        );
    }
}

/// What is replaced in the whole file, by what, and the error: line, key, reason, part of what is accepted.
#[test]
fn errors_name_file_line_key_reason_and_what_is_accepted() {
    for (from, to, message, accepted) in [
        (
            "paused = true",
            "pausd = true",
            "s.toml, line 9: pausd: unknown key",
            "name, brokers",
        ),
        (
            "location =",
            "place =",
            "s.toml, line 17: topic[0].place: unknown key",
            "topic, topics, pattern, table",
        ),
        ("name = \"listening\"", "", "s.toml: name: is missing", ""),
        (
            "name = \"listening\"",
            "name = \"9 lives\"",
            "s.toml, line 2: name: \"9 lives\" is not accepted",
            "letters",
        ),
        (
            "name = \"listening\"",
            "name = 5",
            "s.toml, line 2: name: is a number",
            "a text in quotes",
        ),
        (
            "127.0.0.1:9092",
            "127.0.0.1",
            "line 3: brokers: \"127.0.0.1\" is not accepted",
            "host:port",
        ),
        (
            "${BROKERS:-127.0.0.1:9092}",
            "${NOWHERE}",
            "line 3: brokers: the environment variable NOWHERE is not set",
            "${NAME:-default}",
        ),
        (
            "${BROKERS:-127.0.0.1:9092}",
            "${NOWHERE",
            "line 3: brokers: \"${\" is not closed",
            "",
        ),
        (
            "${BROKERS:-127.0.0.1:9092}",
            "",
            "line 3: brokers: is empty",
            "",
        ),
        (
            "\"2m\"",
            "\"2 weeks\"",
            "line 4: flush_interval: \"2 weeks\" is not a duration",
            "120s",
        ),
        (
            "\"2m\"",
            "120",
            "line 4: flush_interval: is a number",
            "a text in quotes",
        ),
        (
            "\"2m\"",
            "\"0s\"",
            "line 4: flush_interval: must be more than nothing",
            "",
        ),
        (
            "128MB",
            "128 lots",
            "line 5: target_file_size: \"128 lots\" is not a size",
            "KiB",
        ),
        (
            "\"latest\"",
            "\"newest\"",
            "line 6: start_from: \"newest\" is neither a place nor a moment",
            "\"earliest\", \"latest\"",
        ),
        (
            "\"parquet\"",
            "\"orc\"",
            "line 7: format: \"orc\" is not accepted",
            "delta, parquet",
        ),
        (
            "raw.rejected",
            "a.b.c",
            "line 8: dead_letters: \"a.b.c\" is not accepted",
            "schema.table",
        ),
        (
            "paused = true",
            "paused = \"yes\"",
            "line 9: paused: is a text",
            "true, false",
        ),
        ("[kafka]", "[[kafka]]", "kafka: is a list", "a table"),
        (
            "listens/raw",
            "../raw",
            "line 17: topic[0].location: \"../raw\" is not accepted",
            "folder",
        ),
        (
            "[\"ts\"]",
            "[\"tss\"]",
            "line 18: topic[0].required: tss is not in the schema",
            "ts, song, artist",
        ),
        (
            "[\"month\", \"day\"]",
            "\"month\"",
            "line 20: topic[0].partition_by: is a text",
            "a list of texts",
        ),
        (
            "[\"month\", \"day\"]",
            "[\"day\", \"day\"]",
            "line 20: topic[0].partition_by: day is there twice",
            "",
        ),
        (
            "song = \"varchar\"",
            "song = \"jsonb\"",
            "line 25: topic[0].schema.song: \"jsonb\" is not a type",
            "varchar",
        ),
        (
            "song = \"varchar\"",
            "song = 5",
            "line 25: topic[0].schema.song: is a number",
            "a text in quotes",
        ),
        (
            "{ success = \"boolean\", ts = \"bigint\" }",
            "{ }",
            "line 30: topic[1].schema: has no fields",
            "",
        ),
        (
            "schema = { success = \"boolean\", ts = \"bigint\" }",
            "",
            "line 29: topic[1].schema: is missing",
            "",
        ),
        (
            "topic = \"auth_events\"",
            "",
            "topic[1].topic: is missing",
            "",
        ),
        (
            "topic = \"auth_events\"",
            "topic = \"listen_events\"",
            "topic[1].topic: listen_events is there twice",
            "[[topic.route]]",
        ),
        (
            "topic = \"auth_events\"",
            "topic = \"auth-events\"",
            "topic[1].table: the topic's name auth-events is no table name",
            "schema.table",
        ),
        ("paused = true", "paused = ", "s.toml, line 9: ", ""),
    ] {
        let text = WHOLE.replacen(from, to, 1);
        assert_ne!(text, WHOLE, "{from} is not in the file");
        let error = read(&text).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("s.toml") && said.contains(message),
            "for {to}: {said}"
        );
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(accepted), "for {to}: {hint}");
    }
    let none = read("name = 's'\nbrokers = 'b:1'").unwrap_err().to_string();
    assert_eq!(none, "s.toml: topic: is missing");
}

#[test]
fn a_stream_begins_and_ends_where_its_file_says() {
    let at = |key: &str, place: &str| {
        read(&WHOLE.replace(r#"start_from = "latest""#, &format!("{key} = {place}")))
    };
    let start = |place: &str| at("start_from", place).unwrap().start.unwrap();
    let moment = start(r#"{ timestamp = "2026-11-01T00:00:00Z" }"#);
    assert_eq!(moment.timestamp_millis, 1_793_491_200_000);
    assert_eq!(moment, start("2026-11-01T00:00:00Z"));
    assert_eq!(moment, start(r#""2026-11-01T00:00:00Z""#));
    let offsets = start("{ offsets = { listen_events = { 0 = 12, 3 = 4 } } }");
    let said: Vec<_> = offsets
        .offsets
        .iter()
        .map(|said| (said.topic.as_str(), said.partition, said.offset))
        .collect();
    assert_eq!(said, [("listen_events", 0, 12), ("listen_events", 3, 4)]);
    assert_eq!(start("{ offsets = { 1 = 9 } }").offsets[0].partition, 1);
    assert_eq!(start("{ offsets = 9 }").offsets[0].partition, -1);

    let until = at("until", r#""now""#).unwrap().until.unwrap();
    assert_eq!(until.from(), v1::StartFrom::Latest);
    let of_topic = WHOLE.replace(
        "format = \"delta\"\n",
        "start_from = { offsets = { 0 = 7 } }\n",
    );
    let topic = &read(&of_topic).unwrap().topics[0];
    assert_eq!(topic.start.as_ref().unwrap().offsets[0].offset, 7);

    for wrong in [
        "\"soon\"",
        "{ at = 3 }",
        "{ offsets = { x = 3 } }",
        "7",
        "{ offsets = -1 }",
    ] {
        let error = at("start_from", wrong).unwrap_err();
        let Error::StreamFile { key, accepted, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(key, "start_from");
        assert!(accepted.as_ref().unwrap().contains("earliest"), "{error}");
    }
    assert!(at("until", r#""earliest""#).is_err());
}
