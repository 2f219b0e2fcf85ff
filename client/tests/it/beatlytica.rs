//! The shipped example: its stream file, transforms and questions over the month of events that
//! ships with it. Expected values were counted apart from all of this, from the raw logs.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::DFParser;
use drumline_client::proto::TopicDefinition;
use drumline_client::stream_file;
use drumline_events::Topic;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/beatlytica");

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(FOLDER).join(file)).unwrap()
}

fn stream() -> drumline_client::proto::StreamDefinition {
    stream_file::parse_with(
        &read("beatlytica.toml"),
        Path::new("beatlytica.toml"),
        &|_| None,
    )
    .unwrap()
}

/// Undoes mis-decoding, however often it happened: enough of the cluster's `repair_text` for here.
fn repaired(text: &str) -> String {
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|char| u8::try_from(u32::from(char)).ok())
        .collect();
    match bytes.map(String::from_utf8) {
        Some(Ok(better)) if better != text => repaired(&better),
        _ => text.to_owned(),
    }
}

fn session() -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    context.register_udf(create_udf(
        "repair_text",
        vec![DataType::Utf8],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(|arguments: &[ColumnarValue]| {
            let ColumnarValue::Array(array) = &arguments[0] else {
                panic!("a constant")
            };
            let texts = array
                .as_string::<i32>()
                .iter()
                .map(|text| text.map(repaired));
            Ok(ColumnarValue::Array(Arc::new(
                texts.collect::<arrow::array::StringArray>(),
            )))
        }),
    ));
    context
}

fn input(topic: &TopicDefinition) -> RecordBatch {
    let fields = topic.schema.iter().map(|field| {
        let data_type = match field.r#type.as_str() {
            "varchar" => DataType::Utf8,
            "bigint" => DataType::Int64,
            "double" => DataType::Float64,
            "boolean" => DataType::Boolean,
            other => panic!("{other}"),
        };
        Field::new(&field.name, data_type, !field.required)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    // Strict: a field that the stream file does not declare would be lost unseen.
    let mut decoder = arrow::json::ReaderBuilder::new(schema)
        .with_strict_mode(true)
        .with_batch_size(100_000)
        .build_decoder()
        .unwrap();
    for event in drumline_events::example::replay()
        .unwrap()
        .filter(|event| event.topic.name() == topic.topic)
    {
        decoder.decode(&event.json).unwrap();
        decoder.decode(b"\n").unwrap();
    }
    decoder.flush().unwrap().unwrap()
}

/// A session with the stream's tables as its transforms make them.
async fn consumed() -> SessionContext {
    let context = session();
    for topic in stream().topics {
        context.register_batch("input", input(&topic)).unwrap();
        let batches = context
            .sql(&topic.transform)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        context.deregister_table("input").unwrap();
        let whole = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        context.register_batch(topic.table.as_str(), whole).unwrap();
    }
    context
}

/// Runs a script; the rows of each statement as texts.
async fn run(context: &SessionContext, script: &str) -> Vec<Vec<Vec<String>>> {
    let mut results = Vec::new();
    for statement in DFParser::parse_sql(script).unwrap() {
        let plan = context.state().statement_to_plan(statement).await.unwrap();
        let batches = context
            .execute_logical_plan(plan)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        results.push(batches.iter().flat_map(texts).collect());
    }
    results
}

fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("-");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    let row = |row: usize| {
        columns
            .iter()
            .map(|column| column.value(row).to_string())
            .collect()
    };
    (0..batch.num_rows()).map(row).collect()
}

async fn transformed() -> SessionContext {
    let context = consumed().await;
    for name in [
        "dim_users",
        "dim_artists",
        "dim_songs",
        "dim_location",
        "dim_datetime",
        "fact_streams",
        "wide_streams",
    ] {
        run(&context, &read(&format!("transform/{name}.sql"))).await;
    }
    context
}

