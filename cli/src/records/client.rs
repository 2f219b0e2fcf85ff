//! A small REST client: pages of records, one record, actions, and streams of lines.

use std::time::Duration;

use drumline_security::Token;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use crate::config::{Master, shown};
use crate::connect::{HttpAccess, http_access};
use crate::failure::{Code, Failure, OrFail as _, Result};

/// Records of one page; the most that the master gives.
const PAGE: usize = 1000;
/// How long the master may take to begin an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Longest line that is taken from the master.
const MAX_LINE: usize = 16 << 20;

/// Asks one master.
pub(crate) struct Client {
    http: reqwest::Client,
    master: Url,
    token: Option<Token>,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    message: String,
    #[serde(default)]
    hint: String,
}

impl Client {
    pub(crate) fn new(master: &Master) -> Result<Self> {
        let HttpAccess { http, token } = http_access(master)?;
        Ok(Self {
            http,
            master: master.url.clone(),
            token,
        })
    }

    /// Records of a list, the first `limit`; and whether there are more.
    pub(crate) async fn list(
        &self,
        path: &str,
        filters: &[(&str, String)],
        limit: usize,
    ) -> Result<(Vec<Box<RawValue>>, bool)> {
        let mut records = vec![];
        let mut after: Option<String> = None;
        while records.len() < limit {
            let wanted = (limit - records.len()).min(PAGE).to_string();
            let mut query: Vec<(&str, String)> = filters.to_vec();
            query.push(("limit", wanted));
            query.extend(after.take().map(|after| ("after", after)));
            let page: Page = self.json(path, &query).await?;
            records.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok((records, after.is_some()))
    }

    /// One record as it comes.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Box<RawValue>> {
        let url = self.url(path, &[]);
        self.decode(self.send(Method::GET, url).await?).await
    }

    /// Asks for something to be done.
    pub(crate) async fn post(&self, path: &[&str]) -> Result<StatusCode> {
        let url = self.url(path, &[]);
        Ok(self.send(Method::POST, url).await?.status())
    }

    /// An answer that comes line by line.
    pub(crate) async fn lines(&self, path: &str, query: &[(&str, String)]) -> Result<Lines> {
        let url = self.url(&[path], query);
        let answer = self.send(Method::GET, url).await?;
        Ok(Lines {
            chunks: Box::pin(answer.bytes_stream().map_ok(|chunk| chunk.to_vec())),
            held: vec![],
            master: shown(&self.master).to_owned(),
        })
    }

    async fn json<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T> {
        let url = self.url(&[path], query);
        self.decode(self.send(Method::GET, url).await?).await
    }

    async fn decode<T: for<'de> Deserialize<'de>>(&self, answer: Response) -> Result<T> {
        let bytes = answer.bytes().await.map_err(|error| self.broken(&error))?;
        serde_json::from_slice(&bytes)
            .or_fail(|| format!("cannot read what {} answered", shown(&self.master)))
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.master.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(["api", "v1"]);
            segments.extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn send(&self, method: Method, url: Url) -> Result<Response> {
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.text());
        }
        let answer = tokio::time::timeout(ANSWER_LIMIT, request.send()).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| self.broken(&error))?,
            Err(_) => {
                return Err(Failure::unreachable(format!(
                    "{} did not answer within {} s",
                    shown(&self.master),
                    ANSWER_LIMIT.as_secs()
                )));
            }
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refused(answer).await)
    }

    async fn refused(&self, answer: Response) -> Failure {
        let status = answer.status();
        let code = match status {
            StatusCode::BAD_REQUEST => Code::Usage,
            _ => Code::Failed,
        };
        let bytes = answer.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Refused>(&bytes) {
            Ok(refused) => Failure::new(code, refused.error.message).hint(refused.error.hint),
            Err(_) => Failure::unreachable(format!(
                "cannot reach a master at {}: what answers there is none: {status}",
                shown(&self.master)
            ))
            .hint("name yours with --master or DRUMLINE_MASTER"),
        }
    }

    fn broken(&self, error: &reqwest::Error) -> Failure {
        let master = shown(&self.master);
        if error.is_connect() {
            return Failure::unreachable(format!(
                "cannot reach a master at {master}: nothing answers there"
            ))
            .hint("start one with `drumline up`, or name yours with --master or DRUMLINE_MASTER");
        }
        Failure::unreachable(format!("the call to {master} broke: {}", innermost(error)))
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

/// Lines as they arrive.
pub(crate) struct Lines {
    chunks: futures::stream::BoxStream<'static, reqwest::Result<Vec<u8>>>,
    held: Vec<u8>,
    master: String,
}

impl Lines {
    /// The next line without its end; nothing once the master has ended the answer.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                return Ok(Some(text(&line)));
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.held.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    return Err(Failure::unreachable(format!(
                        "the call to {} broke: {}",
                        self.master,
                        innermost(&error)
                    )));
                }
                None if self.held.is_empty() => return Ok(None),
                None => return Ok(Some(text(&std::mem::take(&mut self.held)))),
            }
            if self.held.len() > MAX_LINE {
                return Err(Failure::failed(format!(
                    "{} sends a line that does not end",
                    self.master
                )));
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    line.trim_end_matches(['\r', '\n']).to_owned()
}
