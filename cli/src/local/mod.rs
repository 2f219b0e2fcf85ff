//! A cluster of real processes on this machine, as `up` and `demo` start it: one master and some
//! workers, each this same executable, everything under one folder.
//!
//! Nothing outlives a [`LocalCluster`]: children run in process groups of their own (so that Ctrl-C
//! reaches only us and the order of stopping is ours), are stopped by SIGTERM, then SIGKILL, and end by
//! themselves when this process dies, because the other end of their stdin closes.

mod cluster;
mod folder;
mod process;

pub(crate) use cluster::{Joined, LocalCluster, Lost, Options};
pub(crate) use folder::{Folder, lake_url};
