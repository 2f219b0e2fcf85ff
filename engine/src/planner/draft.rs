//! Queries over the table that a statement changes, built from parts of the statement as it was parsed: what
//! the user wrote keeps its place in the text, and is planned by the same rules as any query.

use super::held::{self, Source};
use super::{Planner, Resolved, Scope, TableRef, Tables, as_meant, names, session};
use crate::{Error, Result, sql};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParser, Statement as Parsed};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    self, CaseWhen, Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, Visit, Visitor,
};
use drumline_lake::{
    AsOf, FILE_COLUMN, Format, Object, ROW_COLUMN, TableName, TableSnapshot, Version,
};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The table that a statement changes, as of the snapshot that was pinned for it.
pub(super) struct Target {
    pub(super) name: TableName,
    pub(super) snapshot: TableSnapshot,
    /// What the statement calls it.
    pub(super) alias: Ident,
    /// Its rows, and where they are.
    pub(super) tracked: Arc<dyn TableProvider>,
    /// What is run once, before anything else of the statement.
    pub(super) sources: Vec<Source>,
    /// What stands for a relation of the statement that is.
    pub(super) held: Option<Arc<dyn TableProvider>>,
}

/// What [`Target::held`] is called: no name that a statement can write.
const HELD: &str = "held\nrelation";

/// Which rows of the target a query is over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    /// Those of the files that are rewritten, and where they are.
    Tracked,
    /// All of them.
    Whole,
}

impl Over {
    /// No name that a statement can write means these: no identifier holds a line break.
    fn name(self) -> &'static str {
        match self {
            Self::Tracked => "tracked\ntarget",
            Self::Whole => "whole\ntarget",
        }
    }
}

/// A statement's names and, under names of their own, the target's rows.
struct WithTarget {
    tables: Arc<dyn Tables>,
    tracked: Arc<dyn TableProvider>,
    whole: Arc<dyn TableProvider>,
    held: Option<Arc<dyn TableProvider>>,
}

#[async_trait]
impl Tables for WithTarget {
    async fn table(&self, table: &TableRef) -> Result<Option<Resolved>> {
        let provider = match table.name.as_str() {
            name if name == Over::Tracked.name() => &self.tracked,
            name if name == Over::Whole.name() => &self.whole,
            HELD => match &self.held {
                Some(held) => held,
                None => return Ok(None),
            },
            _ => return self.tables.table(table).await,
        };
        Ok(Some(Resolved::Table(Arc::clone(provider))))
    }

    async fn table_at(&self, table: &TableRef, at: AsOf) -> Result<Option<Resolved>> {
        self.tables.table_at(table, at).await
    }

    fn object(&self, table: &TableRef) -> Option<Object> {
        self.tables.object(table)
    }

    fn schema_comment(&self, schema: &str) -> Option<String> {
        self.tables.schema_comment(schema)
    }

    async fn snapshot(&self, table: &TableRef) -> Result<Option<TableSnapshot>> {
        self.tables.snapshot(table).await
    }

    async fn history(&self, table: &TableRef, limit: usize) -> Result<Option<Vec<Version>>> {
        self.tables.history(table, limit).await
    }

    fn objects(&self) -> Vec<(TableName, &'static str)> {
        self.tables.objects()
    }

    fn schemas(&self) -> Vec<String> {
        self.tables.schemas()
    }
}

