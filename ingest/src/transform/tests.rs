use arrow::array::Float64Array;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimeUnit};

use super::*;
use crate::decode::{Batch, Decoder, Headers, Record};
use crate::schema::{self, Declared};

fn fields() -> Vec<Declared> {
    let field = |name: &str, data_type| Declared {
        name: name.into(),
        sql_type: String::new(),
        data_type,
        required: false,
    };
    vec![
        field("ts", DataType::Int64),
        field("song", DataType::Utf8),
        field("userId", DataType::Utf8),
    ]
}

fn batch() -> Batch {
    let mut decoder = Decoder::json("listens", fields(), 1000);
    for (offset, value) in [
        r#"{"ts":1541106106796,"song":"a","userId":"1"}"#,
        r#"{"ts":0,"song":"skip","userId":"2"}"#,
        r#"{"ts":1541106352796,"song":"b","userId":"x"}"#,
        r#"{"ts":1541106352797,"song":"c","userId":"4"}"#,
    ]
    .iter()
    .enumerate()
    {
        let offset = 100 + i64::try_from(offset).unwrap();
        let value = Some(value.as_bytes());
        decoder.push(Record {
            partition: 7,
            offset,
            timestamp: None,
            key: None,
            value,
            headers: Headers::default(),
        });
    }
    decoder.finish().unwrap()
}

async fn plan(sql: &str) -> Result<Transform> {
    let session = SessionContext::new();
    Transform::plan(&session, "listens", sql, schema::input(&fields())).await
}

async fn refusal(sql: &str) -> String {
    plan(sql).await.unwrap_err().to_string()
}

#[tokio::test]
async fn rows_that_pass_keep_the_place_they_came_from() {
    let transform = plan(
        "SELECT to_timestamp_millis(ts) AS at, upper(song) AS song FROM input WHERE song <> 'skip'",
    )
    .await
    .unwrap();
    let table = schema::table(transform.schema(), true);
    let batch = batch();
    let result = transform
        .apply(&batch.rows, &batch.origins, &table)
        .unwrap();
    assert_eq!(result.rows.schema(), table);
    assert_eq!(
        result.rows.column(0).data_type(),
        &DataType::Timestamp(TimeUnit::Microsecond, None)
    );
    assert_eq!(
        result
            .rows
            .column(1)
            .as_string::<i32>()
            .iter()
            .flatten()
            .collect::<Vec<_>>(),
        ["A", "B", "C"]
    );
    assert_eq!(
        result
            .rows
            .column_by_name("_topic")
            .unwrap()
            .as_string::<i32>()
            .value(2),
        "listens"
    );
    assert_eq!(
        result
            .rows
            .column_by_name("_partition")
            .unwrap()
            .as_primitive::<Int32Type>()
            .values(),
        &[7, 7, 7]
    );
    assert_eq!(
        result
            .rows
            .column_by_name("_offset")
            .unwrap()
            .as_primitive::<Int64Type>()
            .values(),
        &[100, 102, 103]
    );
    assert_eq!(result.sources.values(), &[0, 2, 3]);
    assert!(result.refused.is_empty());
}

#[tokio::test]
async fn a_failing_expression_refuses_its_row_alone() {
    let transform = plan("SELECT CAST(\"userId\" AS BIGINT) AS id, song FROM input")
        .await
        .unwrap();
    let batch = batch();
    let result = transform
        .apply(
            &batch.rows,
            &batch.origins,
            &schema::table(transform.schema(), false),
        )
        .unwrap();
    assert_eq!(
        result.rows.column(0).as_primitive::<Int64Type>().values(),
        &[1, 2, 4]
    );
    let [(row, reason)] = result.refused.as_slice() else {
        panic!("{:?}", result.refused)
    };
    assert_eq!(*row, 2);
    assert!(
        reason.starts_with("transform: ") && reason.contains("'x'"),
        "{reason}"
    );
}

#[tokio::test]
async fn no_sql_keeps_every_field() {
    let transform = plan("  ").await.unwrap();
    let batch = batch();
    let result = transform
        .apply(
            &batch.rows,
            &batch.origins,
            &schema::table(transform.schema(), false),
        )
        .unwrap();
    assert_eq!(result.rows.num_rows(), 4);
    assert_eq!(result.rows.columns(), batch.rows.columns());
}

