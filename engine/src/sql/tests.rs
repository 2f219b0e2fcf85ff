use super::{Body, Error, MAX_DEPTH, MAX_SQL_BYTES, Show, parse};

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
        "CREATE OR REPLACE TABLE t AS SELECT 1",
        "CREATE TEMPORARY TABLE t AS SELECT 1",
        "CREATE MATERIALIZED VIEW v AS SELECT 1",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/x'",
        "CREATE INDEX i ON t (a)",
        "ALTER TABLE t ADD COLUMN a INT",
        "SELECT * FROM t VERSION AS OF 3",
        "SELECT * FROM t TIMESTAMP AS OF '2024-01-01'",
        "SELECT * FROM t FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01'",
        "SELECT * INTO t FROM s",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "SELECT * FROM t FOR UPDATE",
        "OPTIMIZE t",
        "VACUUM t",
        "EXPLAIN INSERT INTO t VALUES (1)",
        "EXPLAIN CREATE TABLE t AS SELECT 1",
        "EXPLAIN COPY t TO 'x'",
        "DROP FUNCTION f",
        "DROP TABLE a, b",
        "DROP SCHEMA s CASCADE",
        "BEGIN",
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
    line 1, column 8: CREATE OR REPLACE TABLE is not supported yet (DROP TABLE IF EXISTS, then CREATE TABLE)
    line 1, column 8: CREATE TEMPORARY is not supported yet (a view or WITH names a query)
    line 1, column 8: CREATE MATERIALIZED VIEW is not supported yet (CREATE TABLE … AS SELECT …)
    line 1, column 8: CREATE FUNCTION is not supported yet
    line 1, column 23: CREATE EXTERNAL TABLE of anything but STORED AS PARQUET is not supported yet
    line 1, column 8: CREATE of anything but a table, view or schema is not supported yet
    line 1, column 1: ALTER is not supported yet
    line 1, column 17: VERSION AS OF is not supported yet (without it, a query reads the newest snapshot)
    line 1, column 17: TIMESTAMP AS OF is not supported yet (without it, a query reads the newest snapshot)
    line 1, column 21: FOR SYSTEM_TIME AS OF is not supported yet (without it, a query reads the newest snapshot)
    line 1, column 1: SELECT INTO is not supported yet
    line 1, column 1: INSERT inside of a query is not supported yet
    line 1, column 1: FOR UPDATE is not supported yet
    line 1, column 1: OPTIMIZE is not supported yet
    line 1, column 1: VACUUM is not supported yet
    line 1, column 1: EXPLAIN of anything but a query is not supported yet
    line 1, column 1: EXPLAIN of anything but a query is not supported yet
    line 1, column 1: EXPLAIN of anything but a query is not supported yet
    line 1, column 6: DROP of anything but a table, view or schema is not supported yet
    line 1, column 6: DROP of several names at once is not supported yet (write one DROP for each)
    line 1, column 6: DROP … CASCADE is not supported yet (drop what is inside first)
    line 1, column 1: BEGIN is not supported yet (every statement is committed by itself)
    line 1, column 1: GRANT is not supported yet
    line 1, column 1: PREPARE is not supported yet
    line 1, column 1: USE is not supported yet (write the schema before the name, as in schema.name)
    "#);
}

#[test]
fn time_travel_is_not_taken_for_an_alias() {
    for sql in [
        "SELECT version AS of FROM t",
        "SELECT a AS version, b AS of FROM t",
        "SELECT timestamp AS of, a FROM t",
    ] {
        assert!(parse(sql).is_ok(), "{}", told(sql));
    }
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
            Body::Show(Show::Columns { table }) => assert_eq!(table.to_string(), "s.t"),
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
