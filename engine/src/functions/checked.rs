//! `+`, `-` and `*` of whole numbers: an error where DataFusion's own operators would answer with another number.
//!
//! Planned by [`crate::meaning`] in the place of operators; people see the operator.

use datafusion::arrow::array::{ArrayRef, Datum};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use crate::sql;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Plus,
    Minus,
    Times,
}

/// One operator over two whole numbers of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Checked {
    operation: Operation,
    signature: Signature,
}

pub(super) fn all() -> impl Iterator<Item = ScalarUDF> {
    [Operation::Plus, Operation::Minus, Operation::Times]
        .into_iter()
        .map(|operation| ScalarUDF::from(Checked::new(operation)))
}

/// The operator with its check; `None` for those that cannot leave their type's numbers.
pub(crate) fn checked(left: Expr, operator: Operator, right: Expr) -> Option<Expr> {
    let operation = match operator {
        Operator::Plus => Operation::Plus,
        Operator::Minus => Operation::Minus,
        Operator::Multiply => Operation::Times,
        _ => return None,
    };
    Some(ScalarUDF::from(Checked::new(operation)).call(vec![left, right]))
}

impl Checked {
    fn new(operation: Operation) -> Self {
        Self {
            operation,
            signature: Signature::any(2, Volatility::Immutable),
        }
    }

    fn sign(&self) -> &'static str {
        match self.operation {
            Operation::Plus => "+",
            Operation::Minus => "-",
            Operation::Times => "*",
        }
    }

    fn kernel(&self) -> fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError> {
        match self.operation {
            Operation::Plus => numeric::add,
            Operation::Minus => numeric::sub,
            Operation::Times => numeric::mul,
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Plus => "drumline_plus",
            Operation::Minus => "drumline_minus",
            Operation::Times => "drumline_times",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        match arguments {
            [left, right] => Ok(format!(
                "{} {} {}",
                left.schema_name(),
                self.sign(),
                right.schema_name()
            )),
            _ => internal_err!("{} takes two numbers", self.name()),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [left, right] if left == right => Ok(left.clone()),
            _ => internal_err!("{} takes two numbers of one type", self.name()),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = arguments.args.as_slice() else {
            return internal_err!("{} takes two numbers", self.name());
        };
        let kernel = self.kernel();
        let found = apply(left, right, |left, right| kernel(left, right));
        found.map_err(|error| match overflow_in(&error) {
            Some(numbers) => {
                let kind = arguments.return_field.data_type();
                too_large(&format!("{numbers} does not fit into {kind}"))
            }
            None => error,
        })
    }
}

/// The error of a number that its type cannot hold.
pub(super) fn too_large(what: &str) -> datafusion::common::DataFusionError {
    crate::Error::from(sql::Error::Invalid {
        reason: format!("overflow: {what}"),
        position: None,
        hint: Some(
            "CAST one side to BIGINT, or to DECIMAL(38, 0), before it is computed".to_owned(),
        ),
    })
    .into()
}

/// The numbers that overflowed, as the kernel tells them.
fn overflow_in(error: &datafusion::common::DataFusionError) -> Option<String> {
    match error.find_root() {
        datafusion::common::DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::ArithmeticOverflow(text) => {
                let numbers = text
                    .rsplit_once("on: ")
                    .map_or(text.as_str(), |(_, numbers)| numbers);
                Some(numbers.to_owned())
            }
            _ => None,
        },
        _ => None,
    }
}