#[tokio::test]
async fn a_filter_that_can_never_pass_gives_no_rows() {
    let transform = plan("SELECT song, 1.5 AS x FROM input WHERE 1 = 2")
        .await
        .unwrap();
    let batch = batch();
    let result = transform
        .apply(
            &batch.rows,
            &batch.origins,
            &schema::table(transform.schema(), true),
        )
        .unwrap();
    assert_eq!(result.rows.num_rows(), 0);
}

#[tokio::test]
async fn nested_selects_and_repeated_expressions_run() {
    let sql = "SELECT x.half, x.half * 2 AS whole FROM (SELECT ts / 2.0 AS half, song FROM input) AS x WHERE x.song = 'a'";
    let transform = plan(sql).await.unwrap();
    let batch = batch();
    let result = transform
        .apply(
            &batch.rows,
            &batch.origins,
            &schema::table(transform.schema(), false),
        )
        .unwrap();
    let whole = result.rows.column_by_name("whole").unwrap();
    assert_eq!(
        whole.as_primitive::<Float64Type>(),
        &Float64Array::from(vec![1541106106796.0])
    );
}

#[tokio::test]
async fn what_is_not_row_by_row_is_refused_by_name() {
    for (sql, what) in [
        ("SELECT count(*) FROM input", "groups rows"),
        ("SELECT DISTINCT song FROM input", "groups rows"),
        (
            "SELECT a.song FROM input a JOIN input b ON a.ts = b.ts",
            "has input at the right of a join",
        ),
        ("SELECT song FROM input ORDER BY ts", "sorts"),
        ("SELECT song FROM input LIMIT 3", "limits rows"),
        (
            "SELECT row_number() OVER (ORDER BY ts) FROM input",
            "uses a window function",
        ),
        (
            "SELECT song FROM input UNION ALL SELECT song FROM input",
            "unites relations",
        ),
        ("SELECT 1", "reads nothing"),
        ("SELECT now() AS n, song FROM input", "calls now"),
        (
            "SELECT song FROM input WHERE ts IN (SELECT ts FROM input)",
            "has a subquery",
        ),
    ] {
        let refused = refusal(sql).await;
        assert!(
            refused.starts_with("transform of topic listens: ") && refused.contains(what),
            "{sql}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_mistyped_column_is_named_with_candidates() {
    let refused = refusal("SELECT sonk FROM input").await;
    assert!(
        refused.contains("sonk") && refused.contains("song"),
        "{refused}"
    );
}

#[tokio::test]
async fn two_columns_of_one_name_are_refused() {
    let refused = refusal("SELECT song AS a, ts AS a FROM input").await;
    assert!(refused.contains('a'), "{refused}");
}

#[tokio::test]
async fn parts_of_times_in_utc_are_those_of_the_same_times_without_a_zone() {
    let parts = |zone: &str| {
        let parts = ["year", "month", "day", "hour", "minute", "dow", "epoch"];
        let parts = parts.map(|part| format!("date_part('{part}', at) AS {part}"));
        format!(
            "SELECT {} FROM (SELECT arrow_cast(arrow_cast(to_timestamp_millis(ts - 1541106106797), \
             'Timestamp(Microsecond, Some(\"UTC\"))'), 'Timestamp(Microsecond, {zone})') AS at FROM input)",
            parts.join(", ")
        )
    };
    let naive = results(&parts("None")).await;
    assert_eq!(results(&parts(r#"Some("UTC")"#)).await, naive);
    // The millisecond before 1970 there.
    let year = naive.column(0).as_primitive::<Int32Type>();
    assert_eq!(year.value(0), 1969);
    let local = results(&parts(r#"Some("Asia/Tokyo")"#)).await;
    let hour = |rows: &RecordBatch| rows.column(3).as_primitive::<Int32Type>().value(0);
    assert_eq!((hour(&naive), hour(&local)), (23, 8));
}

async fn results(sql: &str) -> RecordBatch {
    let (transform, batch) = (plan(sql).await.unwrap(), batch());
    let table = schema::table(transform.schema(), true);
    transform
        .apply(&batch.rows, &batch.origins, &table)
        .unwrap()
        .rows
}
