use super::{Body, Error, MAX_DEPTH, MAX_SQL_BYTES, Show, parse, parse_query, tables_of};

/// What a mistake looks like to a person.
fn told(sql: &str) -> String {
    let error = match parse(sql) {
        Ok(_) => return "no mistake".to_owned(),
        Err(error) => error,
    };
    let place = error
        .position()
        .map_or("nowhere".to_owned(), |position| position.to_string());
    let hint = error
        .hint()
        .map_or(String::new(), |hint| format!(" ({hint})"));
    format!("{place}: {error}{hint}")
}

#[test]
fn mistakes_have_their_place_in_the_whole_text() {
    let table: Vec<String> = [
        "SELEC 1",
        "SELECT 1;\n\nSELECT * FORM t",
        "SELECT a FROM t WHERE",
        "SELECT (1 + 2",
        "SELECT 'open",
        "-- a comment\n  SELECT a b c FROM t",
        "SELECT 1; 12",
        "CREATE TABLE t",
        "CREATE TABLE t (a INT) STORED AS PARQUET STORED AS DELTA",
        "CREATE VIEW v AS",
        "DROP TABLE",
        "INSERT INTO t",
        "SHOW",
        "SELECT 1 1",
    ]
    .into_iter()
    .map(|sql| format!("{sql:?}\n    {}", told(sql)))
    .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    "SELEC 1"
        line 1, column 1: a statement cannot begin with SELEC (did you mean SELECT?)
    "SELECT 1;\n\nSELECT * FORM t"
        line 3, column 10: expected the end of the statement, found FORM (did you mean FROM?)
    "SELECT a FROM t WHERE"
        line 1, column 22: expected an expression, found the end of the statement
    "SELECT (1 + 2"
        line 1, column 14: expected ), found the end of the statement
    "SELECT 'open"
        line 1, column 8: unterminated string literal
    "-- a comment\n  SELECT a b c FROM t"
        line 2, column 14: expected the end of the statement, found c
    "SELECT 1; 12"
        line 1, column 11: a statement cannot begin with 12
    "CREATE TABLE t"
        line 1, column 8: CREATE TABLE takes columns, or AS and a query
    "CREATE TABLE t (a INT) STORED AS PARQUET STORED AS DELTA"
        line 1, column 42: STORED AS is given twice
    "CREATE VIEW v AS"
        line 1, column 17: expected SELECT, VALUES, or a subquery in the query body, found the end of the statement
    "DROP TABLE"
        line 1, column 11: expected identifier, found the end of the statement
    "INSERT INTO t"
        line 1, column 14: expected SELECT, VALUES, or a subquery in the query body, found the end of the statement
    "SHOW"
        line 1, column 1: SHOW takes TABLES, COLUMNS, SCHEMAS, ALL or a setting
    "SELECT 1 1"
        line 1, column 10: expected the end of the statement, found 1
    "#);
}

