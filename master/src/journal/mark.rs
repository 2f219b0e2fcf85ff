//! The newest fact that was durable, in a small file of its own: so that the loss of the newest records from both
//! copies is noticed, too. It is written after them and not synced; it survives the process, and that is what it is for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::record::checksum;

const NUMBER: usize = size_of::<u64>();

#[derive(Debug)]
pub(super) struct Mark {
    file: Option<File>,
}

impl Mark {
    /// Opens the file, and gives what it says; nothing if it says nothing that can be believed.
    pub(super) fn open(path: &Path) -> (Self, Option<u64>) {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path);
        match file {
            Ok(file) => {
                let newest = read(&file);
                (Self { file: Some(file) }, newest)
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the journal has no mark");
                (Self { file: None }, None)
            }
        }
    }

    /// Facts up to this one are durable. A mark that cannot be written is one that is behind, which does no harm.
    pub(super) fn set(&self, newest: u64) {
        let number = newest.to_le_bytes();
        let mut bytes = [0; 2 * NUMBER];
        bytes[..NUMBER].copy_from_slice(&number);
        bytes[NUMBER..].copy_from_slice(&checksum(&number).to_le_bytes());
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(&bytes, 0)
        {
            tracing::debug!(%error, "the journal's mark stays behind");
        }
    }
}

fn read(file: &File) -> Option<u64> {
    let mut bytes = [0; 2 * NUMBER];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (number, sum) = bytes.split_first_chunk::<NUMBER>()?;
    (sum == checksum(number).to_le_bytes()).then_some(u64::from_le_bytes(*number))
}
