//! `INSERT`, and what every write makes of the rows that are there.

use super::rewrite::Redefine;
use super::{Planned, Planner, Write, WriteMode, names, query_statement};
use crate::functions::store_as;
use crate::lake_write::Counts;
use crate::sql::{self, Position};
use crate::{Result, settings};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, lit};
use datafusion::sql::sqlparser::ast::Ident;
use drumline_lake::{DataFile, Operation, StagedFile, TableChange, TableSnapshot, widens};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What `INSERT INTO` makes of a table's columns.
#[derive(Debug, Clone)]
pub struct Extend {
    /// The table as it was planned for.
    pub snapshot: TableSnapshot,
    /// All columns after it, as Delta writes schemas.
    pub columns: String,
}

/// What `INSERT OVERWRITE` replaces.
#[derive(Debug, Clone)]
pub struct Overwrite {
    /// The table as it was planned for.
    pub snapshot: TableSnapshot,
    /// Which of its rows go.
    pub replaced: Replaced,
}

/// Rows that go when new ones come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// All.
    Table,
    /// Those of the partitions that the new rows are in.
    Produced,
    /// Those with these values, each for the partition column at a place.
    Partition(Vec<(usize, Option<String>)>),
}

impl WriteMode {
    /// What a write whose job has run does to the rows that are there, and how many those are.
    ///
    /// # Errors
    /// The job read other rows than the table holds.
    pub fn change(
        &self,
        files: &[StagedFile],
        counts: Counts,
    ) -> Result<Option<(TableChange, Counts)>> {
        Ok(match self {
            Self::Append | Self::Create(_) => None,
            Self::Extend(extend) => {
                let change = TableChange {
                    operation: Operation::Append,
                    base: extend.snapshot.version,
                    remove: Vec::new(),
                    rows: None,
                    columns: Some(extend.columns.clone()),
                    redefines: None,
                };
                Some((change, counts))
            }
            Self::Overwrite(overwrite) => {
                let change = TableChange {
                    operation: Operation::Overwrite,
                    base: overwrite.snapshot.version,
                    remove: overwrite.removed(files),
                    rows: None,
                    columns: None,
                    redefines: None,
                };
                Some((change, counts))
            }
            Self::Rewrite(rewrite) => {
                let counts = rewrite.changed(counts)?;
                let change = TableChange {
                    operation: rewrite.operation,
                    base: rewrite.snapshot.version,
                    remove: rewrite.removed(),
                    rows: Some(counts.changed()),
                    columns: rewrite
                        .redefined
                        .as_ref()
                        .and_then(|new| new.columns.clone()),
                    redefines: rewrite.redefined.as_ref().map(Redefine::told),
                };
                Some((change, counts))
            }
        })
    }
}

impl Overwrite {
    /// Paths of the files that go when these come.
    fn removed(&self, files: &[StagedFile]) -> Vec<String> {
        let produced: HashSet<Vec<&Option<String>>> = files
            .iter()
            .map(|file| {
                file.partition_values
                    .iter()
                    .map(|(_, value)| value)
                    .collect()
            })
            .collect();
        let goes = |file: &DataFile| match &self.replaced {
            Replaced::Table => true,
            Replaced::Produced => {
                produced.contains(&file.partition_values.iter().collect::<Vec<_>>())
            }
            Replaced::Partition(values) => {
                let mut values = values.iter();
                values.all(|(at, value)| file.partition_values.get(*at) == Some(value))
            }
        };
        let files = self.snapshot.files.iter();
        let gone = files.filter(|file| goes(file));
        gone.map(|file| file.path.clone()).collect()
    }
}