#[test]
fn what_comes_later_is_refused_by_name() {
    let table: Vec<String> = [
        "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE RETURNING a",
        "UPDATE t SET a = 1 RETURNING a",
        "UPDATE t SET (a, b) = (1, 2)",
        "DELETE FROM t RETURNING a",
        "DELETE FROM t LIMIT 3",
        "INSERT INTO t VALUES (1) RETURNING a",
        "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
        "CREATE TEMPORARY TABLE t AS SELECT 1",
        "CREATE MATERIALIZED VIEW v AS SELECT 1",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "CREATE INDEX i ON t (a)",
        "SELECT * INTO t FROM s",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "SELECT * FROM t FOR UPDATE",
        "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
        "EXPLAIN ANALYZE VERBOSE DELETE FROM t",
        "DROP FUNCTION f",
        "ROLLBACK",
        "GRANT SELECT ON t TO u",
        "PREPARE p AS SELECT 1",
        "USE other",
    ]
    .into_iter()
    .map(|sql| {
        let refused = matches!(parse(sql), Err(Error::NotYet { .. }));
        assert!(refused, "{sql}: {}", told(sql));
        told(sql)
    })
    .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    line 1, column 1: MERGE … RETURNING is not supported yet
    line 1, column 1: UPDATE … RETURNING is not supported yet
    line 1, column 1: SET (a, b) = … is not supported yet (set each column by itself)
    line 1, column 1: DELETE … RETURNING is not supported yet
    line 1, column 1: DELETE … LIMIT is not supported yet
    line 1, column 1: INSERT … RETURNING is not supported yet
    line 1, column 1: INSERT … ON CONFLICT is not supported yet
    line 1, column 8: CREATE TEMPORARY is not supported yet (a view or WITH names a query)
    line 1, column 8: CREATE MATERIALIZED VIEW is not supported yet (CREATE TABLE … AS SELECT …)
    line 1, column 8: CREATE FUNCTION is not supported yet
    line 1, column 8: CREATE of anything but a table, view or schema is not supported yet
    line 1, column 1: SELECT INTO is not supported yet
    line 1, column 1: INSERT inside of a query is not supported yet
    line 1, column 1: FOR UPDATE is not supported yet
    line 1, column 1: EXPLAIN ANALYZE of a statement that writes is not supported yet (EXPLAIN shows its plan; run it, and `drumline jobs` and the page show what each operator did)
    line 1, column 1: EXPLAIN ANALYZE of a statement that writes is not supported yet (EXPLAIN shows its plan; run it, and `drumline jobs` and the page show what each operator did)
    line 1, column 6: DROP of anything but a table, view or schema is not supported yet
    line 1, column 1: ROLLBACK is not supported yet (every statement was committed by itself, and stays)
    line 1, column 1: GRANT is not supported yet
    line 1, column 1: PREPARE is not supported yet
    line 1, column 1: USE is not supported yet (write the schema before the name, as in schema.name)
    "#);
}

#[test]
fn words_of_other_engines_are_read_in_those_of_the_planner() {
    for (sql, read) in [
        (
            "SELECT dateadd(month, 2, d), date_add('day', n, d) FROM t",
            "SELECT (d + INTERVAL '2 month'), (d + CAST(concat(CAST((n) * 1 AS VARCHAR), ' day') AS INTERVAL)) FROM t",
        ),
        (
            "SELECT datediff('year', a, b), datediff(b, a) FROM t",
            "SELECT CAST(date_part('year', b) - date_part('year', a) AS BIGINT), (CAST(b AS DATE) - CAST(a AS DATE)) FROM t",
        ),
        (
            "SELECT iff(a > 1, 'x', if(b, 'y', 'z')) FROM t",
            "SELECT CASE WHEN a > 1 THEN 'x' ELSE CASE WHEN b THEN 'y' ELSE 'z' END END FROM t",
        ),
        (
            r"SELECT a FROM t WHERE a LIKE '10!%!!' ESCAPE '!'",
            r"SELECT a FROM t WHERE a LIKE '10\%\!'",
        ),
        (
            "SELECT a FROM t OFFSET 2 ROWS FETCH NEXT 3 ROWS ONLY",
            "SELECT a FROM t LIMIT 3 OFFSET 2 ROWS",
        ),
        (
            "SELECT count_if(a), localtimestamp, \"localtimestamp\" FROM t",
            "SELECT count(*) FILTER (WHERE a), localtimestamp, \"localtimestamp\" FROM t",
        ),
        // Nothing of ours: left to the planner.
        (
            "SELECT dateadd(fortnight, 1, d), if(a) FROM t FETCH FIRST 5 PERCENT ROWS ONLY",
            "SELECT dateadd(fortnight, 1, d), if(a) FROM t FETCH FIRST 5 PERCENT ROWS ONLY",
        ),
    ] {
        assert_eq!(query_of(sql), read, "{sql}");
    }
}

#[test]
fn one_query_is_read_alone() {
    let read = |sql| parse_query(sql).map(|query| query.to_string());
    let sql =
        "WITH i AS (SELECT * FROM input) SELECT 1 FROM i LEFT JOIN dims.songs AS s ON a = s.a";
    assert_eq!(tables_of(sql), ["input", "dims.songs"]);
    let sql = "SELECT if(a, 1, 2) FROM input WHERE a IS DISTINCT FROM b AND c; ";
    let known = "SELECT CASE WHEN a THEN 1 ELSE 2 END FROM input WHERE a IS DISTINCT FROM b AND c";
    assert_eq!(read(sql).unwrap(), known);
    for (sql, column) in [
        ("", None),
        ("SELECT 1; SELECT 2", Some(11)),
        (" DROP TABLE t", Some(2)),
        ("SELECT )", Some(8)),
    ] {
        let error = read(sql).unwrap_err();
        assert_eq!(
            error.position().map(|at| at.column),
            column,
            "{sql}: {error}"
        );
    }
}

