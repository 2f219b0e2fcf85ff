//! From HTTP to buckets and back: which call a request is, and the headers of its answer.

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use url::form_urlencoded;

use super::bucket::{BAD_RANGE, INVALID, NO_KEY, NOT_MODIFIED, Object, PRECONDITION, Refusal};
use super::connection::CutSwitch;
use super::faults::{Call, Effect, Operation};
use super::listing::{ListRequest, escape, list};
use super::{Door, Server};

const GENERATION: &str = "x-goog-generation";
const GENERATION_MATCH: &str = "x-goog-if-generation-match";
const COPY_SOURCE: &str = "x-goog-copy-source";

/// Answers one request, through the fault hook.
pub(crate) async fn answer(
    State(Door { server, name }): State<Door>,
    ConnectInfo(switch): ConnectInfo<CutSwitch>,
    request: Request,
) -> Response {
    let mut parsed = match Parsed::read(request).await {
        Ok(parsed) => parsed,
        Err(refusal) => return refuse(refusal),
    };
    let call = Call {
        operation: parsed.operation,
        bucket: parsed.bucket.clone(),
        key: parsed.key.clone(),
        door: name.to_string(),
    };
    match server.faults.next(&call) {
        None => act(&server, parsed).unwrap_or_else(refuse),
        Some(Effect::Delay(wait)) => {
            tokio::time::sleep(wait).await;
            act(&server, parsed).unwrap_or_else(refuse)
        }
        Some(Effect::StatusBefore(status)) => fault(status),
        Some(Effect::StatusAfter(status)) => {
            let _ = act(&server, parsed);
            fault(status)
        }
        Some(Effect::CutBefore) => {
            switch.cut();
            fault(503)
        }
        Some(Effect::CutAfter) => {
            let _ = act(&server, parsed);
            switch.cut();
            fault(503)
        }
        Some(Effect::CutBody) => cut_body(act(&server, parsed).unwrap_or_else(refuse)).await,
        Some(Effect::StallBody(wait)) => {
            stall_body(act(&server, parsed).unwrap_or_else(refuse), wait).await
        }
        Some(Effect::LandLater(wait, landed)) => {
            // A task of its own, because this one goes when its client does.
            let landing = tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                let answer = act(&server, parsed).unwrap_or_else(refuse);
                landed.open();
                answer
            });
            landing.await.unwrap_or_else(|_| fault(503))
        }
        Some(Effect::HoldBefore(gate)) => {
            gate.passed().await;
            act(&server, parsed).unwrap_or_else(refuse)
        }
        Some(Effect::HoldAfter(gate)) => {
            let answer = act(&server, parsed).unwrap_or_else(refuse);
            gate.passed().await;
            answer
        }
        Some(Effect::Keep(rewrite)) => {
            parsed.body = rewrite.of(parsed.body);
            act(&server, parsed).unwrap_or_else(refuse)
        }
        Some(Effect::KeepAndFail(rewrite, status)) => {
            parsed.body = rewrite.of(parsed.body);
            let _ = act(&server, parsed);
            fault(status)
        }
        Some(Effect::Overwrite(gate)) => {
            gate.passed().await;
            parsed.headers.remove(GENERATION_MATCH);
            act(&server, parsed).unwrap_or_else(refuse)
        }
    }
}

