//! A Google Cloud Storage stand-in: what `object_store`'s client sends, answered from memory.
//!
//! It speaks the XML API as that client uses it: objects with generation preconditions, conditional
//! and ranged reads, lists, multipart uploads, copies. Every call passes the fault hook
//! ([`Faults`]), which can answer an error before or after the effect landed, wait, or cut the
//! connection, and counts what it did. Requests are not authenticated.
//!
//! Read next: `requests.rs` (what each call means), `bucket.rs` (what it does).

mod bucket;
mod connection;
mod faults;
mod listing;
mod requests;

pub use faults::{Call, Effect, Fault, Faults, Gate, Operation, Rewrite};

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};

use bucket::Buckets;
use connection::{CutSwitch, Listener};

/// A running stand-in. It ends when dropped.
pub struct Gcs {
    address: SocketAddr,
    server: Arc<Server>,
    // Of its own, so that a test that blocks its thread does not block the store. Taken on drop.
    runtime: Option<tokio::runtime::Runtime>,
}

/// One address that a server listens at.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) server: Arc<Server>,
    pub(crate) name: Arc<str>,
}

/// What the request handlers share.
pub(crate) struct Server {
    pub(crate) buckets: Buckets,
    pub(crate) faults: Faults,
}

impl Gcs {
    /// Starts a server on a free loopback port that has these buckets, empty.
    pub fn start(buckets: &[&str]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("gcs-stand-in")
            .enable_all()
            .build()
            .context("no runtime for the GCS stand-in")?;
        let server = Arc::new(Server {
            buckets: Buckets::new(buckets),
            faults: Faults::default(),
        });
        let address = listen(&runtime, &server, "")?;
        Ok(Self {
            address,
            server,
            runtime: Some(runtime),
        })
    }

    /// One more address of the same store; what comes there says so in [`Call::door`]. Gives what a process needs in
    /// its environment to come through it.
    pub fn door(&self, name: &str) -> Result<Vec<(String, String)>> {
        let runtime = self.runtime.as_ref().context("the stand-in has ended")?;
        let address = listen(runtime, &self.server, name)?;
        Ok(environment(&format!("http://{address}")))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The fault hook of every call.
    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// The service account document that sends a client here, without OAuth.
    pub fn service_account(&self) -> String {
        service_account(&self.base_url())
    }

    /// What a process needs in its environment to reach `gs://` buckets here.
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(&self.base_url())
    }

    /// A client of one bucket.
    pub fn store(&self, bucket: &str) -> Result<GoogleCloudStorage> {
        GoogleCloudStorageBuilder::new()
            .with_service_account_key(self.service_account())
            .with_bucket_name(bucket)
            .build()
            .with_context(|| format!("no client for bucket {bucket}"))
    }

    /// The keys in a bucket that start with `prefix`, in order.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.server.buckets.keys(bucket, prefix)
    }

    /// An object's bytes as they are now.
    pub fn bytes(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.server.buckets.bytes(bucket, key)
    }

    /// Puts an object there, whatever there was: as another program would, and past the fault hook.
    pub fn put(&self, bucket: &str, key: &str, bytes: Bytes) -> Result<()> {
        let put = self
            .server
            .buckets
            .put(bucket, key, bytes, http::HeaderMap::new(), None);
        match put {
            Ok(_) => Ok(()),
            Err(refusal) => anyhow::bail!("cannot put {bucket}/{key}: {refusal:?}"),
        }
    }

    /// Something to look into the store with, from inside a fault.
    pub fn peek(&self) -> Peek {
        Peek(Arc::clone(&self.server))
    }

    /// Lists give at most this many entries a page (1,000 unless told), so that paging is met.
    pub fn set_page_size(&self, entries: usize) {
        self.server.buckets.set_page_size(entries);
    }

    /// Writes the objects under `prefix` as files under `folder`, for readers without a GCS client.
    pub fn export(&self, bucket: &str, prefix: &str, folder: &Path) -> Result<()> {
        for key in self.keys(bucket, prefix) {
            let path = folder.join(&key);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&path, self.bytes(bucket, &key).unwrap_or_default())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Looks into a store past its fault hook.
#[derive(Clone)]
pub struct Peek(Arc<Server>);

impl Peek {
    /// The keys in a bucket that start with `prefix`, in order.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.0.buckets.keys(bucket, prefix)
    }

    /// An object's bytes as they are now.
    pub fn bytes(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.0.buckets.bytes(bucket, key)
    }
}

fn listen(
    runtime: &tokio::runtime::Runtime,
    server: &Arc<Server>,
    door: &str,
) -> Result<SocketAddr> {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let router = axum::Router::new()
        .fallback(requests::answer)
        .with_state(Door {
            server: server.clone(),
            name: door.into(),
        })
        .into_make_service_with_connect_info::<CutSwitch>();
    runtime.spawn(async move {
        let listener = Listener::new(tokio::net::TcpListener::from_std(socket)?);
        axum::serve(listener, router).await
    });
    Ok(address)
}

fn service_account(base_url: &str) -> String {
    serde_json::json!({
        "gcs_base_url": base_url,
        "disable_oauth": true,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    })
    .to_string()
}

fn environment(base_url: &str) -> Vec<(String, String)> {
    let key = service_account(base_url);
    vec![("GOOGLE_SERVICE_ACCOUNT_KEY".into(), key)]
}

impl Drop for Gcs {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
