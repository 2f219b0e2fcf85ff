//! `DELETE`, `UPDATE`, and what `MERGE` shares with them: the plans of a [`Rewrite`].
//!
//! A condition is never turned around to find the rows that stay, because its subqueries may be null: which
//! rows change is asked by the statement's own `WHERE`, like any query, and these rows are then looked up in
//! their files by place (file, row number). Where there is no subquery, one pass over the file does it, and each
//! row has its [`Action`] beside it.

use super::draft::{Draft, Over, Target, case, column, columns_in, has_subquery, item, place, yes};
use super::rewrite::{Rewrite, Search, SearchPlan};
use super::{Planned, Planner, Write, WriteMode, names};
use crate::functions::store_as;
use crate::lake_write::{ACTION, Action};
use crate::sql::{self, Position};
use crate::{Error, Result};
use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::sql::sqlparser::ast;
use drumline_lake::{FILE_COLUMN, Operation, ROW_COLUMN};
use std::collections::{BTreeMap, BTreeSet};

/// The changes that a statement makes: a plan of place, [`ACTION`] and one new value for each set column.
pub(super) struct Changes {
    pub(super) plan: LogicalPlan,
    /// Columns of the target, and what their new value is called.
    pub(super) set: BTreeMap<usize, String>,
}

impl Planner<'_> {
    pub(super) async fn delete(&self, delete: &sql::Delete) -> Result<Planned> {
        let (alias, what) = (delete.alias.as_ref(), "DELETE");
        let mut target = self.target(&delete.table, alias, what).await?;
        let Some(condition) = &delete.condition else {
            if delete.using.is_empty() {
                let rows = LogicalPlanBuilder::scan(
                    "rows",
                    provider_as_source(target.snapshot.provider()?),
                    None,
                )?;
                let input = rows.filter(lit(false))?.build()?;
                return self.rewrite(target, Operation::Delete, Search::AllGone, input, false);
            }
            return Err(self.invalid("DELETE … USING takes WHERE", None));
        };
        let found = Draft::over(&target, Over::Tracked)?
            .with(&delete.using)?
            .selecting(place(&target))?
            .filtered(Some(condition.clone()))?;
        let mut found = LogicalPlanBuilder::from(self.drafted(&target, found).await?);
        if !delete.using.is_empty() {
            // Whichever row says so, it goes once.
            found = found.distinct()?;
        }
        let mut found = found.build()?;
        let is_simple = delete.using.is_empty() && !has_subquery(condition);
        if !is_simple {
            found = self.once(&mut target, found)?;
        }
        let input = match is_simple {
            true => {
                let mut items = self.columns_of(&target);
                items.push(item(case(vec![(condition.clone(), yes())]), ACTION));
                let draft = Draft::over(&target, Over::Tracked)?.selecting(items)?;
                let plan = self.drafted(&target, draft).await?;
                let no_new = BTreeMap::new();
                acted(&target, plan, &no_new, Action::Delete)?
            }
            false => {
                let mut columns = columns_of(&found);
                columns.push(Action::Delete.expression().alias(ACTION));
                let plan = LogicalPlanBuilder::from(found.clone())
                    .project(columns)?
                    .build()?;
                let set = BTreeMap::new();
                looked_up(&target, Changes { plan, set })?
            }
        };
        let search = search(found, None)?;
        self.rewrite(target, Operation::Delete, search, input, false)
    }

    pub(super) async fn update(&self, update: &sql::Update) -> Result<Planned> {
        let (alias, what) = (update.alias.as_ref(), "UPDATE");
        let mut target = self.target(&update.table, alias, what).await?;
        let mut set = BTreeMap::new();
        let mut new_values = Vec::with_capacity(update.set.len());
        for assignment in &update.set {
            let at = self.column(&assignment.column, &target.snapshot.schema)?;
            let name = new_name(at);
            new_values.push((name.clone(), written(&target, at, &assignment.value)?));
            if set.insert(at, name).is_some() {
                return Err(self.set_twice(&assignment.column));
            }
        }
        let condition = update.condition.clone();
        let draft = Draft::over(&target, Over::Tracked)?
            .with(&update.from)?
            .filtered(condition.clone())?;
        let found = draft.clone().selecting(place(&target))?;
        let mut found = self.drafted(&target, found).await?;
        let is_simple = update.from.is_empty()
            && !update.condition.as_ref().is_some_and(has_subquery_in)
            && !new_values.iter().any(|(_, value)| has_subquery(value));
        let input = match is_simple {
            true => {
                let condition = condition.clone().unwrap_or_else(yes);
                let mut items = self.columns_of(&target);
                items.push(item(case(vec![(condition, yes())]), ACTION));
                let decided = Draft::over(&target, Over::Tracked)?.selecting(items)?;
                // Asked twice, a condition that is random would answer twice.
                let is_hit = || column(&target.alias, ACTION);
                let mut items = self.columns_of(&target);
                items.push(item(is_hit(), ACTION));
                for (name, value) in new_values {
                    items.push(item(case(vec![(is_hit(), value)]), &name));
                }
                let draft = decided.named(&target.alias)?.selecting(items)?;
                let plan = self.drafted(&target, draft).await?;
                let plan = self.stored(&target, plan, &set)?;
                acted(&target, plan, &set, Action::Update)?
            }
            false => {
                let mut items = place(&target);
                items.extend(
                    new_values
                        .iter()
                        .map(|(name, value)| item(value.clone(), name)),
                );
                let plan = self.drafted(&target, draft.selecting(items)?).await?;
                let plan = self.stored(&target, plan, &set)?;
                let plan = self.once(&mut target, plan)?;
                if !target.sources.is_empty() {
                    found = places_of(&plan)?;
                }
                let mut columns = columns_of(&plan);
                columns.push(Action::Update.expression().alias(ACTION));
                let plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
                looked_up(&target, Changes { plan, set })?
            }
        };
        let search = match (&update.condition, update.from.is_empty()) {
            (None, true) => Search::All,
            (condition, is_alone) => {
                let doubled = match is_alone {
                    true => None,
                    false => Some(
                        self.doubled(&target, condition.as_ref(), &update.from)
                            .await?,
                    ),
                };
                search(found, doubled)?
            }
        };
        self.rewrite(target, Operation::Update, search, input, false)
    }

    /// The names of one row that an `UPDATE … FROM` finds twice.
    async fn doubled(
        &self,
        target: &Target,
        condition: Option<&ast::Expr>,
        from: &[ast::TableWithJoins],
    ) -> Result<LogicalPlan> {
        let keys = condition.map_or_else(Vec::new, |condition| columns_in(condition, target));
        let mut items = place(target);
        items.extend(keys.iter().map(|key| item(column(&target.alias, key), key)));
        let draft = Draft::over(target, Over::Tracked)?
            .with(from)?
            .selecting(items)?
            .filtered(condition.cloned())?;
        doubled(self.drafted(target, draft).await?, &keys)
    }

    pub(super) fn set_twice(&self, column: &ast::Ident) -> Error {
        sql::Error::Invalid {
            reason: format!("column `{}` is set twice", names::folded(column)),
            position: Position::of(column.span.start),
            hint: None,
        }
        .into()
    }

    /// Every column of the target by its name.
    pub(super) fn columns_of(&self, target: &Target) -> Vec<ast::SelectItem> {
        let fields = target.snapshot.schema.fields().iter();
        fields
            .map(|field| item(column(&target.alias, field.name()), field.name()))
            .collect()
    }

    /// New values as their columns hold them; the other columns as they are.
    pub(super) fn stored(
        &self,
        target: &Target,
        plan: LogicalPlan,
        set: &BTreeMap<usize, String>,
    ) -> Result<LogicalPlan> {
        let mut columns = Vec::with_capacity(plan.schema().fields().len());
        for (qualifier, field) in plan.schema().iter() {
            let expression = Expr::from((qualifier, field));
            let at = set.iter().find(|(_, name)| *name == field.name());
            columns.push(match at {
                None => expression,
                Some((at, name)) => self
                    .store(target, *at, expression, field.data_type())?
                    .alias(name),
            });
        }
        Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
    }

    /// A value as a column of the target holds it.
    pub(super) fn store(
        &self,
        target: &Target,
        at: usize,
        value: Expr,
        found: &DataType,
    ) -> Result<Expr> {
        let field = target.snapshot.schema.field(at);
        let (name, table) = (field.name(), target.name.to_string());
        if !can_cast_types(found, field.data_type()) {
            let reason = format!(
                "column `{name}` of `{table}` is {}, and {found} cannot become that",
                field.data_type()
            );
            return Err(self.invalid(reason, Some("CAST the value")));
        }
        Ok(store_as(value, found, field.data_type(), &table, name)?)
    }

    pub(super) fn rewrite(
        &self,
        target: Target,
        operation: Operation,
        search: Search,
        input: LogicalPlan,
        inserts: bool,
    ) -> Result<Planned> {
        let search = match search {
            // Asked twice, it would answer twice.
            Search::Plan(plan) if is_volatile(&plan.files)? => Search::All,
            search => search,
        };
        let table = target.name.clone();
        let properties = &target.snapshot.properties;
        let input = self.kept(
            &table.to_string(),
            properties,
            &target.snapshot.partition_columns,
            input,
        )?;
        Ok(Planned::Write(Write {
            table,
            mode: WriteMode::Rewrite(Box::new(Rewrite {
                operation,
                snapshot: target.snapshot,
                search,
                removed: BTreeSet::new(),
                rewritten: BTreeSet::new(),
                inserts,
                shape: None,
                redefined: None,
                sources: target.sources,
            })),
            input: self.query(input),
        }))
    }

    /// A `MERGE`, whose clauses have been planned.
    pub(super) fn merged(
        &self,
        mut target: Target,
        changes: Option<Changes>,
        keys: Option<(LogicalPlan, Vec<String>)>,
        inserts: Option<LogicalPlan>,
    ) -> Result<Planned> {
        let has_inserts = inserts.is_some();
        let (found, rewritten) = match changes {
            None => (Search::None, None),
            Some(changes) => {
                let names = match keys {
                    Some((plan, keys)) => Some(doubled(plan, &keys)?),
                    None => None,
                };
                let changes = Changes {
                    plan: self.once(&mut target, changes.plan)?,
                    ..changes
                };
                let found = search(places_of(&changes.plan)?, names)?;
                (found, Some(looked_up(&target, changes)?))
            }
        };
        let input = match (rewritten, inserts) {
            (Some(rewritten), Some(inserts)) => LogicalPlanBuilder::from(rewritten)
                .union(inserts)?
                .build()?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Err(Error::bug("a MERGE without clauses")),
        };
        self.rewrite(target, Operation::Merge, found, input, has_inserts)
    }
}

