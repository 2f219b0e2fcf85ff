//! `DELETE`, `UPDATE`, `MERGE` and `INSERT OVERWRITE`: what rows they leave, in one process and on a cluster.
//!
//! Expected rows are what DuckDB 1.5 and PostgreSQL 17 answer to the same statements.

use drumline_lake::{Committed, TableName};

use crate::cluster::{Cluster, forced};
use crate::lake::{Done, Home};

/// Runs a check in one process, and across two workers that share every scan.
pub(crate) async fn both<F>(check: impl Fn(Home) -> F)
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

impl Home {
    async fn all(&self, table: &str) -> Vec<String> {
        self.rows(&format!("SELECT * FROM {table} ORDER BY 1, 2, 3"))
            .await
    }

    /// Paths of a table's files.
    pub(crate) async fn files(&self, table: &str) -> Vec<String> {
        let tables = self.tables().await;
        let name = TableName::bare(table);
        let Ok(Some(drumline_engine::Resolved::Table(provider))) = tables.table(&name).await else {
            panic!("no table {table}");
        };
        let snapshot = drumline_lake::TableSnapshot::of(&provider).unwrap();
        snapshot
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect()
    }

    /// A table of four files: ids 1 to 3, 4 to 6, 7 to 9, and one row of nulls.
    async fn numbers(&self) {
        self.run("CREATE TABLE t (id BIGINT, kind VARCHAR, price DOUBLE)")
            .await
            .unwrap();
        for sql in [
            "INSERT INTO t VALUES (1, 'a', 1.5), (2, 'b', 2.5), (3, NULL, 3.5)",
            "INSERT INTO t VALUES (4, 'a', 4.5), (5, 'b', NULL), (6, 'c', 6.5)",
            "INSERT INTO t VALUES (7, 'a', 7.5), (8, 'b', 8.5), (9, 'c', 9.5)",
            "INSERT INTO t VALUES (NULL, NULL, NULL)",
        ] {
            self.wrote(sql).await;
        }
    }

    async fn ids(&self) -> String {
        let ids = self.rows("SELECT id FROM t ORDER BY id NULLS LAST").await;
        ids.join(" ")
    }
}

