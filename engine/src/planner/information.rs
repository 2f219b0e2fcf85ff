//! `information_schema` over the names that the host pinned.
//!
//! `tables`, `views` and `schemata` come from the catalog alone. `columns` opens what its filters on names leave
//! over, many at a time; what cannot be read is left out, so that one broken table does not hide all others.

use super::names::{self, CATALOG, Scope};
use super::{SYSTEM_SCHEMA, Tables, ddl_text};
use crate::{Error, Result};
use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::information_schema::{
    INFORMATION_SCHEMA_TABLES, InformationSchemaProvider,
};
use datafusion::catalog::{MemoryCatalogProviderList, SchemaProvider, Session, TableProvider};
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::datasource::{MemTable, TableType};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use drumline_lake::{ObjectKind, TableName};
use futures::{StreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// The schema's name.
pub(crate) const SCHEMA: &str = "information_schema";

/// How many tables are opened at the same time.
const OPENING: usize = 32;

/// Columns of `columns` that are known before a table is opened.
const NAMES: [&str; 3] = ["table_catalog", "table_schema", "table_name"];

/// A table of this schema; nothing if there is none of this name.
pub(super) async fn table(
    base: &SessionContext,
    scope: &Scope,
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let tables = scope.tables.as_ref();
    let batch = match name {
        "tables" => tables_batch(tables)?,
        "views" => views_batch(tables)?,
        "schemata" => schemata_batch(tables)?,
        "columns" => {
            return Ok(Some(Arc::new(Columns {
                base: base.clone(),
                scope: scope.clone(),
                schema: columns_schema(),
            })));
        }
        // Settings and functions, which have nothing to do with the catalog.
        _ => {
            let no_catalogs = Arc::new(MemoryCatalogProviderList::new());
            return Ok(InformationSchemaProvider::new(no_catalogs)
                .table(name)
                .await?);
        }
    };
    let schema = batch.schema();
    Ok(Some(Arc::new(MemTable::try_new(
        schema,
        vec![vec![batch]],
    )?)))
}

/// What `table_type` says of a kind.
fn table_type(kind: &str) -> &'static str {
    match kind {
        "view" => "VIEW",
        "external" => "EXTERNAL",
        "system" => "SYSTEM VIEW",
        super::TOPIC => "FOREIGN TABLE",
        _ => "BASE TABLE",
    }
}

/// All names but those of this schema, sorted.
fn objects(tables: &dyn Tables) -> Vec<(TableName, &'static str)> {
    let mut objects = tables.objects();
    objects.sort_by(|(a, _), (b, _)| a.cmp(b));
    objects
}

fn text<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn batch(columns: Vec<(&str, ArrayRef, bool)>) -> Result<RecordBatch> {
    RecordBatch::try_from_iter_with_nullable(columns)
        .map_err(|error| Error::bug(format!("rows of information_schema: {error}")))
}

