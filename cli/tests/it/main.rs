//! The real binary, as a user or a script meets it. Whole clusters are tested in `testkit`.

mod drumline;

mod cluster;
mod events;
mod usage;
