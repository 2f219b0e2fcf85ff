//! `GET /bucket?list-type=2`: keys in order, folded at the delimiter, in pages.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::SecondsFormat;

use super::bucket::{Bucket, INVALID, Refusal};

/// The parameters of one list call.
#[derive(Default)]
pub(crate) struct ListRequest {
    pub(crate) prefix: String,
    pub(crate) delimiter: Option<String>,
    pub(crate) start_after: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) max_keys: usize,
}

/// The XML of one page.
pub(crate) fn list(bucket: &Bucket, request: &ListRequest) -> Result<String, Refusal> {
    // A token is the last entry of the page before: a key, or a folded prefix.
    let after = match &request.token {
        Some(token) => Some(decode(token)?),
        None => request.start_after.clone(),
    };
    let mut contents = String::new();
    let mut prefixes = String::new();
    let mut last = None;
    let mut entries = 0;
    let mut truncated = false;
    let mut folded: Option<String> = None;
    for (key, object) in &bucket.objects {
        let Some(rest) = key.strip_prefix(&request.prefix) else {
            continue;
        };
        let entry = match &request.delimiter {
            Some(delimiter) => match rest.find(delimiter.as_str()) {
                Some(at) => Entry::Prefix(&key[..request.prefix.len() + at + delimiter.len()]),
                None => Entry::Key(key),
            },
            None => Entry::Key(key),
        };
        let name = entry.name();
        if after.as_deref().is_some_and(|after| name <= after) || folded.as_deref() == Some(name) {
            continue;
        }
        if entries == request.max_keys {
            truncated = true;
            break;
        }
        entries += 1;
        last = Some(name.to_owned());
        match entry {
            Entry::Prefix(prefix) => {
                folded = Some(prefix.to_owned());
                let _ = write!(
                    prefixes,
                    "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                    escape(prefix)
                );
            }
            Entry::Key(key) => {
                let _ = write!(
                    contents,
                    "<Contents><Key>{}</Key><Generation>{}</Generation><LastModified>{}</LastModified>\
                     <ETag>{}</ETag><Size>{}</Size></Contents>",
                    escape(key),
                    object.generation,
                    object.modified.to_rfc3339_opts(SecondsFormat::Millis, true),
                    escape(&object.tag()),
                    object.bytes.len(),
                );
            }
        }
    }
    let next = match last.filter(|_| truncated) {
        Some(last) => format!(
            "<NextContinuationToken>{}</NextContinuationToken>",
            BASE64_URL_SAFE_NO_PAD.encode(last)
        ),
        None => String::new(),
    };
    Ok(format!(
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult \
         xmlns='http://doc.s3.amazonaws.com/2006-03-01'><Prefix>{}</Prefix><KeyCount>{entries}</KeyCount>\
         <IsTruncated>{truncated}</IsTruncated>{next}{contents}{prefixes}</ListBucketResult>",
        escape(&request.prefix)
    ))
}

enum Entry<'a> {
    Key(&'a str),
    Prefix(&'a str),
}

impl<'a> Entry<'a> {
    fn name(&self) -> &'a str {
        match self {
            Self::Key(name) | Self::Prefix(name) => name,
        }
    }
}

fn decode(token: &str) -> Result<String, Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| INVALID)?;
    String::from_utf8(bytes).map_err(|_| INVALID)
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