#[test]
fn transactions_take_nothing_that_would_have_no_effect() {
    for sql in [
        "BEGIN",
        "begin transaction",
        "START TRANSACTION",
        "COMMIT WORK",
        "END",
    ] {
        let body = &parse(sql).unwrap()[0].body;
        assert!(matches!(body, Body::Transaction(_)), "{sql}: {body:?}");
    }
    assert!(told("BEGIN ISOLATION LEVEL SERIALIZABLE").contains("found ISOLATION"));
}

#[test]
fn time_travel_is_not_taken_for_an_alias() {
    for sql in [
        "SELECT version AS of FROM t",
        "SELECT a AS version, b AS of FROM t",
        "SELECT timestamp AS of, a FROM t",
        "SELECT system_time AS of\nFROM t",
    ] {
        let query = query_of(sql);
        assert!(!query.contains('#'), "{query}");
    }
}

fn query_of(sql: &str) -> String {
    match parse(sql) {
        Ok(statements) => match &statements[0].body {
            Body::Query(parsed) => parsed.to_string(),
            other => panic!("{sql}: {other:?}"),
        },
        Err(error) => panic!("{sql}: {error}"),
    }
}

#[test]
fn the_version_that_is_asked_for_becomes_part_of_the_name() {
    let table: Vec<String> = [
        "SELECT * FROM t VERSION AS OF 3",
        "SELECT t.a FROM s.T FOR VERSION AS OF 3 WHERE t.a = 1",
        "SELECT x.a FROM lake.s.\"T\" VERSION AS OF '3' x JOIN u FOR SYSTEM_VERSION AS OF 0 AS v ON true",
        "SELECT * FROM a, b TIMESTAMP AS OF '2018-11-01'",
        "SELECT * FROM (SELECT * FROM b FOR SYSTEM_TIME AS OF TIMESTAMP '1969-12-31 23:59:59.5') AS c",
        "SELECT * FROM t FOR TIMESTAMP AS OF '2018-11-01T01:00:00+01:00' ORDER BY 1",
        "WITH c AS (SELECT * FROM t VERSION AS OF 1) SELECT * FROM c",
    ]
    .into_iter()
    .map(query_of)
    .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    SELECT * FROM "t#version=3" AS "t"
    SELECT t.a FROM s."t#version=3" AS "t" WHERE t.a = 1
    SELECT x.a FROM lake.s."T#version=3" x JOIN "u#version=0" AS v ON true
    SELECT * FROM a, "b#time=1541030400000000" AS "b"
    SELECT * FROM (SELECT * FROM "b#time=-500000" AS "b") AS c
    SELECT * FROM "t#time=1541030400000000" AS "t" ORDER BY 1
    WITH c AS (SELECT * FROM "t#version=1" AS "t") SELECT * FROM c
    "#);
}

#[test]
fn time_travel_is_done_or_refused_and_never_passed_over() {
    for sql in [
        "SELECT * FROM t VERSION AS OF -1",
        "SELECT * FROM t VERSION AS OF 'yesterday'",
        "SELECT * FROM t VERSION AS OF (SELECT 1)",
        "SELECT * FROM t TIMESTAMP AS OF 'yesterday'",
        "SELECT * FROM t TIMESTAMP AS OF now()",
        "SELECT * FROM t FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP - INTERVAL '1' DAY",
        "SELECT * FROM t FOR SYSTEM_TIME BETWEEN '2018-01-01' AND '2019-01-01'",
        "SELECT * FROM t AS x VERSION AS OF 1",
        "SELECT * FROM t x VERSION AS OF 1",
        "SELECT * FROM (SELECT 1) VERSION AS OF 1",
        "SELECT * FROM f(1) VERSION AS OF 1",
        "SELECT * FROM t AT (VERSION => 1)",
        "SELECT * FROM t CHANGES (INFORMATION => DEFAULT) AT (VERSION => 1)",
        "SELECT * FROM \"t#version=1\"",
        "SELECT * FROM t VERSION AS OF",
        "INSERT INTO t VERSION AS OF 1 VALUES (1)",
        "CREATE TABLE t VERSION AS OF 1 AS SELECT 1",
        "DROP TABLE t VERSION AS OF 1",
        "SELECT * FROM t PARTITION (p)",
        "SELECT * FROM t TABLESAMPLE (10)",
        "SELECT * FROM t WITH (NOLOCK)",
    ] {
        assert!(parse(sql).is_err(), "{sql}");
    }
    let place = "AS OF stands directly behind a table's name, before its alias";
    for sql in [
        "SELECT * FROM t AS x VERSION AS OF 1",
        "SELECT * FROM (SELECT 1) VERSION AS OF 1",
        "INSERT INTO t VERSION AS OF 1 VALUES (1)",
    ] {
        assert!(told(sql).contains(place), "{}", told(sql));
    }
}

