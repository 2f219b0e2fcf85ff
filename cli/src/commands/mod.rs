//! One file per command: its arguments, and what it does with them.

pub(crate) mod apps;
pub(crate) mod cancel;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod generate;
mod holder;
pub(crate) mod init;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod master;
pub(crate) mod replay;
pub(crate) mod sql;
pub(crate) mod stages;
pub(crate) mod stream;
pub(crate) mod submit;
pub(crate) mod tasks;
pub(crate) mod token;
pub(crate) mod tuning;
pub(crate) mod up;
mod verified;
pub(crate) mod worker;
pub(crate) mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;

use drumline_security::check_exposure;

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

/// How a master or worker is protected.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Exposure {
    /// Encrypt all connections, with the certificates in this folder (`drumline init` makes them); master and
    /// workers know each other by them
    #[arg(long, value_name = "DIR", env = "DRUMLINE_TLS")]
    pub(crate) tls: Option<PathBuf>,
    /// Listen beyond this machine without TLS: tokens and rows can be read by everyone on the way
    #[arg(long, env = "DRUMLINE_INSECURE_NO_TLS")]
    insecure_no_tls: bool,
    /// Ask nobody who they are: whoever reaches the master's port can read and write the lake, and change
    /// everything
    #[arg(long, env = "DRUMLINE_INSECURE_NO_AUTHENTICATION")]
    pub(crate) insecure_no_authentication: bool,
}

impl Exposure {
    /// Refuses an address that others can reach, unless it is protected or the risk was taken by name.
    pub(crate) fn check(&self, listen: SocketAddr) -> Result {
        let exposure = drumline_security::Exposure {
            tls: self.tls.is_some(),
            accept_no_tls: self.insecure_no_tls,
            accept_no_authentication: self.insecure_no_authentication,
        };
        check_exposure(listen, exposure).map_err(|error| {
            Failure::usage(error.to_string()).hint(error.hint().unwrap_or_default())
        })
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
    fn an_open_address_needs_protection_or_its_risk_named() {
        let open = "0.0.0.0:7077".parse().unwrap();
        let nothing = Exposure::default();
        assert!(nothing.check(open).is_err());
        assert!(nothing.check("127.0.0.1:0".parse().unwrap()).is_ok());
        for protected in [
            Exposure {
                tls: Some("tls".into()),
                ..Exposure::default()
            },
            Exposure {
                insecure_no_tls: true,
                ..Exposure::default()
            },
            Exposure {
                insecure_no_authentication: true,
                ..Exposure::default()
            },
        ] {
            assert!(protected.check(open).is_ok());
        }
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
