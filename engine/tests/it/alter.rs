//! `ALTER TABLE` that changes columns and constraints, and `INSERT` that widens: in both formats, with every answer as
//! before.

use drumline_lake::TableName;

use crate::changes::both;
use crate::lake::{Done, Home};

impl Home {
    /// Columns of a table: name, type and `?` where it may be null.
    async fn columns(&self, table: &str) -> String {
        let snapshot = self.tables().await.snapshot(&TableName::bare(table)).await;
        let schema = snapshot.unwrap().unwrap().schema;
        let columns = schema.fields().iter().map(|field| {
            let null = if field.is_nullable() { "?" } else { "" };
            format!("{} {}{null}", field.name(), field.data_type())
        });
        columns.collect::<Vec<_>>().join(", ")
    }

    async fn altered(&self, sql: &str) {
        match self.run(sql).await {
            Ok(Done::Wrote(_)) => {}
            Ok(_) => panic!("{sql} changed nothing"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    async fn made(&self, format: &str) {
        self.run(&format!(
            "CREATE TABLE t (id INT, name VARCHAR, price DECIMAL(6, 2), p INT) STORED AS {format} PARTITIONED BY (p);
             INSERT INTO t VALUES (1, 'a', 1.5, 1), (2, NULL, 2.25, 2); INSERT INTO t VALUES (3, 'c', NULL, 1)"
        ))
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_of_deltas_own_change_and_are_shown_as_they_are() {
    let home = Home::new().await;
    home.run("CREATE TABLE t TBLPROPERTIES ('owner' = 'ann', 'delta.checkpointInterval' = '20') AS SELECT 1 AS a")
        .await
        .unwrap();
    home.altered("ALTER TABLE t SET TBLPROPERTIES ('delta.appendOnly' = 'true', 'delta.checkpointInterval' = '30')")
        .await;
    home.altered("ALTER TABLE t ADD CONSTRAINT small CHECK (a < 9)")
        .await;
    let shown = [
        "delta.appendOnly | true",
        "delta.checkpointInterval | 30",
        "delta.constraints.small | a < 9",
        "owner | ann",
    ];
    let cells = |rows: Vec<String>| -> Vec<String> {
        rows.into_iter()
            .map(|row| row.replace('|', " | "))
            .collect()
    };
    assert_eq!(cells(home.rows("SHOW TBLPROPERTIES t").await), shown);
    let details = home.rows("DESCRIBE EXTENDED t").await.join("\n");
    assert!(
        details.contains("Property delta.constraints.small|a < 9"),
        "{details}"
    );
    let error = home.run("DELETE FROM t WHERE a = 1").await.err().unwrap();
    assert!(error.to_string().contains("appendOnly"), "{error}");

    home.altered("ALTER TABLE t UNSET TBLPROPERTIES ('delta.appendOnly')")
        .await;
    home.altered("ALTER TABLE t DROP CONSTRAINT small").await;
    assert_eq!(
        cells(home.rows("SHOW TBLPROPERTIES t").await),
        ["delta.checkpointInterval | 30", "owner | ann"]
    );
    assert_eq!(home.wrote("DELETE FROM t WHERE a = 1").await.rows, 1);
    home.run("ALTER TABLE t UNSET TBLPROPERTIES IF EXISTS ('delta.appendOnly')")
        .await
        .unwrap();

    home.run("CREATE TABLE p STORED AS PARQUET AS SELECT 1 AS a")
        .await
        .unwrap();
    for (sql, reason) in [
        (
            "ALTER TABLE t SET TBLPROPERTIES ('delta.appendOnly' = 'true', 'x' = 'y')",
            "two statements",
        ),
        (
            "ALTER TABLE t SET TBLPROPERTIES ('delta.enableChangeDataFeed' = 'true')",
            "delta.enableChangeDataFeed",
        ),
        (
            "ALTER TABLE t SET TBLPROPERTIES ('delta.checkpointInterval' = 'often')",
            "delta.checkpointInterval",
        ),
        (
            "ALTER TABLE t SET TBLPROPERTIES ('delta.constraints.x' = 'a > 1')",
            "ADD CONSTRAINT",
        ),
        (
            "ALTER TABLE t SET TBLPROPERTIES ('delta.autoOptimize.autoCompact' = 'true')",
            "auto_compact",
        ),
        (
            "ALTER TABLE t UNSET TBLPROPERTIES ('delta.appendOnly')",
            "IF EXISTS",
        ),
        (
            "ALTER TABLE p SET TBLPROPERTIES ('delta.appendOnly' = 'true')",
            "plain Parquet",
        ),
    ] {
        let error = home.run(sql).await.err().unwrap();
        let said = format!("{error} ({})", error.hint().unwrap_or_default());
        assert!(said.contains(reason), "{sql}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_dropped_renamed_and_widened_with_every_row_as_it_was() {
    both(|home| async move {
        for format in ["DELTA", "PARQUET"] {
            home.made(format).await;
            home.altered("ALTER TABLE t RENAME COLUMN name TO title")
                .await;
            home.altered("ALTER TABLE t ALTER COLUMN id TYPE BIGINT")
                .await;
            home.altered("ALTER TABLE t ALTER price SET DATA TYPE DECIMAL(12, 3)")
                .await;
            home.altered("ALTER TABLE t RENAME COLUMN p TO part").await;
            assert_eq!(
                home.columns("t").await,
                "id Int64?, title Utf8?, price Decimal128(12, 3)?, part Int32?",
                "{format}"
            );
            home.wrote("INSERT INTO t VALUES (5000000000, 'd', 123456789.125, 2)")
                .await;
            let rows = home
                .rows("SELECT id, title, price, part FROM t ORDER BY id")
                .await;
            assert_eq!(
                rows,
                [
                    "1|a|1.500|1",
                    "2|null|2.250|2",
                    "3|c|null|1",
                    "5000000000|d|123456789.125|2"
                ],
                "{format}"
            );
            home.altered("ALTER TABLE t DROP COLUMN title, DROP COLUMN price")
                .await;
            // What had the name before does not come back.
            home.run("ALTER TABLE t ADD COLUMN title VARCHAR")
                .await
                .unwrap();
            let rows = home
                .rows("SELECT * FROM t WHERE part = 1 ORDER BY id")
                .await;
            assert_eq!(rows, ["1|1|null", "3|1|null"], "{format}");
            let before = home
                .rows("SELECT name FROM t VERSION AS OF 2 ORDER BY id")
                .await;
            assert_eq!(before, ["a", "null", "c"], "{format}");
            home.run("DROP TABLE t").await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn demands_are_made_where_all_rows_meet_them() {
    both(|home| async move {
        for format in ["DELTA", "PARQUET"] {
            home.made(format).await;
            home.altered("ALTER TABLE t ALTER COLUMN id SET NOT NULL")
                .await;
            let error = home
                .refused("ALTER TABLE t ALTER COLUMN name SET NOT NULL")
                .await;
            assert!(error.contains("id = 2"), "{error}");
            let error = home.refused("INSERT INTO t VALUES (NULL, 'x', 1, 1)").await;
            assert!(error.contains("id"), "{error}");
            home.altered("ALTER TABLE t ALTER COLUMN id DROP NOT NULL")
                .await;
            home.altered("ALTER TABLE t ADD CONSTRAINT cheap CHECK (price < 100)")
                .await;
            let error = home
                .refused("ALTER TABLE t ADD CONSTRAINT dear CHECK (price > 2)")
                .await;
            assert!(
                error.contains("id = 1") && error.contains("dear"),
                "{error}"
            );
            let error = home
                .refused("INSERT INTO t VALUES (NULL, 'x', 500, 1)")
                .await;
            assert!(error.contains("cheap"), "{error}");
            for sql in [
                "ALTER TABLE t DROP COLUMN price",
                "ALTER TABLE t RENAME COLUMN price TO cost",
                "ALTER TABLE t ADD CONSTRAINT cheap CHECK (id > 0)",
            ] {
                let error = home.refused(sql).await;
                assert!(
                    error.contains("cheap") && error.contains("DROP CONSTRAINT"),
                    "{error}"
                );
            }
            home.altered("ALTER TABLE t DROP CONSTRAINT cheap").await;
            home.altered("ALTER TABLE t DROP CONSTRAINT IF EXISTS cheap")
                .await;
            home.wrote("INSERT INTO t VALUES (NULL, 'x', 500, 1)").await;
            assert_eq!(home.rows("SELECT count(*) FROM t").await, ["4"]);
            home.run("DROP TABLE t").await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_the_next_step() {
    let home = Home::new().await;
    home.made("DELTA").await;
    for (sql, wanted) in [
        (
            "ALTER TABLE t ALTER COLUMN id TYPE SMALLINT",
            "CREATE OR REPLACE TABLE",
        ),
        (
            "ALTER TABLE t ALTER COLUMN name TYPE INT",
            "CREATE OR REPLACE TABLE",
        ),
        ("ALTER TABLE t DROP COLUMN p", "CREATE OR REPLACE TABLE"),
        ("ALTER TABLE t DROP COLUMN nothing", "nothing"),
        (
            "ALTER TABLE t DROP COLUMNS (id, name, price)",
            "not partitioned by",
        ),
        ("ALTER TABLE t RENAME COLUMN id TO name", "two columns"),
        ("ALTER TABLE t RENAME COLUMN id TO \"a b\"", "space"),
        ("ALTER TABLE t DROP CONSTRAINT nothing", "no constraints"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (other > 1)", "other"),
        ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (id)", "CHECK"),
        (
            "ALTER TABLE t ALTER COLUMN id SET DEFAULT 1",
            "SET NOT NULL",
        ),
        ("ALTER TABLE nothing DROP COLUMN id", "nothing"),
    ] {
        let error = home.refused(sql).await;
        assert!(error.contains(wanted), "{sql}: {error}");
    }
    home.run("ALTER TABLE t DROP COLUMN IF EXISTS nothing")
        .await
        .unwrap();
    home.run("ALTER TABLE IF EXISTS nothing DROP COLUMN id")
        .await
        .unwrap();
    assert_eq!(home.rows("SELECT count(*), sum(id) FROM t").await, ["3|6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_widens_columns_on_request() {
    both(|mut home| async move {
        for format in ["DELTA", "PARQUET"] {
            home.made(format).await;
            let big = "INSERT INTO t SELECT CAST(5000000000 AS BIGINT) AS id, 'x' AS name, 1 AS p";
            assert!(
                home.refused(&format!("{big}, 2.5 AS price"))
                    .await
                    .contains("id")
            );
            home.settings
                .insert("drumline.widen_columns".to_owned(), "true".to_owned());
            let error = home.refused(&format!("{big}, 7 AS extra")).await;
            assert!(
                error.contains("extra") && error.contains("add_columns"),
                "{error}"
            );
            home.settings
                .insert("drumline.add_columns".to_owned(), "true".to_owned());
            let committed = home.wrote(&format!("{big}, true AS extra")).await;
            assert_eq!(committed.rows, 1);
            assert!(
                home.columns("t").await.starts_with("id Int64?, name Utf8?"),
                "{}",
                home.columns("t").await
            );
            let rows = home.rows("SELECT id, name, extra FROM t ORDER BY id").await;
            assert_eq!(
                rows,
                ["1|a|null", "2|null|null", "3|c|null", "5000000000|x|true"],
                "{format}"
            );
            home.run("DROP TABLE t").await.unwrap();
            home.settings.remove("drumline.widen_columns");
            home.settings.remove("drumline.add_columns");
        }
    })
    .await;
}