#[test]
fn definitions_are_read_as_they_are_written() {
    let body = |sql: &str| match parse(sql) {
        Ok(mut statements) => format!("{:?}", statements.remove(0).body),
        Err(_) => panic!("{sql}: {}", told(sql)),
    };
    for sql in [
        "DROP TABLE IF EXISTS a, s.b CASCADE",
        "DROP VIEW v RESTRICT",
        "DROP SCHEMA IF EXISTS s CASCADE",
        "DROP DATABASE s",
        "ALTER TABLE a RENAME TO b",
        "ALTER TABLE IF EXISTS s.a RENAME TO s.b, s.c RENAME TO a",
        "ALTER TABLE a SWAP WITH b, c SWAP WITH d",
        "ALTER VIEW v RENAME TO w",
        "ALTER SCHEMA a SWAP WITH b",
        "ALTER SCHEMA a RENAME TO b",
        "ALTER TABLE t ADD COLUMN a INT",
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS a INT COMMENT 'x', ADD b VARCHAR",
        "ALTER TABLE t ADD COLUMNS (a INT, b DECIMAL(3, 1))",
        "ALTER TABLE t SET TBLPROPERTIES ('a.b' = 'c', d = 1, e.f = true, 'g' = -2)",
        "ALTER TABLE t UNSET TBLPROPERTIES IF EXISTS ('a.b', d)",
        "COMMENT ON TABLE s.t IS 'it''s'",
        "COMMENT ON COLUMN s.t.c IS NULL",
        "COMMENT IF EXISTS ON VIEW v IS 'x'",
        "COMMENT ON SCHEMA s IS 'x'",
        "CREATE OR REPLACE TABLE t COMMENT 'x' TBLPROPERTIES ('a' = 'b') AS SELECT 1 AS a",
        "CREATE VIEW v COMMENT 'x' TBLPROPERTIES (a = 'b') AS SELECT 1 AS a",
        "CREATE SCHEMA IF NOT EXISTS s COMMENT 'x'",
        "CREATE EXTERNAL TABLE t STORED AS CSV WITH HEADER ROW LOCATION '/x'",
        "CREATE OR REPLACE EXTERNAL TABLE t (a INT) STORED AS JSON PARTITIONED BY (d INT) LOCATION '/x' OPTIONS ('compression' 'gzip')",
        "DESCRIBE HISTORY t LIMIT 3",
        "DESCRIBE EXTENDED s.t",
        "DESCRIBE SCHEMA s",
        "SHOW TABLES FROM s LIKE 'a%'",
        "SHOW TABLES LIKE 'a%'",
        "SHOW VIEWS",
        "SHOW SCHEMAS LIKE 'a%'",
        "SHOW CREATE TABLE t",
        "SHOW TBLPROPERTIES t ('a.b')",
    ] {
        let body = body(sql);
        assert!(!body.starts_with("Query"), "{sql}: {body}");
    }
    // A word is a name where nothing follows it.
    for name in ["history", "extended", "schema"] {
        let body = body(&format!("DESCRIBE {name}"));
        assert!(body.contains(&format!("value: \"{name}\"")), "{body}");
    }
}

