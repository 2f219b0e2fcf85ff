//! Keeps tables fit by itself, where their properties ask for it: small files put together, old rows and old files
//! thrown away.
//!
//! What is done is done by ordinary applications, which everybody sees and may cancel; here is only decided when
//! ([`machine`], pure) and said in SQL ([`needs`], pure). Of all masters of a lake one does it: the owner of the
//! newest epoch of its lease. Statements carry that epoch, and the lake refuses those of an older one.
//!
//! Must never change what a query answers, but for rows that a table's retention gives up.

mod machine;
mod needs;
mod runner;
#[cfg(test)]
mod tests;

pub(crate) use runner::{Parts, run};

/// The setting that tells in which epoch a statement of upkeep was begun.
pub(crate) const EPOCH: &str = "drumline.upkeep_epoch";

/// Who submits what upkeep does.
pub(crate) const SUBMITTER: &str = "upkeep";
