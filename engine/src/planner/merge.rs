//! `MERGE INTO`: three joins of target and source, one for each kind of clause, under one write.
//!
//! Rows that match are an inner join, rows of the target that match nothing an anti join, and so are rows of
//! the source that match nothing. In each of them the number of the first clause whose condition holds is
//! worked out beside the row; a row that no clause takes stays as it is. So every clause's values are computed
//! for its own rows alone, and no condition has to be turned around.

use super::changes::{Changes, column_named, new_name, written};
use super::draft::{
    Draft, Over, Target, case, column, columns_in, item, null, number, place, refuse_subqueries,
    relation_name, yes,
};
use super::{Planned, Planner, names};
use crate::lake_write::{ACTION, Action};
use crate::sql::{self, MergeAction, MergeClause, MergeWhen, Position};
use crate::{Error, Result};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::sql::sqlparser::ast::{self, Ident, JoinConstraint, JoinOperator};
use drumline_lake::{FILE_COLUMN, ROW_COLUMN};
use std::collections::{BTreeMap, BTreeSet};

/// Number of the clause that takes a row, from 1.
const CLAUSE: &str = "_drumline_clause";

/// What a clause writes to each column that it sets.
struct Values {
    action: Action,
    condition: Option<ast::Expr>,
    columns: BTreeMap<usize, ast::Expr>,
}

