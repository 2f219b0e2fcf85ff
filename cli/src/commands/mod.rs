//! One file per command: its arguments, and what it does with them.

pub(crate) mod demo;
pub(crate) mod generate;
mod holder;
pub(crate) mod master;
pub(crate) mod replay;
pub(crate) mod sql;
pub(crate) mod stream;
pub(crate) mod submit;
pub(crate) mod up;
pub(crate) mod worker;

use std::net::SocketAddr;

use crate::failure::{Failure, Result};

/// A port that cannot be had, said the same way wherever it is noticed.
pub(crate) fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let by = holder::of(address.port())
                .map(|holder| format!(" by {holder}"))
                .unwrap_or_default();
            Failure::failed(format!("cannot listen on {address}: the port is in use{by}")).hint(
                "stop what listens there, or take a free port: `--listen 127.0.0.1:0`, with `drumline up` and \
                 `drumline demo` `--port 0`; clients then find it with `--master`",
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            Failure::failed(format!("cannot listen on {address}: no right to"))
                .hint("ports below 1024 need privileges: take 7077")
        }
        _ => Failure::failed(format!("cannot listen on {address}: {error}")),
    }
}

/// Where a master or worker listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Exposure {
    /// Let everyone on the network in: there is no authentication yet, and whoever reaches the port can
    /// read and write the lake
    #[arg(long, env = "DRUMLINE_INSECURE_NO_AUTHENTICATION")]
    insecure_no_authentication: bool,
}

impl Exposure {
    /// Refuses an address that others can reach, unless the risk was taken by name.
    pub(crate) fn check(&self, listen: SocketAddr) -> Result {
        if listen.ip().is_loopback() || self.insecure_no_authentication {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{listen} can be reached from other machines, and nothing there asks who calls"
        ))
        .hint("listen on 127.0.0.1, or take the risk with --insecure-no-authentication"))
    }
}

/// `KEY=VALUE`, for options that pass a setting on.
pub(crate) fn setting(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("a setting is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Exposure, setting};

    #[test]
    fn an_open_address_needs_its_risk_named() {
        let exposure = |insecure_no_authentication| Exposure {
            insecure_no_authentication,
        };
        let open = "0.0.0.0:7077".parse().unwrap();
        assert!(exposure(false).check(open).is_err());
        assert!(exposure(true).check(open).is_ok());
        assert!(
            exposure(false)
                .check("127.0.0.1:0".parse().unwrap())
                .is_ok()
        );
        assert!(exposure(false).check("[::1]:0".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_setting_is_split_at_its_first_equals_sign() {
        assert_eq!(
            setting("a.b = c=d").unwrap(),
            ("a.b".to_owned(), "c=d".to_owned())
        );
        assert!(setting("a.b").is_err());
        assert!(setting("=c").is_err());
    }
}
