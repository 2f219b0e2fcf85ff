//! `now()`, `current_timestamp`, `current_date`, `current_time`, `localtimestamp`: one moment for a whole statement,
//! however many jobs carry it out, in microseconds as tables have them.

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::functions::datetime;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// The functions of the moment. `at`: the statement's; none: that of the moment a plan is made.
pub(super) fn all(at: Option<DateTime<Utc>>) -> Vec<ScalarUDF> {
    let aliases = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let moment = |part: Part, aliases: Vec<String>| {
        ScalarUDF::from(Moment {
            part,
            at,
            aliases,
            signature: Signature::nullary(Volatility::Stable),
        })
    };
    vec![
        moment(Part::Zoned, aliases(&["current_timestamp"])),
        moment(Part::Plain, aliases(&[])),
        moment(Part::Date, aliases(&["today"])),
        moment(Part::Time, aliases(&[])),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Zoned,
    Plain,
    Date,
    Time,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Moment {
    part: Part,
    at: Option<DateTime<Utc>>,
    aliases: Vec<String>,
    signature: Signature,
}

impl Moment {
    /// Days and times of day are those of the session's time zone, as DataFusion works them out.
    fn inner(&self, at: DateTime<Utc>, given: &SimplifyContext) -> Result<ScalarValue> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(given.schema()))
            .with_config_options(Arc::clone(given.config_options()))
            .with_query_execution_start_time(Some(at))
            .build();
        let function = match self.part {
            Part::Time => datetime::current_time(),
            _ => datetime::current_date(),
        };
        match function.simplify(Vec::new(), &context)? {
            ExprSimplifyResult::Simplified(Expr::Literal(value, _)) => Ok(value),
            _ => internal_err!("{} has no value", self.name()),
        }
    }
}

impl ScalarUDFImpl for Moment {
    fn name(&self) -> &str {
        match self.part {
            Part::Zoned => "now",
            Part::Plain => "localtimestamp",
            Part::Date => "current_date",
            Part::Time => "current_time",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            Part::Zoned => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            Part::Plain => DataType::Timestamp(TimeUnit::Microsecond, None),
            Part::Date => DataType::Date32,
            Part::Time => DataType::Time64(TimeUnit::Nanosecond),
        })
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} was not given its moment", self.name())
    }

    fn simplify(
        &self,
        arguments: Vec<Expr>,
        given: &SimplifyContext,
    ) -> Result<ExprSimplifyResult> {
        let Some(at) = self.at.or(given.query_execution_start_time()) else {
            return Ok(ExprSimplifyResult::Original(arguments));
        };
        let micros = Some(at.timestamp_micros());
        let value = match self.part {
            Part::Zoned => ScalarValue::TimestampMicrosecond(micros, Some("+00:00".into())),
            Part::Plain => ScalarValue::TimestampMicrosecond(micros, None),
            Part::Date | Part::Time => self.inner(at, given)?,
        };
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
    }
}
