//! `OPTIMIZE`: the same rows in fewer, fuller files; and `VACUUM`, which the host carries out.

use super::changes::column_named;
use super::draft::{Draft, Over, Target, item, yes};
use super::rewrite::{Search, Shape};
use super::{Planned, Planner, Vacuum, WriteMode};
use crate::lake_write::{ACTION, Action};
use crate::{Error, Result, settings, sql};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Partitioning};
use datafusion::sql::sqlparser::ast;
use drumline_lake::{Compaction, FILE_COLUMN, Operation, SortColumn};
use std::collections::BTreeSet;
use std::time::Duration;

/// What is kept where a statement does not say.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

impl Planner<'_> {
    pub(super) async fn optimize(&self, optimize: &sql::Optimize) -> Result<Planned> {
        let target = self.target(&optimize.table, None, "OPTIMIZE").await?;
        let among = match &optimize.condition {
            None => (0..target.snapshot.files.len()).collect(),
            Some(condition) => self.partitions(&target, condition).await?,
        };
        // Sorted files are worth writing anew whatever their size.
        let chosen = match optimize.sort_by.is_empty() {
            true => Compaction::of_small_files(&target.snapshot, &among)?,
            false => Compaction::of_all(&target.snapshot, among)?,
        };
        let mut items = self.columns_of(&target);
        items.extend(
            super::draft::place(&target)
                .into_iter()
                .chain([item(yes(), ACTION)]),
        );
        let draft = Draft::over(&target, Over::Tracked)?.selecting(items)?;
        let mut rows = LogicalPlanBuilder::from(self.drafted(&target, draft).await?);
        let mut shape = Shape::default();
        let schema = &target.snapshot.schema;
        for column in &optimize.sort_by {
            shape.sort_by.push(SortColumn {
                column: schema.field(self.column(column, schema)?).name().clone(),
                descending: false,
            });
        }
        // One file has one writer, and so have files whose ranges are not to overlap.
        shape.one_writer = !shape.sort_by.is_empty() || chosen.fills <= 1;
        if !shape.one_writer && target.snapshot.partition_columns.is_empty() {
            // No more files are to be written than are filled.
            let files = vec![column_named(FILE_COLUMN)];
            rows = rows.repartition(Partitioning::Hash(files, chosen.fills))?;
        }
        let mut columns: Vec<Expr> = target
            .snapshot
            .schema
            .fields()
            .iter()
            .map(|field| column_named(field.name()))
            .collect();
        columns.push(Action::Keep.expression().alias(ACTION));
        let input = rows.project(columns)?.build()?;
        let search = Search::Files(chosen.files);
        let planned = self.rewrite(target, Operation::Optimize, search, input, false)?;
        Ok(planned.shaped(shape))
    }

    /// The files of the partitions that a condition lets pass.
    async fn partitions(&self, target: &Target, condition: &ast::Expr) -> Result<BTreeSet<usize>> {
        let draft = Draft::over(target, Over::Whole)?.filtered(Some(condition.clone()))?;
        let plan = self.drafted(target, draft).await?;
        let others = || {
            self.invalid(
                format!(
                    "WHERE of OPTIMIZE asks for columns that `{}` is not partitioned by",
                    target.name
                ),
                Some("it chooses partitions: name partition columns alone, or leave it out"),
            )
        };
        let predicate = predicate(&plan).ok_or_else(others)?;
        let unqualified = predicate.transform(|expression| {
            Ok(match expression {
                Expr::Column(column) => {
                    Transformed::yes(Expr::Column(Column::from_name(column.name)))
                }
                other => Transformed::no(other),
            })
        })?;
        let state = self.base.state();
        let places = target.snapshot.places(&state, unqualified.data);
        places.map_err(Error::from)?.ok_or_else(others)
    }

    pub(super) fn vacuum(&self, vacuum: &sql::Vacuum) -> Result<Planned> {
        let table = vacuum
            .table
            .as_ref()
            .map(|name| self.name(name))
            .transpose()?;
        let keep = vacuum.keep.unwrap_or(KEPT);
        let shortest = settings::of(&self.base.copied_config()).vacuum_shortest;
        if keep < Duration::from_secs(shortest) && !vacuum.dry_run {
            return Err(self.invalid(
                format!(
                    "RETAIN {} hours is shorter than {} hours: files that queries and streams of now need might go",
                    keep.as_secs_f64() / 3600.0,
                    shortest as f64 / 3600.0
                ),
                Some(
                    "where nothing else reads or writes the table, SET drumline.vacuum_shortest = 0 (seconds) allows it",
                ),
            ));
        }
        Ok(Planned::Vacuum(Vacuum {
            table,
            keep,
            dry_run: vacuum.dry_run,
        }))
    }
}

impl Planned {
    /// A rewrite whose files have another shape than the table's properties ask for.
    fn shaped(mut self, shape: Shape) -> Self {
        if let Self::Write(write) = &mut self
            && let WriteMode::Rewrite(rewrite) = &mut write.mode
        {
            rewrite.shape = Some(shape);
        }
        self
    }
}

/// The condition of the one filter of a plan.
fn predicate(plan: &LogicalPlan) -> Option<Expr> {
    match plan {
        LogicalPlan::Filter(filter) => Some(filter.predicate.clone()),
        other => match other.inputs().as_slice() {
            [one] => predicate(one),
            _ => None,
        },
    }
}
