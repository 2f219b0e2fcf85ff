use super::rows::to_rows;
use super::{Counts, staged_counts, staged_files};
use drumline_lake::StagedFile;

fn counts(n: u64) -> Counts {
    Counts {
        kept: n,
        updated: 10 * n,
        inserted: 100 * n,
        deleted: 1000 * n,
    }
}

#[test]
fn staged_files_survive_their_rows() {
    let files = vec![
        StagedFile {
            path: "file:///lake/a b.parquet".to_owned(),
            size: 12,
            rows: 3,
            partition_values: vec![
                ("day".to_owned(), Some("1|2".to_owned())),
                ("hour".to_owned(), None),
            ],
            statistics: Some(serde_json::json!({"numRecords": 3, "minValues": {"a": -1}})),
            definition: 3,
        },
        StagedFile {
            path: "file:///lake/c.parquet".to_owned(),
            size: 0,
            rows: 0,
            partition_values: vec![],
            statistics: None,
            definition: 0,
        },
    ];
    let rows = [
        to_rows(&files[..1], Some(counts(1))).unwrap(),
        to_rows(&files[1..], Some(counts(2))).unwrap(),
        to_rows(&[], None).unwrap(),
    ];
    assert_eq!(staged_files(&rows).unwrap(), files);
    assert_eq!(staged_counts(&rows).unwrap(), counts(3));
}

#[test]
fn rows_of_something_else_are_a_bug() {
    let other = datafusion::arrow::array::RecordBatch::new_empty(std::sync::Arc::new(
        datafusion::arrow::datatypes::Schema::empty(),
    ));
    let error = staged_files(&[other]).unwrap_err();
    assert_eq!(error.kind(), drumline_lake::ErrorKind::Bug);
}
