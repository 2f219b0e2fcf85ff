//! Who may call: a bearer token and the build, on every call of both services.

use drumline_proto::BUILD;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::{Error, Result};

const AUTHORIZATION: &str = "authorization";
const BUILD_KEY: &str = "drumline-build";

/// The client's side: says who calls.
#[derive(Clone)]
pub(crate) struct Present {
    token: Option<MetadataValue<Ascii>>,
}

impl Present {
    pub(crate) fn new(token: Option<&str>) -> Result<Self> {
        Ok(Self {
            token: token.map(bearer).transpose()?,
        })
    }
}

impl Interceptor for Present {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(BUILD_KEY, MetadataValue::from_static(BUILD));
        if let Some(token) = &self.token {
            metadata.insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }
}

/// The server's side: lets in callers of this build, and with the token where there is one.
#[derive(Clone)]
pub(crate) struct Require {
    token: Option<MetadataValue<Ascii>>,
}

impl Require {
    pub(crate) fn new(token: Option<&str>) -> Result<Self> {
        Ok(Self {
            token: token.map(bearer).transpose()?,
        })
    }
}

impl Interceptor for Require {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata();
        if let Some(token) = &self.token {
            let given = metadata
                .get(AUTHORIZATION)
                .map(MetadataValue::as_bytes)
                .unwrap_or_default();
            if !same(given, token.as_bytes()) {
                return Err(Status::unauthenticated("no valid bearer token"));
            }
        }
        match metadata
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

fn bearer(token: &str) -> Result<MetadataValue<Ascii>> {
    MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Setting {
        key: "token".to_owned(),
        value: "…".to_owned(),
        reason: "a token is made of visible ASCII characters".to_owned(),
    })
}

/// Compares in a time that does not tell how much was right.
fn same(given: &[u8], expected: &[u8]) -> bool {
    given.len() == expected.len()
        && given
            .iter()
            .zip(expected)
            .fold(0, |acc, (a, b)| acc | (a ^ b))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(present: Option<&str>, require: Option<&str>) -> Result<Request<()>, Status> {
        let request = Present::new(present).unwrap().call(Request::new(()))?;
        Require::new(require).unwrap().call(request)
    }

    #[test]
    fn the_right_token_is_let_in() {
        assert!(called(Some("s3cret"), Some("s3cret")).is_ok());
        assert!(called(None, None).is_ok());
        assert!(called(Some("s3cret"), None).is_ok());
    }

    #[test]
    fn a_wrong_or_missing_token_is_refused() {
        for given in [None, Some("other!"), Some("s3cret-and-more")] {
            let status = called(given, Some("s3cret")).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{given:?}");
        }
    }

    #[test]
    fn another_build_is_refused_by_name() {
        let mut request = Request::new(());
        request
            .metadata_mut()
            .insert(BUILD_KEY, MetadataValue::from_static("0.0.0-other"));
        let status = Require::new(None).unwrap().call(request).unwrap_err();
        assert!(status.message().contains("0.0.0-other"), "{status}");
    }
}
