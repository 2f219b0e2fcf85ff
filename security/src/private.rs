//! Files that only their owner may read, written whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::{Error, Result};

const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// Replaces `path` by `bytes`: after a crash it holds the old or the new, never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::write(path, source);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let staged = path.with_file_name(name);
    let _ = std::fs::remove_file(&staged);
    write_new(&staged, bytes)?;
    let renamed = std::fs::rename(&staged, path).map_err(failed);
    if renamed.is_err() {
        let _ = std::fs::remove_file(&staged);
    }
    renamed?;
    // The rename itself is durable once its folder is.
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    sync_folder(folder.unwrap_or(Path::new(".")))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let failed = |source| Error::write(folder, source);
    let opened = File::open(folder).map_err(failed)?;
    opened.sync_all().map_err(failed)
}

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Error::WouldOverwrite {
            path: path.to_path_buf(),
        },
        _ => Error::write(path, source),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(path)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// What the file holds; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::read(path, error)),
    }
}

/// The permissions that others have on a file, if any.
pub(crate) fn open_to_others(path: &Path) -> Result<Option<u32>> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::read(path, error))?;
    let mode = metadata.permissions().mode() & 0o777;
    Ok((mode & OTHERS != 0).then_some(mode))
}

/// Fails if others may read the file.
pub(crate) fn must_be_private(path: &Path) -> Result<()> {
    match open_to_others(path)? {
        None => Ok(()),
        Some(mode) => Err(Error::TooOpen {
            path: path.to_path_buf(),
            mode,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_the_owners_alone_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(open_to_others(&path).unwrap(), Some(0o644));
        assert!(matches!(
            must_be_private(&path),
            Err(Error::TooOpen { mode: 0o644, .. })
        ));
        replace(&path, b"new").unwrap();
        assert_eq!(open_to_others(&path).unwrap(), None);
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_new(&path, b"first").unwrap();
        assert!(matches!(
            write_new(&path, b"second"),
            Err(Error::WouldOverwrite { .. })
        ));
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"first"[..]));
    }
}
