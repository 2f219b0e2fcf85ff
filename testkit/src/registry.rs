//! A Confluent-compatible schema registry of its own: subjects, versions, ids, references, credentials.
//!
//! Schemas are kept in memory as they come; nothing checks that they are compatible. It can be told to
//! answer nothing but errors, and counts what it is asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use serde_json::{Value, json};

/// A running registry. It ends when dropped.
pub struct Registry {
    address: SocketAddr,
    server: Arc<Server>,
    // Of its own, so that a test that blocks its thread does not block the registry. Taken on drop.
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Default)]
struct Server {
    kept: Mutex<Kept>,
    authorization: Mutex<Option<String>>,
    is_away: AtomicBool,
    asked: AtomicU64,
}

#[derive(Default)]
struct Kept {
    /// By id, which counts from 1; a text that is registered again keeps its id.
    schemas: Vec<Value>,
    /// Ids of each subject's versions.
    subjects: HashMap<String, Vec<usize>>,
}

impl Server {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Starts one on a free loopback port.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("registry")
            .enable_all()
            .build()
            .context("no runtime for the registry")?;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let server = Arc::new(Server::default());
        let router = Router::new()
            .route("/schemas/ids/{id}", get(by_id))
            .route("/subjects/{subject}/versions", get(versions))
            .route("/subjects/{subject}/versions/{version}", get(by_version))
            .layer(middleware::from_fn_with_state(server.clone(), admit))
            .with_state(server.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            axum::serve(listener, router).await
        });
        Ok(Self {
            address,
            server,
            runtime: Some(runtime),
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Registers a schema as the newest version of `subject` and gives its id. `kind` is `AVRO`, `PROTOBUF`
    /// or `JSON`; `references` are name, subject and version.
    pub fn register(
        &self,
        subject: &str,
        kind: &str,
        text: &str,
        references: &[(&str, &str, i32)],
    ) -> i32 {
        let references: Vec<Value> = references
            .iter()
            .map(|(name, subject, version)| {
                json!({ "name": name, "subject": subject, "version": version })
            })
            .collect();
        let mut schema = json!({ "schema": text });
        if kind != "AVRO" {
            schema["schemaType"] = kind.into();
        }
        if !references.is_empty() {
            schema["references"] = references.into();
        }
        let mut kept = self.server.kept();
        let id = match kept.schemas.iter().position(|known| *known == schema) {
            Some(at) => at + 1,
            None => {
                kept.schemas.push(schema);
                kept.schemas.len()
            }
        };
        kept.subjects
            .entry(subject.to_owned())
            .or_default()
            .push(id);
        i32::try_from(id).unwrap_or(i32::MAX)
    }

    /// From now on only these credentials come in.
    pub fn require(&self, username: &str, password: &str) {
        let both =
            base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        let mut authorization = self
            .server
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *authorization = Some(format!("Basic {both}"));
    }

    /// Answers 503 to everything, or no longer.
    pub fn set_away(&self, is_away: bool) {
        self.server.is_away.store(is_away, Ordering::SeqCst);
    }

    /// How often it was asked something.
    pub fn asked(&self) -> u64 {
        self.server.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn admit(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    server.asked.fetch_add(1, Ordering::SeqCst);
    if server.is_away.load(Ordering::SeqCst) {
        return error(StatusCode::SERVICE_UNAVAILABLE, 50001, "away");
    }
    let wanted = server
        .authorization
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|given| given.to_str().ok());
    if wanted.is_some() && given != wanted.as_deref() {
        return error(StatusCode::UNAUTHORIZED, 401, "unauthorized");
    }
    next.run(request).await
}

fn error(status: StatusCode, code: u32, message: &str) -> Response {
    let body = json!({ "error_code": code, "message": message });
    (status, Json(body)).into_response()
}

async fn by_id(State(server): State<Arc<Server>>, Path(id): Path<usize>) -> Response {
    let kept = server.kept();
    let schema = id.checked_sub(1).and_then(|at| kept.schemas.get(at));
    match schema {
        Some(schema) => Json(schema.clone()).into_response(),
        None => error(StatusCode::NOT_FOUND, 40403, "schema not found"),
    }
}

async fn versions(State(server): State<Arc<Server>>, Path(subject): Path<String>) -> Response {
    match server.kept().subjects.get(&subject) {
        Some(ids) => Json((1..=ids.len()).collect::<Vec<_>>()).into_response(),
        None => error(StatusCode::NOT_FOUND, 40401, "subject not found"),
    }
}

async fn by_version(
    State(server): State<Arc<Server>>,
    Path((subject, version)): Path<(String, String)>,
) -> Response {
    let kept = server.kept();
    let Some(ids) = kept.subjects.get(&subject) else {
        return error(StatusCode::NOT_FOUND, 40401, "subject not found");
    };
    let version = match version.as_str() {
        "latest" => ids.len(),
        number => number.parse().unwrap_or_default(),
    };
    let id = version.checked_sub(1).and_then(|at| ids.get(at));
    let schema = id.and_then(|id| kept.schemas.get(*id - 1));
    match (id, schema) {
        (Some(id), Some(schema)) => {
            let mut schema = schema.clone();
            schema["id"] = (*id).into();
            schema["subject"] = subject.into();
            schema["version"] = version.into();
            Json(schema).into_response()
        }
        _ => error(StatusCode::NOT_FOUND, 40402, "version not found"),
    }
}
