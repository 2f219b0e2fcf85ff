//! A lake whose writers die and whose store fails, one statement at a time, and the count of what is left.
//!
//! [`plan`] says what goes wrong in a seed, [`rows`] what a statement makes of a table's rows, [`seed`] does it with
//! a real cluster ([`mod@bench`]) on the stand-in for Google Cloud Storage, and [`table`] counts what is there without
//! asking Drumline: from logs, records and Parquet files. [`proofs`] shows that the count is worth something: each
//! takes away one guard of the product and expects the checks to see it. [`writers`] is many at once, with no faults
//! at all.

pub mod bench;
pub mod plan;
pub mod proofs;
pub mod rows;
pub mod seed;
pub mod table;
pub mod writers;

/// The bucket of all of them.
pub const BUCKET: &str = "lake";

/// The lake's folder in it.
pub const ROOT: &str = "root";
