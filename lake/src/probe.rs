//! Looks at a lake as a doctor would: is it there, may we do all that tables need, and does its store keep the
//! promises that commits stand on.

use std::time::{Duration, SystemTime};

use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::root::OWN_FOLDER;
use crate::{Lake, Stores};

/// A store that takes longer than this for one small object counts as out of reach.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Clocks that differ by more than this make times of commits and retention wrong.
const CLOCKS_WITHIN: Duration = Duration::from_secs(5);
/// Parts of an upload have at least this size.
const LARGE: usize = 6 << 20;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How well it is.
    pub state: Health,
    /// What was seen.
    pub seen: String,
    /// What to do; empty where nothing is to be done.
    pub advice: String,
}

/// How well it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing is to be done.
    Good,
    /// It works, and may give trouble.
    Doubtful,
    /// It does not work.
    Bad,
}

impl Finding {
    /// It is well.
    pub fn good(what: &str, seen: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            state: Health::Good,
            seen: seen.into(),
            advice: String::new(),
        }
    }

    /// It may give trouble.
    pub fn doubtful(what: &str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: Health::Doubtful,
            advice: advice.into(),
            ..Self::good(what, seen)
        }
    }

    /// It does not work.
    pub fn bad(what: &str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: Health::Bad,
            ..Self::doubtful(what, seen, advice)
        }
    }
}

/// Looks at the lake at a URL; leaves nothing behind. Never fails: what fails is a finding.
pub async fn probe(url: &str, stores: Stores) -> Vec<Finding> {
    let lake = match Lake::open(url, stores.clone()).await {
        Ok(lake) => lake,
        Err(error) => {
            let advice = error.hint().unwrap_or_default().to_owned();
            return vec![Finding::bad("lake", error.to_string(), advice)];
        }
    };
    let root = lake.root().clone();
    let mut findings = vec![match stores.credentials(&root) {
        Ok(which) => Finding::good("lake credentials", which),
        Err(reason) => Finding::bad("lake credentials", reason, ""),
    }];
    let folder = lake
        .path()
        .clone()
        .join(OWN_FOLDER)
        .join(format!("doctor-{}", Uuid::new_v4()));
    let mut look = Look {
        store: lake.store().as_ref(),
        rights: Rights::of(&root),
        findings: &mut findings,
    };
    look.at_all(&folder).await;
    findings
}

/// The names by which a kind of store calls what we need, and who can grant them.
struct Rights {
    put: &'static str,
    get: &'static str,
    list: &'static str,
    delete: &'static str,
    grant: &'static str,
}

impl Rights {
    fn of(root: &Url) -> Self {
        match root.scheme() {
            "gs" => Self {
                put: "storage.objects.create",
                get: "storage.objects.get",
                list: "storage.objects.list",
                delete: "storage.objects.delete",
                grant: "the role roles/storage.objectUser on the bucket has all that is needed: \
                        storage.objects.create, .get, .list, .delete",
            },
            "s3" | "s3a" => Self {
                put: "s3:PutObject",
                get: "s3:GetObject",
                list: "s3:ListBucket",
                delete: "s3:DeleteObject",
                grant: "a policy needs s3:ListBucket on the bucket, and s3:PutObject, s3:GetObject, s3:DeleteObject, \
                        s3:AbortMultipartUpload on its objects",
            },
            _ => Self {
                put: "write files",
                get: "read files",
                list: "list folders",
                delete: "delete files",
                grant: "the user that runs Drumline must own the folder, or be allowed to write in it",
            },
        }
    }
}

/// One look at a store.
struct Look<'a> {
    store: &'a dyn ObjectStore,
    rights: Rights,
    findings: &'a mut Vec<Finding>,
}

