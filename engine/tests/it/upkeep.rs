//! `OPTIMIZE`: the same rows in fewer files, whatever it is told to look at.

use drumline_engine::Planned;
use drumline_lake::TableName;

use crate::changes::both;
use crate::lake::Home;

impl Home {
    /// Eight files of one row each, in two partitions.
    async fn many_files(&self) {
        self.run("CREATE TABLE t (id BIGINT, kind VARCHAR) PARTITIONED BY (kind)")
            .await
            .unwrap();
        for id in 0..4 {
            self.wrote(&format!("INSERT INTO t VALUES ({id}, 'a'), ({id}, 'b')"))
                .await;
        }
    }

    /// Whether a statement has nothing to do.
    async fn idle(&self, sql: &str) -> bool {
        match self.plan(sql).await.unwrap() {
            Planned::Write(write) => write.narrowed(&[]).unwrap().unwrap().is_idle(),
            other => panic!("{other:?} is no write"),
        }
    }

    async fn rows_and_files(&self) -> (Vec<String>, usize) {
        let rows = self.rows("SELECT kind, id FROM t ORDER BY 1, 2").await;
        (rows, self.files("t").await.len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_put_together_and_no_row_changes() {
    both(|home| async move {
        home.many_files().await;
        let (before, files) = home.rows_and_files().await;
        assert_eq!((before.len(), files), (8, 8));
        let committed = home.wrote("OPTIMIZE t").await;
        assert_eq!((committed.rows, committed.files), (0, 2));
        assert_eq!(home.rows_and_files().await, (before.clone(), 2));
        // Nothing is left to be done, and no version says so.
        assert!(home.idle("OPTIMIZE TABLE t").await);
        assert_eq!(home.rows_and_files().await, (before, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_chooses_partitions() {
    both(|home| async move {
        home.many_files().await;
        let (before, _) = home.rows_and_files().await;
        home.wrote("OPTIMIZE t WHERE kind = 'a'").await;
        assert_eq!(home.rows_and_files().await, (before, 5));
        assert!(home.idle("OPTIMIZE t WHERE kind = 'nothing'").await);
        let error = home.refused("OPTIMIZE t WHERE id = 1").await;
        assert!(error.contains("partitioned by"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpartitioned_table_becomes_as_few_files_as_it_fills() {
    both(|home| async move {
        home.run("CREATE TABLE t (kind VARCHAR, id BIGINT)")
            .await
            .unwrap();
        for id in 0..5 {
            home.wrote(&format!("INSERT INTO t VALUES ('x', {id})"))
                .await;
        }
        let (before, _) = home.rows_and_files().await;
        home.wrote("OPTIMIZE t").await;
        assert_eq!(home.rows_and_files().await, (before, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sorted_where_asked_for() {
    both(|home| async move {
        home.run("CREATE TABLE t (kind VARCHAR, id BIGINT)")
            .await
            .unwrap();
        for sql in [
            "INSERT INTO t VALUES ('x', 3), ('x', NULL)",
            "INSERT INTO t VALUES ('x', 1), ('x', 2)",
        ] {
            home.wrote(sql).await;
        }
        home.wrote("OPTIMIZE t SORT BY (id)").await;
        assert_eq!(home.files("t").await.len(), 1);
        assert_eq!(home.rows("SELECT id FROM t").await, ["1", "2", "3", "null"]);
        let error = home.refused("OPTIMIZE t SORT BY nothing").await;
        assert!(error.contains("nothing"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_optimized_is_refused_by_name() {
    let home = Home::new().await;
    home.run("CREATE TABLE p STORED AS PARQUET AS SELECT 1 AS a")
        .await
        .unwrap();
    let error = home.refused("OPTIMIZE p").await;
    assert!(error.contains("Delta"), "{error}");
    for sql in [
        "OPTIMIZE",
        "OPTIMIZE p ZORDER",
        "VACUUM p RETAIN 5",
        "VACUUM p DRY",
        "VACUUM p RETAIN 1 HOURS",
    ] {
        assert!(home.run(sql).await.is_err(), "{sql}");
    }
}

impl Home {
    /// Rows of two columns that know nothing of each other, in files of about a megabyte.
    async fn scattered(&self) {
        self.run(
            "CREATE TABLE t TBLPROPERTIES ('target_file_size' = '1 MB', 'compression' = 'none') AS
             SELECT value * 7919 % 400009 AS a, concat('song ', value * 104729 % 400009) AS b,
               CASE WHEN value % 5 = 0 THEN NULL ELSE value END AS c
             FROM generate_series(1, 400000)",
        )
        .await
        .unwrap();
    }

    /// How many files a filter for one value of a column has to read, by their bounds: the mean of some values.
    async fn files_to_read(&self, column: &str) -> f64 {
        let tables = self.tables().await;
        let snapshot = tables
            .snapshot(&TableName::bare("t"))
            .await
            .unwrap()
            .unwrap();
        let values = self
            .rows(&format!(
                "SELECT {column} FROM t WHERE c % 20011 = 1 ORDER BY 1"
            ))
            .await;
        let mut read = 0;
        for value in &values {
            for file in snapshot.files.iter() {
                let statistics = file.statistics.as_ref().unwrap();
                let bound = |which: &str| {
                    let bound = &statistics[which][column];
                    bound
                        .as_str()
                        .map_or_else(|| bound.to_string(), str::to_owned)
                };
                let key = |text: &str| text.parse::<i64>().map_err(|_| text.to_owned());
                let (low, high) = (key(&bound("minValues")), key(&bound("maxValues")));
                let is_in = match (low, high, key(value)) {
                    (Ok(low), Ok(high), Ok(value)) => (low..=high).contains(&value),
                    (Err(low), Err(high), Err(value)) => (low..=high).contains(&value),
                    other => panic!("{other:?}"),
                };
                read += usize::from(is_in);
            }
        }
        assert!(values.len() > 10);
        read as f64 / values.len() as f64
    }

    async fn checksum(&self) -> Vec<String> {
        self.rows("SELECT count(*), sum(a), count(DISTINCT b), sum(c), count(c), sum(a * c % 1000003) FROM t")
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn z_order_lets_filters_on_either_column_read_less() {
    both(|home| async move {
        home.scattered().await;
        let before = home.checksum().await;
        let unordered = (home.files_to_read("a").await, home.files_to_read("b").await);
        let files = home.files("t").await.len() as f64;
        assert!(files > 8.0, "{files}");
        assert!(
            unordered.0 > 0.9 * files && unordered.1 > 0.9 * files,
            "{unordered:?}"
        );

        home.wrote("OPTIMIZE t SORT BY (a, b)").await;
        assert_eq!(home.checksum().await, before);
        let sorted = (home.files_to_read("a").await, home.files_to_read("b").await);
        let files = home.files("t").await.len() as f64;
        assert!(
            sorted.0 < 0.4 * files && sorted.1 > 0.9 * files,
            "{sorted:?} of {files}"
        );

        let committed = home.wrote("OPTIMIZE t ZORDER BY (a, b)").await;
        assert_eq!(committed.rows, 0);
        assert_eq!(home.checksum().await, before);
        let curved = (home.files_to_read("a").await, home.files_to_read("b").await);
        let files = home.files("t").await.len() as f64;
        assert!(files > 8.0, "{files}");
        // Where files begin on the curve depends on which rows come first.
        assert!(
            curved.0 < 0.9 * files && curved.1 < 0.9 * files,
            "{curved:?} of {files}"
        );
        println!("files to read: {unordered:?}, sorted {sorted:?}, by curve {curved:?} of {files}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn z_order_takes_any_type_with_nulls_and_partitions() {
    both(|home| async move {
        home.run(
            "CREATE TABLE t PARTITIONED BY (p) AS SELECT value % 3 AS p, value AS a,
               CASE WHEN value % 4 = 0 THEN NULL ELSE CAST(value AS DECIMAL(20, 3)) END AS b,
               CASE WHEN value % 2 = 0 THEN CAST('nan' AS DOUBLE) ELSE value / 7.0 END AS c,
               DATE '2026-01-01' + CAST(value AS INT) AS d, value % 2 = 0 AS e
             FROM generate_series(1, 300)",
        )
        .await
        .unwrap();
        let all = "SELECT * FROM t ORDER BY a";
        let before = home.rows(all).await;
        for columns in ["(b, c)", "d", "(e, b, a)", "(p, a)"] {
            home.wrote(&format!("OPTIMIZE t ZORDER BY {columns}")).await;
            assert_eq!(home.rows(all).await, before, "{columns}");
            assert_eq!(home.files("t").await.len(), 3, "{columns}");
        }
        home.wrote("OPTIMIZE t WHERE p = 1 ZORDER BY a").await;
        assert_eq!(home.rows(all).await, before);
        let rows = home.rows("SELECT a FROM t WHERE p = 1").await;
        let numbers: Vec<i64> = rows.iter().map(|row| row.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert!(home.idle("OPTIMIZE t WHERE p = 9 ZORDER BY a").await);
        let error = home.refused("OPTIMIZE t ZORDER BY (nothing)").await;
        assert!(error.contains("nothing"), "{error}");
        let error = home
            .refused("OPTIMIZE t ZORDER BY (a,a,a,a,a,a,a,a,a)")
            .await;
        assert!(error.contains("up to 8 columns"), "{error}");
    })
    .await;
}
