use std::sync::Arc;

use datafusion::arrow::array::{
    Array, Int64Array, RecordBatch, StringViewArray, TimestampNanosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use drumline_lake::conformance::{new_table, offer, rows, stage};
use drumline_lake::{Catalog, Error, Format, Lake, Stores, Table, WriteTarget, Writer};
use parquet::file::reader::{FileReader, SerializedFileReader};

async fn local(format: Format) -> (tempfile::TempDir, Lake, Table, WriteTarget) {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path().to_str().unwrap(), Stores::from_env())
        .await
        .unwrap();
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let table = Table::create(&catalog, new_table("t", format, None), false)
        .await
        .unwrap();
    let target = table.write_target("w").await.unwrap();
    (folder, lake, table, target)
}

#[tokio::test]
async fn files_say_their_true_size_rows_and_bounds() {
    let (_folder, lake, _, target) = local(Format::Parquet).await;
    for file in stage(&lake, &target, 0..30).await {
        let path = format!("/{}", file.path);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), file.size);
        let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let metadata = reader.metadata().file_metadata();
        assert_eq!(metadata.num_rows(), 10);
        let columns: Vec<_> = metadata.schema_descr().columns().to_vec();
        let names: Vec<_> = columns.iter().map(|c| c.name()).collect();
        assert_eq!(names, ["id", "name"], "partition columns are not in files");
        let part: i64 = file.partition_values[0]
            .1
            .as_ref()
            .unwrap()
            .parse()
            .unwrap();
        let statistics = file.statistics.unwrap();
        assert_eq!(statistics["numRecords"], 10);
        assert_eq!(statistics["minValues"]["id"], part);
        assert_eq!(statistics["maxValues"]["id"], 27 + part);
        assert_eq!(statistics["nullCount"]["name"], 0);
    }
}

#[tokio::test]
async fn published_files_lie_in_hive_folders_without_padding() {
    let (folder, lake, table, target) = local(Format::Parquet).await;
    let files = stage(&lake, &target, 0..9).await;
    table.commit(offer(0, 9, files)).await.unwrap();
    for part in 0..3 {
        let hive = folder.path().join(format!("default/t/part={part}"));
        let files: Vec<_> = std::fs::read_dir(hive).unwrap().collect();
        assert_eq!(files.len(), 1);
    }
}

#[tokio::test]
async fn a_full_file_is_closed_and_another_begun() {
    let (_folder, lake, _, mut target) = local(Format::Delta).await;
    target.target_file_size = 1;
    let mut writer = Writer::new(lake.stores(), &target).unwrap();
    for n in 0..4 {
        writer.write(&rows(n * 3..n * 3 + 3)).await.unwrap();
    }
    assert_eq!(writer.open_files(), 0);
    assert_eq!(writer.buffered_bytes(), 0);
    let files = writer.finish().await.unwrap();
    assert_eq!(files.len(), 12);
}

#[tokio::test]
async fn buffered_bytes_grow_with_rows() {
    let (_folder, lake, _, target) = local(Format::Delta).await;
    let mut writer = Writer::new(lake.stores(), &target).unwrap();
    writer.write(&rows(0..10)).await.unwrap();
    let few = writer.buffered_bytes();
    writer.write(&rows(10..50_000)).await.unwrap();
    assert!(writer.buffered_bytes() > few + 100_000);
    assert_eq!(writer.rows(), 50_000);
    writer.abort().await;
}

// An encoder for each of them would take several times what the rows do.
#[tokio::test]
async fn many_open_files_take_hardly_more_memory_than_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (files, columns, rows) = (20, 24, 4000_i64);
    let part = Field::new("part", DataType::Int64, true);
    let names = (0..columns).map(|n| Field::new(format!("c{n}"), DataType::Int64, true));
    let schema = Arc::new(Schema::new(names.chain([part]).collect::<Vec<_>>()));
    let partitions = vec!["part".to_owned()];
    let mut target = WriteTarget::unwritten("w", Format::Delta, &schema, partitions).unwrap();
    target.folder = url::Url::from_directory_path(folder.path()).unwrap();
    let mut writer = Writer::new(&Stores::from_env(), &target).unwrap();
    let mut given = 0;
    for part in 0..files {
        let values = Arc::new(Int64Array::from_iter_values(0..rows));
        let mut arrays: Vec<Arc<dyn Array>> = vec![values; columns];
        arrays.push(Arc::new(Int64Array::from_iter_values(
            (0..rows).map(|_| part),
        )));
        let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
        given += columns * rows as usize * 8;
        writer.write(&batch).await.unwrap();
    }
    assert_eq!(writer.open_files(), files as usize);
    let held = writer.buffered_bytes() as usize;
    assert!(held < given * 3 / 2, "{held} bytes for {given} of rows");
    assert_eq!(writer.finish().await.unwrap().len(), files as usize);
}

#[tokio::test]
async fn rows_are_matched_by_name_and_cast() {
    let (_folder, lake, _, target) = local(Format::Delta).await;
    let schema = Schema::new(vec![
        Field::new("name", DataType::Utf8View, true),
        Field::new("id", DataType::UInt64, true),
    ]);
    let batch = RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(StringViewArray::from(vec!["a"])),
            Arc::new(UInt64Array::from(vec![5])),
        ],
    )
    .unwrap();
    let mut writer = Writer::new(lake.stores(), &target).unwrap();
    writer.write(&batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    assert_eq!(files[0].partition_values, [("part".to_owned(), None)]);
    assert_eq!(files[0].statistics.as_ref().unwrap()["minValues"]["id"], 5);
}

