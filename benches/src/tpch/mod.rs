//! TPC-H: data and the 22 queries.
//!
//! The specification (tpc.org/tpch, version 3.0.1) defines data and queries; queries are its
//! templates with its validation parameters, so that answers can be compared with published ones.

mod data;
mod queries;

pub use data::{TABLES, generate};
pub use queries::all;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InProcess;

    /// The peer decides what is right: it must see all rows (clause 4.2.5 fixes their number), and
    /// an answer without rows would compare nothing.
    #[tokio::test]
    async fn one_process_sees_all_rows_and_answers_every_query() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        generate(0.01, &data).unwrap();
        let peer = InProcess::open(&data, &TABLES, 2).await.unwrap();
        for (table, rows) in [
            ("nation", 25),
            ("region", 5),
            ("supplier", 100),
            ("part", 2_000),
            ("partsupp", 8_000),
            ("customer", 1_500),
            ("orders", 15_000),
            ("lineitem", 60_175),
        ] {
            let batches = peer
                .collect(&format!("SELECT * FROM {table}"))
                .await
                .unwrap();
            let found: usize = batches.iter().map(|batch| batch.num_rows()).sum();
            assert_eq!(found, rows, "{table}");
        }
        for query in all(0.01) {
            let answer = peer.collect(&query.sql).await;
            let answer = answer.unwrap_or_else(|error| panic!("q{}: {error:#}", query.number));
            let rows: usize = answer.iter().map(|batch| batch.num_rows()).sum();
            assert!(rows > 0, "q{} is empty", query.number);
        }
    }
}
