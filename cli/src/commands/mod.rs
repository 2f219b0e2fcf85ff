//! One file per command: its arguments, and what it does with them.

pub(crate) mod demo;
pub(crate) mod generate;
pub(crate) mod master;
pub(crate) mod replay;
pub(crate) mod sql;
pub(crate) mod stream;
pub(crate) mod submit;
pub(crate) mod up;
pub(crate) mod worker;

use std::net::SocketAddr;

use crate::failure::Failure;

/// A port that cannot be had, said the same way wherever it is noticed.
pub(crate) fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::failed(format!(
            "port {} on {} is in use",
            address.port(),
            address.ip()
        ))
        .hint("stop what listens there, or take another port (0 picks a free one)"),
        std::io::ErrorKind::PermissionDenied => {
            Failure::failed(format!("no right to listen on {address}"))
                .hint("ports below 1024 need privileges: take 7077")
        }
        _ => Failure::failed(format!("cannot listen on {address}: {error}")),
    }
}
