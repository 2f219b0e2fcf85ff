//! Reaching a cluster: the SDK's client, with its errors as exit codes.

use std::time::Duration;

use drumline_client::{Client, Error, Kind, Options};
use drumline_security::{Token, local};

use crate::config::{Master, shown};
use crate::failure::{Code, Failure, OrFail as _, Result};

/// How long a master may take to answer at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Connects to a master, with the token that is found for it.
pub(crate) async fn connect(master: &Master) -> Result<Client> {
    let url = shown(&master.url);
    let found = found(master)?;
    let mut options = Options::default();
    options.token = found.token.map(|token| token.text().to_owned());
    options.ca = found.ca;
    options.find = false;
    let connected = Client::connect_with(url, options).await;
    connected.map_err(|error| match error {
        // Whatever it was, it happened while asking who is there.
        Error::Failure(reason) => Failure::unreachable(format!(
            "cannot reach a master at {url}: what answers there is none: {reason}"
        ))
        .hint("start one with `drumline up`, or name yours with --master or DRUMLINE_MASTER"),
        other => other.into(),
    })
}

/// How the master's HTTP side is reached.
pub(crate) struct HttpAccess {
    pub(crate) http: reqwest::Client,
    pub(crate) token: Option<Token>,
}

/// How a master is reached over HTTP: with the same token and trust as over gRPC.
pub(crate) fn http_access(master: &Master) -> Result<HttpAccess> {
    let found = found(master)?;
    let mut http = reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .no_proxy();
    if let Some(pem) = &found.ca {
        let authority = reqwest::Certificate::from_pem(pem)
            .or_usage(|| "the authority's certificate cannot be read".to_owned())?;
        http = http.tls_certs_only([authority]);
    }
    Ok(HttpAccess {
        http: http
            .build()
            .or_fail(|| "cannot make an HTTP client".to_owned())?,
        token: found.token,
    })
}

/// What lets us in to a master.
fn found(master: &Master) -> Result<local::Found> {
    local::find(
        master.url.host_str().unwrap_or_default(),
        master.url.port_or_known_default().unwrap_or_default(),
        local::Wanted::Users,
        &master.given,
        &|name| std::env::var(name).ok(),
    )
    .map_err(|error| Failure::usage(error.to_string()).hint(error.hint().unwrap_or_default()))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if matches!(error, Error::Cancelled { .. }) {
            return Failure::cancelled();
        }
        let code = match &error {
            Error::Unreachable { .. } => Code::Unreachable,
            Error::Address { .. }
            | Error::StreamFile { .. }
            | Error::NoAuthority { .. }
            | Error::Credentials { .. } => Code::Usage,
            // Refused before anything was kept: the file is wrong, or what it names does not answer.
            Error::StreamRefused { failure, .. } => match failure.kind {
                Kind::User => Code::Usage,
                Kind::Retryable => Code::Unreachable,
                Kind::Bug => Code::Failed,
            },
            // The command was used rightly; the job failed.
            _ => Code::Failed,
        };
        let hint = error.hint().or_else(|| default_hint(error.kind()));
        Failure::new(code, error.to_string()).hint(hint.unwrap_or_default())
    }
}

fn default_hint(kind: Kind) -> Option<String> {
    match kind {
        Kind::User => None,
        Kind::Retryable => Some("this may pass: try again".to_owned()),
        Kind::Bug => {
            Some("this is a defect of Drumline: please report it with the master's log".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use drumline_client::Failure as Reported;

    use super::*;

    fn refused(kind: Kind) -> Failure {
        let failure = Reported {
            kind,
            message: "no broker answered".to_owned(),
            hint: None,
            ordinal: 0,
            position: None,
        };
        Error::StreamRefused {
            stream: "beatlytica".to_owned(),
            key: "brokers".to_owned(),
            failure: Box::new(failure),
        }
        .into()
    }

    #[test]
    fn a_refused_stream_is_usage_or_unreachable() {
        assert_eq!(refused(Kind::User).code, Code::Usage);
        assert_eq!(refused(Kind::Retryable).code, Code::Unreachable);
        assert!(refused(Kind::User).message.contains("brokers"));
    }

    #[test]
    fn a_failed_job_is_no_usage_error() {
        let failure = Reported {
            kind: Kind::User,
            message: "no table t".to_owned(),
            hint: None,
            ordinal: 0,
            position: None,
        };
        assert_eq!(
            Failure::from(Error::Failure(Box::new(failure))).code,
            Code::Failed
        );
    }

    #[test]
    fn being_cancelled_has_its_own_code() {
        let cancelled = Error::Cancelled {
            application: "a".to_owned(),
        };
        assert_eq!(Failure::from(cancelled).code, Code::Cancelled);
    }
}