#[test]
fn definitions_that_cannot_be_are_refused() {
    let table: Vec<String> = [
        "ALTER",
        "ALTER TABLE t",
        "ALTER TABLE t RENAME b",
        "ALTER TABLE t RENAME COLUMN a",
        "ALTER TABLE t DROP a",
        "ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)",
        "ALTER TABLE t SWAP b",
        "ALTER TABLE t SET LOCATION 'x'",
        "ALTER TABLE t SET TBLPROPERTIES ('a' = 'b', 'a' = 'c')",
        "ALTER TABLE t SET TBLPROPERTIES 'a'",
        "ALTER SCHEMA s SET TBLPROPERTIES ('a' = 'b')",
        "ALTER INDEX i RENAME TO j",
        "COMMENT ON t IS 'x'",
        "COMMENT ON TABLE t 'x'",
        "CREATE OR REPLACE TABLE IF NOT EXISTS t AS SELECT 1",
        "CREATE TABLE t (a INT) OPTIONS ('a' 'b')",
        "CREATE TABLE t (a INT) PARTITIONED BY (b INT)",
        "CREATE VIEW v LOCATION 'x' AS SELECT 1",
        "CREATE EXTERNAL TABLE t LOCATION '/x'",
        "CREATE EXTERNAL TABLE t STORED AS CSV",
        "CREATE OR REPLACE SCHEMA s",
    ]
    .into_iter()
    .map(|sql| {
        assert!(parse(sql).is_err(), "{sql}");
        format!("{sql}\n    {}", told(sql))
    })
    .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    ALTER
        line 1, column 1: ALTER takes TABLE, VIEW or SCHEMA and a name
    ALTER TABLE t
        nowhere: expected what to do, such as RENAME TO
    ALTER TABLE t RENAME b
        line 1, column 22: expected TO behind RENAME
    ALTER TABLE t RENAME COLUMN a
        nowhere: expected TO behind the column
    ALTER TABLE t DROP a
        line 1, column 20: expected COLUMN or CONSTRAINT behind DROP
    ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)
        line 1, column 32: a constraint other than CHECK is not supported yet
    ALTER TABLE t SWAP b
        line 1, column 20: expected WITH behind SWAP
    ALTER TABLE t SET LOCATION 'x'
        line 1, column 19: ALTER … SET of anything but TBLPROPERTIES is not supported yet
    ALTER TABLE t SET TBLPROPERTIES ('a' = 'b', 'a' = 'c')
        line 1, column 45: 'a' is given twice
    ALTER TABLE t SET TBLPROPERTIES 'a'
        line 1, column 33: expected a list in parentheses
    ALTER SCHEMA s SET TBLPROPERTIES ('a' = 'b')
        line 1, column 16: expected RENAME TO or SWAP WITH
    ALTER INDEX i RENAME TO j
        line 1, column 7: ALTER of anything but a table, view or schema is not supported yet
    COMMENT ON t IS 'x'
        line 1, column 12: COMMENT ON takes TABLE, VIEW, COLUMN or SCHEMA
    COMMENT ON TABLE t 'x'
        line 1, column 20: expected IS and the text
    CREATE OR REPLACE TABLE IF NOT EXISTS t AS SELECT 1
        line 1, column 19: OR REPLACE and IF NOT EXISTS do not go together
    CREATE TABLE t (a INT) OPTIONS ('a' 'b')
        line 1, column 8: OPTIONS are for external tables; TBLPROPERTIES for others
    CREATE TABLE t (a INT) PARTITIONED BY (b INT)
        line 1, column 40: partition column `b` is given a type of its own (name it with its type among the columns)
    CREATE VIEW v LOCATION 'x' AS SELECT 1
        line 1, column 8: a view has no LOCATION
    CREATE EXTERNAL TABLE t LOCATION '/x'
        line 1, column 23: CREATE EXTERNAL TABLE takes STORED AS PARQUET, CSV, JSON or DELTA
    CREATE EXTERNAL TABLE t STORED AS CSV
        line 1, column 23: CREATE EXTERNAL TABLE takes LOCATION '…'
    CREATE OR REPLACE SCHEMA s
        line 1, column 19: CREATE OR REPLACE of anything but a table or a view is not supported yet
    "#);
}