fn tables_batch(tables: &dyn Tables) -> Result<RecordBatch> {
    let mut rows: Vec<(TableName, &'static str, Option<String>)> = objects(tables)
        .into_iter()
        .map(|(name, kind)| {
            let comment = tables.object(&name).and_then(|object| object.comment);
            (name, table_type(kind), comment)
        })
        .collect();
    let own = INFORMATION_SCHEMA_TABLES.iter();
    rows.extend(own.map(|name| (TableName::new(SCHEMA, *name), "VIEW", None)));
    batch(vec![
        (
            "table_catalog",
            text(rows.iter().map(|_| Some(CATALOG))),
            false,
        ),
        (
            "table_schema",
            text(rows.iter().map(|row| Some(&row.0.schema))),
            false,
        ),
        (
            "table_name",
            text(rows.iter().map(|row| Some(&row.0.name))),
            false,
        ),
        (
            "table_type",
            text(rows.iter().map(|row| Some(row.1))),
            false,
        ),
        (
            "table_comment",
            text(rows.iter().map(|row| row.2.as_ref())),
            true,
        ),
    ])
}

fn views_batch(tables: &dyn Tables) -> Result<RecordBatch> {
    let views: Vec<(TableName, Option<String>)> = objects(tables)
        .into_iter()
        .filter(|(_, kind)| *kind == ObjectKind::View.word())
        .map(|(name, _)| {
            let sql = tables.object(&name).and_then(|object| object.view_sql);
            (name, sql)
        })
        .collect();
    let definition = || text(views.iter().map(|view| view.1.as_ref()));
    batch(vec![
        (
            "table_catalog",
            text(views.iter().map(|_| Some(CATALOG))),
            false,
        ),
        (
            "table_schema",
            text(views.iter().map(|view| Some(&view.0.schema))),
            false,
        ),
        (
            "table_name",
            text(views.iter().map(|view| Some(&view.0.name))),
            false,
        ),
        ("view_definition", definition(), true),
        // As DataFusion calls it.
        ("definition", definition(), true),
    ])
}

fn schemata_batch(tables: &dyn Tables) -> Result<RecordBatch> {
    let mut schemas = tables.schemas();
    schemas.push(SCHEMA.to_owned());
    schemas.sort();
    let nothing = || text(schemas.iter().map(|_| None::<&str>));
    let comments = schemas.iter().map(|schema| tables.schema_comment(schema));
    batch(vec![
        (
            "catalog_name",
            text(schemas.iter().map(|_| Some(CATALOG))),
            false,
        ),
        ("schema_name", text(schemas.iter().map(Some)), false),
        ("schema_owner", nothing(), true),
        ("default_character_set_catalog", nothing(), true),
        ("default_character_set_schema", nothing(), true),
        ("default_character_set_name", nothing(), true),
        ("sql_path", nothing(), true),
        ("schema_comment", text(comments), true),
    ])
}

fn columns_schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let number = |name: &str| Field::new(name, DataType::UInt64, true);
    Arc::new(Schema::new(vec![
        text("table_catalog", false),
        text("table_schema", false),
        text("table_name", false),
        text("column_name", false),
        Field::new("ordinal_position", DataType::UInt64, false),
        text("column_default", true),
        text("is_nullable", false),
        text("data_type", false),
        number("character_maximum_length"),
        number("numeric_precision"),
        number("numeric_precision_radix"),
        number("numeric_scale"),
        number("datetime_precision"),
        text("column_comment", true),
        text("is_partition_column", true),
    ]))
}

/// `information_schema.columns`.
struct Columns {
    base: SessionContext,
    scope: Scope,
    schema: SchemaRef,
}

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Columns").finish_non_exhaustive()
    }
}

/// One column of one table.
struct Row {
    table: TableName,
    position: u64,
    field: Arc<Field>,
    comment: Option<String>,
    is_partition: Option<bool>,
}

/// Precision, radix and scale of numbers.
fn numeric(kind: &DataType) -> (Option<u64>, Option<u64>, Option<u64>) {
    match kind {
        DataType::Int8 | DataType::UInt8 => (Some(8), Some(2), Some(0)),
        DataType::Int16 | DataType::UInt16 => (Some(16), Some(2), Some(0)),
        DataType::Int32 | DataType::UInt32 => (Some(32), Some(2), Some(0)),
        DataType::Int64 | DataType::UInt64 => (Some(64), Some(2), Some(0)),
        DataType::Float32 => (Some(24), Some(2), None),
        DataType::Float64 => (Some(53), Some(2), None),
        DataType::Decimal128(precision, scale) => (
            Some(u64::from(*precision)),
            Some(10),
            u64::try_from(*scale).ok(),
        ),
        _ => (None, None, None),
    }
}

