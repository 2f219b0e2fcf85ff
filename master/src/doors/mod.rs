//! Who may come in to this master: its tokens, certificates and passes, and the table of its ways in.
//!
//! Every call passes the gate made here before it reaches a service. What is not in a table is not there:
//! whoever adds a method to a service adds it to [`rpc`], whoever adds a route keeps a table beside it and
//! adds that where `server.rs` puts the routes together.

mod service;
mod session;

use std::num::NonZeroU32;

use drumline_security::local::{self, Announcement, TOKEN_FILE, WORKER_TOKEN_FILE};
use drumline_security::{Access, Certificates, Doors, Gate, Pace, Passes, Role, Seal, Tokens};
use utoipa_axum::router::OpenApiRouter;

use crate::options::Authentication;
use crate::{Options, Result};

pub(crate) use service::AccessService;

/// Far above what a page, a dashboard or a scheduler asks; a client in a loop is slowed down to it.
const PACE: Pace = Pace {
    per_second: NonZeroU32::MIN.saturating_add(499),
    burst: NonZeroU32::MIN.saturating_add(1999),
};

/// Signs result tickets and sessions; kept, so that both survive a restart.
const SEAL_FILE: &str = "seal.key";

/// What decides who comes in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) tokens: Tokens,
    pub(crate) seal: Seal,
    pub(crate) passes: Passes,
    pub(crate) certificates: Option<Certificates>,
    authentication: Authentication,
}

impl Keeper {
    /// Reads what the state folder holds, and makes what it lacks. The folder must be this process's own.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let seal = Seal::kept(&options.state_dir.join(SEAL_FILE))?;
        let tokens = Tokens::open(&options.state_dir, seal.clone())?;
        for (file, name, role) in [
            (TOKEN_FILE, "local", Role::Admin),
            (WORKER_TOKEN_FILE, "local workers", Role::Worker),
        ] {
            tokens.kept_in(&options.state_dir.join(file), name, role)?;
        }
        let certificates = options
            .tls
            .as_deref()
            .map(|folder| Certificates::load(folder, Role::Master))
            .transpose()?;
        Ok(Self {
            tokens,
            seal,
            passes: Passes::of_master()?,
            certificates,
            authentication: options.authentication,
        })
    }

    /// Tells this user's other processes where their tokens are, while the answer is held.
    pub(crate) fn announce(
        &self,
        options: &Options,
        address: std::net::SocketAddr,
    ) -> Option<Announcement> {
        let folder = options.announce_in.as_deref()?;
        let ca = self.certificates.as_ref().map(Certificates::authority_file);
        match local::announce(folder, address, &options.state_dir, ca) {
            Ok(announcement) => Some(announcement),
            Err(error) => {
                tracing::warn!(%error, "clients of this user will not find their token by themselves");
                None
            }
        }
    }

    /// The gate before everything that is served.
    pub(crate) fn gate(&self, doors: Doors) -> Gate {
        match self.authentication {
            Authentication::Tokens => Gate::new(doors, self.tokens.clone(), Some(PACE)),
            Authentication::Nobody => {
                tracing::warn!("nobody is asked who they are: everybody is an admin");
                Gate::open_to_everybody(doors, Some(PACE))
            }
        }
    }

    /// Signing in and out of the page.
    pub(crate) fn session_routes<S: Clone + Send + Sync + 'static>(&self) -> OpenApiRouter<S> {
        session::routes(self.tokens.clone())
    }

    /// Writes down when tokens were last used.
    pub(crate) fn write_last_used(&self) {
        if let Err(error) = self.tokens.write_last_used() {
            tracing::warn!(%error, "when tokens were last used is not written down");
        }
    }
}

/// Every method of the master's services.
pub(crate) fn rpc() -> Doors {
    Doors::new()
        .rpc("/drumline.v1.Access/CreateToken", Role::Admin)
        .rpc("/drumline.v1.Access/ListTokens", Role::Admin)
        .rpc("/drumline.v1.Access/RevokeToken", Role::Admin)
        .rpc("/drumline.v1.Applications/Submit", Role::Submit)
        .rpc("/drumline.v1.Applications/Watch", Role::Read)
        .rpc("/drumline.v1.Applications/Cancel", Role::Submit)
        .rpc("/drumline.v1.Applications/ListTables", Role::Read)
        .rpc("/drumline.v1.Cluster/Join", Role::Worker)
        .rpc("/drumline.v1.Cluster/Status", Role::Read)
        .rpc("/drumline.v1.Cluster/Drain", Role::Admin)
        .rpc("/drumline.v1.Streams/Apply", Role::Submit)
        .rpc("/drumline.v1.Streams/List", Role::Read)
        .rpc("/drumline.v1.Streams/Status", Role::Read)
        .rpc("/drumline.v1.Streams/Pause", Role::Submit)
        .rpc("/drumline.v1.Streams/Resume", Role::Submit)
        .rpc("/drumline.v1.Streams/Delete", Role::Submit)
        .rpc("/drumline.v1.Streams/Verify", Role::Read)
        .rpc("/drumline.v1.Streams/Reset", Role::Submit)
        .rpc("/drumline.v1.Streams/ReplayDeadLetters", Role::Submit)
        // A result is fetched once, and given up by who hangs up: it is for those who could have asked for it.
        .rpc("/arrow.flight.protocol.FlightService/DoGet", Role::Submit)
}

/// What holds no data: whether the master lives, and the page without its contents. Signing in asks for the
/// token itself.
pub(crate) fn public() -> Doors {
    Doors::new()
        .get("/", Access::Public)
        .get("/assets/{*path}", Access::Public)
        .get("/healthz", Access::Public)
        .get("/readyz", Access::Public)
        .and(session::doors())
}

#[cfg(test)]
mod tests {
    use drumline_security::Access;

    use super::*;

    /// The methods that Flight has; Drumline serves one of them.
    const FLIGHT: [&str; 10] = [
        "Handshake",
        "ListFlights",
        "GetFlightInfo",
        "PollFlightInfo",
        "GetSchema",
        "DoGet",
        "DoPut",
        "DoExchange",
        "DoAction",
        "ListActions",
    ];

    #[test]
    fn every_method_of_the_contracts_has_a_door_or_is_a_workers() {
        for method in drumline_proto::METHODS {
            let access = rpc().access(&http::Method::POST, method);
            let is_workers = method.starts_with("/drumline.v1.Tasks/");
            assert_eq!(access.is_none(), is_workers, "{method}");
            assert_ne!(access, Some(Access::Public), "{method}");
        }
        for method in FLIGHT {
            let path = format!("/arrow.flight.protocol.FlightService/{method}");
            let access = rpc().access(&http::Method::POST, &path);
            assert_eq!(access.is_some(), method == "DoGet", "{method}");
        }
    }

    #[test]
    fn every_door_leads_to_a_method_that_there_is() {
        for door in rpc().all() {
            let is_ours = drumline_proto::METHODS.contains(&door.path.as_str());
            let is_flight = door
                .path
                .starts_with("/arrow.flight.protocol.FlightService/");
            assert!(is_ours || is_flight, "{}", door.path);
        }
    }
}
