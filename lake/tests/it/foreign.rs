//! Delta tables that others made: read rightly, or refused by the name of what is not understood.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::SessionContext;
use drumline_lake::conformance::{new_table, offer, runtime, stage};
use drumline_lake::{
    AsOf, Catalog, Error, External, FileFormat, Format, Lake, Object, Stores, Table, TableName,
    TableSnapshot,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

struct Foreign {
    folder: TempDir,
    lake: Lake,
}

impl Foreign {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("lake");
        let lake = Lake::open(root.to_str().unwrap(), Stores::from_env())
            .await
            .unwrap();
        Self { folder, lake }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("theirs")
    }

    /// Writes a version's record.
    fn record(&self, version: u64, actions: &[Value]) {
        let log = self.path().join("_delta_log");
        std::fs::create_dir_all(&log).unwrap();
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        std::fs::write(log.join(format!("{version:020}.json")), lines.join("\n")).unwrap();
    }

    fn file(&self, name: &str, columns: Vec<(&str, ArrayRef)>) -> u64 {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        std::fs::metadata(&path).unwrap().len()
    }

    fn numbers(&self, name: &str, numbers: &[i64]) -> u64 {
        let column: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
        self.file(name, vec![("n", column)])
    }

    async fn table(&self) -> Table {
        let location = Url::from_directory_path(self.path()).unwrap();
        let object = Object::external(location, External::of(FileFormat::Delta), None);
        Table::open(&self.lake, &TableName::bare("theirs"), &object)
            .await
            .unwrap()
    }

    async fn rows(&self, snapshot: &TableSnapshot, sql: &str) -> String {
        let session = SessionContext::new_with_config_rt(Default::default(), runtime(&self.lake));
        session
            .register_table("t", snapshot.provider().unwrap())
            .unwrap();
        let rows = session.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    }
}

fn protocol(reader: u32, writer: u32, features: &[&str]) -> Value {
    match reader {
        3 => json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": features, "writerFeatures": features}}),
        _ => json!({"protocol": {"minReaderVersion": reader, "minWriterVersion": writer}}),
    }
}

fn metadata(columns: &[(&str, &str)], configuration: Value) -> Value {
    let fields: Vec<Value> = columns
        .iter()
        .map(|(name, kind)| json!({"name": name, "type": kind, "nullable": true, "metadata": {}}))
        .collect();
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    json!({"metaData": {"id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9",
        "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": [], "configuration": configuration, "createdTime": 0}})
}

fn add(path: &str, size: u64, stats: Option<Value>) -> Value {
    json!({"add": {"path": path, "partitionValues": {}, "size": size, "modificationTime": 0,
        "dataChange": true, "stats": stats.map(|stats| stats.to_string())}})
}

fn remove(path: &str) -> Value {
    json!({"remove": {"path": path, "deletionTimestamp": 1, "dataChange": true}})
}

fn info(millis: i64, operation: &str) -> Value {
    json!({"commitInfo": {"timestamp": millis, "operation": operation, "engineInfo": "theirs/1"}})
}

#[tokio::test]
async fn what_is_not_understood_is_refused_by_name() {
    for (features, configuration, vector, wanted) in [
        (&["fromTheFuture"][..], json!({}), None, "fromTheFuture"),
        (
            &["deletionVectors"][..],
            json!({"delta.enableDeletionVectors": "true"}),
            Some(
                json!({"storageType": "u", "pathOrInlineDv": "vBn[lx{q8@P<9BNH/isA",
                "offset": 1, "sizeInBytes": 36, "cardinality": 2}),
            ),
            "deletionVectors",
        ),
        (
            &["columnMapping"][..],
            json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "1"}),
            None,
            "olumnMapping",
        ),
        (&["typeWidening"][..], json!({}), None, "typeWidening"),
        (&["variantType"][..], json!({}), None, "variantType"),
    ] {
        let foreign = Foreign::new().await;
        let size = foreign.numbers("a.parquet", &[1, 2, 3]);
        let mut added = add("a.parquet", size, Some(json!({"numRecords": 3})));
        if let Some(vector) = vector {
            added["add"]["deletionVector"] = vector;
        }
        let columns = metadata(&[("n", "long")], configuration);
        foreign.record(0, &[protocol(3, 7, features), columns, added]);
        let error = foreign.table().await.snapshot().await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
        assert_eq!(error.kind(), drumline_lake::ErrorKind::User, "{error:?}");
    }
}

