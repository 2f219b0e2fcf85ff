//! Keeping tables fit: which files are worth writing anew, and what can be thrown away.
//!
//! Nothing here changes what a query answers. Files are rewritten by the one write path there is, and committed as
//! a rearrangement; what is thrown away is what no version within the retention names.

mod compaction;
mod lease;
mod staging;
mod vacuum;
mod wishes;

pub use compaction::Compaction;
pub use lease::{Candidate, Lease, Turn};
pub use vacuum::{Leftover, Vacuum, Vacuumed};
pub(crate) use vacuum::{finish, oldest_kept, relative};
pub use wishes::{Expired, Retention, Wishes};
