//! External tables: folders of files that others fill, listed anew for each statement.

use crate::float_bounds::without_float_statistics;
use crate::sql::{self, Body};
use crate::{Error, Result};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::datasource::file_format::csv::CsvFormatFactory;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormatFactory;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::file_format::{FileFormat as Reader, FileFormatFactory};
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::logical_expr::{
    DdlStatement, Expr, LogicalPlan, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use drumline_lake::{External, FileFormat, Object, TableName};
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

/// Options that may be given, by format: our name, which is DataFusion's, and what others call it.
const CSV: &[(&str, &[&str])] = &[
    ("has_header", &["header"]),
    ("delimiter", &["sep", "separator"]),
    ("quote", &[]),
    ("escape", &[]),
    ("double_quote", &[]),
    ("terminator", &["linesep"]),
    ("comment", &[]),
    ("null_regex", &[]),
    ("newlines_in_values", &["multiline"]),
    ("truncated_rows", &[]),
    ("compression", &[]),
    ("schema_infer_max_rec", &[]),
];
const JSON: &[(&str, &[&str])] = &[
    ("newline_delimited", &[]),
    ("compression", &[]),
    ("schema_infer_max_rec", &[]),
];

/// Which files of the folder are meant, for formats of one file each.
const EXTENSION: &str = "file_extension";

/// The options under their own names. An error says which there are.
pub(super) fn options(
    format: FileFormat,
    given: &[(String, String)],
) -> Result<BTreeMap<String, String>, String> {
    let known = match format {
        FileFormat::Csv => CSV,
        FileFormat::Json => JSON,
        FileFormat::Parquet | FileFormat::Delta => &[],
    };
    let mut options = BTreeMap::new();
    for (name, value) in given {
        let lower = name.to_lowercase();
        let plain = lower.strip_prefix("format.").unwrap_or(&lower);
        let found = known
            .iter()
            .find(|(name, others)| *name == plain || others.contains(&plain))
            .map(|(name, _)| *name);
        let found = match found {
            Some(found) => found,
            None if plain == EXTENSION && format != FileFormat::Delta => EXTENSION,
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                return Err(format!(
                    "{} files have no option `{name}`; there is {}",
                    format.word().to_uppercase(),
                    match (names.is_empty(), format) {
                        (_, FileFormat::Delta) => "none".to_owned(),
                        (true, _) => EXTENSION.to_owned(),
                        (false, _) => format!("{}, {EXTENSION}", names.join(", ")),
                    }
                ));
            }
        };
        if options.insert(found.to_owned(), value.clone()).is_some() {
            return Err(format!("option `{found}` is given twice"));
        }
    }
    Ok(options)
}

/// Refuses types and options that no reader takes.
pub(super) async fn check(base: &SessionContext, external: &External) -> Result<()> {
    if external.format == FileFormat::Delta {
        return Ok(());
    }
    declared(base, external).await?;
    listing(base, external)?;
    Ok(())
}

/// How files are listed and read.
fn listing(base: &SessionContext, external: &External) -> Result<ListingOptions> {
    let state = base.state();
    let compression = match external.options.get("compression") {
        Some(text) => FileCompressionType::from_str(text)?,
        None => FileCompressionType::UNCOMPRESSED,
    };
    let given: HashMap<String, String> = external
        .options
        .iter()
        .filter(|(name, _)| *name != EXTENSION)
        .map(|(name, value)| (format!("format.{name}"), value.clone()))
        .collect();
    let wrong = |error: DataFusionError| sql::Error::Invalid {
        reason: format!(
            "options of a {} table: {}",
            external.format.word(),
            error.find_root().message()
        ),
        position: None,
        hint: None,
    };
    let (reader, extension): (Arc<dyn Reader>, &str) = match external.format {
        FileFormat::Parquet | FileFormat::Delta => (Arc::new(ParquetFormat::default()), ".parquet"),
        FileFormat::Csv => {
            let reader = CsvFormatFactory::new().create(&state, &given);
            (reader.map_err(wrong)?, ".csv")
        }
        FileFormat::Json => {
            let reader = JsonFormatFactory::new().create(&state, &given);
            (reader.map_err(wrong)?, ".json")
        }
    };
    let extension = match external.options.get(EXTENSION) {
        Some(extension) => extension.clone(),
        None => {
            let packed = datafusion::common::GetExt::get_ext(&compression);
            format!("{extension}{packed}")
        }
    };
    Ok(ListingOptions::new(reader).with_file_extension(extension))
}

