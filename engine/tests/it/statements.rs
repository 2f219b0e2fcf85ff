//! Statements against a real lake: what they mean, what they refuse, and where they say it is.

use drumline_engine::{Definition, Planned, WriteMode};
use drumline_lake::{ErrorKind, Format};

use crate::lake::{Done, Home};

#[tokio::test]
async fn rows_that_were_inserted_are_read_back() {
    let home = Home::new().await;
    home.run("CREATE TABLE t (id BIGINT, name VARCHAR, at TIMESTAMP)")
        .await
        .unwrap();
    let committed = home
        .wrote("INSERT INTO t VALUES (1, 'one', '2018-11-01 00:00:01'), (2, NULL, NULL)")
        .await;
    assert_eq!((committed.rows, committed.files), (2, 1));
    home.wrote("INSERT INTO t (name, id) SELECT upper(name), id + 10 FROM t")
        .await;
    let rows = home
        .rows("SELECT id, name, CAST(at AS DATE) FROM t ORDER BY id")
        .await;
    assert_eq!(
        rows,
        [
            "1|one|2018-11-01",
            "2|null|null",
            "11|ONE|null",
            "12|null|null"
        ]
    );
}

#[tokio::test]
async fn a_table_appears_with_the_rows_of_its_query() {
    let home = Home::new().await;
    let sql = "CREATE TABLE t PARTITIONED BY (day) STORED AS PARQUET LOCATION 'plain/'
               AS SELECT value AS id, value % 3 AS day FROM generate_series(1, 9)";
    let committed = home.wrote(sql).await;
    assert_eq!(
        (committed.rows, committed.files),
        (9, 3),
        "one file for each day"
    );
    for day in 0..3 {
        let folder = home.folder.path().join(format!("lake/plain/day={day}"));
        let files = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        assert_eq!(files.count(), 1);
    }
    assert_eq!(
        home.rows("SELECT sum(id), count(*) FROM t WHERE day = 1")
            .await,
        ["12|3"]
    );
}

#[tokio::test]
async fn a_write_of_no_rows_commits() {
    let home = Home::new().await;
    let committed = home
        .wrote("CREATE TABLE t AS SELECT 1 AS id WHERE false")
        .await;
    assert_eq!((committed.rows, committed.files), (0, 0));
    assert_eq!(home.rows("SELECT count(*) FROM t").await, ["0"]);
}

#[tokio::test]
async fn declared_columns_name_and_cast_those_of_the_query() {
    let home = Home::new().await;
    home.wrote("CREATE TABLE t (a BIGINT, b VARCHAR) AS SELECT '7', 8")
        .await;
    assert_eq!(home.rows("SELECT a + 1, b || '!' FROM t").await, ["8|8!"]);
}

