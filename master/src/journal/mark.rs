//! Two numbers in a small file of their own.
//!
//! The newest fact that was durable, so that the loss of the newest records from both copies is noticed, too: it is
//! written after them and not synced; it survives the process, and that is what it is for. And up to which time what
//! was over was let go, so that a repair does not bring it back: that is synced before anything goes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::record::checksum;

const NUMBER: usize = size_of::<u64>();
const SUMMED: usize = 2 * NUMBER;

#[derive(Debug)]
pub(super) struct Mark {
    file: Option<File>,
}

/// What a mark says, where it can be believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) newest: Option<u64>,
    /// In milliseconds since 1970: all that was over, and whose newest fact is no younger, was let go.
    pub(super) let_go: Option<i64>,
}

impl Mark {
    /// Opens the file, and gives what it says.
    pub(super) fn open(path: &Path) -> (Self, Marked) {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path);
        match file {
            Ok(file) => {
                let marked = Marked {
                    newest: read(&file, 0),
                    let_go: read(&file, SUMMED as u64).map(u64::cast_signed),
                };
                (Self { file: Some(file) }, marked)
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the journal has no mark");
                (Self { file: None }, Marked::default())
            }
        }
    }

    /// Facts up to this one are durable. A mark that cannot be written is one that is behind, which does no harm.
    pub(super) fn set(&self, newest: u64) {
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(&summed(newest), 0)
        {
            tracing::debug!(%error, "the journal's mark stays behind");
        }
    }

    /// What is over and no younger than this is let go next.
    pub(super) fn let_go(&self, at: i64) {
        if let Some(file) = &self.file
            && let Err(error) = file
                .write_all_at(&summed(at.cast_unsigned()), SUMMED as u64)
                .and_then(|()| file.sync_data())
        {
            tracing::debug!(%error, "the journal's mark does not know what is let go");
        }
    }
}

fn summed(number: u64) -> [u8; SUMMED] {
    let number = number.to_le_bytes();
    let mut bytes = [0; SUMMED];
    bytes[..NUMBER].copy_from_slice(&number);
    bytes[NUMBER..].copy_from_slice(&checksum(&number).to_le_bytes());
    bytes
}

fn read(file: &File, at: u64) -> Option<u64> {
    let mut bytes = [0; SUMMED];
    file.read_exact_at(&mut bytes, at).ok()?;
    let (number, sum) = bytes.split_first_chunk::<NUMBER>()?;
    (sum == checksum(number).to_le_bytes()).then_some(u64::from_le_bytes(*number))
}
