//! A lake on S3: what a store must do, what a lake does on it, and a cluster whose tables are there.

use std::sync::Arc;

use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, S3, conformance};
use object_store::path::Path;
use serde_json::{Value, json};

#[tokio::test]
async fn an_s3_server_conforms() {
    let s3 = S3::start(&["bucket"]).unwrap();
    let store = s3.store("bucket").unwrap();
    conformance::check(&store, &Path::from("some/root"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lake_on_s3_conforms() {
    let s3 = S3::start(&["bucket"]).unwrap();
    let stores = drumline_lake::Stores::default();
    let root = url::Url::parse("s3://bucket/some/lake").unwrap();
    stores.insert(&root, Arc::new(s3.store("bucket").unwrap()));
    drumline_lake::conformance::check_lake(root.as_str(), stores).await;
}

#[test]
fn tables_on_s3_are_made_changed_and_kept_up() {
    let s3 = S3::start(&["bucket"]).unwrap();
    let cluster = Cluster::start(Options {
        lake: Some("s3://bucket/some/lake".to_owned()),
        environment: s3.environment(),
        ..Options::default()
    })
    .unwrap();
    let run = |sql: &str| cluster.sql(sql).unwrap();
    let count = |sql: &str| cluster.number(sql).unwrap();

    let doctor = cluster.run(&["doctor", "--lake", "s3://bucket/some/lake"]);
    let doctor = doctor.unwrap();
    assert!(
        doctor.status.success(),
        "{}{}",
        String::from_utf8_lossy(&doctor.stdout),
        String::from_utf8_lossy(&doctor.stderr)
    );

    for (format, name) in [("DELTA", "d"), ("PARQUET", "p")] {
        run(&format!(
            "CREATE TABLE {name} STORED AS {format} PARTITIONED BY (part) AS
             SELECT value AS id, value % 4 AS part, 'n' || value AS name FROM generate_series(1, 1000)"
        ));
        run(&format!(
            "INSERT INTO {name} SELECT value, value % 4, 'later' FROM generate_series(1001, 1200)"
        ));
        run(&format!(
            "INSERT OVERWRITE {name} PARTITION (part) SELECT id, part, 'again' FROM {name} WHERE part = 3"
        ));
        let expected = json!({"n": 1200, "sum": 720_600, "again": 300});
        let sql = format!(
            "SELECT count(*) AS n, sum(id) AS sum, count(*) FILTER (WHERE name = 'again') AS again FROM {name}"
        );
        assert_eq!(run(&sql), [expected], "{format}");
    }

    run("DELETE FROM d WHERE id <= 100");
    run("UPDATE d SET name = 'even' WHERE id % 2 = 0");
    run(
        "MERGE INTO d USING (SELECT * FROM p WHERE id <= 50) s ON d.id = s.id
         WHEN NOT MATCHED THEN INSERT (id, part, name) VALUES (s.id, s.part, 'back')",
    );
    assert_eq!(count("SELECT count(*) FROM d"), 1150);
    assert_eq!(count("SELECT count(*) FROM d WHERE name = 'back'"), 50);
    let before = run("SELECT id, part, name FROM d ORDER BY id");
    run("OPTIMIZE d");
    run("VACUUM d");
    assert_eq!(run("SELECT id, part, name FROM d ORDER BY id"), before);
    run("ALTER TABLE d RENAME TO e");
    assert_eq!(count("SELECT count(*) FROM e"), 1150);

    run("COPY (SELECT * FROM e WHERE part = 1) TO 's3://bucket/some/lake/out/' STORED AS PARQUET");
    run("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION 's3://bucket/some/lake/out/'");
    let same = "SELECT count(*) FROM x EXCEPT SELECT count(*) FROM e WHERE part = 1";
    assert_eq!(run(same), Vec::<Value>::new());
}
