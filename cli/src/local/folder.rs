//! The folder of a local cluster: `lake/ state/ work/ logs/`, held by one process at a time.
//!
//! The lock is on the folder itself and ends with the process, so no lock file can be left behind.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use url::Url;

use crate::failure::{Failure, OrFail as _, Result};

/// A data folder, locked.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Folder {
    /// Creates the folder where needed and takes it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|error| cannot_write(path, &error))?;
        let path = path
            .canonicalize()
            .or_fail(|| format!("data folder {}", path.display()))?;
        let file =
            File::open(&path).or_fail(|| format!("cannot open data folder {}", path.display()))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    nix::errno::Errno::EWOULDBLOCK => Failure::failed(format!(
                        "data folder {} is in use by another drumline",
                        path.display()
                    ))
                    .hint("stop that one, or give this one another --data-dir and --port"),
                    other => Failure::failed(format!(
                        "cannot lock data folder {}: {other}",
                        path.display()
                    )),
                },
            )?;
        Ok(Self { path, _lock: lock })
    }

    /// Makes the parts that processes write to, and proves that they can be written.
    pub(crate) fn prepare(&self) -> Result {
        // The state is not for every user of the machine.
        for (part, mode) in [
            (self.state(), 0o700),
            (self.work(), 0o777),
            (self.logs(), 0o777),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&part)
                .map_err(|error| cannot_write(&part, &error))?;
            tempfile::tempfile_in(&part).map_err(|error| cannot_write(&part, &error))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn lake(&self) -> Result<Url> {
        folder_url(&self.path.join("lake"))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Scratch space of the workers; gone when the cluster is.
    pub(crate) fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    pub(crate) fn remove_work(&self) {
        let work = self.work();
        if let Err(error) = std::fs::remove_dir_all(&work)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %work.display(), %error, "cannot remove scratch space");
        }
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!(
        "cannot write to data folder {}: {error}",
        path.display()
    ))
    .hint("give a folder that you may write to with --data-dir")
}

/// A lake as people write it (a URL, or a folder, which need not exist yet) as a URL.
pub(crate) fn lake_url(text: &str) -> Result<Url> {
    if text.contains("://") {
        return Url::parse(text).or_usage(|| format!("--lake `{text}`"));
    }
    if text.is_empty() {
        return Err(Failure::usage("--lake is empty")
            .hint("give gs://bucket/prefix, s3://bucket/prefix, or a folder"));
    }
    let path = std::path::absolute(text).or_usage(|| format!("--lake `{text}`"))?;
    folder_url(&path)
}

fn folder_url(path: &Path) -> Result<Url> {
    Url::from_file_path(path)
        .map_err(|()| Failure::failed(format!("{} cannot be written as a URL", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(dir.path()).unwrap();
        let refused = Folder::open(dir.path()).unwrap_err();
        assert!(refused.message.contains("in use"), "{}", refused.message);
        drop(first);
        Folder::open(dir.path()).unwrap();
    }

    #[test]
    fn a_lake_may_be_a_folder_or_a_url() {
        assert_eq!(lake_url("gs://bucket/x").unwrap().as_str(), "gs://bucket/x");
        assert_eq!(lake_url("/tmp/a b").unwrap().as_str(), "file:///tmp/a%20b");
        let relative = lake_url("here").unwrap();
        assert!(
            relative.as_str().starts_with("file:///") && relative.as_str().ends_with("/here"),
            "{relative}"
        );
        assert!(lake_url("").is_err());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        std::fs::write(&path, "").unwrap();
        let failure = Folder::open(&path).unwrap_err();
        assert!(
            failure.message.contains("taken") && failure.hint.is_some(),
            "{failure:?}"
        );
    }
}