#[tokio::test]
async fn a_feature_that_no_file_uses_does_not_hide_a_table() {
    let foreign = Foreign::new().await;
    let size = foreign.numbers("a.parquet", &[1, 2, 3]);
    let allowed = ["deletionVectors", "timestampNtz"];
    foreign.record(
        0,
        &[
            protocol(3, 7, &allowed),
            metadata(
                &[("n", "long")],
                json!({"delta.enableDeletionVectors": "true"}),
            ),
            // No row count: the file tells.
            add("a.parquet", size, None),
        ],
    );
    let table = foreign.table().await;
    let snapshot = table.snapshot().await.unwrap();
    assert_eq!(snapshot.rows(), 3);
    // A vector that comes later is seen by who follows the log, and so is that it is gone.
    let vector = json!({"storageType": "u", "pathOrInlineDv": "vBn[lx{q8@P<9BNH/isA",
        "offset": 1, "sizeInBytes": 36, "cardinality": 2});
    let mut marked = add("a.parquet", size, Some(json!({"numRecords": 3})));
    marked["add"]["deletionVector"] = vector.clone();
    foreign.record(1, &[remove("a.parquet"), marked]);
    let error = table.snapshot().await.unwrap_err();
    assert!(error.to_string().contains("deletionVectors"), "{error}");
    let size = foreign.numbers("b.parquet", &[4]);
    let mut gone = remove("a.parquet");
    gone["remove"]["deletionVector"] = vector;
    foreign.record(2, &[gone, add("b.parquet", size, None)]);
    assert_eq!(table.snapshot().await.unwrap().rows(), 1);
}

#[tokio::test]
async fn every_value_is_read_as_it_was_written_and_found_by_filters() {
    let foreign = Foreign::new().await;
    let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp_micros();
    let times = [
        time("0001-01-01T00:00:00Z"),
        time("9999-12-31T23:59:59.999999Z"),
        time("1969-12-31T23:59:59.999999Z"),
    ];
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "zoned",
            Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC")),
        ),
        (
            "plain",
            Arc::new(TimestampMicrosecondArray::from(times.to_vec())),
        ),
        (
            "money",
            Arc::new(
                Decimal128Array::from(vec![
                    -1,
                    12_345_678_901_234_567_890_123_456_789_012_345_678,
                    0,
                ])
                .with_precision_and_scale(38, 2)
                .unwrap(),
            ),
        ),
        ("x", Arc::new(Float64Array::from(vec![f64::NAN, -0.0, 1.5]))),
    ];
    let size = foreign.file("a.parquet", columns);
    let stats = json!({"numRecords": 3,
        "minValues": {"zoned": "0001-01-01T00:00:00.000Z", "plain": "0001-01-01T00:00:00.000", "x": -0.0, "money": -0.01},
        "maxValues": {"zoned": "9999-12-31T23:59:59.999Z", "plain": "9999-12-31T23:59:59.999", "x": 1.5, "money": 1e36},
        "nullCount": {"zoned": 0, "plain": 0, "x": 0, "money": 0}});
    let kinds = [
        ("zoned", "timestamp"),
        ("plain", "timestamp_ntz"),
        ("money", "decimal(38,2)"),
        ("x", "double"),
    ];
    foreign.record(
        0,
        &[
            protocol(3, 7, &["timestampNtz"]),
            metadata(&kinds, json!({})),
            add("a.parquet", size, Some(stats)),
        ],
    );
    let snapshot = foreign.table().await.snapshot().await.unwrap();
    let all = foreign.rows(&snapshot, "select * from t").await;
    insta::assert_snapshot!(all, @r"
    +-----------------------------+----------------------------+-----------------------------------------+------+
    | zoned                       | plain                      | money                                   | x    |
    +-----------------------------+----------------------------+-----------------------------------------+------+
    | 0001-01-01T00:00:00Z        | 0001-01-01T00:00:00        | -0.01                                   | NaN  |
    | 9999-12-31T23:59:59.999999Z | 9999-12-31T23:59:59.999999 | 123456789012345678901234567890123456.78 | -0.0 |
    | 1969-12-31T23:59:59.999999Z | 1969-12-31T23:59:59.999999 | 0.00                                    | 1.5  |
    +-----------------------------+----------------------------+-----------------------------------------+------+
    ");
    // Written out: a bare text would be taken for nanoseconds, which know neither year.
    let zoned =
        |text: &str| format!("arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')");
    let plain = |text: &str| format!("arrow_cast('{text}', 'Timestamp(Microsecond, None)')");
    for filter in [
        format!("zoned = {}", zoned("0001-01-01T00:00:00Z")),
        format!("zoned > {}", zoned("9999-12-31T23:59:59.9995Z")),
        format!("plain = {}", plain("0001-01-01T00:00:00")),
        format!("plain > {}", plain("9999-12-31T23:59:59.9995")),
        format!(
            "zoned between {} and {}",
            zoned("1969-12-31T23:59:59.999Z"),
            zoned("1970-01-01T00:00:00Z")
        ),
        "money > 1000".to_owned(),
        "money < 0".to_owned(),
        "x > 2".to_owned(),
        "isnan(x)".to_owned(),
        "x = 1.5".to_owned(),
    ] {
        let sql = format!("select count(*) as n from t where {filter}");
        let counted = foreign.rows(&snapshot, &sql).await;
        assert!(counted.contains("| 1 |"), "{filter}\n{counted}");
    }
}

