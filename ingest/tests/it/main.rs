//! Whole pipelines: Kafka inside this process, a lake in a temporary folder, and a master played by
//! the test.

mod bed;
mod pipeline;
mod probe;
