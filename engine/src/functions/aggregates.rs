//! `sum`, `max` and `min` where DataFusion's own answer with what is not there: a sum of BIGINTs that leaves their
//! numbers is an error, and NaN is larger than all else, in groups too. Everything else is left to DataFusion's.

use datafusion::arrow::array::ArrowPrimitiveType;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use std::cmp::Ordering;
use std::sync::Arc;

use super::checked::too_large;
use super::folds::{All, Groups, How};

/// The functions, under the names of those they stand for; and some of DataFusion's under names of other engines too.
pub(super) fn all() -> Vec<Arc<AggregateUDF>> {
    let own = |inner, fold| Arc::new(AggregateUDF::from(Own { inner, fold }));
    let called = |inner: Arc<AggregateUDF>, name: &'static str| {
        Arc::new(inner.as_ref().clone().with_aliases([name]))
    };
    vec![
        own(sum_udaf(), Fold::Sum),
        own(max_udaf(), Fold::Max),
        own(min_udaf(), Fold::Min),
        called(string_agg_udaf(), "listagg"),
        called(array_agg_udaf(), "list"),
        called(approx_distinct_udaf(), "approx_count_distinct"),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fold {
    Sum,
    Max,
    Min,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Own {
    inner: Arc<AggregateUDF>,
    fold: Fold,
}

const SUM: How<Int64Type, i128> = How {
    first: i128::from,
    next: |seen, value| *seen += i128::from(value),
    told: |seen| {
        i64::try_from(seen).map_err(|_| too_large(&format!("sum {seen} does not fit into Int64")))
    },
};

macro_rules! extreme {
    ($kind:ty, $ordering:expr) => {
        How::<$kind, <$kind as ArrowPrimitiveType>::Native> {
            first: |value| value,
            next: |seen, value| {
                if order(value.is_nan(), seen.is_nan(), value.partial_cmp(&*seen)) == $ordering {
                    *seen = value;
                }
            },
            told: Ok,
        }
    };
}

/// NaN is equal to itself and larger than all else.
fn order(left_is_nan: bool, right_is_nan: bool, numbers: Option<Ordering>) -> Ordering {
    numbers.unwrap_or_else(|| left_is_nan.cmp(&right_is_nan))
}

/// Calls what is asked for with the fold over a type; `None` where DataFusion's own answers rightly.
macro_rules! folded {
    ($own:expr, $arguments:expr, $made:ident, $kind:ty) => {{
        let kind = $arguments.return_field.data_type().clone();
        match ($own.fold, &kind) {
            (Fold::Sum, DataType::Int64) if !$arguments.is_distinct => {
                Some(Box::new($made::new(SUM, kind)) as Box<$kind>)
            }
            (Fold::Max, DataType::Float64) => {
                let how = extreme!(Float64Type, Ordering::Greater);
                Some(Box::new($made::new(how, kind)) as Box<$kind>)
            }
            (Fold::Max, DataType::Float32) => {
                let how = extreme!(Float32Type, Ordering::Greater);
                Some(Box::new($made::new(how, kind)) as Box<$kind>)
            }
            (Fold::Min, DataType::Float64) => {
                let how = extreme!(Float64Type, Ordering::Less);
                Some(Box::new($made::new(how, kind)) as Box<$kind>)
            }
            (Fold::Min, DataType::Float32) => {
                let how = extreme!(Float32Type, Ordering::Less);
                Some(Box::new($made::new(how, kind)) as Box<$kind>)
            }
            _ => None,
        }
    }};
}

impl AggregateUDFImpl for Own {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.inner().schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.inner().human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.inner().window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.inner().display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.inner().window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arguments)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.inner.inner().return_field(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.inner.inner().is_nullable()
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match folded!(self, arguments, All, dyn Accumulator) {
            Some(own) => Ok(own),
            None => self.inner.inner().accumulator(arguments),
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.inner().state_fields(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs) -> bool {
        self.inner.inner().groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match folded!(self, arguments, Groups, dyn GroupsAccumulator) {
            Some(own) => Ok(own),
            None => self.inner.inner().create_groups_accumulator(arguments),
        }
    }

    fn create_sliding_accumulator(
        &self,
        arguments: AccumulatorArgs,
    ) -> Result<Box<dyn Accumulator>> {
        self.inner.inner().create_sliding_accumulator(arguments)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.inner().order_sensitivity()
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner.inner().simplify()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.inner().reverse_expr()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arguments)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.inner().is_descending()
    }

    fn value_from_stats(&self, arguments: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.inner().value_from_stats(arguments)
    }

    fn default_value(&self, kind: &DataType) -> Result<ScalarValue> {
        self.inner.inner().default_value(kind)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.inner().supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner.inner().supports_within_group_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(kind)
    }
}