#[tokio::test]
async fn views_read_views_and_follow_their_tables() {
    let home = Home::new().await;
    home.run("CREATE TABLE t AS SELECT 1 AS a; CREATE SCHEMA s;
              CREATE VIEW s.v (x) AS SELECT a * 2 FROM t; CREATE VIEW w AS WITH c AS (SELECT x FROM s.v) SELECT x + 1 AS y FROM c")
        .await
        .unwrap();
    home.wrote("INSERT INTO t VALUES (10)").await;
    assert_eq!(home.rows("SELECT y FROM w ORDER BY y").await, ["3", "21"]);
    assert_eq!(home.rows("DESCRIBE w").await, ["y|Int64|YES|null"]);
}

#[tokio::test]
async fn a_view_that_reads_itself_is_refused() {
    let home = Home::new().await;
    home.run("CREATE VIEW v AS SELECT 1 AS a; CREATE VIEW w AS SELECT * FROM v")
        .await
        .unwrap();
    home.run("CREATE OR REPLACE VIEW v AS SELECT * FROM w")
        .await
        .unwrap();
    let refused = home.refused("SELECT * FROM v").await;
    assert!(refused.contains("it reads itself"), "{refused}");
}

#[tokio::test]
async fn a_broken_view_is_named() {
    let home = Home::new().await;
    home.run("CREATE TABLE t AS SELECT 1 AS a; CREATE VIEW v AS SELECT a FROM t; DROP TABLE t")
        .await
        .unwrap();
    let refused = home.refused("SELECT * FROM v").await;
    assert!(
        refused.contains("view `v` cannot be read: table `t` does not exist"),
        "{refused}"
    );
}

#[tokio::test]
async fn names_of_a_with_clause_come_before_tables() {
    let home = Home::new().await;
    home.run("CREATE TABLE t AS SELECT 1 AS a").await.unwrap();
    assert_eq!(
        home.rows("WITH t AS (SELECT a + 1 AS a FROM t) SELECT a FROM t")
            .await,
        ["2"]
    );
}

#[tokio::test]
async fn names_are_listed() {
    let home = Home::new().await;
    home.run("CREATE SCHEMA s; CREATE TABLE s.b AS SELECT 1 AS n, 'x' AS c; CREATE VIEW a AS SELECT 1 AS one").await.unwrap();
    assert_eq!(
        home.rows("SHOW TABLES").await,
        ["default|a|view", "s|b|table"]
    );
    assert_eq!(home.rows("SHOW TABLES FROM s").await, ["s|b|table"]);
    assert_eq!(home.rows("SHOW SCHEMAS").await, ["default", "s"]);
    assert_eq!(home.rows("SHOW COLUMNS FROM s.b").await.len(), 2);
    assert_eq!(
        home.rows("SHOW datafusion.execution.time_zone").await,
        ["datafusion.execution.time_zone|+00:00"]
    );
    let sql = "SELECT table_schema, table_name, table_type FROM information_schema.tables
               WHERE table_schema <> 'information_schema' ORDER BY 1, 2";
    assert_eq!(home.rows(sql).await, ["default|a|VIEW", "s|b|BASE TABLE"]);
    let sql = "SELECT column_name FROM information_schema.columns WHERE table_name = 'b' ORDER BY ordinal_position";
    assert_eq!(home.rows(sql).await, ["n", "c"]);
}

#[tokio::test]
async fn mistyped_names_have_their_place_and_candidates() {
    let home = Home::new().await;
    home.run("CREATE SCHEMA s; CREATE TABLE s.listens AS SELECT 1 AS a; CREATE TABLE events AS SELECT 1 AS user_id, 'x' AS song")
        .await
        .unwrap();
    let mut table = Vec::new();
    for sql in [
        "SELECT 1;\nSELECT * FROM evnts",
        "SELECT * FROM s.lisens",
        "SELECT * FROM listens",
        "SELECT * FROM nothing_like_it",
        "SELECT * FROM nowhere.events",
        "SELECT user_id,\n  sonng FROM events",
        "SELECT e.usr_id FROM events AS e",
        "SELECT song FROM events WHERE user_id IN (SELECT aa FROM s.listens)",
        "SELECT cuont(*) FROM events",
        "SELECT repair_txt(song) FROM events",
        "INSERT INTO evens VALUES (1, 'x')",
        "INSERT INTO events (user_id, sogn) VALUES (1, 'x')",
        "INSERT INTO events VALUES (1)",
        "INSERT INTO events (song, song) VALUES ('a', 'b')",
        "INSERT INTO events SELECT * FROM event",
        "CREATE TABLE t PARTITIONED BY (dya) AS SELECT 1 AS a, 2 AS day",
        "CREATE TABLE t PARTITIONED BY (a) AS SELECT 1 AS a",
        "CREATE TABLE t STORED AS ORC AS SELECT 1 AS a",
        "CREATE TABLE t AS SELECT 1 AS a, 2 AS a",
        "CREATE TABLE t AS SELECT NULL AS a",
        "CREATE TABLE t (a INT PRIMARY KEY)",
        "CREATE TABLE t (a INT, b INT) AS SELECT 1",
        "CREATE VIEW v AS SELECT nope FROM events",
        "DESCRIBE evnts",
        "SET datafusion.execution.batch_sise = 1",
        "SET datafusion.execution.batch_size = many",
        "RESET drumline.no_such",
        "SHOW drumline.no_such",
        "SELECT user_id FROM events GROUP BY song",
        "SELECT user_id + [1] FROM events",
    ] {
        table.push(format!("{sql:?}\n    {}", home.refused(sql).await));
    }
    insta::assert_snapshot!(table.join("\n"), @r#"
    "SELECT 1;\nSELECT * FROM evnts"
        line 2, column 15: table `evnts` does not exist (did you mean `events`?)
    "SELECT * FROM s.lisens"
        line 1, column 15: table `s.lisens` does not exist (did you mean `s.listens`?)
    "SELECT * FROM listens"
        line 1, column 15: table `listens` does not exist (did you mean `s.listens`?)
    "SELECT * FROM nothing_like_it"
        line 1, column 15: table `nothing_like_it` does not exist (SHOW TABLES lists what there is)
    "SELECT * FROM nowhere.events"
        line 1, column 15: table `nowhere.events` does not exist (SHOW TABLES lists what there is)
    "SELECT user_id,\n  sonng FROM events"
        line 2, column 3: column `sonng` does not exist (did you mean `song`?)
    "SELECT e.usr_id FROM events AS e"
        line 1, column 8: column `e.usr_id` does not exist (did you mean `user_id`?)
    "SELECT song FROM events WHERE user_id IN (SELECT aa FROM s.listens)"
        line 1, column 50: column `aa` does not exist (did you mean `a`?)
    "SELECT cuont(*) FROM events"
        line 1, column 8: function `cuont` does not exist (did you mean `count`?)
    "SELECT repair_txt(song) FROM events"
        line 1, column 8: function `repair_txt` does not exist (did you mean `repair_text`?)
    "INSERT INTO evens VALUES (1, 'x')"
        line 1, column 13: table `evens` does not exist (did you mean `events`?)
    "INSERT INTO events (user_id, sogn) VALUES (1, 'x')"
        line 1, column 30: column `sogn` does not exist (did you mean `song`?)
    "INSERT INTO events VALUES (1)"
        line 1, column 1: `events` takes 2 columns here, the query yields 1 (name the columns behind the table, as in t (a, b))
    "INSERT INTO events (song, song) VALUES ('a', 'b')"
        line 1, column 1: column `song` is named twice
    "INSERT INTO events SELECT * FROM event"
        line 1, column 34: table `event` does not exist (did you mean `events`?)
    "CREATE TABLE t PARTITIONED BY (dya) AS SELECT 1 AS a, 2 AS day"
        line 1, column 32: column `dya` does not exist (did you mean `day`?)
    "CREATE TABLE t PARTITIONED BY (a) AS SELECT 1 AS a"
        line 1, column 1: a table needs a column that it is not partitioned by
    "CREATE TABLE t STORED AS ORC AS SELECT 1 AS a"
        line 1, column 26: tables are not stored as `orc` (STORED AS DELTA or STORED AS PARQUET)
    "CREATE TABLE t AS SELECT 1 AS a, 2 AS a"
        nowhere: projections require unique expression names but the expression "Int64(1) AS a" at position 0 and "Int64(2) AS a" at position 1 have the same name. Consider aliasing ("AS") one of them.
    "CREATE TABLE t AS SELECT NULL AS a"
        line 1, column 1: column `a` is always null and has no type (CAST(NULL AS …) gives it one)
    "CREATE TABLE t (a INT PRIMARY KEY)"
        line 1, column 17: `PRIMARY KEY` of column `a` is not supported yet
    "CREATE TABLE t (a INT, b INT) AS SELECT 1"
        line 1, column 1: 2 columns are declared, the query yields 1
    "CREATE VIEW v AS SELECT nope FROM events"
        line 1, column 25: column `nope` does not exist
    "DESCRIBE evnts"
        line 1, column 10: table `evnts` does not exist (did you mean `events`?)
    "SET datafusion.execution.batch_sise = 1"
        line 1, column 1: setting `datafusion.execution.batch_sise` does not exist (did you mean `datafusion.execution.batch_size`?)
    "SET datafusion.execution.batch_size = many"
        nowhere: cannot set datafusion.execution.batch_size to 'many': invalid digit found in string
    "RESET drumline.no_such"
        line 1, column 1: setting `drumline.no_such` does not exist
    "SHOW drumline.no_such"
        line 1, column 1: setting `drumline.no_such` does not exist
    "SELECT user_id FROM events GROUP BY song"
        line 1, column 8: column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column "events.user_id" must appear in the GROUP BY clause or must be part of an aggregate function, currently only "events.song" appears in the SELECT clause satisfies this requirement
    "SELECT user_id + [1] FROM events"
        line 1, column 8: cannot coerce arithmetic expression Int64 + List(Int64) to valid types
    "#);
}

#[tokio::test]
async fn inserting_into_a_view_is_refused() {
    let home = Home::new().await;
    home.run("CREATE VIEW v AS SELECT 1 AS a").await.unwrap();
    let refused = home.refused("INSERT INTO v VALUES (1)").await;
    assert!(refused.contains("`v` is a view"), "{refused}");
}

#[tokio::test]
async fn an_external_folder_is_read_as_others_fill_it_and_never_written() {
    let home = Home::new().await;
    home.wrote("CREATE TABLE t PARTITIONED BY (day) STORED AS PARQUET LOCATION 'plain/' AS SELECT 1 AS a, 2 AS day").await;
    let folder = home.folder.path().join("lake/plain");
    home.run(&format!(
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '{}'",
        folder.display()
    ))
    .await
    .unwrap();
    assert_eq!(home.rows("SELECT a, day FROM x").await, ["1|2"]);
    home.wrote("INSERT INTO t VALUES (3, 4)").await;
    assert_eq!(
        home.rows("SELECT a, day FROM x ORDER BY a").await,
        ["1|2", "3|4"]
    );
    for (filter, rows) in [
        ("day NOT IN (1, NULL)", "0"),
        ("day NOT IN ('1', NULL)", "0"),
        ("day = '2'", "1"),
        ("day <> '2' OR a = 1", "2"),
    ] {
        let sql = format!("SELECT count(*) FROM x WHERE {filter}");
        assert_eq!(home.rows(&sql).await, [rows], "{filter}");
    }
    let refused = home.refused("INSERT INTO x VALUES (5, '6')").await;
    assert!(refused.contains("`x` is an external table"), "{refused}");
    home.run("CREATE EXTERNAL TABLE y STORED AS PARQUET LOCATION '/nothing/here'")
        .await
        .unwrap();
    let refused = home.refused("SELECT * FROM y").await;
    assert!(
        refused.contains("`y` has no .parquet files under file:///nothing/here/"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_value_that_does_not_fit_names_its_column_and_leaves_no_row() {
    let home = Home::new().await;
    home.run("CREATE TABLE t (id BIGINT, small SMALLINT)")
        .await
        .unwrap();
    for (sql, column) in [
        ("INSERT INTO t VALUES (1, 'many')", "small"),
        ("INSERT INTO t VALUES (1, 70000)", "small"),
        ("INSERT INTO t VALUES (1, [1, 2])", "small"),
    ] {
        let Err(error) = home.run(sql).await else {
            panic!("{sql} is not refused")
        };
        assert_eq!(error.kind(), ErrorKind::User, "{sql}: {error}");
        assert!(error.to_string().contains(column), "{sql}: {error}");
    }
    assert_eq!(home.rows("SELECT count(*) FROM t").await, ["0"]);
}

#[tokio::test]
async fn definitions_say_what_was_written() {
    let home = Home::new().await;
    let sql = "CREATE TABLE IF NOT EXISTS \"Mixed\".T (a INT, b VARCHAR) PARTITIONED BY (b) LOCATION 'x/' STORED AS PARQUET";
    let Planned::Definition(Definition::CreateTable {
        table,
        schema,
        create,
    }) = home.plan(sql).await.unwrap()
    else {
        panic!("no table is made");
    };
    assert_eq!((table.schema.as_str(), table.name.as_str()), ("Mixed", "t"));
    assert_eq!(schema.fields().len(), 2);
    assert_eq!(create.format, Format::Parquet);
    assert_eq!(create.partition_by, ["b"]);
    assert_eq!(create.location.as_deref(), Some("x/"));
    assert!(create.if_not_exists);
    let Planned::Write(write) = home.plan("CREATE TABLE t AS SELECT 1 AS a").await.unwrap() else {
        panic!("no write")
    };
    assert!(matches!(write.mode, WriteMode::Create(create) if create.format == Format::Delta));
    let planned = home
        .plan("CREATE EXTERNAL TABLE IF NOT EXISTS x LOCATION '/data/x' STORED AS PARQUET")
        .await
        .unwrap();
    let Planned::Definition(Definition::CreateExternal { location, .. }) = planned else {
        panic!("no external table")
    };
    assert_eq!(location.as_str(), "file:///data/x/");
    let Planned::Set { key, value } = home
        .plan("SET datafusion.execution.batch_size = 100")
        .await
        .unwrap()
    else {
        panic!("nothing is set");
    };
    assert_eq!(
        (key.as_str(), value.as_deref()),
        ("datafusion.execution.batch_size", Some("100"))
    );
    let planned = home.plan("SET drumline.bytes_per_task = 1").await.unwrap();
    assert!(matches!(planned, Planned::Set { key, .. } if key == "drumline.bytes_per_task"));
    assert_eq!(
        home.rows("SHOW drumline.job_deadline").await,
        ["drumline.job_deadline|0"]
    );
    let planned = home
        .plan("RESET datafusion.execution.batch_size")
        .await
        .unwrap();
    assert!(matches!(planned, Planned::Set { value: None, .. }));
}

#[tokio::test]
async fn explain_shows_the_plan_and_analyze_its_metrics() {
    let home = Home::new().await;
    home.run("CREATE TABLE t AS SELECT 1 AS a").await.unwrap();
    let plan = home.rows("EXPLAIN SELECT a FROM t").await.join("\n");
    assert!(plan.contains("DataSourceExec"), "{plan}");
    let plan = home
        .rows("EXPLAIN ANALYZE SELECT a FROM t")
        .await
        .join("\n");
    assert!(plan.contains("output_rows=1"), "{plan}");
}

#[tokio::test]
async fn the_repair_of_text_is_a_function_of_sql() {
    let home = Home::new().await;
    let rows = home.rows("SELECT repair_text('\"Bj\\xc3\\xb6rk\"'), repair_text(NULL), repair_text(arrow_cast('BjÃ¶rk', 'Utf8View'))").await;
    assert_eq!(rows, ["Björk|null|Björk"]);
}

/// Planning walks as deep as the text nests; both must fit the stack that the runtime's threads have.
#[test]
fn a_chain_as_long_as_may_be_is_planned_and_run() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_stack_size(2 << 20)
        .enable_all()
        .build();
    let run = async {
        let home = Home::new().await;
        let chain = (0..330)
            .map(|at| format!("value = {at}"))
            .collect::<Vec<_>>()
            .join(" OR ");
        home.rows(&format!(
            "SELECT count(*) FROM generate_series(1, 2000) WHERE {chain}"
        ))
        .await
    };
    let runtime = runtime.unwrap();
    assert_eq!(runtime.block_on(runtime.spawn(run)).unwrap(), ["329"]);
}

#[tokio::test]
async fn nothing_is_done_by_a_text_with_a_mistake_at_its_end() {
    let home = Home::new().await;
    let done = home.run("CREATE TABLE t AS SELECT 1 AS a; SELEC 2").await;
    assert!(done.is_err());
    assert!(home.rows("SHOW TABLES").await.is_empty());
    assert!(matches!(home.run("").await, Ok(Done::Nothing)));
}
