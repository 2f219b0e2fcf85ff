//! What happens between processes: task control over our own gRPC service, rows over Arrow Flight.
//!
//! One call of `Tasks.Run` per task, from the job's coordinator, open as long as the job; one Flight `DoGet`
//! per pair of consumer and producer task, its partitions tagged in the messages' metadata. Workers call
//! workers the same way as the master does.
//!
//! The sockets are served by a thread of their own ([`network`]), so that a keepalive answers while
//! all compute threads are busy; nothing that decodes, encodes or runs a plan may run there.
//!
//! Read next: [`client`] (implements the library's `WorkerChannel`), [`server`] (calls the library's
//! `Worker`), [`demux`] (how one call feeds many partitions without starving any).

pub(crate) mod auth;
pub(crate) mod client;
mod codec;
mod compact;
mod demux;
mod metrics;
pub(crate) mod network;
pub(crate) mod server;
mod status;
mod sweep;
mod ticket;
