//! The logical node.

use super::rows::SCHEMA;
use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use drumline_lake::WriteTarget;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Writes its input's rows to a target. Columns are matched by name.
#[derive(Debug, Clone)]
pub(crate) struct LakeWrite {
    input: LogicalPlan,
    target: WriteTarget,
    schema: DFSchemaRef,
}

impl LakeWrite {
    /// The plan that writes what `input` yields.
    pub(crate) fn plan(input: LogicalPlan, target: WriteTarget) -> Result<LogicalPlan> {
        let schema = Arc::new(DFSchema::try_from(Arc::clone(&SCHEMA))?);
        let node = Arc::new(Self {
            input,
            target,
            schema,
        });
        Ok(LogicalPlan::Extension(Extension { node }))
    }

    pub(super) fn target(&self) -> &WriteTarget {
        &self.target
    }

    /// Equality and order go by what the node does; the folder of a target is unique to its attempt.
    fn key(&self) -> (&LogicalPlan, &str, &str) {
        (&self.input, &self.target.table, self.target.folder.as_str())
    }
}

impl PartialEq for LakeWrite {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for LakeWrite {}

impl Hash for LakeWrite {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for LakeWrite {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.key().partial_cmp(&other.key())
    }
}

impl UserDefinedLogicalNodeCore for LakeWrite {
    fn name(&self) -> &str {
        "LakeWrite"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LakeWrite: table={}", self.target.table)
    }

    fn with_exprs_and_inputs(
        &self,
        _expressions: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        match <[_; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self {
                input,
                ..self.clone()
            }),
            Err(inputs) => plan_err!("a write has one input, not {}", inputs.len()),
        }
    }
}
