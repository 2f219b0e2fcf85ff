//! `ALTER TABLE` that changes what a table's columns are, or what its rows must keep.
//!
//! Neither format maps names to columns of files by anything but their names, so a column that is dropped, renamed or
//! gets a wider type is one in every file: the files are written anew by the statement, in one commit, and every reader
//! of either format finds what the schema says. What only demands something of rows looks at them first. Both rest on
//! the version they looked at: rows that come meanwhile have them planned anew.

use super::changes::column_named;
use super::constraints::CHECK;
use super::draft::Target;
use super::rewrite::{Broken, Redefine, Search};
use super::{Definition, Planned, Planner, TableRef, WriteMode};
use crate::lake_write::{ACTION, Action};
use crate::sql::ColumnChange;
use crate::{Error, Result};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::sql::sqlparser::ast::{ColumnDef, Ident, ObjectName};
use drumline_lake::{Operation, TableSnapshot, widens};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Properties that name columns.
const NAMING: [&str; 2] = ["sort_by", "retention_column"];

impl Planner<'_> {
    pub(super) async fn redefine(
        &self,
        table: &ObjectName,
        if_exists: bool,
        change: &ColumnChange,
    ) -> Result<Planned> {
        let name = self.name(table)?;
        if if_exists && self.tables.object(&name).is_none() {
            return Ok(nothing(name));
        }
        let target = self.whole_target(&name).await?;
        match change {
            ColumnChange::Drop { columns, if_exists } => {
                self.drop_columns(target, columns, *if_exists)
            }
            ColumnChange::Rename { from, to } => self.rename_column(target, from, to),
            ColumnChange::NotNull { column, demanded } => self.not_null(target, column, *demanded),
            ColumnChange::Type { column } => self.widen(target, column).await,
            ColumnChange::AddCheck { name, condition } => self.add_check(target, name, condition),
            ColumnChange::DropCheck { name, if_exists } => {
                self.drop_check(target, name, *if_exists)
            }
        }
    }

    fn drop_columns(&self, target: Target, columns: &[Ident], if_exists: bool) -> Result<Planned> {
        let schema = Arc::clone(&target.snapshot.schema);
        let mut gone = HashSet::new();
        for column in columns {
            match self.column(column, &schema) {
                Ok(at) => {
                    let name = schema.field(at).name();
                    self.check_unused(&target, name, "dropped")?;
                    if target.snapshot.partition_columns.contains(name) {
                        return Err(self.anew(format!(
                            "`{}` is partitioned by column `{name}`, which cannot be dropped",
                            target.name
                        )));
                    }
                    gone.insert(at);
                }
                Err(_) if if_exists => {}
                Err(error) => return Err(error),
            }
        }
        if gone.is_empty() {
            return Ok(nothing(target.name));
        }
        let kept = schema.fields().iter().enumerate();
        let kept: Vec<_> = kept
            .filter(|(at, _)| !gone.contains(at))
            .map(|(_, field)| (field.clone(), column_named(field.name())))
            .collect();
        if kept.len() <= target.snapshot.partition_columns.len() {
            return Err(self.invalid("a table needs a column that it is not partitioned by", None));
        }
        let partitions = target.snapshot.partition_columns.clone();
        self.reshaped(target, Operation::DropColumns, kept, partitions)
    }

    fn rename_column(&self, target: Target, from: &Ident, to: &Ident) -> Result<Planned> {
        let schema = Arc::clone(&target.snapshot.schema);
        let at = self.column(from, &schema)?;
        let old = schema.field(at).name().clone();
        let new = super::names::folded(to);
        self.check_unused(&target, &old, "renamed")?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (place, field) in schema.fields().iter().enumerate() {
            let value = column_named(field.name());
            columns.push(match place == at {
                false => (field.clone(), value),
                true => {
                    let field = field.as_ref().clone().with_name(&new);
                    (Arc::new(field), value.alias(&new))
                }
            });
        }
        let fields: Vec<FieldRef> = columns.iter().map(|(field, _)| field.clone()).collect();
        self.check_columns(&Schema::new(fields))?;
        let renamed = |name: &String| {
            if *name == old {
                new.clone()
            } else {
                name.clone()
            }
        };
        let partitions = target.snapshot.partition_columns.iter().map(renamed);
        let partitions = partitions.collect();
        self.reshaped(target, Operation::RenameColumn, columns, partitions)
    }

    /// A table that becomes another one.
    pub(super) async fn whole_target(&self, name: &TableRef) -> Result<Target> {
        let snapshot = self.written(name).await?;
        Ok(Target {
            alias: Ident::new(&name.name),
            tracked: snapshot.tracked()?,
            name: name.clone(),
            snapshot,
            sources: Vec::new(),
            held: None,
        })
    }

    async fn widen(&self, target: Target, column: &ColumnDef) -> Result<Planned> {
        let schema = Arc::clone(&target.snapshot.schema);
        let at = self.column(&column.name, &schema)?;
        let declared = self.declared(std::slice::from_ref(column)).await?;
        let Some(wanted) = declared.as_ref().and_then(|schema| schema.fields().first()) else {
            return Err(Error::bug("a declared column has no type"));
        };
        let field = schema.field(at);
        let Some(wider) = widens(
            target.snapshot.format,
            field.data_type(),
            wanted.data_type(),
        ) else {
            return Err(self.anew(format!(
                "column `{}` of `{}` is {}, and not every value of it is a {}",
                field.name(),
                target.name,
                field.data_type(),
                wanted.data_type()
            )));
        };
        let columns = widened(&schema, &BTreeMap::from([(at, wider)]));
        let partitions = target.snapshot.partition_columns.clone();
        self.reshaped(target, Operation::ChangeColumn, columns, partitions)
    }

    fn not_null(&self, target: Target, column: &Ident, demanded: bool) -> Result<Planned> {
        let schema = Arc::clone(&target.snapshot.schema);
        let at = self.column(column, &schema)?;
        let name = schema.field(at).name().clone();
        let fields = schema.fields().iter().enumerate().map(|(place, field)| {
            let field = field.as_ref().clone();
            match place == at {
                true => field.with_nullable(!demanded),
                false => field,
            }
        });
        let redefined = Redefine {
            columns: Some(target.snapshot.reshaped(
                &Schema::new(fields.collect::<Vec<Field>>()),
                &target.snapshot.partition_columns,
            )?),
            ..Redefine::of(&target.snapshot)
        };
        let search = match demanded {
            false => Search::None,
            true => Search::Broken(Box::new(Broken {
                plan: rows_where(&target.snapshot, column_named(&name).is_null())?,
                what: format!("`{}` holds rows whose `{name}` is null", target.name),
            })),
        };
        self.redefined(target, Operation::ChangeColumn, search, redefined)
    }

    fn add_check(
        &self,
        target: Target,
        name: &Ident,
        condition: &datafusion::sql::sqlparser::ast::Expr,
    ) -> Result<Planned> {
        let name = name.value.to_lowercase();
        let key = format!("{CHECK}{name}");
        if target.snapshot.properties.contains_key(&key) {
            return Err(self.invalid(
                format!("`{}` has a constraint `{name}`", target.name),
                Some("ALTER TABLE … DROP CONSTRAINT takes it away"),
            ));
        }
        let rows = all_rows(&target.snapshot)?.build()?;
        let text = condition.to_string();
        let kept = self.check(&target.name.to_string(), &name, &text, &rows)?;
        let search = Search::Broken(Box::new(Broken {
            plan: LogicalPlanBuilder::from(rows)
                .filter(kept.is_false())?
                .limit(0, Some(1))?
                .build()?,
            what: format!(
                "`{}` holds rows that break constraint `{name}`",
                target.name
            ),
        }));
        let redefined = Redefine {
            properties: BTreeMap::from([(key, Some(text))]),
            ..Redefine::of(&target.snapshot)
        };
        self.redefined(target, Operation::AddConstraint, search, redefined)
    }

    fn drop_check(&self, target: Target, name: &Ident, if_exists: bool) -> Result<Planned> {
        let name = name.value.to_lowercase();
        let key = format!("{CHECK}{name}");
        let is_there = target.snapshot.properties.contains_key(&key);
        if !is_there && !if_exists {
            let checks = target.snapshot.properties.keys();
            let checks: Vec<&str> = checks.filter_map(|key| key.strip_prefix(CHECK)).collect();
            return Err(self.invalid(
                match checks.is_empty() {
                    true => format!("`{}` has no constraints", target.name),
                    false => format!(
                        "`{}` has no constraint `{name}`; it has {}",
                        target.name,
                        checks.join(", ")
                    ),
                },
                None,
            ));
        }
        let properties = is_there.then_some((key, None)).into_iter().collect();
        let redefined = Redefine {
            properties,
            ..Redefine::of(&target.snapshot)
        };
        self.redefined(target, Operation::DropConstraint, Search::None, redefined)
    }

    /// New rows, and the old ones with the wider types that the new ones need.
    pub(super) fn insert_widened(
        &self,
        snapshot: TableSnapshot,
        rows: LogicalPlan,
        wider: &BTreeMap<usize, DataType>,
        columns: String,
    ) -> Result<Planned> {
        let target = Target {
            alias: Ident::new(&snapshot.name.name),
            tracked: snapshot.tracked()?,
            name: snapshot.name.clone(),
            snapshot,
            sources: Vec::new(),
            held: None,
        };
        let mut old: Vec<Expr> = widened(&target.snapshot.schema, wider)
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        let new: Vec<FieldRef> = rows.schema().fields().iter().cloned().collect();
        for field in new.iter().skip(old.len()) {
            let null = ScalarValue::try_from(field.data_type())?;
            old.push(lit(null).alias(field.name()));
        }
        old.push(Action::Keep.expression().alias(ACTION));
        let mut added: Vec<Expr> = new.iter().map(|field| column_named(field.name())).collect();
        added.push(Action::Insert.expression().alias(ACTION));
        let added = LogicalPlanBuilder::from(rows).project(added)?.build()?;
        let kept =
            LogicalPlanBuilder::scan("rows", provider_as_source(target.tracked.clone()), None)?;
        let input = kept.project(old)?.union(added)?.build()?;
        let redefined = Redefine {
            columns: Some(columns),
            ..Redefine::of(&target.snapshot)
        };
        let mut planned = self.rewrite(target, Operation::Append, Search::All, input, true)?;
        if let Planned::Write(write) = &mut planned
            && let WriteMode::Rewrite(rewrite) = &mut write.mode
        {
            rewrite.redefined = Some(redefined);
        }
        Ok(planned)
    }

    /// All files written anew, with other columns: each a field and its value out of the table's own.
    pub(super) fn reshaped(
        &self,
        target: Target,
        operation: Operation,
        columns: Vec<(FieldRef, Expr)>,
        partition_columns: Vec<String>,
    ) -> Result<Planned> {
        let (fields, mut values): (Vec<FieldRef>, Vec<Expr>) = columns.into_iter().unzip();
        values.push(Action::Keep.expression().alias(ACTION));
        let rows =
            LogicalPlanBuilder::scan("rows", provider_as_source(target.tracked.clone()), None)?;
        let input = rows.project(values)?.build()?;
        let redefined = Redefine {
            columns: Some(
                target
                    .snapshot
                    .reshaped(&Schema::new(fields), &partition_columns)?,
            ),
            partition_columns,
            ..Redefine::of(&target.snapshot)
        };
        self.rewritten(target, operation, Search::All, input, redefined)
    }

    /// No file is written anew.
    pub(super) fn redefined(
        &self,
        target: Target,
        operation: Operation,
        search: Search,
        redefined: Redefine,
    ) -> Result<Planned> {
        let rows =
            LogicalPlanBuilder::scan("rows", provider_as_source(target.tracked.clone()), None)?;
        let input = rows.filter(lit(false))?.build()?;
        self.rewritten(target, operation, search, input, redefined)
    }

    fn rewritten(
        &self,
        mut target: Target,
        operation: Operation,
        search: Search,
        input: LogicalPlan,
        redefined: Redefine,
    ) -> Result<Planned> {
        // Rows that stay keep what they kept.
        let properties = std::mem::take(&mut target.snapshot.properties);
        let mut planned = self.rewrite(target, operation, search, input, false)?;
        if let Planned::Write(write) = &mut planned
            && let WriteMode::Rewrite(rewrite) = &mut write.mode
        {
            rewrite.snapshot.properties = properties;
            rewrite.redefined = Some(redefined);
        }
        Ok(planned)
    }

    /// Refuses a column that the table's properties name.
    fn check_unused(&self, target: &Target, column: &str, what: &str) -> Result<()> {
        let snapshot = &target.snapshot;
        let rows = all_rows(snapshot)?.build()?;
        for (key, text) in &snapshot.properties {
            if let Some(name) = key.strip_prefix(CHECK) {
                let condition = self.check(&target.name.to_string(), name, text, &rows)?;
                let mut named = condition.column_refs().into_iter();
                if named.any(|one: &Column| one.name == column) {
                    return Err(self.invalid(
                        format!("column `{column}` cannot be {what}: constraint `{name}` names it"),
                        Some("ALTER TABLE … DROP CONSTRAINT first"),
                    ));
                }
            }
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            if NAMING.contains(&key.as_str()) && words.into_iter().any(|word| word == column) {
                return Err(self.invalid(
                    format!("column `{column}` cannot be {what}: property '{key}' names it"),
                    Some("ALTER TABLE … UNSET TBLPROPERTIES first"),
                ));
            }
        }
        Ok(())
    }

    /// What only a new table can have.
    fn anew(&self, reason: String) -> Error {
        self.invalid(
            reason,
            Some("CREATE OR REPLACE TABLE … AS SELECT … makes the table anew"),
        )
    }
}