impl Planner<'_> {
    pub(super) async fn merge(&self, merge: &sql::Merge) -> Result<Planned> {
        let (alias, what) = (merge.alias.as_ref(), "MERGE");
        let mut target = self.target(&merge.table, alias, what).await?;
        refuse_subqueries(&merge.on, "ON")?;
        refuse_unreached(&merge.clauses)?;
        let merge = &sql::Merge {
            source: self.steady(&mut target, &merge.source).await?,
            ..merge.clone()
        };
        let source = self.merge_source(&target, merge).await?;
        let of = |wanted: MergeWhen| -> Result<Vec<Values>> {
            let clauses = merge.clauses.iter().filter(|clause| clause.when == wanted);
            clauses
                .map(|clause| self.values(&target, clause, &source))
                .collect()
        };
        let matched = of(MergeWhen::Matched)?;
        let by_source = of(MergeWhen::NotMatchedBySource)?;
        let not_matched = of(MergeWhen::NotMatched)?;
        let on = || JoinConstraint::On(merge.on.clone());
        let set: BTreeSet<usize> = matched
            .iter()
            .chain(&by_source)
            .flat_map(|values| values.columns.keys().copied())
            .collect();

        let mut changes: Option<LogicalPlan> = None;
        let mut keys = None;
        if !matched.is_empty() {
            let draft = Draft::over(&target, Over::Tracked)?
                .joined(merge.source.clone(), JoinOperator::Inner(on()))?;
            let mut named = columns_in(&merge.on, &target);
            if named.is_empty() {
                let first = target.snapshot.schema.fields().first();
                named.extend(first.map(|field| field.name().clone()));
            }
            let mut items = place(&target);
            items.extend(
                named
                    .iter()
                    .map(|key| item(column(&target.alias, key), key)),
            );
            let twice = self.taken(&target, draft.clone(), items, &matched).await?;
            keys = Some((twice, named));
            changes = Some(self.changes(&target, draft, &matched, &set).await?);
        }
        if !by_source.is_empty() {
            let draft = Draft::over(&target, Over::Tracked)?
                .joined(merge.source.clone(), JoinOperator::LeftAnti(on()))?;
            let more = self.changes(&target, draft, &by_source, &set).await?;
            changes = Some(match changes {
                None => more,
                Some(changes) => LogicalPlanBuilder::from(changes).union(more)?.build()?,
            });
        }
        let inserts = match not_matched.is_empty() {
            true => None,
            false => {
                let whole = Draft::over(&target, Over::Whole)?.relation()?;
                let draft = Draft::from(merge.source.clone())?
                    .joined(whole, JoinOperator::LeftAnti(on()))?;
                Some(self.inserted(&target, draft, &not_matched).await?)
            }
        };
        if is_random(changes.iter().chain(&inserts))? {
            // It is asked for those that match, and again for those that do not.
            return Err(self.invalid(
                "ON of MERGE cannot be random",
                Some("give the query behind USING a column that tells"),
            ));
        }
        let changes = changes.map(|plan| Changes {
            plan,
            set: set.iter().map(|at| (*at, new_name(*at))).collect(),
        });
        self.merged(target, changes, keys, inserts)
    }

    /// What the statement calls its source, and the source's columns.
    async fn merge_source(
        &self,
        target: &Target,
        merge: &sql::Merge,
    ) -> Result<(Ident, Vec<String>)> {
        let Some(name) = relation_name(&merge.source) else {
            return Err(self.invalid(
                "the query behind USING has no name",
                Some("give it one, as in USING (SELECT …) AS s"),
            ));
        };
        if names::folded(&name) == names::folded(&target.alias) {
            return Err(self.invalid(
                format!("target and source are both called `{name}`"),
                Some("give one of them another name with AS"),
            ));
        }
        let plan = self
            .drafted(target, Draft::from(merge.source.clone())?)
            .await?;
        let fields = plan.schema().fields().iter();
        let columns = fields.map(|field| field.name().clone()).collect();
        Ok((name, columns))
    }

    fn values(
        &self,
        target: &Target,
        clause: &MergeClause,
        source: &(Ident, Vec<String>),
    ) -> Result<Values> {
        if let Some(condition) = &clause.condition {
            refuse_subqueries(condition, "a condition of WHEN")?;
        }
        let schema = &target.snapshot.schema;
        let mut columns = BTreeMap::new();
        let mut put = |name: &Ident, value: &ast::Expr| {
            let at = self.column(name, schema)?;
            match columns.insert(at, written(target, at, value)?) {
                None => Ok(()),
                Some(_) => Err(self.set_twice(name)),
            }
        };
        let action = match &clause.action {
            MergeAction::Delete => Action::Delete,
            MergeAction::Update(set) => {
                for assignment in set {
                    put(&assignment.column, &assignment.value)?;
                }
                Action::Update
            }
            MergeAction::Insert {
                columns: named,
                values,
            } => {
                let all: Vec<Ident> = schema
                    .fields()
                    .iter()
                    .map(|field| Ident::with_quote('"', field.name()))
                    .collect();
                let named = if named.is_empty() { &all } else { named };
                if named.len() != values.len() {
                    let reason = format!(
                        "INSERT of MERGE names {} columns and gives {} values",
                        named.len(),
                        values.len()
                    );
                    return Err(self.invalid(reason, None));
                }
                for (name, value) in named.iter().zip(values) {
                    put(name, value)?;
                }
                Action::Insert
            }
            MergeAction::UpdateAll | MergeAction::InsertAll => {
                let (source, found) = source;
                for field in schema.fields() {
                    if !found.contains(field.name()) {
                        return Err(sql::Error::Invalid {
                            reason: format!("`*` needs a column `{}` in the source", field.name()),
                            position: Position::of(source.span.start),
                            hint: Some("name the columns, as in UPDATE SET a = s.b".to_owned()),
                        }
                        .into());
                    }
                    let name = Ident::with_quote('"', field.name());
                    put(&name, &column(source, field.name()))?;
                }
                match clause.action {
                    MergeAction::UpdateAll => Action::Update,
                    _ => Action::Insert,
                }
            }
        };
        Ok(Values {
            action,
            condition: clause.condition.clone(),
            columns,
        })
    }

    /// The rows of a draft that some clause takes, with the clause's number and these items.
    async fn taken(
        &self,
        target: &Target,
        draft: Draft,
        mut items: Vec<ast::SelectItem>,
        clauses: &[Values],
    ) -> Result<LogicalPlan> {
        let numbers = (1..).map(number);
        let branches = clauses.iter().map(condition_of).zip(numbers);
        items.push(item(case(branches.collect()), CLAUSE));
        let plan = self.drafted(target, draft.selecting(items)?).await?;
        if let LogicalPlan::Projection(taken) = &plan
            && taken.expr.last().is_some_and(Expr::is_volatile)
        {
            // It is asked for the clause and for each of its values, and would answer anew each time.
            return Err(self.invalid(
                "a condition of WHEN cannot be random",
                Some("give the query behind USING a column that tells"),
            ));
        }
        Ok(LogicalPlanBuilder::from(plan)
            .filter(column_named(CLAUSE).is_not_null())?
            .build()?)
    }

    /// Place, action and new values of the rows that some clause takes.
    async fn changes(
        &self,
        target: &Target,
        draft: Draft,
        clauses: &[Values],
        set: &BTreeSet<usize>,
    ) -> Result<LogicalPlan> {
        let mut items = place(target);
        for at in set {
            // What no clause sets stays.
            let name = target.snapshot.schema.field(*at).name();
            items.push(item(column(&target.alias, name), &new_name(*at)));
        }
        items.extend(values_of(clauses));
        let plan = self.taken(target, draft, items, clauses).await?;
        let mut columns = vec![column_named(FILE_COLUMN), column_named(ROW_COLUMN)];
        columns.push(chosen(clauses, |values| Ok(Some(values.action.expression())))?.alias(ACTION));
        for at in set {
            let old = || column_named(&new_name(*at));
            let value = chosen(clauses, |values| {
                self.value(target, &plan, clauses, values, *at)
            })?;
            let sets = |values: &Values| values.columns.contains_key(at);
            let new = match clauses.iter().all(sets) {
                true => value,
                false => {
                    let others = chosen(clauses, |values| Ok(Some(lit(!sets(values)))))?;
                    when(others.is_true(), old()).otherwise(value)?
                }
            };
            columns.push(new.alias(new_name(*at)));
        }
        Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
    }

    /// Whole rows of the target, from rows of the source that some clause takes.
    async fn inserted(
        &self,
        target: &Target,
        draft: Draft,
        clauses: &[Values],
    ) -> Result<LogicalPlan> {
        let items = values_of(clauses).collect();
        let plan = self.taken(target, draft, items, clauses).await?;
        let mut columns = Vec::new();
        for (at, field) in target.snapshot.schema.fields().iter().enumerate() {
            let value = chosen(clauses, |values| {
                self.value(target, &plan, clauses, values, at)
            })?;
            columns.push(value.alias(field.name()));
        }
        columns.push(Action::Insert.expression().alias(ACTION));
        Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
    }

    /// What a clause writes to a column, as the column holds it; none for a column that it does not set.
    fn value(
        &self,
        target: &Target,
        plan: &LogicalPlan,
        clauses: &[Values],
        values: &Values,
        at: usize,
    ) -> Result<Option<Expr>> {
        if !values.columns.contains_key(&at) {
            return Ok(None);
        }
        let clause = clauses.iter().position(|other| std::ptr::eq(other, values));
        let name = value_name(clause.unwrap_or_default(), at);
        let found = plan.schema().field_with_unqualified_name(&name)?;
        let found: DataType = found.data_type().clone();
        self.store(target, at, column_named(&name), &found)
            .map(Some)
    }
}

