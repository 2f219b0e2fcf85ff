//! A table with what its stream has not written yet, as one relation.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;

use crate::{Result, TopicTable};

/// The two parts of `fresh(t)`: together each record once.
#[derive(Debug)]
pub struct Fresh {
    /// The pinned snapshot of the table.
    pub table: Arc<dyn TableProvider>,
    /// For each topic, what comes after the offsets that the snapshot holds. Columns are the table's.
    pub tails: Vec<TopicTable>,
}

impl Fresh {
    /// The parts under one another, so that filters and columns reach each of them.
    pub(super) fn view(self) -> Result<ViewTable> {
        let mut plan = LogicalPlanBuilder::scan("snapshot", provider_as_source(self.table), None)?;
        for tail in self.tails {
            let tail = LogicalPlanBuilder::scan("tail", provider_as_source(Arc::new(tail)), None)?;
            plan = plan.union(tail.build()?)?;
        }
        Ok(ViewTable::new(plan.build()?, None))
    }
}