impl Planner<'_> {
    /// The Delta table that a statement changes.
    pub(super) async fn target(
        &self,
        name: &ObjectName,
        alias: Option<&Ident>,
        what: &str,
    ) -> Result<Target> {
        let table = self.name(name)?;
        let snapshot = self.written(&table).await?;
        if snapshot.format != Format::Delta {
            return Err(self.invalid(
                format!("{what} needs a Delta table, and `{table}` is stored as plain Parquet"),
                Some("INSERT OVERWRITE rewrites it, whole or by partition; CREATE TABLE … STORED AS DELTA AS SELECT … copies it"),
            ));
        }
        let last = name.0.last().and_then(|part| part.as_ident());
        let alias = match alias.or(last) {
            Some(alias) => alias.clone(),
            None => Ident::with_quote('"', table.name.clone()),
        };
        Ok(Target {
            name: table,
            alias,
            tracked: snapshot.tracked()?,
            snapshot,
            sources: Vec::new(),
            held: None,
        })
    }

    /// A table of ours as of now; an error for whatever else has the name.
    pub(super) async fn written(&self, table: &TableName) -> Result<TableSnapshot> {
        match self.tables.table(table).await? {
            Some(Resolved::Table(provider)) => match TableSnapshot::of(&provider) {
                Some(snapshot) => Ok(snapshot.clone()),
                None => Err(self.invalid(
                    format!("`{table}` shows what Drumline itself knows, and cannot be changed"),
                    None,
                )),
            },
            Some(Resolved::External(_)) => {
                let hint = "CREATE TABLE … AS SELECT … makes a table that can be written";
                Err(self.invalid(
                    format!("`{table}` is an external table: others fill it"),
                    Some(hint),
                ))
            }
            Some(Resolved::View(_)) => {
                let hint = "write to the tables that it reads";
                Err(self.invalid(format!("`{table}` is a view"), Some(hint)))
            }
            None => Err(self.no_such_table(table)),
        }
    }

    /// A relation that may be read any number of times: the one given, or its rows as they were the first time.
    pub(super) async fn steady(
        &self,
        target: &mut Target,
        relation: &ast::TableFactor,
    ) -> Result<ast::TableFactor> {
        let plan = self.drafted(target, Draft::from(relation.clone())?).await?;
        let Some(name) = relation_name(relation) else {
            return Ok(relation.clone());
        };
        if !held::is_unstable(&plan)? {
            return Ok(relation.clone());
        }
        let (source, view) = Source::hold_as_view(plan)?;
        target.sources.push(source);
        target.held = Some(view);
        Draft::parsed(&format!(
            "SELECT 1 FROM \"{}\".\"{}\".\"{HELD}\" AS {name}",
            names::CATALOG,
            drumline_lake::DEFAULT_SCHEMA,
        ))?
        .relation()
    }

    /// A plan that may be run any number of times: the one given, or what it yielded the first time.
    pub(super) fn once(&self, target: &mut Target, plan: LogicalPlan) -> Result<LogicalPlan> {
        if !held::is_unstable(&plan)? {
            return Ok(plan);
        }
        let (source, read) = Source::hold(plan)?;
        target.sources.push(source);
        Ok(read)
    }

    /// Plans a draft over the target and the statement's tables.
    pub(super) async fn drafted(&self, target: &Target, draft: Draft) -> Result<LogicalPlan> {
        let tables = WithTarget {
            tables: Arc::clone(&self.tables),
            tracked: Arc::clone(&target.tracked),
            whole: target.snapshot.provider()?,
            held: target.held.clone(),
        };
        let session = session(&self.base, Scope::new(Arc::new(tables)));
        let statement = Parsed::Statement(Box::new(ast::Statement::Query(draft.0)));
        let planned = session.state().statement_to_plan(statement).await;
        as_meant(planned.map_err(|error| self.explain(error))?)
    }
}

/// A query being put together.
#[derive(Clone)]
pub(super) struct Draft(Box<Query>);

impl Draft {
    /// `SELECT … FROM target`, with nothing selected yet.
    pub(super) fn over(target: &Target, over: Over) -> Result<Self> {
        let alias = &target.alias;
        Self::parsed(&format!(
            "SELECT 1 FROM \"{}\".\"{}\".\"{}\" AS {alias}",
            names::CATALOG,
            drumline_lake::DEFAULT_SCHEMA,
            over.name()
        ))
    }

    /// `SELECT … FROM` some relation of the statement.
    pub(super) fn from(relation: ast::TableFactor) -> Result<Self> {
        let mut draft = Self::parsed("SELECT * FROM nothing")?;
        draft.select()?.from = vec![ast::TableWithJoins {
            relation,
            joins: Vec::new(),
        }];
        Ok(draft)
    }

    /// `SELECT … FROM (this) AS name`, with nothing selected yet.
    pub(super) fn named(self, name: &Ident) -> Result<Self> {
        let mut outer = Self::parsed(&format!("SELECT 1 FROM (SELECT 1) AS {name}"))?;
        if let Some(first) = outer.select()?.from.first_mut()
            && let ast::TableFactor::Derived { subquery, .. } = &mut first.relation
        {
            *subquery = self.0;
        }
        Ok(outer)
    }

    fn parsed(text: &str) -> Result<Self> {
        let parsed = DFParser::parse_sql(text).map(|mut parsed| parsed.pop_front());
        match parsed {
            Ok(Some(Parsed::Statement(statement))) => match *statement {
                ast::Statement::Query(query) => Ok(Self(query)),
                _ => Err(Error::bug("a draft is no query")),
            },
            Ok(_) => Err(Error::bug("a draft is no statement")),
            Err(error) => Err(Error::bug(format!("a draft does not parse: {error}"))),
        }
    }