fn rows(committed: &Committed) -> u64 {
    committed.rows
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_takes_the_rows_for_which_its_condition_is_true() {
    both(|home| async move {
        for (condition, gone, left) in [
            ("id > 7", 2, "1 2 3 4 5 6 7 null"),
            ("id <> 5", 8, "5 null"),
            ("NOT (kind = 'a')", 5, "1 3 4 7 null"),
            ("kind IS NULL", 2, "1 2 4 5 6 7 8 9"),
            ("false", 0, "1 2 3 4 5 6 7 8 9 null"),
            ("NULL", 0, "1 2 3 4 5 6 7 8 9 null"),
            ("true", 10, ""),
            ("id IN (SELECT id * 2 FROM t)", 4, "1 3 5 7 9 null"),
            (
                "id IN (SELECT id FROM t WHERE kind = 'c')",
                2,
                "1 2 3 4 5 7 8 null",
            ),
            (
                "id NOT IN (SELECT id FROM t WHERE id < 9)",
                1,
                "1 2 3 4 5 6 7 8 null",
            ),
            // A null among them: nobody can tell, so nothing goes.
            (
                "id NOT IN (SELECT id FROM t WHERE id < 5 OR id IS NULL)",
                0,
                "1 2 3 4 5 6 7 8 9 null",
            ),
            ("id NOT IN (SELECT id FROM t WHERE false)", 10, ""),
            (
                "EXISTS (SELECT 1 FROM t AS o WHERE o.id = t.id + 1)",
                8,
                "9 null",
            ),
            (
                "NOT EXISTS (SELECT 1 FROM t AS o WHERE o.id = t.id + 1)",
                2,
                "1 2 3 4 5 6 7 8",
            ),
            (
                "id = 1 OR id IN (SELECT id FROM t WHERE price > 9)",
                2,
                "2 3 4 5 6 7 8 null",
            ),
            // Nobody can tell of null, whatever stands beside it.
            (
                "kind = 'c' OR id NOT IN (SELECT id FROM t WHERE id < 5)",
                5,
                "1 2 3 4 null",
            ),
            (
                "kind = 'c' OR id NOT IN (SELECT id FROM t WHERE id < 5 OR id IS NULL)",
                2,
                "1 2 3 4 5 7 8 null",
            ),
            (
                "kind = 'c' OR id NOT IN (SELECT id FROM t WHERE false)",
                10,
                "",
            ),
            (
                "NOT (kind = 'c' OR id IN (SELECT id FROM t WHERE id < 5))",
                3,
                "1 2 3 4 6 9 null",
            ),
            (
                "(id NOT IN (SELECT id FROM t WHERE id < 5)) IS NULL",
                1,
                "1 2 3 4 5 6 7 8 9",
            ),
            ("price > (SELECT avg(price) FROM t)", 4, "1 2 3 4 5 null"),
            (
                "price < (SELECT avg(price) FROM t AS o WHERE o.kind = t.kind)",
                3,
                "3 4 5 7 8 9 null",
            ),
            (
                "id IN (SELECT id FROM t INTERSECT SELECT id + 1 FROM t)",
                8,
                "1 null",
            ),
            (
                "id IN (SELECT id FROM t EXCEPT SELECT id + 1 FROM t)",
                1,
                "2 3 4 5 6 7 8 9 null",
            ),
        ] {
            home.run("DROP TABLE IF EXISTS t").await.unwrap();
            home.numbers().await;
            let done = home
                .wrote(&format!("DELETE FROM t WHERE {condition}"))
                .await;
            assert_eq!(
                (rows(&done), home.ids().await.as_str()),
                (gone, left),
                "{condition}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_a_row_that_goes_stay() {
    both(|home| async move {
        home.numbers().await;
        let before = home.files("t").await;
        home.wrote("DELETE FROM t WHERE id = 5").await;
        let after = home.files("t").await;
        let stayed = before.iter().filter(|file| after.contains(file)).count();
        assert_eq!((stayed, after.len()), (3, 4), "{before:?} {after:?}");
        // All rows of one file: it goes, and nothing is written.
        let done = home.wrote("DELETE FROM t WHERE id BETWEEN 7 AND 9").await;
        assert_eq!((done.rows, done.files), (3, 0));
        let done = home.wrote("DELETE FROM t WHERE id = 77").await;
        assert_eq!((done.rows, done.files), (0, 0));
        assert_eq!(home.ids().await, "1 2 3 4 6 null");
        let done = home.wrote("TRUNCATE TABLE t").await;
        assert_eq!((done.rows, home.files("t").await.len()), (6, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_using_another_table() {
    both(|home| async move {
        home.numbers().await;
        home.run("CREATE TABLE s AS SELECT * FROM (VALUES (1), (1), (8), (NULL)) AS v(id)")
            .await
            .unwrap();
        let done = home
            .wrote("DELETE FROM t AS x USING s WHERE x.id = s.id")
            .await;
        assert_eq!(
            (done.rows, home.ids().await.as_str()),
            (2, "2 3 4 5 6 7 9 null")
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn update_sets_the_rows_for_which_its_condition_is_true() {
    both(|home| async move {
        home.numbers().await;
        let done = home
            .wrote("UPDATE t SET price = price * 2, kind = upper(kind) WHERE id > 6")
            .await;
        assert_eq!(done.rows, 3);
        let done = home
            .wrote("UPDATE t SET kind = NULL WHERE kind = 'b'")
            .await;
        assert_eq!(done.rows, 2);
        assert_eq!(
            home.all("t").await,
            [
                "1|a|1.5",
                "2|null|2.5",
                "3|null|3.5",
                "4|a|4.5",
                "5|null|null",
                "6|c|6.5",
                "7|A|15.0",
                "8|B|17.0",
                "9|C|19.0",
                "null|null|null"
            ]
        );
        // The old values of a row are what its new ones are made of.
        home.wrote("UPDATE t SET id = id + 1, price = id WHERE id IS NOT NULL")
            .await;
        assert_eq!(
            home.rows("SELECT sum(id), sum(price) FROM t").await,
            ["54|45.0"]
        );
        let done = home.wrote("UPDATE t SET price = 0").await;
        assert_eq!(done.rows, 10);
        let done = home.wrote("UPDATE t SET price = 1 WHERE false").await;
        assert_eq!(done.rows, 0);
        assert_eq!(home.rows("SELECT sum(price) FROM t").await, ["0.0"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn update_with_subqueries_and_other_tables() {
    both(|home| async move {
        home.numbers().await;
        home.run("CREATE TABLE s AS SELECT * FROM (VALUES (1, 10.0), (5, 50.0), (NULL, 0.0)) AS v(id, price)")
            .await
            .unwrap();
        let done = home.wrote("UPDATE t SET price = (SELECT max(price) FROM s WHERE s.id = t.id) WHERE id < 3").await;
        assert_eq!(done.rows, 2);
        assert_eq!(home.rows("SELECT id, price FROM t WHERE id < 4 ORDER BY id").await, ["1|10.0", "2|null", "3|3.5"]);
        let done = home.wrote("UPDATE t SET kind = 's' WHERE id IN (SELECT id FROM s)").await;
        assert_eq!(done.rows, 2);
        let done = home.wrote("UPDATE t SET price = s.price + t.id FROM s WHERE s.id = t.id").await;
        assert_eq!(done.rows, 2);
        assert_eq!(home.rows("SELECT id, kind, price FROM t WHERE kind = 's' ORDER BY id").await, ["1|s|11.0", "5|s|55.0"]);
        let done = home.wrote("UPDATE t SET kind = 'none' WHERE id NOT IN (SELECT id FROM s)").await;
        assert_eq!(done.rows, 0, "there is a null among them");
        let done = home.wrote("UPDATE t SET price = (SELECT count(*) FROM s)").await;
        assert_eq!(done.rows, 10);
        assert_eq!(home.rows("SELECT DISTINCT price FROM t").await, ["3.0"]);
        home.wrote("INSERT INTO s VALUES (1, 11.0)").await;
        let refused = home.refused("UPDATE t SET price = s.price FROM s WHERE s.id = t.id").await;
        assert!(refused.contains("more than one new value for a row of `t` (id = 1)"), "{refused}");
    })
    .await;
}

const MERGE: &str = "MERGE INTO t USING s ON t.id = s.id
     WHEN MATCHED AND s.op = 'd' THEN DELETE
     WHEN MATCHED AND s.op = 'u' THEN UPDATE SET price = s.price, kind = t.kind || s.op
     WHEN NOT MATCHED AND s.op <> 'd' THEN INSERT (id, price) VALUES (s.id, s.price)";

async fn source(home: &Home, values: &str) {
    home.run(&format!(
        "DROP TABLE IF EXISTS s; CREATE TABLE s (id BIGINT, op VARCHAR, price DOUBLE); INSERT INTO s VALUES {values}"
    ))
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_takes_the_first_clause_whose_condition_holds() {
    both(|home| async move {
        home.numbers().await;
        source(&home, "(1, 'd', 0), (2, 'u', 20), (3, 'x', 30), (10, 'i', 100), (11, 'd', 110), (NULL, 'i', 0)").await;
        let before = home.files("t").await;
        let done = home.wrote(MERGE).await;
        assert_eq!(done.rows, 4, "one gone, one changed, two new");
        assert_eq!(
            home.all("t").await,
            [
                "2|bu|20.0", "3|null|3.5", "4|a|4.5", "5|b|null", "6|c|6.5", "7|a|7.5", "8|b|8.5",
                "9|c|9.5", "10|null|100.0", "null|null|0.0", "null|null|null"
            ]
        );
        let after = home.files("t").await;
        assert_eq!(before.iter().filter(|file| after.contains(file)).count(), 3);
        source(&home, "(77, 'd', 0)").await;
        assert_eq!(home.wrote(MERGE).await.rows, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_with_two_matches_for_one_row_is_refused() {
    both(|home| async move {
        home.numbers().await;
        source(&home, "(2, 'u', 20), (2, 'u', 21)").await;
        let refused = home.refused(MERGE).await;
        assert!(refused.contains("more than one row of its source with a row of `t` (id = 2)"), "{refused}");
        // Only one of the two takes part.
        source(&home, "(2, 'u', 20), (2, 'x', 21)").await;
        assert_eq!(home.wrote(MERGE).await.rows, 1);
        assert_eq!(home.rows("SELECT price FROM t WHERE id = 2").await, ["20.0"]);
        // Whoever only inserts may match as often as it likes.
        source(&home, "(2, 'u', 20), (2, 'u', 21), (70, 'u', 1), (70, 'u', 1)").await;
        let sql = "MERGE INTO t USING s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id, kind) VALUES (s.id, 'new')";
        assert_eq!(home.wrote(sql).await.rows, 2);
        assert_eq!(home.rows("SELECT count(*) FROM t").await, ["12"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merge_by_source_and_with_stars() {
    both(|home| async move {
        home.numbers().await;
        home.run("CREATE TABLE s AS SELECT * FROM (VALUES (9.25, 9, 'nine'), (12.5, 12, 'twelve')) AS v(price, id, kind)")
            .await
            .unwrap();
        let done = home
            .wrote(
                "MERGE INTO t USING (SELECT * FROM s WHERE id > 0) AS n ON t.id = n.id
                 WHEN MATCHED THEN UPDATE SET *
                 WHEN NOT MATCHED THEN INSERT *
                 WHEN NOT MATCHED BY SOURCE AND t.id < 4 THEN DELETE
                 WHEN NOT MATCHED BY SOURCE AND kind = 'b' THEN UPDATE SET kind = 'gone'",
            )
            .await;
        assert_eq!(done.rows, 7);
        assert_eq!(
            home.all("t").await,
            [
                "4|a|4.5", "5|gone|null", "6|c|6.5", "7|a|7.5", "8|gone|8.5", "9|nine|9.25",
                "12|twelve|12.5", "null|null|null"
            ]
        );
        let sql = "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET price = t.price + s.price
                   WHEN NOT MATCHED BY SOURCE THEN UPDATE SET kind = upper(kind)";
        assert_eq!(home.wrote(sql).await.rows, 8);
        assert_eq!(home.rows("SELECT sum(price), max(kind) FROM t").await, ["70.5|twelve"]);
        let sql = "MERGE INTO t USING s ON t.id = s.id AND t.id > 100 WHEN NOT MATCHED BY SOURCE THEN DELETE";
        assert_eq!(home.wrote(sql).await.rows, 8);
        assert_eq!(home.ids().await, "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitioned_tables_change_within_and_across_partitions() {
    both(|home| async move {
        home.run("CREATE TABLE t PARTITIONED BY (day) AS SELECT value AS id, value % 3 AS day, 'x' AS note FROM generate_series(1, 12)")
            .await
            .unwrap();
        let before = home.files("t").await;
        let done = home.wrote("DELETE FROM t WHERE day = 1").await;
        assert_eq!((done.rows, done.files), (4, 0), "whole files go");
        let done = home.wrote("UPDATE t SET day = 5, note = 'moved' WHERE id = 3").await;
        assert_eq!(done.rows, 1);
        let after = home.files("t").await;
        assert_eq!(before.iter().filter(|file| after.contains(file)).count(), 1);
        assert_eq!(
            home.rows("SELECT day, count(*), sum(id) FROM t GROUP BY day ORDER BY day").await,
            ["0|3|27", "2|4|26", "5|1|3"]
        );
        assert_eq!(home.rows("SELECT id, note FROM t WHERE day = 5").await, ["3|moved"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_replaces_the_table_or_the_partitions_that_are_named() {
    for format in ["DELTA", "PARQUET"] {
        both(|mut home| async move {
            let sql = format!("CREATE TABLE t STORED AS {format} PARTITIONED BY (day) AS SELECT value AS id, value % 3 AS day FROM generate_series(1, 9)");
            home.run(&sql).await.unwrap();
            let days = "SELECT day, count(*), sum(id) FROM t GROUP BY day ORDER BY day";
            home.wrote("INSERT OVERWRITE t PARTITION (day) VALUES (100, 1), (200, 7)").await;
            assert_eq!(home.rows(days).await, ["0|3|18", "1|1|100", "2|3|15", "7|1|200"]);
            home.wrote("INSERT OVERWRITE TABLE t PARTITION (day = 2) SELECT 300").await;
            assert_eq!(home.rows(days).await, ["0|3|18", "1|1|100", "2|1|300", "7|1|200"]);
            home.wrote("INSERT OVERWRITE t PARTITION (day = 7) SELECT 1 WHERE false").await;
            assert_eq!(home.rows(days).await, ["0|3|18", "1|1|100", "2|1|300"]);
            home.settings.insert("drumline.overwrite".to_owned(), "partitions".to_owned());
            home.wrote("INSERT OVERWRITE t SELECT id + 1, day FROM t WHERE day = 1").await;
            assert_eq!(home.rows(days).await, ["0|3|18", "1|1|101", "2|1|300"]);
            home.settings.remove("drumline.overwrite");
            home.wrote("INSERT OVERWRITE t SELECT id, day FROM t WHERE id > 100").await;
            assert_eq!(home.rows(days).await, ["1|1|101", "2|1|300"]);
            if format == "PARQUET" {
                // Whoever lists the folder finds what the table holds.
                let folder = home.folder.path().join("lake/default/t");
                let files = walk(&folder);
                assert_eq!(files.len(), 2, "{files:?}");
            }
        })
        .await;
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(walk(&path)),
            false => files.push(path),
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_as_it_was_while_it_is_written() {
    both(|home| async move {
        home.numbers().await;
        assert_eq!(home.wrote("INSERT INTO t SELECT * FROM t").await.rows, 10);
        assert_eq!(home.wrote("INSERT INTO t SELECT id + 100, kind, price FROM t WHERE id = 1").await.rows, 2);
        assert_eq!(home.rows("SELECT count(*), count(id), sum(id) FROM t").await, ["22|20|292"]);
        let sql = "INSERT INTO t (id) SELECT id FROM t EXCEPT SELECT id FROM t WHERE id < 100 OR id IS NULL";
        assert_eq!(home.wrote(sql).await.rows, 1);
        let sql = "INSERT INTO t (id) SELECT id FROM t WHERE id NOT IN (SELECT id FROM t WHERE id IS NULL)";
        assert_eq!(home.wrote(sql).await.rows, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_folders_of_files_that_others_read() {
    both(|home| async move {
        home.run("CREATE TABLE t AS SELECT value AS id, value % 3 AS day, 'a,b' AS text FROM generate_series(1, 9)")
            .await
            .unwrap();
        let folder = |name: &str| home.folder.path().join("lake/out").join(name);
        let read = |name: &str| {
            let files = walk(&folder(name)).into_iter();
            let mut lines: Vec<String> = files
                .flat_map(|file| {
                    let text = std::fs::read_to_string(file).unwrap();
                    text.lines().map(str::to_owned).collect::<Vec<_>>()
                })
                .collect();
            lines.sort();
            lines.dedup();
            lines
        };
        let done = home.wrote("COPY (SELECT id, text FROM t WHERE id < 3) TO 'out/csv' STORED AS CSV").await;
        assert_eq!(done.rows, 2);
        assert_eq!(read("csv"), ["1,\"a,b\"", "2,\"a,b\"", "id,text"]);
        home.wrote("COPY (SELECT id FROM t WHERE id < 3) TO 'out/bare' STORED AS CSV OPTIONS (header 'false')").await;
        assert_eq!(read("bare"), ["1", "2"]);
        home.wrote("COPY t TO 'out/json' STORED AS JSON PARTITIONED BY (day)").await;
        assert_eq!(read("json/day=0").first().unwrap(), "{\"id\":3,\"text\":\"a,b\"}");
        assert_eq!(walk(&folder("json")).len(), 3, "one file for each day");
        let parquet = "COPY t TO 'out/parquet' STORED AS PARQUET OPTIONS (compression 'snappy')";
        home.wrote(parquet).await;
        home.run(&format!("CREATE EXTERNAL TABLE c STORED AS PARQUET LOCATION '{}'", folder("parquet").display()))
            .await
            .unwrap();
        assert_eq!(home.rows("SELECT count(*), sum(id) FROM c").await, ["9|45"]);
        // What is there is not added to unless that was asked for.
        let refused = home.refused(parquet).await;
        assert!(refused.contains("already in use"), "{refused}");
        home.wrote("COPY t TO 'out/parquet' STORED AS PARQUET OPTIONS (existing 'keep')").await;
        assert_eq!(home.rows("SELECT count(*), sum(id) FROM c").await, ["18|90"]);
        home.wrote("COPY (SELECT * FROM t WHERE id = 1) TO 'out/parquet' STORED AS PARQUET OPTIONS (existing 'replace')").await;
        assert_eq!(home.rows("SELECT count(*), sum(id) FROM c").await, ["1|1"]);
        // One that fails leaves nothing.
        assert!(home.run("COPY (SELECT 1 / (id - 5) AS x FROM t) TO 'out/broken' STORED AS CSV").await.is_err());
        assert!(!folder("broken").exists() || walk(&folder("broken")).is_empty());
        for (location, why) in [
            ("/etc/drumline", "neither the lake's root nor an allowed location"),
            ("gs://elsewhere/x", "neither the lake's root nor an allowed location"),
            ("_drumline/x", "belongs to Drumline itself"),
            ("default/t", "it holds table 't'"),
            ("default", "it holds table 't'"),
            ("../x", "'..'"),
            (home.catalog.lake().root().as_str(), "it is the lake's root itself"),
        ] {
            let refused = home.refused(&format!("COPY t TO '{location}' STORED AS CSV")).await;
            assert!(refused.contains(why), "{location}: {refused}");
        }
        for (rest, why) in [
            ("", "does not say what its files are"),
            ("STORED AS AVRO", "does not say what its files are"),
            ("STORED AS JSON OPTIONS (header 'true')", "no option 'header'"),
            ("STORED AS CSV OPTIONS (existing 'perhaps')", "refuse, keep or replace"),
            ("STORED AS CSV PARTITIONED BY (dya)", "column `dya` does not exist (did you mean `day`?)"),
        ] {
            let refused = home.refused(&format!("COPY t TO 'out/no' {rest}")).await;
            assert!(refused.contains(why), "{rest}: {refused}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_when_that_was_asked_for() {
    for format in ["DELTA", "PARQUET"] {
        both(|mut home| async move {
            home.run(&format!(
                "CREATE TABLE t STORED AS {format} PARTITIONED BY (part) AS SELECT 1 AS id, 'a' AS name, 7 AS part"
            ))
            .await
            .unwrap();
            let refused = home
                .refused("INSERT INTO t SELECT 2 AS id, 'b' AS name, 8 AS part, 0.5 AS price")
                .await;
            assert!(refused.contains("takes 3 columns"), "{refused}");
            home.settings
                .insert("drumline.add_columns".to_owned(), "true".to_owned());
            home.wrote("INSERT INTO t SELECT 0.5 AS price, 8 AS part, 'b' AS name, 2 AS id")
                .await;
            home.wrote("INSERT INTO t SELECT 3 AS id").await;
            assert_eq!(home.all("t").await, ["1|a|7|null", "2|b|8|0.5", "3|null|null|null"]);
            assert_eq!(
                home.rows("DESCRIBE t").await[3].split('|').next(),
                Some("price")
            );
            assert_eq!(home.rows("SELECT id FROM t WHERE price > 0.1").await, ["2"]);
            let refused = home
                .refused("INSERT INTO t SELECT 4 AS id, [1] AS price")
                .await;
            assert!(refused.contains("column `price`"), "{refused}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_are_kept_by_every_statement_that_writes() {
    for format in ["DELTA", "PARQUET"] {
        both(|home| async move {
            home.run(&format!(
                "CREATE TABLE t (id BIGINT NOT NULL, price DOUBLE CHECK (price >= 0), kind VARCHAR,
                   CONSTRAINT kinds CHECK (kind IN ('a', 'b') OR id < 0)) STORED AS {format}"
            ))
            .await
            .unwrap();
            home.wrote("INSERT INTO t VALUES (1, 0.5, 'a'), (2, NULL, NULL), (-3, 1, 'c')").await;
            let mut broken = vec![
                ("INSERT INTO t VALUES (NULL, 1, 'a')", "column 'id' is NOT NULL"),
                ("INSERT INTO t (price) VALUES (1)", "column `id` of `t` cannot be null"),
                ("INSERT INTO t VALUES (4, -1, 'a')", "constraint 'price_check' is not kept"),
                ("INSERT INTO t SELECT id + 10, price, 'c' FROM t", "constraint 'kinds' is not kept"),
                ("INSERT OVERWRITE t VALUES (4, 1, 'd')", "constraint 'kinds' is not kept"),
                ("INSERT INTO t VALUES (4, 'much', 'a')", "column 'price'"),
            ];
            if format == "DELTA" {
                broken.extend([
                    ("UPDATE t SET id = NULL WHERE id = 1", "column 'id' is NOT NULL"),
                    ("UPDATE t SET price = price - 1", "constraint 'price_check' is not kept"),
                    (
                        "MERGE INTO t USING (SELECT 9 AS id) AS s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id, kind) VALUES (s.id, 'z')",
                        "constraint 'kinds' is not kept",
                    ),
                ]);
            }
            for (sql, why) in broken {
                let refused = home.refused(sql).await;
                assert!(refused.contains(why), "{sql}: {refused}");
            }
            assert_eq!(home.all("t").await, ["-3|1.0|c", "1|0.5|a", "2|null|null"]);
            if format == "DELTA" {
                // Rows that stay and rows that go are not asked again.
                assert_eq!(home.wrote("DELETE FROM t WHERE id = 2").await.rows, 1);
                assert_eq!(home.wrote("UPDATE t SET price = 2 WHERE id = 1").await.rows, 1);
            }
            let sql = "CREATE TABLE u (a BIGINT NOT NULL, b BIGINT CHECK (b > a)) AS SELECT 1 AS x, 1 AS y";
            let refused = home.refused(sql).await;
            assert!(refused.contains("constraint 'b_check' is not kept"), "{refused}");
            let refused = home.refused("CREATE TABLE u (a BIGINT CHECK (nothing > 1))").await;
            assert!(refused.contains("constraint `a_check`"), "{refused}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_file_come_in_the_order_that_its_table_asks_for() {
    both(|home| async move {
        home.run(
            "CREATE TABLE t (id BIGINT, k BIGINT) PARTITIONED BY (k)
               TBLPROPERTIES ('sort_by' = 'id DESC', 'compression' = 'snappy')",
        )
        .await
        .unwrap();
        home.wrote(
            "INSERT INTO t SELECT (value * 7919) % 1009, value % 2 FROM generate_series(1, 1000)",
        )
        .await;
        for part in 0..2 {
            let sql = format!("SELECT id FROM t WHERE k = {part}");
            let ids: Vec<i64> = home
                .rows(&sql)
                .await
                .iter()
                .map(|id| id.parse().unwrap())
                .collect();
            assert_eq!(ids.len(), 500);
            assert!(ids.is_sorted_by(|a, b| a >= b), "{ids:?}");
        }
    })
    .await;
}

/// Larger than a row group, so that places in a file are more than offsets in a batch.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_found_again_in_large_files() {
    both(|home| async move {
        home.run("CREATE TABLE t AS SELECT value AS id, value * 2 AS twice FROM generate_series(1, 1100000)")
            .await
            .unwrap();
        home.run("CREATE TABLE s AS SELECT value * 1000 AS id FROM generate_series(1, 1500)").await.unwrap();
        let done = home.wrote("DELETE FROM t WHERE id IN (SELECT id FROM s)").await;
        assert_eq!(done.rows, 1100);
        let sql = "SELECT count(*), count(DISTINCT id), sum(id), sum(CASE WHEN id % 1000 = 0 THEN 1 ELSE 0 END) FROM t";
        let sum: u64 = 1_100_000 * 1_100_001 / 2 - (1..=1100).map(|n| n * 1000).sum::<u64>();
        assert_eq!(home.rows(sql).await, [format!("1098900|1098900|{sum}|0")]);
        assert_eq!(home.rows("SELECT count(*) FROM t WHERE twice <> id * 2").await, ["0"]);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_changed_says_why() {
    let home = Home::new().await;
    home.run("CREATE TABLE p STORED AS PARQUET AS SELECT 1 AS a; CREATE TABLE t AS SELECT 1 AS a, 'x' AS b; CREATE VIEW v AS SELECT a FROM t; CREATE TABLE s AS SELECT 1 AS a, 2 AS c")
        .await
        .unwrap();
    let mut told = Vec::new();
    for sql in [
        "DELETE FROM p WHERE a = 1",
        "UPDATE p SET a = 1",
        "MERGE INTO p USING t ON p.a = t.a WHEN MATCHED THEN DELETE",
        "DELETE FROM v",
        "DELETE FROM nothing",
        "DELETE FROM t WHERE c = 1",
        "UPDATE t SET c = 1",
        "UPDATE t SET a = 1, a = 2",
        "UPDATE t SET a = [1]",
        "UPDATE t SET a = 'no number'",
        "MERGE INTO t USING (SELECT 1 AS a) ON a = a WHEN MATCHED THEN DELETE",
        "MERGE INTO t USING t ON true WHEN MATCHED THEN DELETE",
        "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET *",
        "MERGE INTO t USING s ON t.a = s.a WHEN NOT MATCHED THEN INSERT (a) VALUES (1, 2)",
        "MERGE INTO t USING s ON t.a IN (SELECT 1) WHEN MATCHED THEN DELETE",
        "INSERT OVERWRITE v SELECT 1",
        "INSERT OVERWRITE t PARTITION (a) SELECT 1, 'x'",
        "DELETE FROM t RETURNING a",
        "UPDATE t SET a = 1 RETURNING a",
    ] {
        told.push(format!("{sql}\n    {}", home.refused(sql).await));
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    DELETE FROM p WHERE a = 1
        line 1, column 1: DELETE needs a Delta table, and `p` is stored as plain Parquet (INSERT OVERWRITE rewrites it, whole or by partition; CREATE TABLE … STORED AS DELTA AS SELECT … copies it)
    UPDATE p SET a = 1
        line 1, column 1: UPDATE needs a Delta table, and `p` is stored as plain Parquet (INSERT OVERWRITE rewrites it, whole or by partition; CREATE TABLE … STORED AS DELTA AS SELECT … copies it)
    MERGE INTO p USING t ON p.a = t.a WHEN MATCHED THEN DELETE
        line 1, column 1: MERGE needs a Delta table, and `p` is stored as plain Parquet (INSERT OVERWRITE rewrites it, whole or by partition; CREATE TABLE … STORED AS DELTA AS SELECT … copies it)
    DELETE FROM v
        line 1, column 1: `v` is a view (write to the tables that it reads)
    DELETE FROM nothing
        line 1, column 13: table `nothing` does not exist (SHOW TABLES lists what there is)
    DELETE FROM t WHERE c = 1
        line 1, column 21: column `c` does not exist (did you mean one of `a`, `b`?)
    UPDATE t SET c = 1
        line 1, column 14: column `c` does not exist (did you mean one of `a`, `b`?)
    UPDATE t SET a = 1, a = 2
        line 1, column 21: column `a` is set twice
    UPDATE t SET a = [1]
        line 1, column 1: column `a` of `t` is Int64, and List(Int64) cannot become that (CAST the value)
    UPDATE t SET a = 'no number'
        nowhere: rows do not fit table 't': column 'a': Cast error: Cannot cast string 'no number' to value of Int64 type
    MERGE INTO t USING (SELECT 1 AS a) ON a = a WHEN MATCHED THEN DELETE
        line 1, column 1: the query behind USING has no name (give it one, as in USING (SELECT …) AS s)
    MERGE INTO t USING t ON true WHEN MATCHED THEN DELETE
        line 1, column 1: target and source are both called `t` (give one of them another name with AS)
    MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET *
        line 1, column 20: `*` needs a column `b` in the source (name the columns, as in UPDATE SET a = s.b)
    MERGE INTO t USING s ON t.a = s.a WHEN NOT MATCHED THEN INSERT (a) VALUES (1, 2)
        line 1, column 1: INSERT of MERGE names 1 columns and gives 2 values
    MERGE INTO t USING s ON t.a IN (SELECT 1) WHEN MATCHED THEN DELETE
        nowhere: ON cannot hold a subquery (join what it asks for into the query behind USING)
    INSERT OVERWRITE v SELECT 1
        line 1, column 1: `v` is a view (write to the tables that it reads)
    INSERT OVERWRITE t PARTITION (a) SELECT 1, 'x'
        line 1, column 31: `t` is not partitioned by column `a`
    DELETE FROM t RETURNING a
        line 1, column 1: DELETE … RETURNING is not supported yet
    UPDATE t SET a = 1 RETURNING a
        line 1, column 1: UPDATE … RETURNING is not supported yet
    "#);
    assert!(matches!(home.run("SELECT 1").await.unwrap(), Done::Rows(_)));
}