impl Planner<'_> {
    pub(super) async fn insert(&self, insert: &sql::Insert) -> Result<Planned> {
        let table = self.name(&insert.table)?;
        let snapshot = self.written(&table).await?;
        let schema = Arc::clone(&snapshot.schema);
        let is_plain =
            !insert.overwrite && insert.columns.is_empty() && insert.partition.is_empty();
        let how = settings::of(self.base.copied_config().options());
        if is_plain && (how.add_columns || how.widen_columns) {
            return self.insert_by_name(snapshot, insert, &how).await;
        }
        let fixed = self.fixed(&snapshot, insert)?;
        let targets = self.insert_columns(&table.to_string(), &insert.columns, &schema, &fixed)?;
        let plan = self.logical(&query_statement(&insert.source)).await?;
        let found = plan.schema().fields().len();
        if found != targets.len() {
            let reason = format!(
                "`{table}` takes {} columns here, the query yields {found}",
                targets.len()
            );
            return Err(self.invalid(
                reason,
                Some("name the columns behind the table, as in t (a, b)"),
            ));
        }
        let mut columns = Vec::with_capacity(schema.fields().len());
        for ((qualifier, field), at) in plan.schema().iter().zip(&targets) {
            let target = schema.field(*at);
            if !can_cast_types(field.data_type(), target.data_type()) {
                let reason = format!(
                    "column `{}` of `{table}` is {}, and {} cannot become that",
                    target.name(),
                    target.data_type(),
                    field.data_type()
                );
                return Err(self.invalid(reason, Some("CAST it in the query")));
            }
            let (found, wanted) = (field.data_type(), target.data_type());
            let value = Expr::from((qualifier, field));
            let value = store_as(value, found, wanted, &table.to_string(), target.name())?;
            columns.push(value.alias(target.name()));
        }
        for (at, value) in &fixed {
            columns.push(lit(value.clone()).alias(schema.field(*at).name()));
        }
        for (at, field) in schema.fields().iter().enumerate() {
            if !targets.contains(&at) && !fixed.contains_key(&at) {
                let null = ScalarValue::try_from(field.data_type())?;
                columns.push(lit(null).alias(field.name()));
            }
        }
        let plan = LogicalPlanBuilder::from(plan).project(columns)?.build()?;
        let plan = self.kept(
            &table.to_string(),
            &snapshot.properties,
            &snapshot.partition_columns,
            plan,
        )?;
        let mode = match insert.overwrite {
            false => WriteMode::Append,
            true => WriteMode::Overwrite(Box::new(Overwrite {
                replaced: self.replaced(&snapshot, insert, &fixed)?,
                snapshot,
            })),
        };
        Ok(Planned::Write(Write {
            table,
            mode,
            input: self.query(plan),
        }))
    }

    /// Columns go where their names say, and those that the table has not are added to it.
    async fn insert_by_name(
        &self,
        snapshot: TableSnapshot,
        insert: &sql::Insert,
        how: &settings::DrumlineSettings,
    ) -> Result<Planned> {
        let plan = self.logical(&query_statement(&insert.source)).await?;
        self.check_columns(plan.schema().as_arrow())?;
        let known = |name: &str| {
            let mut fields = snapshot.schema.fields().iter();
            fields.find(|field| field.name().eq_ignore_ascii_case(name))
        };
        let found = plan.schema().fields().iter();
        let more: Vec<_> = found
            .filter(|field| known(field.name()).is_none())
            .collect();
        if let (Some(field), false) = (more.first(), how.add_columns) {
            return Err(self.invalid(
                format!("`{}` has no column `{}`", snapshot.name, field.name()),
                Some("SET drumline.add_columns = true adds it"),
            ));
        }
        let wider = match how.widen_columns {
            true => wider_than(&snapshot, plan.schema().as_arrow()),
            false => BTreeMap::new(),
        };
        let (schema, columns) = match more.is_empty() {
            true => (Arc::clone(&snapshot.schema), None),
            false => {
                let more = more
                    .into_iter()
                    .map(|field| field.as_ref().clone().with_nullable(true));
                let (schema, columns) =
                    snapshot.extended(&Schema::new(more.collect::<Vec<_>>()))?;
                (schema, Some(columns))
            }
        };
        let (schema, columns) = match wider.is_empty() {
            true => (schema, columns),
            false => {
                let fields = super::redefine::widened(&schema, &wider);
                let fields: Vec<_> = fields.into_iter().map(|(field, _)| field).collect();
                let schema = Arc::new(Schema::new(fields));
                let columns = snapshot.reshaped(&schema, &snapshot.partition_columns)?;
                (schema, Some(columns))
            }
        };
        let table = snapshot.name.to_string();
        let mut rows = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let mut given = plan.schema().iter();
            let given = given.find(|(_, one)| one.name().eq_ignore_ascii_case(field.name()));
            let value = match given {
                Some((qualifier, one)) => {
                    let (found, wanted) = (one.data_type(), field.data_type());
                    if !can_cast_types(found, wanted) {
                        let reason = format!(
                            "column `{}` of `{table}` is {wanted}, and {found} cannot become that",
                            field.name()
                        );
                        return Err(self.invalid(reason, Some("CAST it in the query")));
                    }
                    store_as(
                        Expr::from((qualifier, one)),
                        found,
                        wanted,
                        &table,
                        field.name(),
                    )?
                }
                None if field.is_nullable() => lit(ScalarValue::try_from(field.data_type())?),
                None => {
                    let reason = format!(
                        "column `{}` of `{table}` cannot be null and is not in the query",
                        field.name()
                    );
                    return Err(self.invalid(reason, None));
                }
            };
            rows.push(value.alias(field.name()));
        }
        let rows = LogicalPlanBuilder::from(plan).project(rows)?.build()?;
        if let (false, Some(columns)) = (wider.is_empty(), &columns) {
            return self.insert_widened(snapshot, rows, &wider, columns.clone());
        }
        let rows = self.kept(
            &table,
            &snapshot.properties,
            &snapshot.partition_columns,
            rows,
        )?;
        Ok(Planned::Write(Write {
            table: snapshot.name.clone(),
            mode: match columns {
                None => WriteMode::Append,
                Some(columns) => WriteMode::Extend(Box::new(Extend { snapshot, columns })),
            },
            input: self.query(rows),
        }))
    }

    /// The columns to which `PARTITION (a = 1)` gives a value.
    fn fixed(
        &self,
        snapshot: &TableSnapshot,
        insert: &sql::Insert,
    ) -> Result<BTreeMap<usize, ScalarValue>> {
        let mut fixed = BTreeMap::new();
        for (column, value) in &insert.partition {
            let at = self.column(column, &snapshot.schema)?;
            let field = snapshot.schema.field(at);
            if !snapshot.partition_columns.contains(field.name()) {
                return Err(sql::Error::Invalid {
                    reason: format!(
                        "`{}` is not partitioned by column `{}`",
                        snapshot.name,
                        field.name()
                    ),
                    position: Position::of(column.span.start),
                    hint: None,
                }
                .into());
            }
            if let Some(value) = value {
                fixed.insert(at, self.constant(value, field.data_type())?);
            }
        }
        Ok(fixed)
    }

    /// The value of an expression without columns.
    fn constant(
        &self,
        value: &datafusion::sql::sqlparser::ast::Expr,
        kind: &DataType,
    ) -> Result<ScalarValue> {
        let state = self.base.state();
        let nothing = DFSchema::empty();
        let found = state
            .create_logical_expr(&value.to_string(), &nothing)
            .and_then(|value| {
                self.base
                    .create_physical_expr(cast(value, kind.clone()), &nothing)
            })
            .and_then(|value| {
                let one = RecordBatchOptions::new().with_row_count(Some(1));
                let schema = Arc::new(Schema::empty());
                let row = RecordBatch::try_new_with_options(schema, vec![], &one)?;
                ScalarValue::try_from_array(&value.evaluate(&row)?.into_array(1)?, 0)
            });
        found.map_err(|error| self.explain(error))
    }

    fn replaced(
        &self,
        snapshot: &TableSnapshot,
        insert: &sql::Insert,
        fixed: &BTreeMap<usize, ScalarValue>,
    ) -> Result<Replaced> {
        if insert.partition.is_empty() {
            let by_setting = settings::of(self.base.copied_config().options()).overwrite;
            return match by_setting.as_str() {
                "table" => Ok(Replaced::Table),
                "partitions" if snapshot.partition_columns.is_empty() => Ok(Replaced::Table),
                "partitions" => Ok(Replaced::Produced),
                other => Err(self.invalid(
                    format!("drumline.overwrite is '{other}'"),
                    Some("SET drumline.overwrite = 'table', or 'partitions'"),
                )),
            };
        }
        if insert.partition.iter().any(|(_, value)| value.is_none()) {
            return Ok(Replaced::Produced);
        }
        let mut values = Vec::with_capacity(fixed.len());
        for (at, value) in fixed {
            let name = snapshot.schema.field(*at).name();
            let place = snapshot
                .partition_columns
                .iter()
                .position(|one| one == name);
            let text = value.cast_to(&DataType::Utf8)?;
            let text = text.try_as_str().flatten().filter(|text| !text.is_empty());
            values.push((place.unwrap_or_default(), text.map(str::to_owned)));
        }
        Ok(Replaced::Partition(values))
    }

    /// Where each column of the source goes in the table.
    fn insert_columns(
        &self,
        table: &str,
        columns: &[Ident],
        schema: &SchemaRef,
        fixed: &BTreeMap<usize, ScalarValue>,
    ) -> Result<Vec<usize>> {
        if columns.is_empty() {
            let all = 0..schema.fields().len();
            return Ok(all.filter(|at| !fixed.contains_key(at)).collect());
        }
        let mut targets = Vec::with_capacity(columns.len());
        for column in columns {
            let at = self.column(column, schema)?;
            if targets.contains(&at) || fixed.contains_key(&at) {
                return Err(self.invalid(format!("column `{column}` is named twice"), None));
            }
            targets.push(at);
        }
        let missing = schema.fields().iter().enumerate();
        let mut missing = missing.filter(|(at, field)| {
            !field.is_nullable() && !targets.contains(at) && !fixed.contains_key(at)
        });
        match missing.next() {
            Some((_, field)) => {
                let reason = format!(
                    "column `{}` of `{table}` cannot be null and is not named",
                    field.name()
                );
                Err(self.invalid(reason, None))
            }
            None => Ok(targets),
        }
    }

    pub(super) fn column(&self, column: &Ident, schema: &Schema) -> Result<usize> {
        let name = names::folded(column);
        schema.index_of(&name).map_err(|_| {
            sql::Error::Unknown {
                kind: "column",
                position: Position::of(column.span.start),
                candidates: sql::candidates(
                    &name,
                    schema.fields().iter().map(|field| field.name().as_str()),
                ),
                name,
            }
            .into()
        })
    }
}

/// Columns of a table whose type the rows' own is wider than, and that type.
fn wider_than(table: &TableSnapshot, rows: &Schema) -> BTreeMap<usize, DataType> {
    let fields = table.schema.fields().iter().enumerate();
    let wider = fields.filter_map(|(at, field)| {
        let mut given = rows.fields().iter();
        let given = given.find(|one| one.name().eq_ignore_ascii_case(field.name()))?;
        Some((
            at,
            widens(table.format, field.data_type(), given.data_type())?,
        ))
    });
    wider.collect()
}
