//! The 22 queries, each with the columns its answer is ordered by.

use crate::versus::Query;

macro_rules! query {
    ($file:literal, $order_by:expr) => {
        (
            include_str!(concat!("../../tpch/", $file, ".sql")),
            &$order_by,
        )
    };
}

const QUERIES: [(&str, &[usize]); 22] = [
    query!("q01", [0, 1]),
    query!("q02", [0, 2, 1, 3]),
    query!("q03", [1, 2]),
    query!("q04", [0]),
    query!("q05", [1]),
    query!("q06", []),
    query!("q07", [0, 1, 2]),
    query!("q08", [0]),
    query!("q09", [0, 1]),
    query!("q10", [2]),
    query!("q11", [1]),
    query!("q12", [0]),
    query!("q13", [1, 0]),
    query!("q14", []),
    query!("q15", [0]),
    query!("q16", [3, 0, 1, 2]),
    query!("q17", []),
    query!("q18", [4, 3]),
    query!("q19", []),
    query!("q20", [0]),
    query!("q21", [1, 0]),
    query!("q22", [0]),
];

/// All queries for data of this scale (query 11 has a parameter that depends on it).
pub fn all(scale: f64) -> Vec<Query> {
    // Decimal notation: the engine reads an exponent as a float.
    let fraction = format!("{:.12}", 0.0001 / scale);
    let queries = QUERIES.iter().enumerate();
    queries
        .map(|(index, (text, order_by))| Query {
            number: index + 1,
            sql: text.replace("{FRACTION}", &fraction),
            order_by: order_by.to_vec(),
            unlimited: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_in_its_place_with_its_parameters() {
        for query in all(0.1) {
            let head = format!("-- TPC-H Q{},", query.number);
            assert!(query.sql.starts_with(&head), "{}", query.sql);
            assert!(!query.sql.contains('{'), "{}", query.sql);
            assert_eq!(
                query.sql.contains("ORDER BY"),
                !query.order_by.is_empty(),
                "{head}"
            );
        }
        assert!(all(0.1)[10].sql.contains("* 0.001000000000"));
    }
}