struct Parsed {
    operation: Operation,
    bucket: String,
    key: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Parsed {
    async fn read(request: Request) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        // A body that does not arrive whole has no effect, as in the real store.
        let body = axum::body::to_bytes(body, usize::MAX)
            .await
            .map_err(|_| INVALID)?;
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query: Vec<(String, String)> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let has = |name: &str| query.iter().any(|(key, _)| key == name);
        let is_list = key.is_empty();
        let operation = match parts.method {
            Method::GET if is_list => Operation::List,
            Method::GET => Operation::Get,
            Method::HEAD => Operation::Head,
            Method::PUT if has("uploadId") => Operation::PutPart,
            Method::PUT if parts.headers.contains_key(COPY_SOURCE) => Operation::Copy,
            Method::PUT => Operation::Put,
            Method::POST if has("uploads") => Operation::BeginUpload,
            Method::POST if has("uploadId") => Operation::CompleteUpload,
            Method::DELETE if has("uploadId") => Operation::AbortUpload,
            Method::DELETE => Operation::Delete,
            _ => return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed")),
        };
        let mut parsed = Self {
            operation,
            bucket: decode(bucket)?,
            key: decode(key)?,
            query,
            headers: parts.headers,
            body,
        };
        if is_list {
            parsed.key = parsed.parameter("prefix").unwrap_or_default().to_owned();
        }
        Ok(parsed)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn generation_match(&self) -> Result<Option<u64>, Refusal> {
        let given = self.header(GENERATION_MATCH);
        given
            .map(|value| value.parse().map_err(|_| INVALID))
            .transpose()
    }

    fn kept_headers(&self) -> HeaderMap {
        let kept = self.headers.iter().filter(|(name, _)| {
            name.as_str().starts_with("x-goog-meta-")
                || [
                    header::CACHE_CONTROL,
                    header::CONTENT_DISPOSITION,
                    header::CONTENT_ENCODING,
                    header::CONTENT_LANGUAGE,
                    header::CONTENT_TYPE,
                ]
                .contains(*name)
                || name.as_str() == "x-goog-storage-class"
        });
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

fn act(server: &Server, request: Parsed) -> Result<Response, Refusal> {
    let buckets = &server.buckets;
    let (bucket, key) = (request.bucket.as_str(), request.key.as_str());
    match request.operation {
        Operation::Put => {
            let (headers, expected) = (request.kept_headers(), request.generation_match()?);
            let object = buckets.put(bucket, key, request.body, headers, expected)?;
            Ok(written(&object, String::new()))
        }
        Operation::Get | Operation::Head => read(&buckets.object(bucket, key)?, &request),
        Operation::Delete => {
            buckets.delete(bucket, key)?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Operation::Copy => {
            let source = request.header(COPY_SOURCE).ok_or(INVALID)?;
            let (from_bucket, from) = source
                .trim_start_matches('/')
                .split_once('/')
                .ok_or(INVALID)?;
            let source = buckets.object(&decode(from_bucket)?, &decode(from)?)?;
            let expected = request.generation_match()?;
            let object = buckets.put(bucket, key, source.bytes, source.headers, expected)?;
            let body = format!(
                "<CopyObjectResult><ETag>{}</ETag></CopyObjectResult>",
                escape(&object.tag())
            );
            Ok(written(&object, body))
        }
        Operation::BeginUpload => {
            let id = buckets.begin_upload(bucket, key, request.kept_headers())?;
            Ok(xml(format!(
                "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key>\
                 <UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
                escape(bucket),
                escape(key),
            )))
        }
        Operation::PutPart => {
            let upload = request.parameter("uploadId").ok_or(INVALID)?;
            let number = request
                .parameter("partNumber")
                .and_then(|number| number.parse().ok());
            let tag = buckets.put_part(
                bucket,
                key,
                upload,
                number.ok_or(INVALID)?,
                request.body.clone(),
            )?;
            let mut response = empty(StatusCode::OK);
            set(response.headers_mut(), header::ETAG, &tag);
            Ok(response)
        }
        Operation::CompleteUpload => {
            let upload = request.parameter("uploadId").ok_or(INVALID)?;
            let parts = completed_parts(&request.body)?;
            let object = buckets.complete_upload(bucket, key, upload, &parts)?;
            let body = format!(
                "<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>",
                escape(&object.tag())
            );
            Ok(written(&object, body))
        }
        Operation::AbortUpload => {
            buckets.abort_upload(bucket, request.parameter("uploadId").ok_or(INVALID)?)?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Operation::List => {
            let asked = request
                .parameter("max-keys")
                .and_then(|count| count.parse().ok());
            let owned = |name| request.parameter(name).map(str::to_owned);
            let listing = ListRequest {
                prefix: request.key.clone(),
                delimiter: owned("delimiter").filter(|delimiter| !delimiter.is_empty()),
                start_after: owned("start-after"),
                token: owned("continuation-token"),
                max_keys: asked.unwrap_or(usize::MAX).min(buckets.page_size()),
            };
            buckets
                .with(bucket, |bucket| list(bucket, &listing))
                .map(xml)
        }
    }
}

/// Conditional and ranged reads, in the order RFC 9110 gives the conditions.
fn read(object: &Object, request: &Parsed) -> Result<Response, Refusal> {
    let generation = request.parameter("generation");
    if generation.is_some_and(|wanted| wanted != object.generation.to_string()) {
        return Err(NO_KEY);
    }
    let tag = object.tag();
    let names_tag = |list: &str| list == "*" || list.split(',').any(|one| one.trim() == tag);
    // HTTP dates have whole seconds.
    let modified = object.modified.trunc_subsecs(0);
    let date = |name| request.header(name).and_then(http_date);
    match request.header("if-match") {
        Some(list) if !names_tag(list) => return Err(PRECONDITION),
        Some(_) => {}
        None if date("if-unmodified-since").is_some_and(|since| modified > since) => {
            return Err(PRECONDITION);
        }
        None => {}
    }
    match request.header("if-none-match") {
        Some(list) if names_tag(list) => return Err(NOT_MODIFIED),
        Some(_) => {}
        None if date("if-modified-since").is_some_and(|since| modified <= since) => {
            return Err(NOT_MODIFIED);
        }
        None => {}
    }
    let size = object.bytes.len();
    let mut response = match request.header("range") {
        Some(range) => {
            let (start, end) = parse_range(range, size).ok_or(BAD_RANGE)?;
            let mut response = body_of(object.bytes.slice(start..end), request.operation);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {start}-{}/{size}", end - 1);
            set(response.headers_mut(), header::CONTENT_RANGE, &value);
            response
        }
        None => body_of(object.bytes.clone(), request.operation),
    };
    let headers = response.headers_mut();
    headers.extend(object.headers.clone());
    describe(headers, object);
    let modified = object
        .modified
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    set(headers, header::LAST_MODIFIED, &modified);
    Ok(response)
}

fn body_of(bytes: Bytes, operation: Operation) -> Response {
    let length = bytes.len().to_string();
    let body = match operation {
        Operation::Head => Body::empty(),
        _ => Body::from(bytes),
    };
    let mut response = Response::new(body);
    set(response.headers_mut(), header::CONTENT_LENGTH, &length);
    response
}

/// `bytes=a-b`, `bytes=a-`, `bytes=-n`; half-open. None where nothing can be given.
fn parse_range(value: &str, size: usize) -> Option<(usize, usize)> {
    let (start, end) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (start.is_empty(), end.is_empty()) {
        (true, _) => (size.saturating_sub(end.parse().ok()?), size),
        (false, true) => (start.parse().ok()?, size),
        (false, false) => (
            start.parse().ok()?,
            end.parse::<usize>().ok()?.saturating_add(1).min(size),
        ),
    };
    (start < end).then_some((start, end))
}

fn http_date(value: &str) -> Option<DateTime<Utc>> {
    let parsed = NaiveDateTime::parse_from_str(value, "%a, %d %b %Y %H:%M:%S GMT");
    parsed.ok().map(|date| date.and_utc())
}

/// The parts a completion names: `<Part><ETag>..</ETag><PartNumber>..</PartNumber></Part>`.
fn completed_parts(body: &Bytes) -> Result<Vec<(u32, String)>, Refusal> {
    fn inner<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>"))
            .map(|(value, _)| value)
    }
    let text = std::str::from_utf8(body).map_err(|_| INVALID)?;
    let parts = text.split("<Part>").skip(1).map(|part| {
        let number = inner(part, "PartNumber")?.parse().ok()?;
        Some((number, inner(part, "ETag")?.replace("&quot;", "\"")))
    });
    parts.collect::<Option<Vec<_>>>().ok_or(INVALID)
}

fn decode(text: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit().ok_or(INVALID)?, digit().ok_or(INVALID)?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| INVALID)
}

fn describe(headers: &mut HeaderMap, object: &Object) {
    set(headers, header::ETAG, &object.tag());
    set(
        headers,
        HeaderName::from_static(GENERATION),
        &object.generation.to_string(),
    );
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        headers.insert(name, value);
    }
}

fn written(object: &Object, body: String) -> Response {
    let mut response = xml(body);
    describe(response.headers_mut(), object);
    response
}

fn xml(body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    set(
        response.headers_mut(),
        header::CONTENT_TYPE,
        "application/xml; charset=UTF-8",
    );
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn refuse(Refusal(status, code): Refusal) -> Response {
    if status == StatusCode::NOT_MODIFIED {
        return empty(status);
    }
    let mut response = xml(format!("<Error><Code>{code}</Code></Error>"));
    *response.status_mut() = status;
    response
}

fn fault(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    refuse(Refusal(status, "PlantedFault"))
}

/// The same answer, with a pause in the middle of its body.
async fn stall_body(response: Response, wait: std::time::Duration) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    set(
        &mut parts.headers,
        header::CONTENT_LENGTH,
        &bytes.len().to_string(),
    );
    let (half, rest) = (
        bytes.slice(..bytes.len() / 2),
        bytes.slice(bytes.len() / 2..),
    );
    let stream = futures::stream::iter([Ok(half)]).chain(futures::stream::once(async move {
        tokio::time::sleep(wait).await;
        Ok::<_, std::io::Error>(rest)
    }));
    Response::from_parts(parts, Body::from_stream(stream))
}

/// The same answer, but the connection ends after half of its body.
async fn cut_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    set(
        &mut parts.headers,
        header::CONTENT_LENGTH,
        &bytes.len().to_string(),
    );
    let half = bytes.slice(..bytes.len() / 2);
    let stream = futures::stream::iter([Ok(half)]).chain(futures::stream::once(async {
        // Lets the half leave before the connection goes.
        tokio::task::yield_now().await;
        Err(std::io::Error::new(
            std::io::ErrorKind::ConnectionReset,
            "cut by a fault",
        ))
    }));
    Response::from_parts(parts, Body::from_stream(stream))
}