    pub(super) fn select(&mut self) -> Result<&mut Select> {
        match self.0.body.as_mut() {
            SetExpr::Select(select) => Ok(select),
            _ => Err(Error::bug("a draft selects nothing")),
        }
    }

    pub(super) fn selecting(mut self, items: Vec<SelectItem>) -> Result<Self> {
        self.select()?.projection = items;
        Ok(self)
    }

    pub(super) fn filtered(mut self, condition: Option<Expr>) -> Result<Self> {
        self.select()?.selection = condition;
        Ok(self)
    }

    /// Comma-separated relations beside the target.
    pub(super) fn with(mut self, others: &[ast::TableWithJoins]) -> Result<Self> {
        self.select()?.from.extend(others.iter().cloned());
        Ok(self)
    }

    /// A join with the first relation.
    pub(super) fn joined(
        mut self,
        relation: ast::TableFactor,
        operator: ast::JoinOperator,
    ) -> Result<Self> {
        if let Some(first) = self.select()?.from.first_mut() {
            first.joins.push(ast::Join {
                relation,
                global: false,
                join_operator: operator,
            });
        }
        Ok(self)
    }

    /// The first relation.
    pub(super) fn relation(mut self) -> Result<ast::TableFactor> {
        let from = std::mem::take(&mut self.select()?.from);
        match from.into_iter().next() {
            Some(first) => Ok(first.relation),
            None => Err(Error::bug("a draft is over nothing")),
        }
    }
}

/// Where a row of the target is.
pub(super) fn place(target: &Target) -> Vec<SelectItem> {
    [FILE_COLUMN, ROW_COLUMN]
        .into_iter()
        .map(|name| item(column(&target.alias, name), name))
        .collect()
}

pub(super) fn column(relation: &Ident, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![relation.clone(), Ident::with_quote('"', name)])
}

pub(super) fn item(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias {
        expr,
        alias: Ident::with_quote('"', name),
    }
}

pub(super) fn number(value: usize) -> Expr {
    Expr::value(ast::Value::Number(value.to_string(), false))
}

pub(super) fn null() -> Expr {
    Expr::value(ast::Value::Null)
}

pub(super) fn yes() -> Expr {
    Expr::value(ast::Value::Boolean(true))
}

/// `CASE WHEN … THEN … END`; null where nothing holds.
pub(super) fn case(branches: Vec<(Expr, Expr)>) -> Expr {
    let conditions = branches.into_iter();
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: conditions
            .map(|(condition, result)| CaseWhen { condition, result })
            .collect(),
        else_result: None,
    }
}

/// Whether a part of a statement holds a query of its own.
pub(super) fn has_subquery(part: &impl Visit) -> bool {
    struct Queries;
    impl Visitor for Queries {
        type Break = ();
        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    part.visit(&mut Queries).is_break()
}

/// The target's columns that an expression names.
pub(super) fn columns_in(part: &impl Visit, target: &Target) -> Vec<String> {
    struct Names<'a> {
        target: &'a Target,
        found: Vec<String>,
    }
    impl Visitor for Names<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            let name = match expression {
                Expr::Identifier(column) => Some(names::folded(column)),
                Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                    [table, column]
                        if names::folded(table) == names::folded(&self.target.alias) =>
                    {
                        Some(names::folded(column))
                    }
                    _ => None,
                },
                _ => None,
            };
            if let Some(name) = name
                && self.target.snapshot.schema.index_of(&name).is_ok()
                && !self.found.contains(&name)
            {
                self.found.push(name);
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names {
        target,
        found: Vec::new(),
    };
    let _ = part.visit(&mut names);
    names.found
}

/// What the statement calls a relation.
pub(super) fn relation_name(relation: &ast::TableFactor) -> Option<Ident> {
    match relation {
        ast::TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => Some(alias.name.clone()),
            None => name.0.last()?.as_ident().cloned(),
        },
        ast::TableFactor::Derived { alias, .. } => alias.as_ref().map(|alias| alias.name.clone()),
        _ => None,
    }
}

/// For a query's condition, where subqueries are planned into joins, and nowhere else.
pub(super) fn refuse_subqueries(part: &impl Visit, what: &str) -> Result<()> {
    match has_subquery(part) {
        false => Ok(()),
        true => Err(sql::Error::Invalid {
            reason: format!("{what} cannot hold a subquery"),
            position: None,
            hint: Some("join what it asks for into the query behind USING".to_owned()),
        }
        .into()),
    }
}