/// The declared columns with their types, if any were declared.
async fn declared(base: &SessionContext, external: &External) -> Result<Option<SchemaRef>> {
    if external.columns.is_empty() {
        return Ok(None);
    }
    let columns: Vec<String> = external
        .columns
        .iter()
        .map(|(name, kind)| format!("\"{}\" {kind}", name.replace('"', "\"\"")))
        .collect();
    let text = format!("CREATE TABLE declared ({})", columns.join(", "));
    let statement = base
        .state()
        .sql_to_statement(&text, &datafusion::config::Dialect::Generic)?;
    match base.state().statement_to_plan(statement).await? {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) => {
            Ok(Some(Arc::clone(table.input.schema().inner())))
        }
        other => Err(Error::bug(format!(
            "columns were planned as {}",
            other.display()
        ))),
    }
}

/// The files that are there now. Folders named `column=value` become columns: as declared, else of text.
pub(super) async fn provider(
    base: &SessionContext,
    name: &TableName,
    object: &Object,
) -> Result<Arc<dyn TableProvider>> {
    let by_default = External::of(FileFormat::Parquet);
    let external = object.external.as_ref().unwrap_or(&by_default);
    let state = base.state();
    let path = ListingTableUrl::parse(&object.location)?;
    let options = listing(base, external)?;
    let declared = declared(base, external).await?;
    let partitions = match external.partition_columns.is_empty() {
        false => external.partition_columns.clone(),
        true => options.infer_partitions(&state, &path).await?,
    };
    let kind_of = |column: &String| {
        let field = declared
            .as_ref()
            .and_then(|schema| schema.field_with_name(column).ok());
        field.map_or(DataType::Utf8, |field| field.data_type().clone())
    };
    let partitions: Vec<(String, DataType)> = partitions
        .into_iter()
        .map(|column| {
            let kind = kind_of(&column);
            (column, kind)
        })
        .collect();
    let in_files = |schema: &SchemaRef| {
        let fields = schema.fields().iter();
        let fields =
            fields.filter(|field| !partitions.iter().any(|(name, _)| name == field.name()));
        Arc::new(Schema::new(fields.cloned().collect::<Vec<Arc<Field>>>()))
    };
    let schema = match &declared {
        Some(declared) => in_files(declared),
        None => options
            .infer_schema(&state, &path)
            .await
            .map_err(|error| unreadable(name, object, &options.file_extension, error))
            .map(|schema| in_files(&schema))?,
    };
    let options = options.with_table_partition_cols(partitions);
    let config = ListingTableConfig::new(path)
        .with_listing_options(options)
        .with_schema(schema);
    Ok(Arc::new(Listed(ListingTable::try_new(config)?)))
}

/// Listed files whose bounds of floats nobody believes, and whose partitions are asked whether a filter is true.
#[derive(Debug)]
struct Listed(ListingTable);

#[async_trait]
impl TableProvider for Listed {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        self.0.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        // DataFusion keeps a partition for which the filter is null, as `k NOT IN (1, NULL)` is. The filter stays beside
        // this: `k = 1` shortens the listing.
        let mut all = filters.to_vec();
        for filter in filters {
            let by_partition = self.0.supports_filters_pushdown(&[filter])?;
            if by_partition == [TableProviderFilterPushDown::Exact] {
                all.push(filter.clone().is_true());
            }
        }
        let scan = self.0.scan(state, projection, &all, limit).await?;
        without_float_statistics(scan)
    }
}

fn unreadable(name: &TableName, object: &Object, extension: &str, error: DataFusionError) -> Error {
    match error.find_root() {
        // The only thing it refuses to plan: a folder without files.
        DataFusionError::Plan(_) => sql::Error::Invalid {
            reason: format!(
                "external table `{name}` has no {extension} files under {}",
                object.location
            ),
            position: None,
            hint: Some(
                "its columns are read from its files: put one there, or declare the columns"
                    .to_owned(),
            ),
        }
        .into(),
        _ => Error::from(error),
    }
}

/// The tables and views that a view's text names, as far as it can be read.
pub fn names_in(view: &str) -> Vec<TableName> {
    let statements = sql::parse(view).unwrap_or_default();
    let bodies = statements
        .iter()
        .filter_map(|statement| match &statement.body {
            Body::Query(parsed) => Some(parsed),
            _ => None,
        });
    let references = bodies
        .filter_map(|parsed| datafusion::sql::resolve::resolve_table_references(parsed, true).ok());
    references
        .flat_map(|(tables, _)| tables)
        .filter_map(|reference| {
            let schema = reference.schema().unwrap_or(drumline_lake::DEFAULT_SCHEMA);
            let catalog = reference.catalog().unwrap_or(super::names::CATALOG);
            let name = sql::as_written(reference.table());
            (catalog == super::names::CATALOG).then(|| TableName::new(schema, name))
        })
        .collect()
}
