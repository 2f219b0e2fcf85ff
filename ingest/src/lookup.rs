//! Small lake tables that transforms look things up in: `FROM input LEFT JOIN dims.songs ON …`.
//!
//! A table is read whole when its stream starts, in the version that it then has, and again when it has a newer one;
//! its rows are held in memory, found by key. One row in stays at most one row out, so a key may be there once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, is_not_null, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::common::{JoinType, NullEquality, TableReference};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Join, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use drumline_lake::{AsOf, Catalog, Lake, Stores, Table, TableName, TableSnapshot};

use crate::{Error, Result, transform};

/// Bytes that a table may have in memory unless the stream says otherwise.
pub(crate) const DEFAULT_BYTES: u64 = 64 << 20;

/// The lake as lookups see it.
#[derive(Clone)]
pub(crate) struct Tables {
    catalog: Catalog,
    max_bytes: u64,
}

/// A table's rows, and which version of it they are.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub version: u64,
    rows: RecordBatch,
}

/// The tables of a transform, by the names it gives them.
pub(crate) type Lookups = BTreeMap<String, Loaded>;

impl Tables {
    pub(crate) async fn open(lake: &str, stores: &Stores, max_bytes: u64) -> Result<Self> {
        let failed = |source| Error::Lookup {
            table: String::new(),
            reason: format!("the lake cannot be read: {source}"),
        };
        let lake = Lake::open(lake, stores.clone()).await.map_err(failed)?;
        let max_bytes = match max_bytes {
            0 => DEFAULT_BYTES,
            bytes => bytes,
        };
        Ok(Self {
            catalog: Catalog::open(lake).await.map_err(failed)?,
            max_bytes,
        })
    }

    /// Reads those of `names` that have another version than in `known`.
    pub(crate) async fn load(&self, names: &[String], known: &Lookups) -> Result<Lookups> {
        let mut loaded = Lookups::new();
        for name in names {
            let table = self.table(name).await?;
            let snapshot = table.snapshot().await.map_err(|e| refused(name, e))?;
            let held = known.get(name);
            if held.is_none_or(|held| held.version != snapshot.version) {
                loaded.insert(name.clone(), self.read(name, &snapshot).await?);
            }
        }
        Ok(loaded)
    }

    /// Reads these versions.
    pub(crate) async fn load_at(&self, versions: &HashMap<String, u64>) -> Result<Lookups> {
        let mut loaded = Lookups::new();
        for (name, version) in versions {
            let table = self.table(name).await?;
            let snapshot = table.snapshot_at(AsOf::Version(*version)).await;
            let snapshot = snapshot.map_err(|e| refused(name, e))?;
            loaded.insert(name.clone(), self.read(name, &snapshot).await?);
        }
        Ok(loaded)
    }

    async fn table(&self, name: &str) -> Result<Table> {
        let failed = |source: drumline_lake::Error| refused(name, source);
        let parsed = TableName::parse(name).map_err(failed)?;
        let snapshot = self.catalog.refresh().await.map_err(failed)?;
        let object = snapshot.get(&parsed).ok_or_else(|| Error::Lookup {
            table: name.to_owned(),
            reason: "the lake has no such table".to_owned(),
        })?;
        let opened = Table::open(self.catalog.lake(), &parsed, object).await;
        opened.map_err(failed)
    }

    async fn read(&self, name: &str, snapshot: &TableSnapshot) -> Result<Loaded> {
        let refused = |reason: String| refused(name, reason);
        let too_large = |bytes: u64, what: &str| {
            refused(format!(
                "it has {bytes} bytes{what}, and a lookup may have {}; see `lookup_max_size`",
                self.max_bytes
            ))
        };
        if snapshot.bytes() > self.max_bytes {
            return Err(too_large(snapshot.bytes(), " of files"));
        }
        let provider = snapshot.provider().map_err(|e| refused(e.to_string()))?;
        let words = |error: DataFusionError| refused(error.strip_backtrace());
        let session = SessionContext::new();
        let frame = session.read_table(provider).map_err(words)?;
        let planned = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await.map_err(words)?;
        let schema = batches.first().map_or(planned, RecordBatch::schema);
        let rows = concat_batches(&schema, &batches).map_err(|e| refused(e.to_string()))?;
        let bytes = rows.get_array_memory_size() as u64;
        if bytes > self.max_bytes {
            return Err(too_large(bytes, " in memory"));
        }
        Ok(Loaded {
            version: snapshot.version,
            rows,
        })
    }
}

fn refused(table: &str, reason: impl std::fmt::Display) -> Error {
    Error::Lookup {
        table: table.to_owned(),
        reason: reason.to_string(),
    }
}

/// Tables that SQL names beside `input`.
pub(crate) fn names(session: &SessionContext, sql: &str) -> Vec<String> {
    let Ok(statement) = transform::read(session, sql) else {
        // Planning it says what is wrong.
        return Vec::new();
    };
    references(&session.state(), &statement)
        .into_iter()
        .filter(|name| name != "input")
        .collect()
}

