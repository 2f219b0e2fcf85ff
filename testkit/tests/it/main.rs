//! Whole clusters of real processes, and the test parts themselves: a stand-in that is wrong would
//! prove nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broker;
mod cancels;
mod changes;
mod chaos;
mod consumer;
mod cutover;
mod dead_letters;
mod demo;
mod doctor;
mod doors;
mod drains;
mod engines;
mod failures;
mod formats;
mod fresh;
mod ids;
mod kafka_sql;
mod lakes;
mod lookups;
mod memory;
mod metrics;
mod payloads;
mod plain_consumer;
mod positions;
mod queries;
mod readme;
mod records;
mod recreated;
mod refusals;
mod restarts;
mod routes;
mod s3;
mod secured;
mod several_brokers;
mod statements;
mod stores;
mod terminal;
mod topics;
mod traces;
mod verify;
