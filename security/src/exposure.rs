//! Which addresses may be listened on with which protection.

use std::net::SocketAddr;

use crate::{Error, Result};

/// What protects an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Connections are TLS.
    pub tls: bool,
    /// `--insecure-no-tls`: tokens and rows may cross the network unencrypted.
    pub accept_no_tls: bool,
    /// `--insecure-no-authentication`: everybody may do everything.
    pub accept_no_authentication: bool,
}

/// Refuses an address that others reach without TLS and authentication, unless the risk was taken by name.
pub fn check_exposure(address: SocketAddr, exposure: Exposure) -> Result<()> {
    let protected = exposure.tls || exposure.accept_no_tls || exposure.accept_no_authentication;
    if address.ip().to_canonical().is_loopback() || protected {
        return Ok(());
    }
    Err(Error::Exposed {
        address,
        missing: "what it sends there, tokens included, would be readable for everyone on the way",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_unprotected() {
        let bare = Exposure::default();
        for (address, is_open) in [
            ("127.0.0.1:1", false),
            ("127.8.8.8:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("10.0.0.1:1", true),
            ("[::ffff:10.0.0.1]:1", true),
            ("169.254.1.1:1", true),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(check_exposure(address, bare).is_err(), is_open, "{address}");
            for taken in [
                Exposure { tls: true, ..bare },
                Exposure {
                    accept_no_tls: true,
                    ..bare
                },
                Exposure {
                    accept_no_authentication: true,
                    ..bare
                },
            ] {
                assert!(check_exposure(address, taken).is_ok(), "{address}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_ways_out() {
        let refused = check_exposure("0.0.0.0:7077".parse().unwrap(), Exposure::default());
        let hint = refused.unwrap_err().hint().unwrap();
        for way in [
            "--tls",
            "127.0.0.1",
            "--insecure-no-tls",
            "--insecure-no-authentication",
        ] {
            assert!(hint.contains(way), "{way}");
        }
    }
}