#[tokio::test]
async fn values_that_do_not_fit_are_an_error_not_null() {
    let (_folder, lake, _, target) = local(Format::Delta).await;
    for (column, array) in [
        (
            "id",
            Arc::new(UInt64Array::from(vec![u64::MAX])) as Arc<dyn Array>,
        ),
        ("unknown", Arc::new(Int64Array::from(vec![1]))),
    ] {
        let field = Field::new(column, array.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
        let mut writer = Writer::new(lake.stores(), &target).unwrap();
        let error = writer.write(&batch).await.unwrap_err();
        assert!(matches!(error, Error::Rows { .. }), "{error}");
        assert!(error.to_string().contains(column), "{error}");
    }
}

#[tokio::test]
async fn timestamps_are_written_as_microseconds_utc() {
    let (_folder, lake, _, _) = local(Format::Delta).await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new(
        "at",
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        true,
    )]));
    let mut new = new_table("times", Format::Parquet, None);
    new.schema = schema.clone();
    new.partition_columns.clear();
    let table = Table::create(&catalog, new, false).await.unwrap();
    let target = table.write_target("w").await.unwrap();
    let nanos = TimestampNanosecondArray::from(vec![1_541_030_400_123_456_789]);
    let batch = RecordBatch::try_new(schema, vec![Arc::new(nanos)]).unwrap();
    let mut writer = Writer::new(lake.stores(), &target).unwrap();
    writer.write(&batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let statistics = files[0].statistics.as_ref().unwrap();
    assert_eq!(statistics["minValues"]["at"], "2018-11-01T00:00:00.123Z");
    assert_eq!(statistics["maxValues"]["at"], "2018-11-01T00:00:00.124Z");
    let file = std::fs::File::open(format!("/{}", files[0].path)).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let logical = format!("{:?}", schema.column(0).logical_type_ref());
    assert!(
        logical.to_lowercase().contains("micros") && logical.contains("true"),
        "{logical}"
    );
}

#[tokio::test]
async fn a_writer_that_shrinks_loses_no_row() {
    let (_folder, lake, table, target) = local(Format::Delta).await;
    let mut writer = Writer::new(lake.stores(), &target).unwrap();
    for n in 0..4 {
        writer.write(&rows(n * 9..n * 9 + 9)).await.unwrap();
        assert_eq!(writer.open_files(), 3);
        writer.shrink(writer.buffered_bytes()).await.unwrap();
        assert_eq!(writer.open_files(), 3, "nothing was to be given up");
        writer.shrink(0).await.unwrap();
        assert_eq!((writer.open_files(), writer.buffered_bytes()), (0, 0));
    }
    let files = writer.finish().await.unwrap();
    assert_eq!(files.len(), 12);
    table.commit(offer(0, 36, files)).await.unwrap();
    let snapshot = table.snapshot().await.unwrap();
    let sql = "select sum(id) from t";
    let sum = drumline_lake::conformance::number(&lake, &snapshot, sql).await;
    assert_eq!(sum, 35 * 36 / 2);
}

#[tokio::test]
async fn a_tables_properties_say_how_its_files_are() {
    let (folder, lake, _, _) = local(Format::Delta).await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    let mut new = new_table("u", Format::Delta, None);
    new.properties
        .insert("compression".to_owned(), "snappy".to_owned());
    let table = Table::create(&catalog, new.clone(), false).await.unwrap();
    let target = table.write_target("w").await.unwrap();
    let file = stage(&lake, &target, 0..3).await.remove(0);
    let file = std::fs::File::open(format!("/{}", file.path)).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let codec = reader.metadata().row_group(0).column(0).compression();
    assert_eq!(codec, parquet::basic::Compression::SNAPPY);
    for (property, value) in [("compression", "zip"), ("sort_by", "nothing")] {
        new.name = drumline_lake::TableName::bare("v");
        new.properties = [(property.to_owned(), value.to_owned())].into();
        let error = Table::create(&catalog, new.clone(), false)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Property { .. }), "{error}");
    }
    drop(folder);
}

#[tokio::test]
async fn a_column_that_is_not_null_stays_so() {
    let (_folder, lake, _, _) = local(Format::Delta).await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    for format in [Format::Delta, Format::Parquet] {
        let mut new = new_table(&format!("n_{format:?}").to_lowercase(), format, None);
        let marked = |field: &Field| match field.name().as_str() {
            "name" => field
                .clone()
                .with_metadata([(drumline_lake::NOT_NULL.to_owned(), "true".to_owned())].into()),
            _ => field.clone(),
        };
        let fields = new.schema.fields().iter().map(|field| marked(field));
        new.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let table = Table::create(&catalog, new, false).await.unwrap();
        let nullable: Vec<bool> = {
            let snapshot = table.snapshot().await.unwrap();
            let fields = snapshot.schema.fields().iter();
            fields.map(|field| field.is_nullable()).collect()
        };
        assert_eq!(
            nullable,
            [true, true, false],
            "what was declared, and nothing else"
        );
        let target = table.write_target("w").await.unwrap();
        stage(&lake, &target, 0..3).await;
        let nameless = rows(0..3).project(&[0, 1]).unwrap();
        let mut writer = Writer::new(lake.stores(), &target).unwrap();
        let error = writer.write(&nameless).await.unwrap_err();
        assert!(
            error.to_string().contains("column 'name' is NOT NULL"),
            "{error}"
        );
    }
}
