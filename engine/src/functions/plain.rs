//! `drumline_plain(x)`: a float by which rows are put together or in order: minus zero as zero, every NaN as one.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// Planned by us alone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Plain {
    signature: Signature,
}

impl Plain {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

/// The value, such that equal ones have equal bits.
pub(crate) fn plain(value: Expr) -> Expr {
    ScalarUDF::from(Plain::new()).call(vec![value])
}

/// The same of a value in a physical plan.
pub(crate) fn plain_value(
    value: Arc<dyn PhysicalExpr>,
    schema: &Schema,
    config: &ConfigOptions,
) -> Result<Arc<dyn PhysicalExpr>> {
    let function = Arc::new(ScalarUDF::from(Plain::new()));
    let config = Arc::new(config.clone());
    ScalarFunctionExpr::try_new(function, vec![value], schema, config)
        .map(|value| Arc::new(value) as Arc<dyn PhysicalExpr>)
}

impl ScalarUDFImpl for Plain {
    fn name(&self) -> &str {
        "drumline_plain"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        match arguments {
            [value] => Ok(value.schema_name().to_string()),
            _ => internal_err!("drumline_plain takes one number"),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [kind @ (DataType::Float32 | DataType::Float64)] => Ok(kind.clone()),
            _ => internal_err!("drumline_plain takes one float"),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = arguments.args.as_slice() else {
            return internal_err!("drumline_plain takes one number");
        };
        let values = value.to_array(arguments.number_rows)?;
        let values: ArrayRef = match values.data_type() {
            DataType::Float32 => {
                let values = values.as_primitive::<Float32Type>();
                // Zero and minus zero are equal, and add up to zero.
                Arc::new(
                    values.unary::<_, Float32Type>(|x| if x.is_nan() { f32::NAN } else { x + 0.0 }),
                )
            }
            DataType::Float64 => {
                let values = values.as_primitive::<Float64Type>();
                Arc::new(
                    values.unary::<_, Float64Type>(|x| if x.is_nan() { f64::NAN } else { x + 0.0 }),
                )
            }
            other => return internal_err!("drumline_plain was given {other}"),
        };
        Ok(ColumnarValue::Array(values))
    }
}
