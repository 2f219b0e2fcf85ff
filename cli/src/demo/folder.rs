//! The demo's folder. Only a folder that a demo made is ever emptied; a marker file tells.

use std::path::Path;

use crate::failure::{Failure, OrFail as _, Result};

const MARKER: &str = ".drumline-demo";
/// What a demo makes in its folder, and what the next one removes.
const PARTS: [&str; 4] = ["lake", "state", "work", "logs"];

/// Makes `path`, which exists, ready for a fresh demo.
pub(crate) fn reset(path: &Path) -> Result {
    let marker = path.join(MARKER);
    if !marker.exists() {
        let mut entries =
            std::fs::read_dir(path).or_fail(|| format!("cannot read {}", path.display()))?;
        if entries.next().is_some() {
            return Err(Failure::usage(format!(
                "{} holds something that is not of a demo",
                path.display()
            ))
            .hint("give an empty folder, or one that does not exist yet, with --data-dir"));
        }
        return std::fs::write(
            &marker,
            "made by `drumline demo`, which empties this folder when it runs again\n",
        )
        .map_err(|error| {
            Failure::failed(format!("cannot write to {}: {error}", path.display()))
                .hint("give a folder that you may write to with --data-dir")
        });
    }
    for part in PARTS {
        let part = path.join(part);
        match std::fs::remove_dir_all(&part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .or_fail(|| format!("cannot remove {} of an earlier demo", part.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_an_earlier_demo_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        reset(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("lake/listen_events")).unwrap();
        std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        reset(dir.path()).unwrap();
        assert!(!dir.path().join("lake").exists());
        assert!(
            dir.path().join("notes.txt").exists(),
            "only what a demo makes is removed"
        );
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lake")).unwrap();
        let failure = reset(dir.path()).unwrap_err();
        assert_eq!(failure.code, crate::failure::Code::Usage);
        assert!(dir.path().join("lake").exists());
    }
}