/// Where the rows are that a plan changes.
fn places_of(changes: &LogicalPlan) -> Result<LogicalPlan> {
    let place = [FILE_COLUMN, ROW_COLUMN].map(column_named);
    Ok(LogicalPlanBuilder::from(changes.clone())
        .project(place)?
        .build()?)
}

fn has_subquery_in(condition: &ast::Expr) -> bool {
    has_subquery(condition)
}

/// What the new value of a column is called.
pub(super) fn new_name(column: usize) -> String {
    format!("_drumline_new_{column}")
}

pub(super) fn column_named(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().iter().map(Expr::from).collect()
}

/// Rows of the target with the action that a flag beside them decides.
fn acted(
    target: &Target,
    plan: LogicalPlan,
    set: &BTreeMap<usize, String>,
    action: Action,
) -> Result<LogicalPlan> {
    let mut columns = Vec::new();
    let is_hit = || column_named(ACTION).is_true();
    for (at, field) in target.snapshot.schema.fields().iter().enumerate() {
        let old = column_named(field.name());
        columns.push(match set.get(&at) {
            None => old,
            Some(new) => when(is_hit(), column_named(new))
                .otherwise(old)?
                .alias(field.name()),
        });
    }
    let decided = when(is_hit(), action.expression()).otherwise(Action::Keep.expression())?;
    columns.push(decided.alias(ACTION));
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// All rows of the target's files, and what the changes make of them.
fn looked_up(target: &Target, changes: Changes) -> Result<LogicalPlan> {
    let changed = LogicalPlanBuilder::from(changes.plan)
        .alias("changed")?
        .build()?;
    let rows = LogicalPlanBuilder::scan("rows", provider_as_source(target.tracked.clone()), None)?;
    let place = |relation: &str| {
        [FILE_COLUMN, ROW_COLUMN]
            .map(|name| Column::new(Some(relation), name))
            .to_vec()
    };
    let of = |relation: &str, name: &str| Expr::Column(Column::new(Some(relation), name));
    let action = || of("changed", ACTION);
    let mut columns = Vec::new();
    for (at, field) in target.snapshot.schema.fields().iter().enumerate() {
        let old = of("rows", field.name());
        columns.push(match changes.set.get(&at) {
            None => old.alias(field.name()),
            Some(new) => when(action().eq(Action::Update.expression()), of("changed", new))
                .otherwise(old)?
                .alias(field.name()),
        });
    }
    columns.push(
        when(action().is_null(), Action::Keep.expression())
            .otherwise(action())?
            .alias(ACTION),
    );
    // The changes are what a join holds in memory, the files' rows pass by.
    let places = (place("changed"), place("rows"));
    let joined =
        LogicalPlanBuilder::from(changed).join(rows.build()?, JoinType::Right, places, None)?;
    Ok(joined.project(columns)?.build()?)
}

/// The files that hold a place, how often, and how many places.
fn search(places: LogicalPlan, doubled: Option<LogicalPlan>) -> Result<Search> {
    let counts = vec![
        count(lit(1)).alias("changes"),
        count_distinct(column_named(ROW_COLUMN)).alias("places"),
    ];
    let files = LogicalPlanBuilder::from(places)
        .aggregate(vec![column_named(FILE_COLUMN)], counts)?
        .build()?;
    Ok(Search::Plan(Box::new(SearchPlan { files, doubled })))
}

/// One place that a plan yields twice, by its keys.
fn doubled(plan: LogicalPlan, keys: &[String]) -> Result<LogicalPlan> {
    let mut groups = vec![column_named(FILE_COLUMN), column_named(ROW_COLUMN)];
    groups.extend(keys.iter().map(|key| column_named(key)));
    Ok(LogicalPlanBuilder::from(plan)
        .aggregate(groups, vec![count(lit(1)).alias("changes")])?
        .filter(column_named("changes").gt(lit(1)))?
        .project(keys.iter().map(|key| column_named(key)))?
        .limit(0, Some(1))?
        .build()?)
}

pub(super) fn is_volatile(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            found |= expression.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// A value for a column of the target, its numbers as the column keeps them.
pub(super) fn written(target: &Target, at: usize, value: &ast::Expr) -> Result<ast::Expr> {
    match target.snapshot.schema.field(at).data_type() {
        DataType::Decimal128(..) | DataType::Decimal256(..) => Ok(sql::exact(value)?),
        _ => Ok(value.clone()),
    }
}
