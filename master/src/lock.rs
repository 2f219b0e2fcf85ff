//! One master per state folder, by a lock that the kernel drops when the process dies.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// Held for as long as the master runs; removes its file when dropped.
pub(crate) struct StateLock {
    path: PathBuf,
    file: File,
}

impl StateLock {
    /// Creates the folder if needed and locks it.
    pub(crate) fn acquire(state_dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::StateDir {
            path: state_dir.to_path_buf(),
            source,
        };
        // What applications were and said is not for every user of the machine.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(failed)?;
        warn_if_open(state_dir);
        let path = state_dir.join("master.lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::StateDirInUse {
                    path: state_dir.to_path_buf(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // A master that is just stopping removes the file: a lock on the removed one holds nobody off.
        let is_current = std::fs::metadata(&path).is_ok_and(|current| {
            file.metadata()
                .is_ok_and(|locked| (locked.dev(), locked.ino()) == (current.dev(), current.ino()))
        });
        if !is_current {
            return Err(Error::StateDirInUse {
                path: state_dir.to_path_buf(),
            });
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { path, file })
    }

    /// Says which port this state folder's master listens on.
    pub(crate) fn tell_port(&mut self, port: u16) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file
            .write_all(drumline_security::local::lock_line(port).as_bytes())
    }
}

fn warn_if_open(state_dir: &Path) {
    let mode = std::fs::metadata(state_dir).map_or(0, |metadata| metadata.mode() & 0o077);
    if mode != 0 {
        tracing::warn!(
            folder = %state_dir.display(),
            "other users of this machine may look into the state folder, where SQL texts are kept: chmod 700"
        );
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // Removed while still locked: a master that starts now makes and locks a file of its own.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the state folder's lock file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_master_on_a_state_folder_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let first = StateLock::acquire(&state).unwrap();
        assert!(matches!(
            StateLock::acquire(&state),
            Err(Error::StateDirInUse { .. })
        ));
        drop(first);
        assert!(!state.join("master.lock").exists());
        StateLock::acquire(&state).unwrap();
    }

    #[test]
    fn lock_file_left_by_a_killed_master_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("master.lock"), "4711\n").unwrap();
        StateLock::acquire(folder.path()).unwrap();
    }
}
