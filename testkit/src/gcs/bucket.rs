//! Buckets in memory: objects with generations, and open multipart uploads.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};

/// Why a call is refused: the status and the XML API's error code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) &'static str);

pub(crate) const NO_BUCKET: Refusal = Refusal(StatusCode::NOT_FOUND, "NoSuchBucket");
pub(crate) const NO_KEY: Refusal = Refusal(StatusCode::NOT_FOUND, "NoSuchKey");
pub(crate) const NO_UPLOAD: Refusal = Refusal(StatusCode::NOT_FOUND, "NoSuchUpload");
pub(crate) const INVALID_PART: Refusal = Refusal(StatusCode::BAD_REQUEST, "InvalidPart");
pub(crate) const INVALID: Refusal = Refusal(StatusCode::BAD_REQUEST, "InvalidArgument");
pub(crate) const PRECONDITION: Refusal =
    Refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
pub(crate) const NOT_MODIFIED: Refusal = Refusal(StatusCode::NOT_MODIFIED, "NotModified");
pub(crate) const BAD_RANGE: Refusal = Refusal(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");

/// One version of an object; the newest is the only one kept.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    pub(crate) generation: u64,
    pub(crate) modified: DateTime<Utc>,
    /// Content headers and `x-goog-meta-*`, given back on read.
    pub(crate) headers: HeaderMap,
}

impl Object {
    pub(crate) fn tag(&self) -> String {
        format!("\"{:016x}\"", self.generation)
    }
}

#[derive(Default)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
}

struct Upload {
    key: String,
    headers: HeaderMap,
    parts: BTreeMap<u32, (String, Bytes)>,
}

pub(crate) struct Buckets {
    buckets: Mutex<HashMap<String, Bucket>>,
    generation: AtomicU64,
    page_size: AtomicUsize,
}

impl Buckets {
    pub(crate) fn new(names: &[&str]) -> Self {
        let buckets = names
            .iter()
            .map(|name| ((*name).to_owned(), Bucket::default()))
            .collect();
        Self {
            buckets: Mutex::new(buckets),
            generation: AtomicU64::new(1),
            page_size: AtomicUsize::new(1000),
        }
    }

    pub(crate) fn set_page_size(&self, entries: usize) {
        self.page_size.store(entries.max(1), Ordering::SeqCst);
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size.load(Ordering::SeqCst)
    }

    pub(crate) fn with<T>(
        &self,
        bucket: &str,
        act: impl FnOnce(&mut Bucket) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        act(buckets.get_mut(bucket).ok_or(NO_BUCKET)?)
    }

    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.with(bucket, |bucket| {
            let keys = bucket.objects.keys();
            Ok(keys
                .filter(|key| key.starts_with(prefix))
                .cloned()
                .collect())
        })
        .unwrap_or_default()
    }

    pub(crate) fn bytes(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.with(bucket, |bucket| {
            Ok(bucket.objects.get(key).map(|object| object.bytes.clone()))
        })
        .ok()
        .flatten()
    }

    fn new_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<Object, Refusal> {
        self.with(bucket, |bucket| {
            bucket.objects.get(key).cloned().ok_or(NO_KEY)
        })
    }

    /// Writes an object where `generation_match` allows: `Some(0)` means that it must not exist.
    pub(crate) fn put(
        &self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        headers: HeaderMap,
        generation_match: Option<u64>,
    ) -> Result<Object, Refusal> {
        let object = Object {
            bytes,
            generation: self.new_generation(),
            modified: Utc::now(),
            headers,
        };
        self.with(bucket, |bucket| {
            let current = bucket
                .objects
                .get(key)
                .map_or(0, |object| object.generation);
            if generation_match.is_some_and(|expected| expected != current) {
                return Err(PRECONDITION);
            }
            bucket.objects.insert(key.to_owned(), object.clone());
            Ok(object)
        })
    }

    pub(crate) fn delete(&self, bucket: &str, key: &str) -> Result<(), Refusal> {
        self.with(bucket, |bucket| {
            bucket.objects.remove(key).map(drop).ok_or(NO_KEY)
        })
    }

    pub(crate) fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        headers: HeaderMap,
    ) -> Result<String, Refusal> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        self.with(bucket, |bucket| {
            let upload = Upload {
                key: key.to_owned(),
                headers,
                parts: BTreeMap::new(),
            };
            bucket.uploads.insert(id.clone(), upload);
            Ok(id)
        })
    }

    /// Keeps a part, replacing an earlier one of the same number; gives its tag.
    pub(crate) fn put_part(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        number: u32,
        bytes: Bytes,
    ) -> Result<String, Refusal> {
        let tag = format!("\"part-{:016x}\"", self.new_generation());
        self.with(bucket, |bucket| {
            let upload = bucket.uploads.get_mut(upload).ok_or(NO_UPLOAD)?;
            if upload.key != key {
                return Err(NO_UPLOAD);
            }
            upload.parts.insert(number, (tag.clone(), bytes));
            Ok(tag)
        })
    }

    /// Joins the named parts, in the order given. The same completion again finds no upload.
    pub(crate) fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        parts: &[(u32, String)],
    ) -> Result<Object, Refusal> {
        let generation = self.new_generation();
        self.with(bucket, |bucket| {
            let open = bucket.uploads.get(upload).ok_or(NO_UPLOAD)?;
            let mut bytes = BytesMut::new();
            for (number, tag) in parts {
                match open.parts.get(number) {
                    Some((kept, part)) if kept == tag => bytes.extend_from_slice(part),
                    _ => return Err(INVALID_PART),
                }
            }
            let object = Object {
                bytes: bytes.freeze(),
                generation,
                modified: Utc::now(),
                headers: open.headers.clone(),
            };
            bucket.uploads.remove(upload);
            bucket.objects.insert(key.to_owned(), object.clone());
            Ok(object)
        })
    }

    pub(crate) fn abort_upload(&self, bucket: &str, upload: &str) -> Result<(), Refusal> {
        self.with(bucket, |bucket| {
            bucket.uploads.remove(upload).map(drop).ok_or(NO_UPLOAD)
        })
    }
}