fn references(state: &datafusion::execution::SessionState, statement: &Statement) -> Vec<String> {
    let found = state
        .resolve_table_references(statement)
        .unwrap_or_default();
    let name = |reference: TableReference| match reference.schema() {
        Some(schema) => format!("{schema}.{}", reference.table()),
        None => reference.table().to_owned(),
    };
    found.into_iter().map(name).collect()
}

/// Has the session know the tables, so that SQL over them can be planned.
pub(crate) fn register(
    session: &SessionContext,
    lookups: &Lookups,
) -> datafusion::error::Result<()> {
    for (name, loaded) in lookups {
        if let Some((schema, _)) = name.split_once('.') {
            let state = session.state();
            let catalog = &state.config().options().catalog.default_catalog;
            if let Some(catalog) = session.catalog(catalog)
                && catalog.schema(schema).is_none()
            {
                catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new()))?;
            }
        }
        let _ = session.deregister_table(name.as_str());
        let table = MemTable::try_new(loaded.rows.schema(), vec![vec![loaded.rows.clone()]])?;
        session.register_table(name.as_str(), Arc::new(table) as Arc<dyn TableProvider>)?;
    }
    Ok(())
}

/// Rows of a table by key, for one join of a transform.
#[derive(Debug)]
pub(crate) struct Index {
    /// Of the rows before the join.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
    places: HashMap<Box<[u8]>, u32>,
    rows: RecordBatch,
    /// Rows without a match are dropped.
    inner: bool,
}

/// Why a join is none that a stream can run, in words; none if it is one.
pub(crate) fn refusal(join: &Join) -> Option<String> {
    if !matches!(join.join_type, JoinType::Left | JoinType::Inner) {
        return Some("has a join that is neither INNER nor LEFT".to_owned());
    }
    if join.on.is_empty() || join.filter.is_some() {
        return Some("has a join on something else than equal keys".to_owned());
    }
    (join.null_equality != NullEquality::NullEqualsNothing)
        .then(|| "has a join that takes nulls for equal".to_owned())
}

impl Index {
    /// Of the right side's rows, which were worked out, by its keys.
    pub(crate) fn new(
        table: &str,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        theirs: &[Arc<dyn PhysicalExpr>],
        rows: RecordBatch,
        inner: bool,
    ) -> Result<Self> {
        let failed = |reason: String| Error::Lookup {
            table: table.to_owned(),
            reason,
        };
        let words = |error: DataFusionError| failed(error.strip_backtrace());
        let columns = evaluate(theirs, &rows).map_err(words)?;
        let fields = columns
            .iter()
            .map(|column| SortField::new(column.data_type().clone()));
        let converter =
            RowConverter::new(fields.collect()).map_err(|error| failed(error.to_string()))?;
        let encoded = converter
            .convert_columns(&columns)
            .map_err(|error| failed(error.to_string()))?;
        let mut places = HashMap::with_capacity(rows.num_rows());
        for (at, key) in (0u32..).zip(&encoded) {
            let row = at as usize;
            if columns.iter().any(|column| column.is_null(row)) {
                continue;
            }
            if places.insert(Box::<[u8]>::from(key.as_ref()), at).is_some() {
                let key: Vec<String> = columns
                    .iter()
                    .map(|column| arrow::util::display::array_value_to_string(column, row))
                    .collect::<Result<_, _>>()
                    .map_err(|error| failed(error.to_string()))?;
                return Err(failed(format!(
                    "its key {} is there twice; a lookup finds one row at most",
                    key.join(", ")
                )));
            }
        }
        Ok(Self {
            keys,
            converter,
            places,
            rows,
            inner,
        })
    }

    /// The batch with the columns of its matches, before its last column.
    pub(crate) fn join(&self, batch: &RecordBatch) -> datafusion::error::Result<RecordBatch> {
        let keys = evaluate(&self.keys, batch)?;
        let encoded = self.converter.convert_columns(&keys)?;
        let place = |(row, key): (usize, arrow::row::Row<'_>)| {
            let is_null = keys.iter().any(|key| key.is_null(row));
            self.places.get(key.as_ref()).copied().filter(|_| !is_null)
        };
        let found: UInt32Array = encoded.iter().enumerate().map(place).collect();
        let last = batch.num_columns().saturating_sub(1);
        let mut fields: Vec<Arc<Field>> =
            batch.schema().fields().iter().take(last).cloned().collect();
        let mut columns: Vec<ArrayRef> = batch.columns().iter().take(last).cloned().collect();
        for (field, column) in self.rows.schema().fields().iter().zip(self.rows.columns()) {
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
            columns.push(take(column, &found, None)?);
        }
        fields.extend(batch.schema().fields().last().cloned());
        columns.extend(batch.columns().last().cloned());
        let joined = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        match self.inner {
            true => Ok(filter_record_batch(&joined, &is_not_null(&found)?)?),
            false => Ok(joined),
        }
    }
}