#[test]
fn a_text_is_cut_at_its_semicolons_and_nowhere_else() {
    let sql = "-- first; not the end\nSELECT ';' AS a ; ;\n /* ; */ SELECT \"x;y\"\n  FROM tüv;SELECT 3;\n";
    let statements = parse(sql).unwrap();
    let texts: Vec<&str> = statements
        .iter()
        .map(|statement| statement.text.as_str())
        .collect();
    assert_eq!(
        texts,
        ["SELECT ';' AS a", "SELECT \"x;y\"\n  FROM tüv", "SELECT 3"]
    );
    for (at, statement) in statements.iter().enumerate() {
        assert!(sql[statement.offset..].starts_with(&statement.text));
        assert_eq!(statement.ordinal as usize, at + 1);
    }
    let places: Vec<String> = statements
        .iter()
        .map(|statement| statement.position.to_string())
        .collect();
    assert_eq!(
        places,
        ["line 2, column 1", "line 3, column 10", "line 4, column 12"]
    );
}

#[test]
fn an_empty_text_holds_no_statement() {
    assert!(parse(" ;; -- nothing\n").unwrap().is_empty());
}

#[test]
fn the_hash_knows_tokens_not_blanks() {
    let hash = |sql: &str| parse(sql).unwrap().remove(0).text_hash();
    assert_eq!(
        hash("SELECT a,b FROM t"),
        hash("\n SELECT a , b -- two\nFROM t ;")
    );
    assert_ne!(hash("SELECT 'a b'"), hash("SELECT 'a  b'"));
    assert_ne!(hash("SELECT ab"), hash("SELECT a b"));
    // Kept in tables for as long as they live: must never change.
    assert_eq!(hash("SELECT 1"), 6_808_152_802_795_772_950);
}

#[test]
fn clauses_of_a_table_stand_in_any_order() {
    let clauses = ["STORED AS PARQUET", "PARTITIONED BY (b)", "LOCATION 'x/'"];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let clauses = order.map(|at| clauses[at]).join(" ");
        for sql in [
            format!("CREATE TABLE IF NOT EXISTS s.t {clauses} AS SELECT 1 AS a, 2 AS b"),
            format!("CREATE TABLE IF NOT EXISTS s.t (a INT, b INT) {clauses}"),
            format!("CREATE TABLE IF NOT EXISTS s.t AS (SELECT 1 AS a, 2 AS b) {clauses}"),
        ] {
            let body = parse(&sql)
                .unwrap_or_else(|error| panic!("{sql}: {error}"))
                .remove(0)
                .body;
            let Body::CreateTable(create) = body else {
                panic!("{sql}: {body:?}")
            };
            assert!(create.if_not_exists);
            assert_eq!(create.name.to_string(), "s.t");
            assert_eq!(create.format.unwrap().value, "PARQUET");
            assert_eq!(create.partition_by[0].value, "b");
            assert_eq!(create.location.unwrap().0, "x/");
        }
    }
}

#[test]
fn a_view_keeps_its_text() {
    let view = |sql: &str| match parse(sql).unwrap().remove(1).body {
        Body::CreateView(view) => view.sql,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        view("SELECT 1; CREATE VIEW v AS\n SELECT a -- why\n FROM t;"),
        "SELECT a -- why\n FROM t"
    );
    let named = view("SELECT 1; CREATE VIEW v (x) AS SELECT a FROM t -- why");
    assert_eq!(named, "SELECT * FROM (\nSELECT a FROM t\n) AS named (x)");
}

