//! Values that easily become others: NaN, which bounds leave out; random values, which differ each time; empty texts,
//! which folders and lines of text take for nulls; numbers with more digits than a double holds.

use crate::cluster::{Cluster, forced};
use crate::lake::Home;

async fn both<F>(check: impl Fn(Home) -> F)
where
    F: Future<Output = ()>,
{
    check(Home::new().await).await;
    let cluster = Cluster::start().await;
    let mut home = Home::new().await;
    home.workers = cluster.targets();
    home.settings = forced(&[]);
    check(home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_nan_are_found() {
    both(|home| async move {
        home.wrote(
            "CREATE TABLE t AS SELECT CAST(x AS DOUBLE) AS a, y AS b \
             FROM (VALUES ('1', 1), ('NaN', 2), ('2.5', 3)) v(x, y)",
        )
        .await;
        home.wrote("COPY t TO 'out/nan' STORED AS PARQUET").await;
        let folder = home.folder.path().join("lake/out/nan");
        home.run(&format!(
            "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '{}'",
            folder.display()
        ))
        .await
        .unwrap();
        home.wrote("CREATE TABLE k AS SELECT CAST('NaN' AS DOUBLE) AS a")
            .await;
        for table in ["t", "x"] {
            for (query, rows) in [
                ("count(*) FROM {t} WHERE a > 100", "1"),
                ("count(*) FROM {t} WHERE a > 100 AND b = 2", "1"),
                ("count(*) FROM {t} WHERE a >= 2", "2"),
                ("count(*) FROM {t} WHERE a = CAST('NaN' AS DOUBLE)", "1"),
                ("count(*) FROM {t} WHERE NOT (a < 100)", "1"),
                ("max(a) FROM {t}", "NaN"),
                ("count(*) FROM {t} JOIN k ON {t}.a = k.a", "1"),
                ("a FROM {t} ORDER BY a DESC LIMIT 1", "NaN"),
                ("count(*) FROM {t} WHERE a IS NULL", "0"),
            ] {
                let sql = format!("SELECT {}", query.replace("{t}", table));
                assert_eq!(home.rows(&sql).await, [rows], "{sql}");
            }
        }
        assert_eq!(home.wrote("UPDATE t SET b = 9 WHERE a > 100").await.rows, 1);
        assert_eq!(home.rows("SELECT sum(b) FROM t").await, ["13"]);
        assert_eq!(home.wrote("DELETE FROM t WHERE a > 100").await.rows, 1);
        assert_eq!(
            home.rows("SELECT a FROM t ORDER BY a").await,
            ["1.0", "2.5"]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_condition_is_asked_once_for_each_row() {
    both(|home| async move {
        home.wrote("CREATE TABLE t AS SELECT value AS a, 1 AS b, 1 AS c FROM generate_series(1, 400)")
            .await;
        home.wrote("UPDATE t SET b = 5, c = 5 WHERE random() < 0.5")
            .await;
        let values = home
            .rows("SELECT b, c, count(*) > 50 FROM t GROUP BY b, c ORDER BY b")
            .await;
        assert_eq!(values, ["1|1|true", "5|5|true"]);
        home.wrote("CREATE TABLE s AS SELECT value AS a FROM generate_series(1, 800)")
            .await;
        let merge = "MERGE INTO t USING s ON t.a = s.a WHEN NOT MATCHED AND random() < 0.5 THEN INSERT (a, b, c) VALUES (s.a, 7, 7)";
        let refused = home.refused(merge).await;
        assert!(refused.contains("a condition of WHEN cannot be random"), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_text_that_names_a_partition_is_null_before_it_is_judged() {
    both(|home| async move {
        home.wrote(
            "CREATE TABLE t PARTITIONED BY (p) AS SELECT * FROM (VALUES (1, 'a'), (2, '')) v(a, p)",
        )
        .await;
        assert_eq!(home.rows("SELECT a FROM t WHERE p IS NULL").await, ["2"]);
        assert_eq!(home.wrote("DELETE FROM t WHERE p = ''").await.rows, 0);
        home.run("CREATE TABLE n (a BIGINT, p VARCHAR NOT NULL) PARTITIONED BY (p)")
            .await
            .unwrap();
        let refused = home.refused("INSERT INTO n VALUES (1, '')").await;
        assert!(refused.contains("column 'p' is NOT NULL"), "{refused}");
        home.run("CREATE TABLE c (a BIGINT, p VARCHAR CHECK (p IS NOT NULL)) PARTITIONED BY (p)")
            .await
            .unwrap();
        let refused = home.refused("INSERT INTO c VALUES (1, '')").await;
        assert!(refused.contains("constraint 'p_check'"), "{refused}");
        home.wrote("INSERT INTO c VALUES (1, 'b')").await;
        assert_eq!(home.rows("SELECT a, p FROM c").await, ["1|b"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_tell_empty_texts_from_nulls_and_show_that_there_are_no_rows() {
    both(|home| async move {
        home.wrote(
            "CREATE TABLE t AS SELECT * FROM (VALUES (1, '', 'x\"y'), (2, NULL, 'a,b')) v(a, b, c)",
        )
        .await;
        let text = |name: &str| {
            let folder = home.folder.path().join("lake/out").join(name);
            let files: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().path())
                .filter(|path| path.is_file())
                .collect();
            assert_eq!(files.len(), 1, "{name}: {files:?}");
            std::fs::read_to_string(&files[0])
        };
        home.wrote("COPY (SELECT * FROM t ORDER BY a) TO 'out/text' STORED AS CSV")
            .await;
        assert_eq!(
            text("text").unwrap(),
            "a,b,c\n1,\"\",\"x\"\"y\"\n2,,\"a,b\"\n"
        );
        home.wrote("COPY (SELECT b FROM t ORDER BY a) TO 'out/narrow' STORED AS CSV")
            .await;
        assert_eq!(text("narrow").unwrap(), "b\n\"\"\n\"\"\n");
        let none = "(SELECT a, b FROM t WHERE a > 5)";
        let done = home
            .wrote(&format!("COPY {none} TO 'out/none' STORED AS CSV"))
            .await;
        assert_eq!((done.rows, done.files), (0, 1));
        assert_eq!(text("none").unwrap(), "a,b\n");
        home.wrote(&format!("COPY {none} TO 'out/empty' STORED AS PARQUET"))
            .await;
        let folder = home.folder.path().join("lake/out/empty");
        home.run(&format!(
            "CREATE EXTERNAL TABLE e STORED AS PARQUET LOCATION '{}'",
            folder.display()
        ))
        .await
        .unwrap();
        assert_eq!(home.rows("SELECT count(a), count(b) FROM e").await, ["0|0"]);
    })
    .await;
}

#[tokio::test]
async fn long_decimals_are_stored_as_they_are_written() {
    let home = Home::new().await;
    home.run("CREATE TABLE t (a DECIMAL(20, 2), b DOUBLE)")
        .await
        .unwrap();
    home.wrote("INSERT INTO t VALUES (12345678901234567.89, 1.5), (-0.05, 2)")
        .await;
    home.wrote("INSERT INTO t VALUES (1.5, 1e300)").await;
    assert_eq!(
        home.rows("SELECT a, b FROM t ORDER BY a").await,
        ["-0.05|2.0", "1.50|1e300", "12345678901234567.89|1.5"]
    );
}
