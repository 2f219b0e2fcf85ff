//! A few seeds of `cargo xtask chaos statements`.

use drumline_testkit::statements;

#[test]
fn random_statements_are_answered_as_duckdb_answers_them() {
    let cluster = statements::cluster(2).unwrap();
    for seed in 0..5 {
        let report = statements::run(&cluster, seed);
        let report = report.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        println!("seed {seed}: {report}");
        assert!(report.answers > 0, "seed {seed}: {report}");
    }
}
