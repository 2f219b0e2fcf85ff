//! `drumline_store_as(value, type, table, column)`: casts as a table's writer does, naming the column.

use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
    lit,
};

/// Planned by us alone: its second argument is a null of the type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StoreAs {
    signature: Signature,
}

impl StoreAs {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(4, Volatility::Immutable),
        }
    }
}

/// The value as a column of a table holds it; a value that does not fit is an error that names the column.
pub(crate) fn store_as(
    value: Expr,
    found: &DataType,
    wanted: &DataType,
    table: &str,
    column: &str,
) -> Result<Expr> {
    if found == wanted {
        return Ok(value);
    }
    if wanted.is_nested() {
        return Ok(cast(value, wanted.clone()));
    }
    let kind = Expr::Literal(ScalarValue::try_from(wanted)?, None);
    Ok(ScalarUDF::from(StoreAs::new()).call(vec![value, kind, lit(table), lit(column)]))
}

impl ScalarUDFImpl for StoreAs {
    fn name(&self) -> &str {
        "drumline_store_as"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [_, wanted, ..] => Ok(wanted.clone()),
            _ => internal_err!("drumline_store_as takes four arguments"),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wanted = arguments.return_field.data_type().clone();
        let [value, _, table, column] = arguments.args.as_slice() else {
            return internal_err!("drumline_store_as takes four arguments");
        };
        // A value that does not fit is an error, never a silent null.
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let array = value.to_array(arguments.number_rows)?;
        match cast_with_options(&array, &wanted, &strict) {
            Ok(array) => Ok(ColumnarValue::Array(array)),
            Err(error) => Err(drumline_lake::Error::Rows {
                table: super::text_of(table),
                reason: format!("column '{}': {error}", super::text_of(column)),
            }
            .into()),
        }
    }
}
