//! Statements that change rows which are there: `DELETE`, `UPDATE`, and what `MERGE` and `OPTIMIZE` share with them.
//!
//! Files are rewritten whole, and only those that hold a row which changes. So there are two plans: one that
//! searches, and answers with the files and how many rows of each change; and one that reads these files and
//! writes all their rows anew under a `LakeWrite` node, each row with its [`Action`].
//!
//! A condition is never turned around to find the rows that stay, because its subqueries may be null: which
//! rows change is asked by the statement's own `WHERE`, like any query, and these rows are then looked up in
//! their files by place (file, row number). Where there is no subquery, one pass over the file does it.

use super::draft::{Draft, Over, Target, case, column, columns_in, has_subquery, item, place, yes};
use super::{Planned, Planner, Query, Write, WriteMode, names};
use crate::functions::store_as;
use crate::lake_write::{ACTION, Action, Counts};
use crate::sql::{self, Position};
use crate::{Error, Result};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::{can_cast_types, cast};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::functions_aggregate::expr_fn::{count, count_distinct};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::sql::sqlparser::ast;
use drumline_lake::{FILE_COLUMN, Operation, ROW_COLUMN, SortColumn, TableSnapshot, WriteTarget};
use std::collections::{BTreeMap, BTreeSet};

/// What a `DELETE`, `UPDATE` or `MERGE` does to its table's files.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// What kind of statement it is.
    pub operation: Operation,
    /// The table as it was planned for.
    pub snapshot: TableSnapshot,
    search: Search,
    /// Files to take away, by place in the snapshot.
    removed: BTreeSet<usize>,
    /// Those of them whose rows are written anew.
    rewritten: BTreeSet<usize>,
    /// Whether rows may be written that are in no file yet.
    inserts: bool,
    /// Set where its files are to be other ones than the table's properties ask for.
    pub(super) shape: Option<Shape>,
}

/// How files are written anew.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub(super) sort_by: Vec<SortColumn>,
    pub(super) one_writer: bool,
}

/// How the files that change are found.
#[derive(Debug, Clone)]
pub(super) enum Search {
    /// Every row goes.
    AllGone,
    /// Every file changes, as far as anybody can tell.
    All,
    /// No file does.
    None,
    /// These do.
    Files(BTreeSet<usize>),
    /// By a query.
    Plan(Box<SearchPlan>),
}

#[derive(Debug, Clone)]
pub(super) struct SearchPlan {
    /// Yields file, changes, changed rows.
    files: LogicalPlan,
    /// Where a row may be changed twice: yields the names of one that is.
    doubled: Option<LogicalPlan>,
}

/// The changes that a statement makes: a plan of place, [`ACTION`] and one new value for each set column.
pub(super) struct Changes {
    pub(super) plan: LogicalPlan,
    /// Columns of the target, and what their new value is called.
    pub(super) set: BTreeMap<usize, String>,
}