/// Which does nothing, and says so.
pub(super) fn nothing(table: TableRef) -> Planned {
    Planned::Definition(Definition::AddColumns {
        table,
        columns: Arc::new(Schema::empty()),
        column_comments: BTreeMap::new(),
        if_exists: true,
        if_not_exists: true,
    })
}

/// Columns with some of them of a wider type: fields, and values out of the table's own.
pub(super) fn widened(schema: &Schema, wider: &BTreeMap<usize, DataType>) -> Vec<(FieldRef, Expr)> {
    let fields = schema.fields().iter().enumerate();
    let widened = fields.map(|(at, field)| {
        let value = column_named(field.name());
        match wider.get(&at) {
            None => (field.clone(), value),
            Some(kind) => {
                let field = field.as_ref().clone().with_data_type(kind.clone());
                let value = cast(value, kind.clone()).alias(field.name());
                (Arc::new(field), value)
            }
        }
    });
    widened.collect()
}

fn all_rows(snapshot: &TableSnapshot) -> Result<LogicalPlanBuilder> {
    let source = provider_as_source(snapshot.provider()?);
    Ok(LogicalPlanBuilder::scan("rows", source, None)?)
}

fn rows_where(snapshot: &TableSnapshot, condition: Expr) -> Result<LogicalPlan> {
    let rows = all_rows(snapshot)?.filter(condition)?;
    Ok(rows.limit(0, Some(1))?.build()?)
}
