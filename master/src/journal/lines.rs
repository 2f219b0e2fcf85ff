//! The journal's lines: the same facts as the database's, in `events/<n>.jsonl`, for log shippers and for the
//! day on which the database is damaged.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record;

/// A file of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineFile {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// Of its last fact; 0 while it has none.
    pub(super) last_sequence: u64,
    /// When its last fact happened, in milliseconds since 1970; 0 while it has none.
    pub(super) last_at: i64,
}

/// All files of lines; appends to the newest.
#[derive(Debug)]
pub(super) struct Lines {
    folder: PathBuf,
    /// Oldest first; the last is written to.
    files: Vec<LineFile>,
    open: Option<File>,
    /// The newest file as it was before the last facts were added.
    before: Option<LineFile>,
    /// Bytes at which a new file begins.
    rotate_at: u64,
}

/// What was found in one file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: LineFile,
    /// Sequence numbers and JSON, as they stand.
    pub(super) records: Vec<(u64, Vec<u8>)>,
    /// For each line that cannot be read: how many records stand before it.
    pub(super) damaged: Vec<usize>,
    /// The file ends within a line: how many bytes of it there are.
    pub(super) torn: u64,
}

/// Reads every file, oldest first.
pub(super) fn read(folder: &Path) -> io::Result<Vec<Found>> {
    fs::create_dir_all(folder)?;
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let files = numbers.into_iter();
    files.map(|number| read_file(folder, number)).collect()
}

fn read_file(folder: &Path, number: u64) -> io::Result<Found> {
    let path = path_of(folder, number);
    let bytes = fs::read(&path)?;
    let mut found = Found {
        file: LineFile {
            path,
            number,
            bytes: bytes.len() as u64,
            last_sequence: 0,
            last_at: 0,
        },
        records: Vec::new(),
        damaged: Vec::new(),
        torn: 0,
    };
    let mut rest = bytes.as_slice();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        let json = record::from_line(line);
        match json.and_then(|json| Some((record::sequence(&json)?, json))) {
            Some(record) => found.records.push(record),
            None => found.damaged.push(found.records.len()),
        }
    }
    found.torn = rest.len() as u64;
    if let Some((sequence, json)) = found.records.last() {
        found.file.last_sequence = *sequence;
        found.file.last_at = at(json);
    }
    Ok(found)
}

/// When a fact happened.
pub(super) fn at(json: &[u8]) -> i64 {
    #[derive(serde::Deserialize)]
    struct At {
        at: i64,
    }
    serde_json::from_slice::<At>(json).map_or(0, |fact| fact.at)
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.jsonl"))
}

impl Lines {
    /// Goes on after these files, which are whole.
    pub(super) fn new(folder: &Path, files: Vec<LineFile>, rotate_at: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            files,
            open: None,
            before: None,
            rotate_at,
        }
    }

    /// Adds lines for these facts, in one file. They are on the disk when it returns; when it fails, what is there of
    /// them is taken back, by the next call at the latest.
    pub(super) fn append(&mut self, facts: &[(u64, i64, &[u8])]) -> io::Result<()> {
        let Some((last_sequence, last_at, _)) = facts.last() else {
            return Ok(());
        };
        let mut text = Vec::new();
        for (_, _, json) in facts {
            record::to_line(json, &mut text);
        }
        if self
            .files
            .last()
            .is_none_or(|file| file.bytes >= self.rotate_at)
        {
            self.rotate()?;
        }
        self.before = self.files.last().cloned();
        let opened = self.open_last();
        let written = opened.and_then(|()| self.write(&text));
        if written.is_err() {
            if let Err(error) = self.take_back() {
                tracing::debug!(%error, "lines that were not written whole stay for now");
            }
        } else if let Some(file) = self.files.last_mut() {
            file.last_sequence = *last_sequence;
            file.last_at = *last_at;
        }
        written
    }

    /// Removes what the last call added, or tried to.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        // Opened again, and cut to what is known to be good.
        self.open = None;
        if let (Some(last), Some(before)) = (self.files.last_mut(), self.before.take()) {
            *last = before;
        }
        self.open_last()?;
        match &self.open {
            Some(open) => open.sync_data(),
            None => Ok(()),
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let number = self.files.last().map_or(1, |file| file.number + 1);
        let path = path_of(&self.folder, number);
        self.open = None;
        File::create(&path)?;
        File::open(&self.folder)?.sync_all()?;
        self.files.push(LineFile {
            path,
            number,
            bytes: 0,
            last_sequence: 0,
            last_at: 0,
        });
        Ok(())
    }

    fn open_last(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let Some(last) = self.files.last() else {
            return Ok(());
        };
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&last.path)?;
        // A device has no length; only files are cut.
        if file.metadata()?.is_file() {
            file.set_len(last.bytes)?;
        }
        file.seek(SeekFrom::Start(last.bytes))?;
        self.open = Some(file);
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let (Some(open), Some(last)) = (&mut self.open, self.files.last_mut()) else {
            return Err(io::Error::other("no file of lines is open"));
        };
        open.write_all(text)?;
        open.sync_data()?;
        last.bytes += text.len() as u64;
        Ok(())
    }

    pub(super) fn files(&self) -> &[LineFile] {
        &self.files
    }

    /// The file that is written to.
    pub(super) fn current(&self) -> Option<PathBuf> {
        self.files.last().map(|file| file.path.clone())
    }

    /// Removes the oldest files.
    pub(super) fn remove_oldest(&mut self, count: usize) {
        for file in self.files.drain(..count) {
            if let Err(error) = fs::remove_file(&file.path) {
                tracing::warn!(%error, path = %file.path.display(), "old events stay on the disk");
            }
        }
    }
}

/// Puts a whole new file in the place of a damaged one, which is kept aside. At each moment there is one of the two.
pub(super) fn replace(path: &Path, fresh: &Path, aside: &Path) -> io::Result<()> {
    if fs::hard_link(path, aside).is_err() {
        // Not every file system has links.
        fs::copy(path, aside)?;
        File::open(aside)?.sync_all()?;
    }
    fs::rename(fresh, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes a file anew that was damaged, with these records; the damaged one is kept beside it.
pub(super) fn rewrite(
    file: &mut LineFile,
    records: &[(u64, Vec<u8>)],
    aside: &Path,
) -> io::Result<()> {
    let mut text = Vec::new();
    for (_, json) in records {
        record::to_line(json, &mut text);
    }
    let fresh = file.path.with_extension("jsonl.new");
    let mut out = File::create(&fresh)?;
    out.write_all(&text)?;
    out.sync_all()?;
    replace(&file.path, &fresh, aside)?;
    file.bytes = text.len() as u64;
    if let Some((sequence, json)) = records.last() {
        file.last_sequence = *sequence;
        file.last_at = at(json);
    }
    Ok(())
}