impl Write {
    /// What is to run before the write, if its files are not known: its rows are for [`Write::narrowed`].
    pub fn search(&self) -> Option<Query> {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => match &rewrite.search {
                Search::Plan(plan) => Some(self.query(plan.files.clone())),
                _ => None,
            },
            _ => None,
        }
    }

    /// What is to run when a row was found to be changed twice: its rows name it.
    pub fn doubled(&self) -> Option<Query> {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => match &rewrite.search {
                Search::Plan(plan) => plan.doubled.clone().map(|plan| self.query(plan)),
                _ => None,
            },
            _ => None,
        }
    }

    fn query(&self, plan: LogicalPlan) -> Query {
        Query {
            plan,
            settings: self.input.settings.clone(),
        }
    }

    /// The write of those files alone that the search found.
    ///
    /// # Errors
    /// [`Doubled`] where a row would be changed twice.
    pub fn narrowed(mut self, found: &[RecordBatch]) -> Result<Result<Self, Doubled>> {
        let WriteMode::Rewrite(rewrite) = &mut self.mode else {
            return Ok(Ok(self));
        };
        let all = || 0..rewrite.snapshot.files.len();
        match &rewrite.search {
            Search::None => {}
            Search::Files(files) => {
                rewrite.removed.clone_from(files);
                rewrite.rewritten.clone_from(files);
            }
            Search::AllGone => rewrite.removed = all().collect(),
            Search::All => {
                rewrite.removed = all().collect();
                rewrite.rewritten = all().collect();
            }
            Search::Plan(plan) => {
                let is_once = plan.doubled.is_some();
                for (file, changes, rows) in files_found(found)? {
                    if is_once && changes != rows {
                        return Ok(Err(Doubled {
                            operation: rewrite.operation,
                            table: self.table.to_string(),
                        }));
                    }
                    let size = rewrite.snapshot.files.get(file).map(|file| file.rows);
                    let is_gone = rewrite.operation == Operation::Delete && size == Some(rows);
                    rewrite.removed.insert(file);
                    if !is_gone {
                        rewrite.rewritten.insert(file);
                    }
                }
            }
        }
        self.input.plan = narrowed(self.input.plan, &rewrite.rewritten)?;
        Ok(Ok(self))
    }

    /// Whether the statement leaves the table as it is, and needs no version to say so.
    pub fn is_idle(&self) -> bool {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => {
                rewrite.operation == Operation::Optimize && rewrite.removed.is_empty()
            }
            _ => false,
        }
    }

    /// Whether there is nothing to write, and thus nothing to run.
    pub fn is_empty(&self) -> bool {
        match &self.mode {
            WriteMode::Rewrite(rewrite) => rewrite.rewritten.is_empty() && !rewrite.inserts,
            _ => false,
        }
    }
}

/// A row of the target that more than one row would change.
#[derive(Debug)]
pub struct Doubled {
    operation: Operation,
    table: String,
}

impl Doubled {
    /// The error that names the row, by what [`Write::doubled`] yielded.
    pub fn error(self, row: &[RecordBatch]) -> Error {
        let Self { operation, table } = self;
        let named = row.iter().find(|batch| batch.num_rows() > 0);
        let row = named.map_or_else(String::new, |batch| {
            let options = FormatOptions::default().with_null("NULL");
            let fields = batch.schema();
            let values = batch.columns().iter().zip(fields.fields());
            let values = values.filter_map(|(values, field)| {
                let value = ArrayFormatter::try_new(values, &options).ok()?;
                Some(format!("{} = {}", field.name(), value.value(0)))
            });
            format!(" ({})", values.collect::<Vec<_>>().join(", "))
        });
        let what = match operation {
            Operation::Merge => "MERGE matches more than one row of its source with",
            _ => "UPDATE … FROM finds more than one new value for",
        };
        sql::Error::Invalid {
            reason: format!("{what} a row of `{table}`{row}"),
            position: None,
            hint: Some(
                "leave one row for each, with GROUP BY or DISTINCT in a query behind USING or FROM"
                    .to_owned(),
            ),
        }
        .into()
    }
}

impl Rewrite {
    /// Asks of a target what the statement does.
    pub(super) fn shape(&self, target: &mut WriteTarget) {
        let Some(shape) = &self.shape else {
            return;
        };
        target.one_writer = shape.one_writer;
        if !shape.sort_by.is_empty() {
            target.sort_by.clone_from(&shape.sort_by);
        }
    }

    /// Paths of the files that it takes away.
    pub(super) fn removed(&self) -> Vec<String> {
        let files = self.removed.iter();
        files
            .filter_map(|place| self.snapshot.files.get(*place))
            .map(|file| file.path.clone())
            .collect()
    }

    /// Rows of files that go without being read.
    fn dropped(&self) -> u64 {
        self.rows_of(self.removed.difference(&self.rewritten))
    }