async fn number(context: &SessionContext, sql: &str) -> i64 {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

fn rows(expected: &[&[&str]]) -> Vec<Vec<String>> {
    expected
        .iter()
        .map(|row| row.iter().map(|value| (*value).to_owned()).collect())
        .collect()
}

#[test]
fn the_shipped_stream_file_says_what_beatlyticas_consumer_does() {
    let stream = stream();
    assert_eq!(stream.brokers, "127.0.0.1:9092");
    assert_eq!(
        (stream.flush_interval_millis, stream.format.as_str()),
        (120_000, "parquet")
    );
    let mut names: Vec<&str> = stream
        .topics
        .iter()
        .map(|topic| topic.topic.as_str())
        .collect();
    names.sort_unstable();
    let mut all = Topic::ALL.map(Topic::name);
    all.sort_unstable();
    assert_eq!(names, all);
    for topic in &stream.topics {
        assert_eq!(
            (&topic.table, &topic.location),
            (&topic.topic, &topic.topic)
        );
        assert_eq!(topic.partition_by, ["month", "day", "hour"]);
        assert!(topic.metadata_columns);
        assert_eq!(topic.format, "parquet");
    }
}

#[tokio::test]
async fn every_event_becomes_a_row_with_its_instant_and_its_parts() {
    let context = consumed().await;
    assert_eq!(
        number(&context, "SELECT count(*) FROM listen_events").await,
        6_820
    );
    assert_eq!(
        number(&context, "SELECT count(*) FROM page_view_events").await,
        8_056
    );
    assert_eq!(
        number(&context, "SELECT count(*) FROM auth_events WHERE success").await,
        182
    );
    assert_eq!(
        number(
            &context,
            "SELECT count(DISTINCT \"userId\") FROM listen_events"
        )
        .await,
        96
    );
    let named = "SELECT count(DISTINCT \"userId\") FROM page_view_events WHERE \"userId\" <> ''";
    assert_eq!(number(&context, named).await, 97);
    let hours = "SELECT count(*) FROM (SELECT DISTINCT year, month, day, hour FROM listen_events)";
    assert_eq!(number(&context, hours).await, 544);
    let schema = context
        .table("listen_events")
        .await
        .unwrap()
        .schema()
        .as_arrow()
        .clone();
    assert_eq!(
        schema.field_with_name("ts").unwrap().data_type(),
        &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
    );
    for part in ["year", "month", "day", "hour"] {
        assert_eq!(
            schema.field_with_name(part).unwrap().data_type(),
            &DataType::Int32
        );
    }
    let first = "SELECT ts, year, month, day, hour FROM page_view_events ORDER BY ts LIMIT 1";
    let first = run(&context, first).await;
    assert_eq!(
        first[0],
        rows(&[&["2018-11-01T20:57:10.796Z", "2018", "11", "1", "20"]])
    );
}

#[tokio::test]
async fn dimensions_and_facts_hold_every_listen_once() {
    let context = transformed().await;
    for (table, count) in [
        ("dim_users", 105),
        ("dim_artists", 3_148),
        ("dim_songs", 5_295),
        ("dim_location", 63),
        ("dim_datetime", 544),
        ("fact_streams", 6_820),
        ("wide_streams", 6_820),
    ] {
        assert_eq!(
            number(&context, &format!("SELECT count(*) FROM {table}")).await,
            count,
            "{table}"
        );
    }
    assert_eq!(
        number(&context, "SELECT count(*) FROM dim_users WHERE is_current").await,
        96
    );
    assert_eq!(
        number(
            &context,
            "SELECT count(*) FROM dim_location WHERE state_name IS NULL"
        )
        .await,
        0
    );
    let facts = "SELECT count(*) FILTER (WHERE level = 'paid'), count(*) FILTER (WHERE is_weekend), \
                 count(*) FILTER (WHERE state_name = 'California'), round(sum(duration), 3) FROM wide_streams";
    assert_eq!(
        run(&context, facts).await[0],
        rows(&[&["5591", "1024", "1572", "1684759.747"]])
    );
}

#[tokio::test]
async fn transforms_can_be_run_again() {
    let context = transformed().await;
    run(&context, &read("transform/dim_users.sql")).await;
    assert_eq!(
        number(&context, "SELECT count(*) FROM dim_users").await,
        105
    );
}

#[tokio::test]
async fn questions_have_the_answers_counted_from_the_logs() {
    let context = transformed().await;
    let answers = run(&context, &read("questions.sql")).await;
    let [songs, artists, hours, paid, history] = answers.as_slice() else {
        panic!("{} answers", answers.len())
    };
    assert_eq!(
        songs[..4],
        rows(&[
            &["Dwight Yoakam", "You're The One", "37", "22"],
            &["Björk", "Undo", "28", "14"],
            &["Kings Of Leon", "Revelry", "27", "12"],
            &["Harmonia", "Sehr kosmisch", "21", "14"],
        ])
    );
    assert_eq!(
        songs[8],
        rows(&[&["Alliance Ethnik", "Représente", "14", "11"]])[0]
    );
    assert_eq!(
        *artists,
        rows(&[
            &["Coldplay", "58", "22"],
            &["Kings Of Leon", "55", "19"],
            &["Dwight Yoakam", "38", "22"],
            &["The Black Keys", "36", "19"],
            &["Florence + The Machine", "35", "16"],
            &["Jack Johnson", "35", "22"],
            &["Muse", "35", "17"],
            &["Björk", "33", "15"],
            &["John Mayer", "31", "17"],
            &["The Killers", "31", "19"],
        ])
    );
    assert_eq!(
        *hours,
        rows(&[
            &["16", "CA", "152"],
            &["15", "CA", "140"],
            &["14", "CA", "123"],
            &["20", "CA", "112"],
            &["17", "CA", "105"],
            &["18", "CA", "96"],
            &["13", "CA", "91"],
            &["21", "CA", "88"],
            &["18", "MI", "76"],
            &["17", "GA", "72"],
        ])
    );
    let users: Vec<&str> = paid.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(users, ["29", "80", "85", "36", "16", "49", "88", "15"]);
    let levels: Vec<[&str; 3]> = history
        .iter()
        .map(|row| [row[0].as_str(), &row[1], &row[2]])
        .collect();
    assert_eq!(
        levels,
        [
            ["15", "1", "paid"],
            ["15", "2", "free"],
            ["15", "3", "paid"],
            ["16", "1", "free"],
            ["16", "2", "paid"],
            ["29", "1", "free"],
            ["29", "2", "paid"],
        ]
    );
}
