//! The connection to a master.

use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use drumline_proto::v1;
use drumline_security::{Connector, Trust, endpoint, local};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::{Error, Result, Streams, Tokens};

/// How to connect.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Sent with every call as `authorization: Bearer …`. None: looked for, as [`Options::find`] says.
    pub token: Option<String>,
    /// Certificate of the authority that the master's is signed by, in PEM; needed for `https://`. None: looked
    /// for.
    pub ca: Option<Vec<u8>>,
    /// Whether to look for what is not given: in `DRUMLINE_TOKEN`, `DRUMLINE_TOKEN_FILE` and `DRUMLINE_CA`, then
    /// with masters that this user runs on this machine.
    pub find: bool,
    /// How long to wait for the master to answer at all.
    pub connect_timeout: Duration,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("token", &self.token.as_ref().map(|_| "(redacted)"))
            .field("find", &self.find)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            token: None,
            ca: None,
            find: true,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// Token and authority: what is given, else what is found.
    fn credentials(&self, url: &url::Url) -> Result<(Option<String>, Option<Vec<u8>>)> {
        let (mut token, mut ca) = (self.token.clone(), self.ca.clone());
        if self.find && (token.is_none() || ca.is_none()) {
            let found = local::find(
                url.host_str().unwrap_or_default(),
                url.port_or_known_default().unwrap_or_default(),
                local::Wanted::Users,
                &local::Given::default(),
                &|name| std::env::var(name).ok(),
            )
            .map_err(Error::credentials)?;
            token = token.or(found.token.map(|token| token.text().to_owned()));
            ca = ca.or(found.ca);
        }
        Ok((token, ca))
    }
}

/// A connection to a master; cheap to clone, all clones share it. It mends itself when the master
/// comes back.
#[derive(Debug, Clone)]
pub struct Client {
    url: String,
    transport: Transport,
}

pub(crate) type Transport = InterceptedService<Channel, Token>;

/// Rows come in batches of any size; the master's own limit is the one that counts.
pub(crate) const MAX_MESSAGE: usize = 256 << 20;

impl Client {
    /// Connects to `http://HOST:PORT` or `https://HOST:PORT` with the token that is found, and checks that a master of this release answers.
    ///
    /// # Errors
    /// [`Error::Address`] for what is no address, [`Error::Unreachable`] when nobody answers.
    pub async fn connect(url: &str) -> Result<Client> {
        Client::connect_with(url, Options::default()).await
    }

    /// The same with a token or another time limit.
    pub async fn connect_with(url: &str, options: Options) -> Result<Client> {
        let address = |reason: String| Error::Address {
            url: url.to_owned(),
            reason,
        };
        let full = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let parsed = url::Url::parse(&full).map_err(|error| address(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(address(format!(
                "{} is not a scheme that a master speaks",
                parsed.scheme()
            )));
        }
        let (token, ca) = options.credentials(&parsed)?;
        let trust = match (parsed.scheme(), ca) {
            ("http", _) => Trust::Plain,
            (_, Some(ca)) => Trust::authority(&ca).map_err(|error| address(error.to_string()))?,
            (_, None) => return Err(Error::NoAuthority { url: full }),
        };
        let endpoint = endpoint(&full)
            .map_err(|error| address(error.to_string()))?
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(20))
            .initial_connection_window_size(16 << 20)
            .initial_stream_window_size(8 << 20);
        let token = Token::new(token.as_deref()).map_err(address)?;
        let channel = endpoint
            .connect_with_connector(Connector::new(trust))
            .await
            .map_err(|error| Error::unreachable(&full, &error))?;
        let client = Client {
            url: full,
            transport: InterceptedService::new(channel, token),
        };
        let Ok(answer) =
            tokio::time::timeout(options.connect_timeout, client.cluster_status()).await
        else {
            let reason = format!(
                "no answer within {} s",
                options.connect_timeout.as_secs_f32()
            );
            return Err(Error::Unreachable {
                url: client.url,
                reason,
            });
        };
        answer?;
        Ok(client)
    }

    /// Where the master is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The cluster's name, its lake, and its workers.
    pub async fn cluster_status(&self) -> Result<v1::ClusterStatusResponse> {
        let mut cluster = v1::cluster_client::ClusterClient::new(self.transport.clone());
        let answer = cluster.status(v1::ClusterStatusRequest {}).await;
        Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// Lets a worker leave in good order. Returns at once; the cluster's status shows it until it has left.
    pub async fn drain_worker(&self, worker: &str) -> Result<()> {
        let mut cluster = v1::cluster_client::ClusterClient::new(self.transport.clone());
        let worker_id = worker.to_owned();
        let answer = cluster.drain(v1::DrainRequest { worker_id }).await;
        answer.map_err(|status| self.failed(&status))?;
        Ok(())
    }

    /// Tables and views that a session can see.
    pub async fn tables(&self) -> Result<Vec<v1::TableEntry>> {
        let answer = self
            .applications()
            .list_tables(v1::ListTablesRequest {})
            .await;
        Ok(answer
            .map_err(|status| self.failed(&status))?
            .into_inner()
            .tables)
    }

    /// Standing consumers.
    pub fn streams(&self) -> Streams {
        Streams::new(self.clone())
    }

    /// Who may come in; for admins.
    pub fn tokens(&self) -> Tokens {
        Tokens::new(self.clone())
    }

    pub(crate) fn access(&self) -> v1::access_client::AccessClient<Transport> {
        v1::access_client::AccessClient::new(self.transport.clone())
    }

    pub(crate) fn applications(&self) -> v1::applications_client::ApplicationsClient<Transport> {
        v1::applications_client::ApplicationsClient::new(self.transport.clone())
            .max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn streams_service(&self) -> v1::streams_client::StreamsClient<Transport> {
        v1::streams_client::StreamsClient::new(self.transport.clone())
    }

    pub(crate) fn flight(&self) -> FlightServiceClient<Transport> {
        FlightServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn failed(&self, status: &tonic::Status) -> Error {
        Error::from_status(&self.url, status)
    }
}

/// Puts the token on each call.
#[derive(Debug, Clone)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    fn new(token: Option<&str>) -> std::result::Result<Token, String> {
        let Some(token) = token else {
            return Ok(Token(None));
        };
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| "the token holds characters that cannot be sent".to_owned())?;
        value.set_sensitive(true);
        Ok(Token(Some(value)))
    }
}

impl Interceptor for Token {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> std::result::Result<tonic::Request<()>, tonic::Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}
