//! Which files of a snapshot are worth writing anew. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Result, TableSnapshot, WriteOptions};

/// Files at least this full, of their target size, are left as they are.
const FULL: f64 = 0.75;

/// Files to be written anew, together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Places in [`TableSnapshot::files`].
    pub files: BTreeSet<usize>,
    /// How many files of the target size their rows fill, at least one.
    pub fills: usize,
}

impl Compaction {
    /// The small files among some, where a partition has more than they need to be. Files have the size that
    /// their table asks for.
    ///
    /// # Errors
    /// The table's properties ask for what nobody understands.
    pub fn of_small_files(snapshot: &TableSnapshot, among: &BTreeSet<usize>) -> Result<Self> {
        let target = target_size(snapshot)?;
        let mut small: BTreeMap<&[Option<String>], Vec<usize>> = BTreeMap::new();
        for (place, file) in snapshot.files.iter().enumerate() {
            if among.contains(&place) && (file.size as f64) < FULL * target as f64 {
                small.entry(&file.partition_values).or_default().push(place);
            }
        }
        let mut found = Self::default();
        for places in small.into_values() {
            let fills = fills(snapshot, places.iter(), target);
            if places.len() > fills {
                found.files.extend(places);
                found.fills += fills;
            }
        }
        Ok(found)
    }

    /// All of some files.
    ///
    /// # Errors
    /// The table's properties ask for what nobody understands.
    pub fn of_all(snapshot: &TableSnapshot, among: BTreeSet<usize>) -> Result<Self> {
        let fills = fills(snapshot, among.iter(), target_size(snapshot)?);
        Ok(Self {
            fills,
            files: among,
        })
    }
}

fn target_size(snapshot: &TableSnapshot) -> Result<u64> {
    let options = WriteOptions::of(&snapshot.name.to_string(), &snapshot.properties)?;
    Ok(options.target_file_size.max(1))
}

fn fills<'a>(
    snapshot: &TableSnapshot,
    places: impl Iterator<Item = &'a usize>,
    target: u64,
) -> usize {
    let files = places.filter_map(|place| snapshot.files.get(*place));
    let bytes: u64 = files.map(|file| file.size).sum();
    usize::try_from(bytes.div_ceil(target))
        .unwrap_or(usize::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::Schema;

    use super::*;
    use crate::{DataFile, Format, TableName};

    const MIB: u64 = 1 << 20;

    /// Files of (partition, MiB) in a table that wants 100 MiB.
    fn snapshot(files: &[(&str, u64)]) -> TableSnapshot {
        let file = |(place, (partition, size)): (usize, &(&str, u64))| {
            let values = vec![Some((*partition).to_owned())];
            Arc::new(DataFile::new(
                format!("{place}.parquet"),
                size * MIB,
                1,
                values,
                None,
            ))
        };
        TableSnapshot {
            name: TableName::bare("t"),
            location: "memory:///t/".parse().unwrap(),
            format: Format::Delta,
            properties: [("delta.targetFileSize".to_owned(), (100 * MIB).to_string())].into(),
            version: 1,
            schema: Arc::new(Schema::empty()),
            partition_columns: vec!["p".to_owned()],
            files: files.iter().enumerate().map(file).collect(),
            offsets: Default::default(),
            topic_ids: Default::default(),
        }
    }

    fn chosen(files: &[(&str, u64)]) -> (Vec<usize>, usize) {
        let snapshot = snapshot(files);
        let all = (0..files.len()).collect();
        let found = Compaction::of_small_files(&snapshot, &all).unwrap();
        (found.files.into_iter().collect(), found.fills)
    }

    #[test]
    fn small_files_of_a_partition_are_put_together() {
        assert_eq!(chosen(&[("a", 1), ("a", 2), ("b", 3)]), (vec![0, 1], 1));
    }

    #[test]
    fn full_files_and_lone_small_ones_are_left_alone() {
        assert_eq!(
            chosen(&[("a", 90), ("a", 1), ("b", 76), ("b", 200)]),
            (vec![], 0)
        );
    }

    #[test]
    fn what_would_become_as_many_files_again_is_left_alone() {
        assert_eq!(chosen(&[("a", 60), ("a", 60)]), (vec![], 0));
        assert_eq!(
            chosen(&[("a", 60), ("a", 60), ("a", 60)]),
            (vec![0, 1, 2], 2)
        );
    }
}