fn is_gone(error: &Error, wanted: &str) {
    assert!(matches!(error, Error::NoVersion { .. }), "{error:?}");
    assert!(error.to_string().contains(wanted), "{error}");
}

#[tokio::test]
async fn a_version_whose_files_are_gone_is_an_error_that_says_which_are_left() {
    let foreign = Foreign::new().await;
    let size = foreign.numbers("a.parquet", &[1]);
    let begin = [
        info(1_000, "CREATE"),
        protocol(1, 2, &[]),
        metadata(&[("n", "long")], json!({})),
        add("a.parquet", size, Some(json!({"numRecords": 1}))),
    ];
    foreign.record(0, &begin);
    for (version, old, new, value) in [
        (1, "a.parquet", "b.parquet", 2),
        (2, "b.parquet", "c.parquet", 3),
        (3, "c.parquet", "d.parquet", 4),
    ] {
        let size = foreign.numbers(new, &[value]);
        let at = i64::try_from(version).unwrap() * 10_000;
        foreign.record(
            version,
            &[
                info(at, "UPDATE"),
                remove(old),
                add(new, size, Some(json!({"numRecords": 1}))),
            ],
        );
    }
    let table = foreign.table().await;
    let read = async |at: AsOf| {
        let snapshot = table.snapshot_at(at).await?;
        let rows = foreign.rows(&snapshot, "select n from t").await;
        Ok::<_, Error>(rows.lines().nth(3).unwrap().to_owned())
    };
    for version in 0..4 {
        let expected = format!("| {} |", version + 1);
        assert_eq!(read(AsOf::Version(version)).await.unwrap(), expected);
    }
    let second = |second: i64| AsOf::at_micros(second * 1_000_000);
    for (at, value) in [(1, 1), (9, 1), (10, 2), (25, 3), (30, 4), (1 << 30, 4)] {
        assert_eq!(read(second(at)).await.unwrap(), format!("| {value} |"));
    }
    is_gone(
        &read(second(0)).await.unwrap_err(),
        "there are versions 0 to 3",
    );
    is_gone(
        &read(AsOf::Version(4)).await.unwrap_err(),
        "there are versions 0 to 3",
    );
    let told = table.history(2).await.unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|v| {
            (
                v.version,
                v.operation.as_deref(),
                v.files_added,
                v.files_removed,
            )
        })
        .collect();
    assert_eq!(told, [(3, Some("UPDATE"), 1, 1), (2, Some("UPDATE"), 1, 1)]);

    // What somebody's upkeep took away; a process that does not remember the versions.
    for name in ["a.parquet", "b.parquet"] {
        std::fs::remove_file(foreign.path().join(name)).unwrap();
    }
    let fresh = Foreign {
        lake: Lake::open(foreign.lake.root().as_str(), Stores::from_env())
            .await
            .unwrap(),
        folder: foreign.folder,
    };
    let table = fresh.table().await;
    let error = table.snapshot_at(AsOf::Version(0)).await.unwrap_err();
    is_gone(&error, "has no version 0: there are versions 2 to 3");
    assert_eq!(table.snapshot_at(AsOf::Version(2)).await.unwrap().rows(), 1);
}

#[tokio::test]
async fn versions_before_a_shortened_log_are_named() {
    for format in [Format::Delta, Format::Parquet] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let lake = Lake::open(root, Stores::from_env()).await.unwrap();
        let catalog = Catalog::open(lake.clone()).await.unwrap();
        let table = Table::create(&catalog, new_table("t", format, None), false)
            .await
            .unwrap();
        let target = table.write_target("w").await.unwrap();
        for n in 0..102 {
            let files = stage(&lake, &target, n..n + 1).await;
            table.commit(offer(n, n + 1, files)).await.unwrap();
        }
        let fresh = Lake::open(root, Stores::from_env()).await.unwrap();
        let fresh = Table::open(&fresh, table.name(), table.object())
            .await
            .unwrap();
        for version in [0, 7, 99, 100, 101, 102] {
            let snapshot = fresh.snapshot_at(AsOf::Version(version)).await.unwrap();
            assert_eq!((snapshot.version, snapshot.rows()), (version, version));
        }
        if format == Format::Parquet {
            continue;
        }
        // Others clean up logs.
        let log: &Path = &folder.path().join("default/t/_delta_log");
        for version in 0..100 {
            std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
        }
        let shortened = Lake::open(root, Stores::from_env()).await.unwrap();
        let shortened = Table::open(&shortened, table.name(), table.object())
            .await
            .unwrap();
        let error = shortened.snapshot_at(AsOf::Version(7)).await.unwrap_err();
        is_gone(&error, "there are versions 100 to 102");
        assert_eq!(
            shortened
                .snapshot_at(AsOf::Version(101))
                .await
                .unwrap()
                .rows(),
            101
        );
        assert_eq!(shortened.history(10).await.unwrap().len(), 3);
    }
}
