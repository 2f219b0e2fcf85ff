//! The only door to librdkafka: settings, topics, the producer, and a cluster inside this process.
//!
//! The consumer side lives in `source.rs`, which builds its client from `settings.rs`.

pub(crate) mod context;
mod edges;
mod embedded;
pub(crate) mod headers;
pub(crate) mod ids;
mod oauth;
mod producer;
mod secrets;
pub(crate) mod settings;
mod topics;

pub(crate) use edges::edges;
pub use embedded::EmbeddedKafka;
pub use producer::Producer;
pub use secrets::Secrets;
pub use topics::{Brokers, ensure_topics, look};
pub(crate) use topics::{partition_counts, similar};
