//! `SHOW` and `DESCRIBE`: answers that need no cluster, as queries over rows in memory.

use super::{Planner, SYSTEM_SCHEMA, Scope, TOPIC, ddl_text, names};
use crate::sql::{self, Show};
use crate::{DrumlineSettings, Error, Query, Result};
use datafusion::arrow::array::{
    ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::config::ConfigExtension;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use drumline_lake::{Object, ObjectKind, TableName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Versions that `DESCRIBE HISTORY` shows where nothing is said.
const VERSIONS: u64 = 1000;

impl Planner<'_> {
    pub(super) async fn show(&self, show: &Show) -> Result<LogicalPlan> {
        match show {
            Show::Tables {
                schema,
                like,
                views_only,
            } => {
                let only = schema
                    .as_ref()
                    .map(|name| self.schema_name(name))
                    .transpose()?;
                if let Some(only) = &only {
                    self.known_schema(only)?;
                }
                let mut objects = self.tables.objects();
                objects.retain(|(name, kind)| {
                    let in_schema = match &only {
                        Some(only) => *only == name.schema,
                        None => name.schema != SYSTEM_SCHEMA && *kind != TOPIC,
                    };
                    in_schema
                        && (!views_only || *kind == ObjectKind::View.word())
                        && like.as_ref().is_none_or(|like| is_like(&name.name, like))
                });
                objects.sort_by(|(a, _), (b, _)| a.cmp(b));
                let column = |of: fn(&(TableName, &'static str)) -> String| {
                    text(objects.iter().map(|object| Some(of(object))))
                };
                rows(vec![
                    ("table_schema", column(|(name, _)| name.schema.clone())),
                    ("table_name", column(|(name, _)| name.name.clone())),
                    ("kind", column(|(_, kind)| (*kind).to_owned())),
                ])
            }
            Show::Schemas { like } => {
                let mut schemas = self.tables.schemas();
                schemas.retain(|name| like.as_ref().is_none_or(|like| is_like(name, like)));
                rows(vec![("schema_name", text(schemas.into_iter().map(Some)))])
            }
            Show::Schema { schema } => self.schema_details(&self.schema_name(schema)?),
            Show::Columns { table, like } => {
                self.columns(&self.name(table)?, like.as_deref()).await
            }
            Show::Details { table } => self.details(&self.name(table)?).await,
            Show::Create { table } => self.create_text(&self.name(table)?).await,
            Show::Properties { table, only } => self.properties(&self.name(table)?, only).await,
            Show::History { table, limit } => self.history(&self.name(table)?, *limit).await,
            Show::Settings { prefix } => self.setting_rows(prefix.as_deref()),
        }
    }

    /// The columns of a table or view.
    pub(super) async fn schema_of(&self, name: &TableName) -> Result<SchemaRef> {
        let scope = Scope::new(Arc::clone(&self.tables));
        match names::provider(&self.base, &scope, name).await? {
            Some(provider) => Ok(provider.schema()),
            None => Err(self.no_such_table(name)),
        }
    }

    fn object(&self, name: &TableName) -> Result<Object> {
        match self.tables.object(name) {
            Some(object) => Ok(object),
            None if name.schema == SYSTEM_SCHEMA || name.schema == super::information::SCHEMA => {
                Err(self.invalid(
                    format!("`{name}` shows what Drumline itself knows: there is no more to tell"),
                    Some("DESCRIBE shows its columns"),
                ))
            }
            None => Err(self.no_such_table(name)),
        }
    }

    async fn columns(&self, name: &TableName, like: Option<&str>) -> Result<LogicalPlan> {
        let schema = self.schema_of(name).await?;
        let object = self.tables.object(name);
        let fields: Vec<_> = schema
            .fields()
            .iter()
            .filter(|field| like.is_none_or(|like| is_like(field.name(), like)))
            .collect();
        let comment = |column: &str| {
            let object = object.as_ref()?;
            object.column_comments.get(column).cloned()
        };
        let yes_no = |yes| if yes { "YES" } else { "NO" };
        rows(vec![
            ("column_name", text(fields.iter().map(|f| Some(f.name())))),
            (
                "data_type",
                text(fields.iter().map(|f| Some(f.data_type().to_string()))),
            ),
            (
                "is_nullable",
                text(fields.iter().map(|f| Some(yes_no(f.is_nullable())))),
            ),
            ("comment", text(fields.iter().map(|f| comment(f.name())))),
        ])
    }

    /// Columns, and then everything else that is known.
    async fn details(&self, name: &TableName) -> Result<LogicalPlan> {
        let object = self.object(name)?;
        let schema = self.schema_of(name).await?;
        let mut lines: Vec<(String, String, Option<String>)> = schema
            .fields()
            .iter()
            .map(|field| {
                let comment = object.column_comments.get(field.name()).cloned();
                (field.name().clone(), field.data_type().to_string(), comment)
            })
            .collect();
        let mut say = |what: &str, value: String| lines.push((what.to_owned(), value, None));
        say("", String::new());
        say("# Details", String::new());
        say("Name", format!("{}.{}", name.schema, name.name));
        say("Kind", object.kind.noun().to_owned());
        if let Some(comment) = &object.comment {
            say("Comment", comment.clone());
        }
        if let Some(sql) = &object.view_sql {
            say("Query", sql.clone());
        } else {
            say("Stored as", object.files_word().to_owned());
            say("Location", object.location.to_string());
        }
        if let Some(snapshot) = self.tables.snapshot(name).await? {
            say("Partitioned by", snapshot.partition_columns.join(", "));
            say("Version", snapshot.version.to_string());
            say("Files", snapshot.files.len().to_string());
            say("Rows", snapshot.rows().to_string());
            say("Bytes", snapshot.bytes().to_string());
        } else if let Some(external) = &object.external {
            say("Partitioned by", external.partition_columns.join(", "));
            for (option, value) in &external.options {
                say(&format!("Option {option}"), value.clone());
            }
        }
        for (property, value) in self.current_properties(name, object.clone()).await? {
            say(&format!("Property {property}"), value);
        }
        if let Some(statement) = &object.created_by {
            let ordinal = statement.ordinal;
            say(
                "Created by",
                format!(
                    "statement {ordinal} of application {}",
                    statement.application
                ),
            );
        }
        rows(vec![
            ("name", text(lines.iter().map(|line| Some(&line.0)))),
            ("value", text(lines.iter().map(|line| Some(&line.1)))),
            ("comment", text(lines.iter().map(|line| line.2.as_ref()))),
        ])
    }

    async fn create_text(&self, name: &TableName) -> Result<LogicalPlan> {
        let object = self.object(name)?;
        let statement = match object.kind {
            ObjectKind::View => ddl_text::view(name, &object),
            ObjectKind::External => ddl_text::external(name, &object),
            ObjectKind::Table => match self.tables.snapshot(name).await? {
                Some(snapshot) => ddl_text::table(name, &object, &snapshot),
                None => return Err(Error::bug(format!("table '{name}' has no snapshot"))),
            },
        };
        rows(vec![("create_statement", text([Some(statement)]))])
    }

    /// Properties as they are now.
    async fn current_properties(
        &self,
        name: &TableName,
        object: Object,
    ) -> Result<BTreeMap<String, String>> {
        match (object.kind, self.tables.snapshot(name).await?) {
            (ObjectKind::Table, Some(snapshot)) => Ok(snapshot.shown_properties()),
            _ => Ok(object.properties),
        }
    }

    async fn properties(&self, name: &TableName, only: &[String]) -> Result<LogicalPlan> {
        let properties = self.current_properties(name, self.object(name)?).await?;
        if let Some(missing) = only.iter().find(|name| !properties.contains_key(*name)) {
            return Err(self.invalid(format!("`{name}` has no property '{missing}'"), None));
        }
        let shown: Vec<_> = properties
            .iter()
            .filter(|(name, _)| only.is_empty() || only.contains(name))
            .collect();
        rows(vec![
            ("property", text(shown.iter().map(|(name, _)| Some(name)))),
            ("value", text(shown.iter().map(|(_, value)| Some(value)))),
        ])
    }

    fn schema_details(&self, schema: &str) -> Result<LogicalPlan> {
        self.known_schema(schema)?;
        let objects = self.tables.objects();
        let count = objects
            .iter()
            .filter(|(name, _)| name.schema == schema)
            .count();
        let lines = [
            ("Name", schema.to_owned()),
            (
                "Comment",
                self.tables.schema_comment(schema).unwrap_or_default(),
            ),
            ("Objects", count.to_string()),
        ];
        rows(vec![
            ("name", text(lines.iter().map(|(name, _)| Some(*name)))),
            ("value", text(lines.iter().map(|(_, value)| Some(value)))),
        ])
    }

    async fn history(&self, name: &TableName, limit: Option<u64>) -> Result<LogicalPlan> {
        self.object(name)?;
        let limit = usize::try_from(limit.unwrap_or(VERSIONS)).unwrap_or(usize::MAX);
        let Some(versions) = self.tables.history(name, limit).await? else {
            return Err(self.invalid(
                format!("`{name}` keeps no history"),
                Some("tables and external Delta tables do"),
            ));
        };
        let number = |of: fn(&drumline_lake::Version) -> Option<u64>| {
            Arc::new(versions.iter().map(of).collect::<UInt64Array>()) as ArrayRef
        };
        let at = versions
            .iter()
            .map(|v| v.at.map(|at| at.timestamp_millis()));
        let at = TimestampMillisecondArray::from_iter(at).with_timezone("UTC");
        rows(vec![
            ("version", number(|v| Some(v.version))),
            ("timestamp", Arc::new(at)),
            (
                "operation",
                text(versions.iter().map(|v| v.operation.as_ref())),
            ),
            ("rows_added", number(|v| v.rows_added)),
            ("files_added", number(|v| Some(v.files_added))),
            ("files_removed", number(|v| Some(v.files_removed))),
            ("bytes_added", number(|v| Some(v.bytes_added))),
            (
                "made_by",
                text(
                    versions
                        .iter()
                        .map(|v| v.made_by.as_ref().map(ToString::to_string)),
                ),
            ),
            ("engine", text(versions.iter().map(|v| v.engine.as_ref()))),
        ])
    }

    fn known_schema(&self, schema: &str) -> Result<()> {
        let schemas = self.tables.schemas();
        if schema == super::information::SCHEMA || schemas.iter().any(|known| known == schema) {
            return Ok(());
        }
        Err(sql::Error::Unknown {
            kind: "schema",
            name: schema.to_owned(),
            position: Some(self.statement.position),
            candidates: sql::candidates(schema, schemas.iter().map(String::as_str)),
        }
        .into())
    }

    fn setting_rows(&self, prefix: Option<&str>) -> Result<LogicalPlan> {
        let mut settings = self.all_settings();
        settings.retain(|(name, _)| prefix.is_none_or(|prefix| name.starts_with(prefix)));
        if let (Some(prefix), true) = (prefix, settings.is_empty()) {
            self.known_setting(prefix)?;
        }
        let (names, values): (Vec<_>, Vec<_>) = settings.into_iter().unzip();
        let column = |values: Vec<String>| text(values.into_iter().map(Some));
        rows(vec![("name", column(names)), ("value", column(values))])
    }

    /// Every setting's full name and value, by name.
    fn all_settings(&self) -> Vec<(String, String)> {
        let state = self.base.state();
        let entries = state.config_options().entries().into_iter();
        let mut settings: Vec<(String, String)> = entries
            .map(|entry| {
                // DataFusion lists the settings of extensions without their prefix; ours is the only one.
                let name = match entry.key.contains('.') {
                    true => entry.key,
                    false => format!("{}.{}", DrumlineSettings::PREFIX, entry.key),
                };
                (name, entry.value.unwrap_or_default())
            })
            .collect();
        settings.sort();
        settings
    }

    /// Refuses the name of a setting that there is not.
    pub(super) fn known_setting(&self, name: &str) -> Result<()> {
        let settings = self.all_settings();
        let known = settings.iter().map(|(name, _)| name.as_str());
        if known.clone().any(|known| known == name) {
            return Ok(());
        }
        Err(sql::Error::Unknown {
            kind: "setting",
            name: name.to_owned(),
            position: Some(self.statement.position),
            candidates: sql::candidates(name, known),
        }
        .into())
    }

    pub(super) fn no_such_table(&self, name: &TableName) -> Error {
        let text = format!("table '{name}' not found");
        self.explain(datafusion::common::DataFusionError::Plan(text))
    }
}

fn text<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

impl Query {
    /// A query that answers with these columns of text.
    pub fn of_text(
        columns: &[(&str, Vec<String>)],
        settings: BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut texts = Vec::with_capacity(columns.len());
        for (name, values) in columns {
            texts.push((*name, text(values.iter().map(Some))));
        }
        let plan = rows(texts)?;
        Ok(Self { plan, settings })
    }
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> Result<LogicalPlan> {
    let batch = RecordBatch::try_from_iter(columns)
        .map_err(|error| Error::bug(format!("rows of SHOW: {error}")))?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    Ok(LogicalPlanBuilder::scan("show", provider_as_source(Arc::new(table)), None)?.build()?)
}

/// SQL's LIKE, with `*` for `%` as others have it; upper and lower case are the same.
fn is_like(name: &str, pattern: &str) -> bool {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    // Whether what was read of the pattern fits the first n characters, for each n.
    let mut fits = vec![false; name.len() + 1];
    if let Some(first) = fits.first_mut() {
        *first = true;
    }
    for wanted in pattern.to_lowercase().chars() {
        let before = std::mem::take(&mut fits);
        let mut reached = false;
        fits = (0..=name.len())
            .map(|length| {
                let at = |length: usize| before.get(length).copied().unwrap_or(false);
                reached |= at(length);
                if matches!(wanted, '%' | '*') {
                    return reached;
                }
                length > 0
                    && at(length - 1)
                    && (wanted == '_' || name.get(length - 1) == Some(&wanted))
            })
            .collect();
    }
    fits.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn patterns_are_those_of_like() {
        for (name, pattern, fits) in [
            ("songs", "songs", true),
            ("songs", "Song%", true),
            ("songs", "%on%", true),
            ("songs", "s_ngs", true),
            ("songs", "*gs", true),
            ("songs", "%%", true),
            ("songs", "song", false),
            ("songs", "_", false),
            ("", "%", true),
            ("", "_", false),
            ("tüv", "t_v", true),
        ] {
            assert_eq!(is_like(name, pattern), fits, "{name} LIKE {pattern}");
        }
    }
}
