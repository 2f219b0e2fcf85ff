//! Subqueries mean what SQL says, in queries and in statements that write.
//!
//! Expected rows are what DuckDB 1.5 and PostgreSQL 17 answer to the same statements.

use crate::lake::Home;

const MANY: &str = "more than one row returned by a subquery used as an expression";

async fn tables() -> Home {
    let home = Home::new().await;
    for sql in [
        "CREATE TABLE t AS SELECT * FROM (VALUES (1, 'keep'), (2, 'goes')) v(a, w)",
        "CREATE TABLE s AS SELECT * FROM (VALUES (2), (2)) v(b)",
        "CREATE TABLE one AS SELECT * FROM (VALUES (2)) v(b)",
        "CREATE TABLE n AS SELECT * FROM (VALUES (1, 1), (2, 2), (NULL, 3)) v(a, b)",
        "CREATE TABLE x AS SELECT * FROM (VALUES (1), (NULL)) v(x)",
    ] {
        home.wrote(sql).await;
    }
    home
}

#[tokio::test]
async fn a_subquery_that_stands_for_a_value_yields_one_row() {
    let home = tables().await;
    for sql in [
        "SELECT a FROM t WHERE a = (SELECT b FROM s)",
        "SELECT a, (SELECT b FROM s) FROM t",
        "DELETE FROM t WHERE a = (SELECT b FROM s)",
        "UPDATE t SET a = (SELECT b FROM s)",
        "UPDATE t SET w = 'x' WHERE a = (SELECT b FROM s)",
    ] {
        let refused = home.refused(sql).await;
        assert!(refused.contains(MANY), "{sql}: {refused}");
    }
    for (sql, rows) in [
        (
            "SELECT a FROM t WHERE a = (SELECT b FROM one)",
            &["2"] as &[_],
        ),
        ("SELECT a FROM t WHERE a = (SELECT max(b) FROM s)", &["2"]),
        (
            "SELECT a FROM t WHERE a = (SELECT b FROM s LIMIT 1)",
            &["2"],
        ),
        ("SELECT (SELECT b FROM one WHERE b > 5) IS NULL", &["true"]),
        (
            "SELECT a, (SELECT b FROM one) + 1 AS c FROM t ORDER BY a",
            &["1|3", "2|3"],
        ),
    ] {
        assert_eq!(home.rows(sql).await, rows, "{sql}");
    }
    home.wrote("DELETE FROM t WHERE a = (SELECT b FROM one)")
        .await;
    assert_eq!(home.rows("SELECT * FROM t").await, ["1|keep"]);
}

#[tokio::test]
async fn exists_over_an_aggregate_holds_for_no_rows_too() {
    let home = tables().await;
    for (condition, rows) in [
        ("EXISTS (SELECT count(*) FROM s WHERE s.b = t.a + 10)", "2"),
        (
            "NOT EXISTS (SELECT max(b) FROM s WHERE s.b = t.a + 10)",
            "0",
        ),
        ("EXISTS (SELECT b FROM s WHERE s.b = t.a)", "1"),
        (
            "EXISTS (SELECT b, count(*) FROM s WHERE s.b = t.a GROUP BY b)",
            "1",
        ),
    ] {
        let sql = format!("SELECT count(*) FROM t WHERE {condition}");
        assert_eq!(home.rows(&sql).await, [rows], "{sql}");
    }
    let refused = home
        .refused("SELECT a FROM t WHERE EXISTS (SELECT count(*) FROM s WHERE s.b = t.a HAVING count(*) > 1)")
        .await;
    assert!(refused.contains("HAVING"), "{refused}");
}

#[tokio::test]
async fn not_in_knows_nulls_where_it_names_columns_around_it() {
    let home = tables().await;
    for (condition, rows) in [
        (
            "a NOT IN (SELECT x FROM x WHERE x.x < n.b + 100)",
            &["2|2"] as &[_],
        ),
        (
            "a NOT IN (SELECT x FROM x WHERE x.x < n.b - 1)",
            &["1|1", "2|2"],
        ),
        (
            "NOT (a IN (SELECT x FROM x WHERE x.x IS NULL AND n.b > 1))",
            &["1|1"],
        ),
        (
            "a NOT IN (SELECT x FROM x WHERE n.b > 100)",
            &["1|1", "2|2", "null|3"],
        ),
    ] {
        let sql = format!("SELECT a, b FROM n WHERE {condition} ORDER BY b");
        assert_eq!(home.rows(&sql).await, rows, "{sql}");
    }
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let home = tables().await;
    for (sql, why) in [
        (
            "CREATE TABLE y AS SELECT a IN (SELECT b FROM s) AS f FROM t",
            "IN (SELECT …) is supported in WHERE and HAVING only",
        ),
        (
            "SELECT a, EXISTS (SELECT 1 FROM s WHERE s.b = t.a) FROM t",
            "EXISTS is supported in WHERE and HAVING only",
        ),
        (
            "UPDATE n SET b = CASE WHEN a IN (SELECT b FROM s) THEN 1 ELSE 0 END",
            "IN (SELECT …) is supported in WHERE and HAVING only",
        ),
    ] {
        let refused = home.refused(sql).await;
        assert!(refused.contains(why), "{sql}: {refused}");
    }
}
