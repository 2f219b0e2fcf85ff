//! `drumline_single(count)`: true, or the error of a subquery that yields more rows than one value.

use crate::sql;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Planned by us alone, over the number of a subquery's rows.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Single {
    signature: Signature,
}

impl Single {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

/// A filter that lets a row through, and fails where a subquery that stands for a value had more rows than one.
pub(crate) fn single(rows: Expr) -> Expr {
    ScalarUDF::from(Single::new()).call(vec![rows])
}

impl ScalarUDFImpl for Single {
    fn name(&self) -> &str {
        "drumline_single"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [rows] = arguments.args.as_slice() else {
            return internal_err!("drumline_single takes one argument");
        };
        let rows = cast(&rows.to_array(arguments.number_rows)?, &DataType::Int64)?;
        let mut counts = rows.as_primitive::<Int64Type>().iter().flatten();
        match counts.any(|rows| rows > 1) {
            false => Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))),
            true => Err(crate::Error::from(sql::Error::Invalid {
                reason: "more than one row returned by a subquery used as an expression".to_owned(),
                position: None,
                hint: Some(
                    "leave one row with LIMIT 1, max() or the like; or ask with IN whether a value is among them"
                        .to_owned(),
                ),
            })
            .into()),
        }
    }
}
