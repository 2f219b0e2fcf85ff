//! The one node that writes: staged files in, one row per file out.
//!
//! Every statement that writes becomes an ordinary query under a `LakeWrite` node. Its physical side,
//! `LakeWriteExec`, has as many partitions as its input; each writes files with UUID names through
//! [`drumline_lake::Writer`] and answers with one row per file. Nothing is visible before the master
//! commits the rows of the one attempt that succeeded, so a task that ran twice leaves orphans, never
//! duplicates. This module never commits.

mod action;
mod codec;
mod exec;
mod logical;
mod planner;
mod rows;
#[cfg(test)]
mod tests;

pub use action::Counts;
pub(crate) use action::{ACTION, Action, PLACE};
pub(crate) use codec::LakeWriteCodec;
pub(crate) use logical::LakeWrite;
pub(crate) use planner::LakePlanner;
pub use rows::{staged_counts, staged_files};
