//! `drumline_keeps(condition, table, constraint)`: true, or an error that names the constraint.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

/// Volatile, so that no optimiser moves it to rows that are not written or leaves it away.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Keeps {
    signature: Signature,
}

impl Keeps {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(3, Volatility::Volatile),
        }
    }
}

/// A filter that lets every row through, and fails where a CHECK constraint is false. As in SQL, null passes.
pub(crate) fn keeps(condition: Expr, table: &str, constraint: &str) -> Expr {
    ScalarUDF::from(Keeps::new()).call(vec![condition, lit(table), lit(constraint)])
}

impl ScalarUDFImpl for Keeps {
    fn name(&self) -> &str {
        "drumline_keeps"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [condition, table, constraint] = arguments.args.as_slice() else {
            return internal_err!("drumline_keeps takes three arguments");
        };
        let array = condition.to_array(arguments.number_rows)?;
        let broken = match array.data_type() {
            DataType::Null => false,
            DataType::Boolean => {
                let mut values = array.as_boolean().iter();
                values.any(|value| value == Some(false))
            }
            other => return internal_err!("a constraint is {other}, not true or false"),
        };
        match broken {
            false => Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))),
            true => Err(drumline_lake::Error::Rows {
                table: super::text_of(table),
                reason: format!(
                    "constraint '{}' is not kept by a row",
                    super::text_of(constraint)
                ),
            }
            .into()),
        }
    }
}