#[test]
fn describe_and_show_name_their_table() {
    for sql in [
        "DESCRIBE s.t",
        "DESC s.t",
        "DESCRIBE TABLE s.t",
        "SHOW COLUMNS FROM s.t",
        "SHOW COLUMNS IN s.t",
    ] {
        match parse(sql).unwrap().remove(0).body {
            Body::Show(Show::Columns { table, .. }) => assert_eq!(table.to_string(), "s.t"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn long_text_is_refused() {
    let sql = format!("SELECT '{}'", "x".repeat(MAX_SQL_BYTES));
    assert!(matches!(parse(&sql), Err(Error::TooLong { .. })));
}

/// On the small stack that the runtime's threads have.
#[test]
fn deep_text_is_refused_before_it_overflows_the_stack() {
    let check = || {
        let texts = |deep: usize| {
            let around = |open: &str, close: &str| {
                format!("SELECT {}1{}", open.repeat(deep), close.repeat(deep))
            };
            let behind = |more: &str| format!("SELECT 1{}", more.repeat(deep));
            [
                around("(", ")"),
                around("NOT ", ""),
                around("- ", ""),
                around("CASE WHEN true THEN ", " END"),
                around("f(", ")"),
                around("(SELECT ", ")"),
                around("* FROM (SELECT ", ")"),
                around("1 + (", ")"),
                around("CAST(", " AS INT)"),
                around("[", "]"),
                around("x = 1 OR ", ""),
                around("EXISTS (SELECT ", ")"),
                behind(" OR true"),
                behind(" UNION ALL SELECT 1"),
                behind("[1]"),
                behind("::int"),
            ]
        };
        for sql in texts(20_000) {
            let refused = matches!(
                parse(&sql),
                Err(Error::TooDeep { .. } | Error::Syntax { .. })
            );
            assert!(refused, "{}", &sql[..40]);
        }
        // Just inside of the limit, whatever comes of it.
        for sql in texts(MAX_DEPTH / 3) {
            drop(parse(&sql));
        }
        // As deep as it may be.
        let plus = " + 1".repeat(MAX_DEPTH - 10);
        for sql in [
            format!(
                "SELECT 1 WHERE true{}",
                " OR x + 1 = -2".repeat(MAX_DEPTH - 10)
            ),
            format!(
                "SELECT 1 WHERE 1{plus} = 2{}",
                " OR true".repeat(MAX_DEPTH - 10)
            ),
        ] {
            assert!(parse(&sql).is_ok(), "{}", told(&sql));
        }
    };
    let thread = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(check)
        .unwrap();
    thread.join().unwrap();
}

#[test]
fn many_rows_are_not_deep() {
    let rows = vec!["(1, 'a', -2)"; 5_000].join(", ");
    assert!(parse(&format!("INSERT INTO t VALUES {rows}")).is_ok());
}

#[test]
fn many_branches_are_not_deep() {
    let branches = " WHEN a = 1 AND b + 1 > 2 THEN 'x' || a".repeat(1_000);
    let flat = format!("SELECT (1 + CASE{branches} ELSE 2 END + 3), CASE a{branches} END FROM t");
    assert!(parse(&flat).is_ok());
    // What stands before and behind them still counts, and so does a CASE within a CASE.
    let chain = " OR a".repeat(MAX_DEPTH / 2 + 1);
    let before = format!("SELECT a{chain} OR CASE WHEN a{chain} THEN a END FROM t");
    let around = format!("SELECT a OR CASE WHEN a THEN a END{chain}{chain} FROM t");
    let open = format!("SELECT f(CASE WHEN a{chain}), g(a{chain}) FROM t");
    for (sql, is_deep) in [(before, true), (around, true), (open, false)] {
        let is_refused = matches!(parse(&sql), Err(Error::TooDeep { .. }));
        assert_eq!(is_refused, is_deep, "{sql}");
    }
}

#[test]
fn a_comment_may_stand_before_every_statement() {
    assert!(matches!(
        parse("/* hello */ -- you\nSHOW TABLES").unwrap()[0].body,
        Body::Show(_)
    ));
}

/// The parser reads some words twice around a mistake: nested, that would take for ever.
#[test]
fn a_mistake_inside_of_nested_calls_is_found_at_once() {
    let begin = std::time::Instant::now();
    let words = [
        "CAST",
        "TRY_CAST",
        "CONVERT",
        "EXISTS ",
        "EXTRACT",
        "CEIL",
        "FLOOR",
        "POSITION",
        "POSITION(x IN ",
        "SUBSTRING",
        "OVERLAY",
        "TRIM",
        "NOT ",
        "ARRAY",
        "STRUCT",
        "CASE WHEN ",
        "INTERVAL ",
        "f",
        "1 + ",
        "x IN ",
        "SELECT * FROM ",
        "LATERAL ",
        "UNNEST",
        "POINT",
        "IF",
        "(1, ",
        "a AND ",
        "SELECT * FROM a JOIN ",
    ];
    for word in words {
        for deep in [6, 14, 40, 90, 130] {
            let sql = format!(
                "SELECT {}1 1{}",
                format!("{word}(").repeat(deep),
                ")".repeat(deep)
            );
            assert!(parse(&sql).is_err(), "{word} {deep}");
        }
    }
    let took = begin.elapsed();
    assert!(took.as_secs() < 60, "took {took:?}");
    let sql = format!("SELECT {}x{}", "CAST(".repeat(14), " AS INT)".repeat(14));
    assert!(parse(&sql).is_ok(), "{}", told(&sql));
}