    fn rows_of<'a>(&self, places: impl Iterator<Item = &'a usize>) -> u64 {
        let files = places.filter_map(|place| self.snapshot.files.get(*place));
        files.map(|file| file.rows).sum()
    }

    /// All that changed. Refuses a run that read more or fewer rows than there are.
    pub(super) fn changed(&self, counts: Counts) -> Result<Counts> {
        let expected = self.rows_of(self.rewritten.iter());
        if counts.read() != expected {
            return Err(Error::Failed {
                kind: drumline_lake::ErrorKind::Retryable,
                message: format!(
                    "the statement's files hold {expected} rows, and {} came back: what it reads gave other rows the second time",
                    counts.read()
                ),
                hint: Some(
                    "write what random() and the like yield to a table first, and read that"
                        .to_owned(),
                ),
                worker: None,
            });
        }
        Ok(Counts {
            deleted: counts.deleted + self.dropped(),
            ..counts
        })
    }
}

fn files_found(rows: &[RecordBatch]) -> Result<Vec<(usize, u64, u64)>> {
    let broken = |what: String| Error::bug(format!("a search answered with {what}"));
    let mut found = Vec::new();
    for batch in rows {
        let mut columns = Vec::with_capacity(3);
        for column in batch.columns() {
            let column = cast(column, &DataType::Int64).map_err(|e| broken(e.to_string()))?;
            columns.push(column.as_primitive::<Int64Type>().clone());
        }
        let [file, changes, places] = columns.as_slice() else {
            return Err(broken(format!("{} columns", columns.len())));
        };
        for row in 0..batch.num_rows() {
            let whole = |value: i64| u64::try_from(value).unwrap_or_default();
            if file.is_null(row) {
                return Err(broken("no file".to_owned()));
            }
            let place = usize::try_from(file.value(row)).unwrap_or(usize::MAX);
            found.push((place, whole(changes.value(row)), whole(places.value(row))));
        }
    }
    Ok(found)
}

/// The plan with its tracked scans narrowed to some files.
fn narrowed(plan: LogicalPlan, files: &BTreeSet<usize>) -> Result<LogicalPlan> {
    let plan = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else {
            return Ok(Transformed::no(node));
        };
        let provider = source_as_provider(&scan.source)?;
        Ok(match TableSnapshot::narrowed(&provider, files) {
            Some(provider) => {
                scan.source = provider_as_source(provider);
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            None => Transformed::no(LogicalPlan::TableScan(scan)),
        })
    })?;
    Ok(plan.data)
}

impl Planner<'_> {
    pub(super) async fn delete(&self, delete: &sql::Delete) -> Result<Planned> {
        let (alias, what) = (delete.alias.as_ref(), "DELETE");
        let target = self.target(&delete.table, alias, what).await?;
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
        let found = found.build()?;
        let is_simple = delete.using.is_empty() && !has_subquery(condition);
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
        let target = self.target(&update.table, alias, what).await?;
        let mut set = BTreeMap::new();
        let mut new_values = Vec::with_capacity(update.set.len());
        for assignment in &update.set {
            let at = self.column(&assignment.column, &target.snapshot.schema)?;
            let name = new_name(at);
            new_values.push((name.clone(), assignment.value.clone()));
            if set.insert(at, name).is_some() {
                return Err(self.set_twice(&assignment.column));
            }
        }
        let condition = update.condition.clone();
        let draft = Draft::over(&target, Over::Tracked)?
            .with(&update.from)?
            .filtered(condition.clone())?;
        let found = draft.clone().selecting(place(&target))?;
        let found = self.drafted(&target, found).await?;
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
            Search::Plan(plan) if is_volatile(&plan.files)? => match plan.doubled {
                None => Search::All,
                Some(_) => {
                    return Err(self.invalid(
                        "what the table is joined with holds random values, and is read more than once",
                        Some("write them to a table first, and read that"),
                    ));
                }
            },
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
            })),
            input: self.query(input),
        }))
    }

    /// A `MERGE`, whose clauses have been planned.
    pub(super) fn merged(
        &self,
        target: Target,
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
                let place = [FILE_COLUMN, ROW_COLUMN].map(column_named);
                let places = LogicalPlanBuilder::from(changes.plan.clone()).project(place)?;
                let found = search(places.build()?, names)?;
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

fn is_volatile(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            found |= expression.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}
