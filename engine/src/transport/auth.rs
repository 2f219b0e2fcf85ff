//! What calls between master and workers carry: the build, and where there are no certificates, a pass.
//!
//! Who may call what is the gate's to say ([`doors`]); that both are of one build is looked at here.

use drumline_proto::BUILD;
use drumline_security::{Doors, Passes, Role};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::{Request, Status};
use url::Url;

use crate::Result;

const AUTHORIZATION: &str = "authorization";
const BUILD_KEY: &str = "drumline-build";

/// The ways into a worker: its tasks for the master alone, rows for master and workers.
pub(crate) fn doors() -> Doors {
    Doors::new()
        .rpc("/drumline.v1.Tasks/Run", Role::Master)
        .rpc("/arrow.flight.protocol.FlightService/DoGet", Role::Worker)
}

/// What a call is for: each has a pass of its own.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// Of the worker at this URL.
    Control(Url),
    Rows,
}

/// The client's side: says who calls.
#[derive(Clone)]
pub(crate) struct Present {
    passes: Option<Passes>,
    purpose: Purpose,
}

impl Present {
    pub(crate) fn new(passes: Option<Passes>, purpose: Purpose) -> Self {
        Self { passes, purpose }
    }
}

impl Interceptor for Present {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(BUILD_KEY, MetadataValue::from_static(BUILD));
        let bearer = self.passes.as_ref().and_then(|passes| match &self.purpose {
            Purpose::Control(url) => passes.control_bearer(url.as_str()),
            Purpose::Rows => passes.rows_bearer(),
        });
        if let Some(bearer) = bearer {
            let mut value = MetadataValue::try_from(format!("Bearer {bearer}"))
                .map_err(|_| Status::internal("a pass cannot be sent as a header"))?;
            value.set_sensitive(true);
            metadata.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// The server's side: lets in callers of this build.
#[derive(Clone)]
pub(crate) struct SameBuild;

impl Interceptor for SameBuild {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match request
            .metadata()
            .get(BUILD_KEY)
            .and_then(|build| build.to_str().ok())
        {
            Some(BUILD) => Ok(request),
            Some(other) => Err(Status::failed_precondition(format!(
                "this worker is build {BUILD}, the caller is build {other}"
            ))),
            None => Err(Status::failed_precondition(
                "the caller does not say which build it is",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(passes: &Passes, purpose: Purpose) -> Option<String> {
        let request = Present::new(Some(passes.clone()), purpose)
            .call(Request::new(()))
            .unwrap();
        let value = request.metadata().get(AUTHORIZATION)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn rows_and_control_are_asked_for_with_passes_of_their_own() {
        let master = Passes::of_master().unwrap();
        let worker = Passes::none_yet();
        assert_eq!(header(&worker, Purpose::Rows), None);
        let url = Url::parse("http://127.0.0.1:1").unwrap();
        let other = Url::parse("http://127.0.0.1:2").unwrap();
        let (rows, control) = master.for_worker(url.as_str()).unwrap();
        worker.accept(&rows, &control).unwrap();
        assert_eq!(header(&worker, Purpose::Control(url.clone())), None);
        assert_eq!(
            header(&worker, Purpose::Rows),
            header(&master, Purpose::Rows)
        );
        let shown = header(&master, Purpose::Control(url));
        assert_ne!(shown, header(&master, Purpose::Rows));
        assert_ne!(shown, header(&master, Purpose::Control(other)));
    }

    #[test]
    fn a_caller_of_this_build_is_let_in() {
        let request = Present::new(None, Purpose::Rows)
            .call(Request::new(()))
            .unwrap();
        assert!(SameBuild.call(request).is_ok());
        assert!(SameBuild.call(Request::new(())).is_err());
    }

    #[test]
    fn another_build_is_refused_by_name() {
        let mut request = Request::new(());
        request
            .metadata_mut()
            .insert(BUILD_KEY, MetadataValue::from_static("0.0.0-other"));
        let status = SameBuild.call(request).unwrap_err();
        assert!(status.message().contains("0.0.0-other"), "{status}");
    }
}