impl Columns {
    /// The names that filters on names leave over.
    fn names(&self, state: &dyn Session, filters: &[Expr]) -> PlanResult<Vec<TableName>> {
        let objects = objects(self.scope.tables.as_ref());
        let on_names = |filter: &&Expr| {
            let columns = filter.column_refs();
            !columns.is_empty()
                && columns
                    .iter()
                    .all(|column| NAMES.contains(&column.name.as_str()))
        };
        let Some(filter) = conjunction(filters.iter().filter(on_names).cloned()) else {
            // Brokers are asked for topics that are asked for, alone.
            let here = objects
                .into_iter()
                .filter(|(_, kind)| *kind != super::TOPIC);
            return Ok(here.map(|(name, _)| name).collect());
        };
        let names: Vec<TableName> = objects.into_iter().map(|(name, _)| name).collect();
        let index = UInt64Array::from_iter_values(0..names.len() as u64);
        let rows = RecordBatch::try_from_iter([
            (NAMES[0], text(names.iter().map(|_| Some(CATALOG)))),
            (NAMES[1], text(names.iter().map(|name| Some(&name.schema)))),
            (NAMES[2], text(names.iter().map(|name| Some(&name.name)))),
            ("at", Arc::new(index) as ArrayRef),
        ])?;
        let schema = DFSchema::try_from(rows.schema().as_ref().clone())?;
        let physical = state.create_physical_expr(filter, &schema)?;
        let kept = physical.evaluate(&rows)?.into_array(rows.num_rows())?;
        let kept: &BooleanArray = datafusion::common::cast::as_boolean_array(&kept)?;
        let kept = filter_record_batch(&rows, kept)?;
        let kept = datafusion::common::cast::as_uint64_array(kept.column(3))?;
        let at = |at: u64| names.get(usize::try_from(at).ok()?).cloned();
        Ok(kept
            .values()
            .iter()
            .filter_map(|index| at(*index))
            .collect())
    }

    async fn rows_of(&self, name: TableName) -> Vec<Row> {
        let provider = match names::provider(&self.base, &self.scope, &name).await {
            Ok(Some(provider)) => provider,
            Ok(None) => return Vec::new(),
            Err(error) => {
                tracing::warn!(table = %name, %error, "columns cannot be listed");
                return Vec::new();
            }
        };
        let tables = &self.scope.tables;
        let object = tables.object(&name);
        let partitions = match (&object, name.schema == SYSTEM_SCHEMA) {
            (Some(_), false) => match tables.snapshot(&name).await {
                Ok(Some(snapshot)) => Some(snapshot.partition_columns),
                _ => None,
            },
            _ => None,
        };
        let schema = provider.schema();
        let fields = schema.fields().iter().zip(1..);
        fields
            .map(|(field, position)| Row {
                table: name.clone(),
                position,
                comment: object
                    .as_ref()
                    .and_then(|object| object.column_comments.get(field.name()).cloned()),
                is_partition: partitions
                    .as_ref()
                    .map(|partitions| partitions.contains(field.name())),
                field: Arc::clone(field),
            })
            .collect()
    }

    fn batch(&self, rows: &[Row]) -> PlanResult<RecordBatch> {
        let number = |of: fn(&DataType) -> Option<u64>| {
            let values = rows.iter().map(|row| of(row.field.data_type()));
            Arc::new(values.collect::<UInt64Array>()) as ArrayRef
        };
        let yes_no = |yes: bool| if yes { "YES" } else { "NO" };
        let columns: Vec<ArrayRef> = vec![
            text(rows.iter().map(|_| Some(CATALOG))),
            text(rows.iter().map(|row| Some(&row.table.schema))),
            text(rows.iter().map(|row| Some(&row.table.name))),
            text(rows.iter().map(|row| Some(row.field.name()))),
            Arc::new(UInt64Array::from_iter_values(
                rows.iter().map(|row| row.position),
            )),
            text(rows.iter().map(|_| None::<&str>)),
            text(rows.iter().map(|row| Some(yes_no(row.field.is_nullable())))),
            text(
                rows.iter()
                    .map(|row| Some(ddl_text::sql_type(row.field.data_type()))),
            ),
            number(|_| None),
            number(|kind| numeric(kind).0),
            number(|kind| numeric(kind).1),
            number(|kind| numeric(kind).2),
            number(|kind| matches!(kind, DataType::Timestamp(_, _)).then_some(6)),
            text(rows.iter().map(|row| row.comment.as_ref())),
            text(rows.iter().map(|row| row.is_partition.map(yes_no))),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

#[async_trait]
impl TableProvider for Columns {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let names = self.names(state, filters)?;
        // Boxed before they meet the stream, so that the future stays `Send`.
        let opening: Vec<_> = names
            .into_iter()
            .map(|name| Box::pin(self.rows_of(name)))
            .collect();
        let rows: Vec<Vec<Row>> = stream::iter(opening).buffered(OPENING).collect().await;
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        let batch = self.batch(&rows)?;
        let table = MemTable::try_new(self.schema(), vec![vec![batch]])?;
        table.scan(state, projection, &[], None).await
    }
}
