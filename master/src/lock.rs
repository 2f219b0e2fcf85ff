//! One master per state folder, by a lock that the kernel drops when the process dies.

use std::fs::{File, Permissions, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
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
        close_to_others(state_dir);
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

/// Takes from others what they may do with a state folder that was made wider. One that holds somebody else's files
/// too is left as it is.
fn close_to_others(state_dir: &Path) {
    let mode = std::fs::metadata(state_dir).map_or(0, |metadata| metadata.mode() & 0o7777);
    if mode & 0o077 == 0 {
        return;
    }
    let folder = state_dir.display();
    let closed = match is_ours(state_dir) {
        true => std::fs::set_permissions(state_dir, Permissions::from_mode(0o700)),
        false => Err(std::io::Error::other(
            "it holds files that are not a master's",
        )),
    };
    match closed {
        Ok(()) => tracing::warn!(
            %folder,
            was = format!("{:04o}", mode),
            "other users of this machine could look into the state folder, where SQL texts are kept: it is 0700 now"
        ),
        Err(error) => tracing::warn!(
            %folder,
            %error,
            "other users of this machine may look into the state folder, where SQL texts are kept: chmod 700"
        ),
    }
}

fn is_ours(state_dir: &Path) -> bool {
    const OURS: [&str; 8] = [
        "events",
        "journal.",
        "master.lock",
        "seal.key",
        "signed-out.json",
        "spill",
        "token",
        "work",
    ];
    let Ok(entries) = std::fs::read_dir(state_dir) else {
        return false;
    };
    entries.flatten().all(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        OURS.iter().any(|ours| name.starts_with(ours))
    })
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
    fn folder_of_a_master_is_closed_to_others_and_a_shared_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for (file, mode) in [("tokens.json", 0o700), ("somebody.txt", 0o755)] {
            let state = folder.path().join(file);
            std::fs::create_dir(&state).unwrap();
            std::fs::write(state.join(file), "").unwrap();
            std::fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
            let _lock = StateLock::acquire(&state).unwrap();
            let found = std::fs::metadata(&state).unwrap().mode() & 0o777;
            assert_eq!(found, mode, "{file}");
        }
    }

    #[test]
    fn lock_file_left_by_a_killed_master_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("master.lock"), "4711\n").unwrap();
        StateLock::acquire(folder.path()).unwrap();
    }
}
