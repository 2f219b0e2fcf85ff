//! `OPTIMIZE`: the same rows in fewer, fuller files; and `VACUUM`, which the host carries out.

use super::changes::column_named;
use super::draft::{Draft, Over, Target, item, yes};
use super::rewrite::{Sample, Search, Shape, narrowed};
use super::{Planned, Planner, Vacuum, WriteMode};
use crate::functions::{MOST_COLUMNS, place, range};
use crate::lake_write::{ACTION, Action, PLACE};
use crate::{Error, Result, settings, sql};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::functions::math::expr_fn::random;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Partitioning, lit};
use datafusion::sql::sqlparser::ast;
use drumline_lake::{Compaction, FILE_COLUMN, Operation, SortColumn};
use std::collections::BTreeSet;
use std::time::Duration;

/// Rows that are looked at to find out an order: about as many.
const SAMPLED: u64 = 20_000;

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
        let schema = &target.snapshot.schema;
        let mut order = Vec::with_capacity(optimize.sort_by.len());
        for column in &optimize.sort_by {
            order.push(schema.field(self.column(column, schema)?).name().clone());
        }
        if order.len() > MOST_COLUMNS {
            return Err(self.invalid(
                format!("OPTIMIZE sorts by up to {MOST_COLUMNS} columns"),
                Some("the first few are what filters gain from"),
            ));
        }
        let by = |column: &String| SortColumn {
            column: column.clone(),
            descending: false,
        };
        let place = || place(order.iter().map(|column| column_named(column)));
        // One file has one writer; where there are partitions, so has each of them.
        let is_spread = chosen.fills > 1 && target.snapshot.partition_columns.is_empty();
        let shape = Shape {
            sort_by: match optimize.interleaved {
                true => vec![by(&PLACE.to_owned())],
                false => order.iter().map(by).collect(),
            },
            one_writer: chosen.fills <= 1,
        };
        let mut columns: Vec<Expr> = schema
            .fields()
            .iter()
            .map(|field| column_named(field.name()))
            .collect();
        columns.push(Action::Keep.expression().alias(ACTION));
        if optimize.interleaved {
            columns.push(place().alias(PLACE));
        }
        if is_spread {
            // No more files are to be written than are filled; where rows are sorted, they do not overlap.
            let part = match order.is_empty() {
                true => column_named(FILE_COLUMN),
                false => range(place()),
            };
            rows = rows.repartition(Partitioning::Hash(vec![part], chosen.fills))?;
        }
        let input = rows.project(columns)?.build()?;
        let needs_order = !order.is_empty() && (is_spread || optimize.interleaved);
        let search = match needs_order && !chosen.files.is_empty() {
            true => Search::Sample(Box::new(Sample {
                plan: self.sample(&target, &order, &chosen).await?,
                files: chosen.files,
                interleaved: optimize.interleaved,
                parts: chosen.fills,
            })),
            false => Search::Files(chosen.files),
        };
        let planned = self.rewrite(target, Operation::Optimize, search, input, false)?;
        Ok(planned.shaped(shape))
    }

    /// Some columns of some rows of the files that are chosen.
    async fn sample(
        &self,
        target: &Target,
        order: &[String],
        chosen: &Compaction,
    ) -> Result<LogicalPlan> {
        let items = order
            .iter()
            .map(|name| item(super::draft::column(&target.alias, name), name));
        let draft = Draft::over(target, Over::Tracked)?.selecting(items.collect())?;
        let plan = narrowed(self.drafted(target, draft).await?, &chosen.files)?;
        let files = chosen.files.iter();
        let files = files.filter_map(|place| target.snapshot.files.get(*place));
        let rows: u64 = files.map(|file| file.rows).sum();
        match rows <= SAMPLED {
            true => Ok(plan),
            false => {
                let share = SAMPLED as f64 / rows as f64;
                let some = LogicalPlanBuilder::from(plan).filter(random().lt(lit(share)))?;
                Ok(some.build()?)
            }
        }
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
        let shortest = settings::of(self.base.copied_config().options()).vacuum_shortest;
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
