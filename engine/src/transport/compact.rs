//! Arrays without the parts that no row uses. A filtered or joined batch of views or dictionaries still
//! holds all the buffers it came from; on the wire these would cost many times the rows.

use std::sync::Arc;

use arrow_select::dictionary::garbage_collect_any_dictionary;
use datafusion::arrow::array::{
    ArrayRef, AsArray, GenericByteViewArray, RecordBatch, RecordBatchOptions,
};
use datafusion::arrow::datatypes::ByteViewType;
use datafusion::arrow::error::ArrowError;

/// Views are copied only where less than this part of their buffers is used: 1 / `WORTH_A_COPY`.
const WORTH_A_COPY: usize = 2;

pub(super) fn compact(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (schema, arrays, rows) = batch.into_parts();
    let arrays = arrays
        .into_iter()
        .map(compact_array)
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, arrays, &options)
}

fn compact_array(array: ArrayRef) -> Result<ArrayRef, ArrowError> {
    if let Some(views) = array.as_string_view_opt() {
        return Ok(compact_views(views).map_or(array, |views| Arc::new(views)));
    }
    if let Some(views) = array.as_binary_view_opt() {
        return Ok(compact_views(views).map_or(array, |views| Arc::new(views)));
    }
    if let Some(dictionary) = array.as_any_dictionary_opt() {
        return garbage_collect_any_dictionary(dictionary);
    }
    Ok(array)
}

fn compact_views<T: ByteViewType + ?Sized>(
    views: &GenericByteViewArray<T>,
) -> Option<GenericByteViewArray<T>> {
    let held: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
    (held > views.total_buffer_bytes_used().saturating_mul(WORTH_A_COPY)).then(|| views.gc())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        Array, DictionaryArray, Int32Array, StringArray, StringViewArray,
    };
    use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Schema};

    use super::*;

    fn long(number: usize) -> String {
        format!("a value that is too long to be held in a view: {number}")
    }

    #[test]
    fn unused_buffers_and_values_do_not_travel() {
        let views: StringViewArray = (0..1000).map(|number| Some(long(number))).collect();
        let words = StringArray::from_iter_values((0..1000).map(long));
        let dictionary = DictionaryArray::<Int32Type>::new(
            Int32Array::from_iter_values(0..1000),
            Arc::new(words),
        );
        let schema = Schema::new(vec![
            Field::new("views", DataType::Utf8View, true),
            Field::new("dictionary", dictionary.data_type().clone(), true),
        ]);
        let whole = RecordBatch::try_new(
            Arc::new(schema),
            vec![Arc::new(views), Arc::new(dictionary)],
        )
        .unwrap();
        let few = whole.slice(10, 3);
        let compacted = compact(few.clone()).unwrap();
        assert_eq!(compacted, few);
        let views = compacted.column(0).as_string_view();
        assert_eq!(
            views
                .data_buffers()
                .iter()
                .map(|buffer| buffer.len())
                .sum::<usize>(),
            3 * long(10).len()
        );
        assert_eq!(compacted.column(1).as_any_dictionary().values().len(), 3);
    }

    #[test]
    fn a_batch_without_columns_keeps_its_rows() {
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(compact(batch).unwrap().num_rows(), 5);
    }
}
