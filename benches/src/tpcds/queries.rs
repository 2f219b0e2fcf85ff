//! The 99 queries, as DuckDB's extension writes them.

use anyhow::{Context, Result};

use super::data;
use crate::InProcess;
use crate::versus::Query;

/// A query that is not compared, and why.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// Which one.
    pub query: usize,
    /// What is wrong with it upstream, in words.
    pub reason: &'static str,
}

/// Queries that DataFusion cannot answer in one process, so that nothing is there to compare with.
pub const EXCEPTIONS: [Exception; 0] = [];

/// All queries that one process can answer, each with the keys that it is ordered by.
pub async fn all(peer: &InProcess) -> Result<Vec<Query>> {
    let texts: Vec<(usize, String)> = serde_json::from_slice(&data::call(&["queries"])?)?;
    let mut queries = Vec::with_capacity(texts.len());
    for (number, text) in texts {
        if let Some(exception) = EXCEPTIONS.iter().find(|it| it.query == number) {
            println!("q{number:02}  left out: {}", exception.reason);
            continue;
        }
        let sql = text.trim().trim_end_matches(';').trim_end().to_owned();
        let order_by = peer
            .order_by(&sql)
            .await
            .with_context(|| format!("q{number:02}"))?;
        let unlimited = without_limit(&sql);
        queries.push(Query {
            number,
            sql,
            order_by,
            unlimited,
        });
    }
    Ok(queries)
}

/// The text without its last line's `LIMIT n`, if it has one.
fn without_limit(sql: &str) -> Option<String> {
    let at = sql.to_ascii_uppercase().rfind("LIMIT")?;
    let (query, limit) = sql.split_at(at);
    let rows = limit.get("LIMIT".len()..)?.trim();
    let whole = !rows.is_empty() && rows.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| query.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_at_the_end_is_taken_away() {
        assert_eq!(
            without_limit("SELECT a FROM t\nLIMIT 100").as_deref(),
            Some("SELECT a FROM t")
        );
        assert_eq!(without_limit("SELECT (SELECT 1 LIMIT 1) FROM t"), None);
        assert_eq!(without_limit("SELECT a FROM t"), None);
    }
}