impl Look<'_> {
    async fn at_all(&mut self, folder: &Path) {
        let object = folder.clone().join("object");
        let started = Instant::now();
        let (put, get) = (self.rights.put, self.rights.get);
        let (list, delete) = (self.rights.list, self.rights.delete);
        // Without the first nothing else can be seen.
        let made = self.create(&object, "one").await;
        if !self.note("lake create", put, made) {
            return;
        }
        let took = started.elapsed();
        let again = self.create(&object, "two").await;
        self.findings.push(match again {
            Err(StoreError::AlreadyExists { .. }) => Finding::good(
                "lake commits",
                "of two that create one object, the second is refused",
            ),
            other => Finding::bad(
                "lake commits",
                match other {
                    Ok(()) => "the store let an object be created twice".to_owned(),
                    Err(error) => format!("creating an object twice: {error}"),
                },
                "tables need a store that honours create-only puts (If-None-Match, or generation-match); this one \
                 would lose commits",
            ),
        });
        let read = within(async {
            let found = self.store.get(&object).await?.bytes().await?;
            Ok(found.as_ref() == b"one")
        })
        .await;
        let is_whole = matches!(read, Ok(true));
        if self.note("lake read", get, read.map(|_| ())) && !is_whole {
            self.findings.push(Finding::bad(
                "lake read",
                "an object that was refused is there all the same",
                "this store cannot hold a lake",
            ));
        }
        self.clock(&object).await;
        let listed = within(self.store.list_with_delimiter(Some(folder))).await;
        self.note("lake list", list, listed.map(|_| ()));
        let copied = folder.clone().join("copy");
        let done = within(self.store.copy(&object, &copied)).await;
        self.note("lake copy", put, done);
        let large = folder.clone().join("large");
        let uploaded = within(self.upload(&large)).await;
        self.note("lake upload in parts", put, uploaded);
        let mut gone = Ok(());
        for path in [&large, &copied, &object] {
            match within(self.store.delete(path)).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => gone = Err(error),
            }
        }
        self.note("lake delete", delete, gone);
        let seen = format!("{} ms to create a small object", took.as_millis());
        self.findings.push(match took > Duration::from_secs(2) {
            false => Finding::good("lake speed", seen),
            true => Finding::doubtful(
                "lake speed",
                seen,
                "each commit takes several such calls: run master and workers in the bucket's region",
            ),
        });
    }

    async fn create(&self, path: &Path, text: &'static str) -> Result<(), StoreError> {
        let options = PutOptions::from(PutMode::Create);
        within(
            self.store
                .put_opts(path, PutPayload::from_static(text.as_bytes()), options),
        )
        .await
        .map(|_| ())
    }

    async fn upload(&self, path: &Path) -> Result<(), StoreError> {
        let mut upload = self.store.put_multipart(path).await?;
        for _ in 0..2 {
            upload.put_part(vec![0; LARGE].into()).await?;
        }
        upload.complete().await?;
        let found = self.store.head(path).await?.size;
        match found == 2 * LARGE as u64 {
            true => Ok(()),
            false => Err(StoreError::Generic {
                store: "probe",
                source: format!("{found} bytes of {} arrived", 2 * LARGE).into(),
            }),
        }
    }

    async fn clock(&mut self, object: &Path) {
        let Ok(meta) = within(self.store.head(object)).await else {
            return;
        };
        let stamped = SystemTime::from(meta.last_modified);
        let now = SystemTime::now();
        let apart = match now.duration_since(stamped) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        let seen = format!("{:.0} s apart from the store's", apart.as_secs_f64());
        // Stores stamp by the second.
        self.findings.push(match apart > CLOCKS_WITHIN {
            false => Finding::good("clock", seen),
            true => Finding::doubtful("clock", seen, "set this machine's clock, e.g. with chrony"),
        });
    }

    /// Notes how something went that needs a right; whether it went well.
    fn note(&mut self, what: &str, right: &str, outcome: Result<(), StoreError>) -> bool {
        let Err(error) = outcome else {
            self.findings
                .push(Finding::good(what, format!("may {right}")));
            return true;
        };
        let advice = match &error {
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                format!("{right} is missing; {}", self.rights.grant)
            }
            StoreError::NotFound { .. } => {
                "is the bucket's name right, and does it exist?".to_owned()
            }
            _ if error.to_string().contains("ermission denied") => {
                format!("the right to {right} is missing; {}", self.rights.grant)
            }
            _ => "is the store reachable from here?".to_owned(),
        };
        self.findings
            .push(Finding::bad(what, chain(&error), advice));
        false
    }
}

async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Generic {
            store: "probe",
            source: format!("no answer within {} s", ANSWER_WITHIN.as_secs()).into(),
        }),
    }
}

/// The whole chain of an error in one line: the first link says little.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_healthy_folder_is_found_healthy_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let findings = probe(folder.path().to_str().unwrap(), Stores::from_env()).await;
        for finding in &findings {
            assert_eq!(finding.state, Health::Good, "{finding:?}");
        }
        assert!(findings.len() >= 9, "{findings:?}");
        let left = walk(folder.path());
        assert!(left.is_empty(), "{left:?}");
    }

    fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| match path.is_dir() {
                true => walk(&path),
                false => vec![path],
            })
            .collect()
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(OWN_FOLDER), "in the way").unwrap();
        let findings = probe(folder.path().to_str().unwrap(), Stores::from_env()).await;
        let last = findings.last().unwrap();
        assert_eq!(
            (last.what.as_str(), last.state),
            ("lake create", Health::Bad)
        );
        assert!(!last.advice.is_empty(), "{last:?}");
    }
}
