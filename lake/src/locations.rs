//! Which places outside of the lake may be read: what the operator named, and nothing that SQL names.

use std::path::{Component, PathBuf};

use url::Url;

use crate::root::{OWN_FOLDER, parse_root, path_of};
use crate::{Error, Lake, Result};

/// The folders that external tables may be over: the lake's own root, and those that an operator allows by
/// scheme, bucket and prefix. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Locations {
    root: Url,
    allowed: Vec<Url>,
}

impl Locations {
    /// The lake's root and `allowed`: URLs, or absolute local paths, of folders.
    pub fn new(lake: &Lake, allowed: &[String]) -> Result<Self> {
        Ok(Self {
            root: lake.root().clone(),
            allowed: allowed
                .iter()
                .map(|text| parse_root(text))
                .collect::<Result<_>>()?,
        })
    }

    /// Whether a folder may be read. Local folders are followed to where they really are, so that neither
    /// `..` nor a link leads out.
    pub fn check(&self, location: &Url) -> Result<()> {
        let refuse = |reason: &str| {
            Err(Error::LocationRefused {
                location: shown(location),
                reason: reason.to_owned(),
            })
        };
        if !location.username().is_empty() || location.password().is_some() {
            return refuse("it carries a user or a password");
        }
        if location.query().is_some() || location.fragment().is_some() {
            return refuse("it holds '?' or '#'");
        }
        let own = self.root.join(&format!("{OWN_FOLDER}/"));
        if own.is_ok_and(|own| is_within(location, &own)) {
            return refuse("that folder belongs to Drumline itself");
        }
        let mut folders = std::iter::once(&self.root).chain(&self.allowed);
        match folders.any(|folder| is_within(location, folder)) {
            true => Ok(()),
            false => refuse("neither the lake's root nor an allowed location holds it"),
        }
    }
}

/// Without what may be a secret.
fn shown(location: &Url) -> String {
    let mut shown = location.clone();
    // Fails where there is no host, and so no user.
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

/// Whether `location` is `folder` or below it.
fn is_within(location: &Url, folder: &Url) -> bool {
    if location.scheme() != folder.scheme() || location.authority() != folder.authority() {
        return false;
    }
    if location.scheme() == "file" {
        return match (real(location), real(folder)) {
            (Some(location), Some(folder)) => location.starts_with(folder),
            _ => false,
        };
    }
    let (Ok(location), Ok(folder)) = (path_of(location), path_of(folder)) else {
        return false;
    };
    location.prefix_matches(&folder)
}

/// Where a local folder really is. The part of it that does not exist yet is taken as it is written, without
/// any `..`.
fn real(url: &Url) -> Option<PathBuf> {
    let written = url.to_file_path().ok()?;
    if written
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return None;
    }
    let mut missing = PathBuf::new();
    let mut there = written.as_path();
    loop {
        if let Ok(real) = there.canonicalize() {
            return Some(real.join(missing));
        }
        let name = there.file_name()?;
        missing = match missing.as_os_str().is_empty() {
            true => PathBuf::from(name),
            false => PathBuf::from(name).join(missing),
        };
        there = there.parent()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stores;

    async fn locations(root: &str, allowed: &[&str]) -> Locations {
        let lake = Lake::open(root, Stores::from_env()).await.unwrap();
        let allowed: Vec<String> = allowed.iter().map(|text| (*text).to_owned()).collect();
        Locations::new(&lake, &allowed).unwrap()
    }

    fn check(locations: &Locations, url: &str) -> bool {
        locations.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[tokio::test]
    async fn only_the_lake_and_what_is_allowed_can_be_read() {
        let locations = locations("memory://b/lake", &["gs://partner/out", "s3://logs/"]).await;
        for good in [
            "memory://b/lake/t/",
            "gs://partner/out/",
            "gs://partner/out/deep/er/",
            "s3://logs/any/",
        ] {
            assert!(check(&locations, good), "{good}");
        }
        for bad in [
            "memory://b/",
            "memory://b/lakes/t/",
            "memory://b/lake/_drumline/catalog/",
            "memory://b/lake/%5Fdrumline/catalog/",
            "memory://b/lake/../x/",
            "memory://other/lake/",
            "gs://partner/",
            "gs://partner/outer/",
            "gs://partner/out/../secret/",
            "gs://partner/out/%2e%2e/secret/",
            "gs://user:pass@partner/out/",
            "gs://partner/out/?x=1",
            "file:///etc/passwd",
            "http://169.254.169.254/latest/meta-data/",
            "http://metadata.google.internal/",
            "ftp://x/y",
        ] {
            assert!(!check(&locations, bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn links_do_not_lead_out_of_a_local_lake() {
        let folder = tempfile::tempdir().unwrap();
        let (lake, secret) = (folder.path().join("lake"), folder.path().join("secret"));
        std::fs::create_dir_all(lake.join("t")).unwrap();
        std::fs::create_dir_all(&secret).unwrap();
        std::os::unix::fs::symlink(&secret, lake.join("way-out")).unwrap();
        let locations = locations(lake.to_str().unwrap(), &[]).await;
        let url = |path: &std::path::Path| Url::from_directory_path(path).unwrap().to_string();
        assert!(check(&locations, &url(&lake.join("t"))));
        assert!(check(&locations, &url(&lake.join("not/there/yet"))));
        assert!(!check(&locations, &url(&lake.join("way-out"))));
        assert!(!check(&locations, &url(&lake.join("way-out/further"))));
        assert!(!check(&locations, &url(&secret)));
        assert!(!check(&locations, "file:///etc/"));
    }

    #[tokio::test]
    async fn a_refusal_holds_no_secret() {
        let lake = Lake::open("memory:///lake", Stores::from_env())
            .await
            .unwrap();
        let locations = Locations::new(&lake, &[]).unwrap();
        for text in [
            "s3://key:hush@bucket/x",
            "s3://bucket/x?X-Amz-Signature=hush",
            "s3://bucket/x#hush",
        ] {
            let error = locations.check(&Url::parse(text).unwrap()).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("bucket/x") && !error.contains("hush"),
                "{error}"
            );
        }
    }
}