/// Whether a join of target and source asks for something random. The source itself does not: it has been run.
fn is_random<'a>(plans: impl Iterator<Item = &'a LogicalPlan>) -> Result<bool> {
    let mut found = false;
    for plan in plans {
        plan.apply(|node| {
            if let LogicalPlan::Join(join) = node {
                let mut filter = join.filter.iter();
                let mut keys = join.on.iter();
                found |= filter.any(Expr::is_volatile)
                    || keys.any(|(left, right)| left.is_volatile() || right.is_volatile());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(found)
}

/// A clause behind one of its kind that takes every row would be passed over without a word.
fn refuse_unreached(clauses: &[MergeClause]) -> Result<()> {
    for (at, clause) in clauses.iter().enumerate() {
        let mut before = clauses.iter().take(at);
        let taken = before.find(|other| other.when == clause.when && other.condition.is_none());
        if let Some(taken) = taken {
            let reason = format!(
                "clause {}, {}, is never reached: {} before it has no condition and takes every row",
                at + 1,
                words_of(clause),
                words_of(taken),
            );
            return Err(sql::Error::Invalid {
                reason,
                position: clause.position,
                hint: Some("give the one before it a condition, or leave this one out".to_owned()),
            }
            .into());
        }
    }
    Ok(())
}

fn words_of(clause: &MergeClause) -> String {
    let when = match clause.when {
        MergeWhen::Matched => "WHEN MATCHED",
        MergeWhen::NotMatched => "WHEN NOT MATCHED",
        MergeWhen::NotMatchedBySource => "WHEN NOT MATCHED BY SOURCE",
    };
    let condition = clause.condition.as_ref().map_or("", |_| " AND …");
    let action = match clause.action {
        MergeAction::Update(_) | MergeAction::UpdateAll => "UPDATE",
        MergeAction::Delete => "DELETE",
        MergeAction::Insert { .. } | MergeAction::InsertAll => "INSERT",
    };
    format!("{when}{condition} THEN {action}")
}

fn value_name(clause: usize, column: usize) -> String {
    format!("_drumline_value_{clause}_{column}")
}

fn condition_of(values: &Values) -> ast::Expr {
    values.condition.clone().unwrap_or_else(yes)
}

/// Every clause's values, each null where another clause takes the row: what is not written is not computed.
fn values_of(clauses: &[Values]) -> impl Iterator<Item = ast::SelectItem> {
    clauses
        .iter()
        .enumerate()
        .flat_map(move |(clause, values)| {
            values.columns.iter().map(move |(at, value)| {
                let earlier = clauses.iter().take(clause);
                let mut branches: Vec<_> = earlier
                    .map(|earlier| (condition_of(earlier), null()))
                    .collect();
                branches.push((condition_of(values), value.clone()));
                item(case(branches), &value_name(clause, *at))
            })
        })
}

/// What the clause that takes a row says; null where it says nothing.
fn chosen(clauses: &[Values], mut of: impl FnMut(&Values) -> Result<Option<Expr>>) -> Result<Expr> {
    let mut branches = Vec::new();
    for (clause, values) in clauses.iter().enumerate() {
        if let Some(said) = of(values)? {
            branches.push((i64::try_from(clause).unwrap_or_default() + 1, said));
        }
    }
    let mut branches = branches.into_iter();
    let Some((first, said)) = branches.next() else {
        return Ok(Expr::Literal(ScalarValue::Null, None));
    };
    let is = |clause: i64| column_named(CLAUSE).eq(lit(clause));
    let mut chosen = when(is(first), said);
    for (clause, said) in branches {
        chosen = chosen.when(is(clause), said);
    }
    chosen.end().map_err(Error::from)
}