fn evaluate(
    expressions: &[Arc<dyn PhysicalExpr>],
    batch: &RecordBatch,
) -> datafusion::error::Result<Vec<ArrayRef>> {
    let columns = expressions.iter();
    columns
        .map(|expression| expression.evaluate(batch)?.into_array(batch.num_rows()))
        .collect()
}

/// Works out the right side of a join.
pub(crate) async fn right_rows(
    session: &SessionContext,
    plan: &LogicalPlan,
) -> datafusion::error::Result<RecordBatch> {
    let frame = session.execute_logical_plan(plan.clone()).await?;
    let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    Ok(concat_batches(&schema, &batches)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::DataType;
    use arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::decode::Decoder;
    use crate::schema::{self, Declared};
    use crate::transform::Transform;

    fn songs(ids: &[Option<i64>]) -> Lookups {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("title", DataType::Utf8, true),
        ]);
        let titles = ids.iter().map(|id| Some(format!("song {id:?}")));
        let rows = RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(Int64Array::from(ids.to_vec())),
                Arc::new(titles.collect::<StringArray>()),
            ],
        );
        let loaded = Loaded {
            version: 1,
            rows: rows.unwrap(),
        };
        Lookups::from([("dims.songs".to_owned(), loaded)])
    }

    fn fields() -> Vec<Declared> {
        vec![Declared {
            name: "n".into(),
            sql_type: String::new(),
            data_type: DataType::Int32,
            required: false,
        }]
    }

    async fn plan(sql: &str, lookups: &Lookups) -> Result<Transform, String> {
        let session = SessionContext::new();
        let input = schema::input(&fields());
        let planned = Transform::plan_with(&session, "t", sql, input, lookups).await;
        planned.map_err(|error| error.to_string())
    }

    /// Rows for 1, nothing, 2 and 3, as lines.
    async fn lines(sql: &str, lookups: &Lookups) -> Vec<String> {
        let transform = plan(sql, lookups).await.unwrap();
        let mut decoder = Decoder::json("t", fields(), 1000);
        let values = ["1", "null", "2", "3"].map(|value| format!("{{\"n\":{value}}}"));
        decoder.push_values(10, &values);
        let batch = decoder.finish().unwrap();
        let table = schema::table(transform.schema(), true);
        let rows = transform
            .apply(&batch.rows, &batch.origins, &table)
            .unwrap();
        let text = pretty_format_batches(&[rows.rows]).unwrap().to_string();
        let lines = text.lines().skip(3).filter(|line| line.starts_with('|'));
        lines.map(|line| line.replace([' ', '"'], "")).collect()
    }

    #[tokio::test]
    async fn each_row_finds_its_match_and_keeps_its_place() {
        let songs = songs(&[Some(2), None, Some(1)]);
        let left = "SELECT i.n, s.title FROM input i LEFT JOIN dims.songs s ON i.n = s.id";
        assert_eq!(
            lines(left, &songs).await,
            [
                "|1|songSome(1)|t|0|10|",
                "|||t|0|11|",
                "|2|songSome(2)|t|0|12|",
                "|3||t|0|13|"
            ]
        );
        let inner =
            "SELECT upper(s.title) AS title FROM input JOIN dims.songs s ON n = id WHERE id > 1";
        assert_eq!(lines(inner, &songs).await, ["|SONGSOME(2)|t|0|12|"]);
    }

    #[tokio::test]
    async fn a_key_that_is_there_twice_is_named() {
        let songs = songs(&[Some(7), Some(8), Some(7)]);
        let sql = "SELECT s.title FROM input i LEFT JOIN dims.songs s ON i.n = s.id";
        let error = plan(sql, &songs).await.unwrap_err();
        assert!(
            error.contains("dims.songs") && error.contains("its key 7 is there twice"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn other_joins_are_refused() {
        let songs = songs(&[Some(1)]);
        for (sql, what) in [
            (
                "SELECT n FROM input JOIN dims.songs s ON n < id",
                "equal keys",
            ),
            ("SELECT n FROM input CROSS JOIN dims.songs", "equal keys"),
            (
                "SELECT n FROM dims.songs s JOIN input ON n = id",
                "input at the right",
            ),
            (
                "SELECT n FROM input FULL JOIN dims.songs s ON n = id",
                "neither INNER nor LEFT",
            ),
            (
                "SELECT n FROM input JOIN dims.artists s ON n = id",
                "artists",
            ),
        ] {
            let error = plan(sql, &songs).await.unwrap_err();
            assert!(error.contains(what), "{sql}: {error}");
        }
    }

    #[test]
    fn the_tables_of_a_transform_are_found() {
        let session = SessionContext::new();
        let sql = "SELECT * FROM (SELECT * FROM input) i LEFT JOIN dims.songs s ON i.n = s.id JOIN artists ON a = b";
        assert_eq!(names(&session, sql), ["artists", "dims.songs"]);
        assert!(names(&session, "SELECT * FROM input").is_empty());
        assert!(names(&session, "").is_empty() && names(&session, "SELECT (").is_empty());
    }
}
