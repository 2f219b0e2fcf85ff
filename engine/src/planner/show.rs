//! `SHOW` and `DESCRIBE`: answers that need no cluster, as queries over rows in memory.

use super::{Planner, SYSTEM_SCHEMA, Scope, names};
use crate::sql::{self, Show};
use crate::{DrumlineSettings, Error, Result};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::config::ConfigExtension;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use drumline_lake::TableName;
use std::sync::Arc;

impl Planner<'_> {
    pub(super) async fn show(&self, show: &Show) -> Result<LogicalPlan> {
        match show {
            Show::Tables { schema } => {
                let only = schema
                    .as_ref()
                    .map(|name| self.schema_name(name))
                    .transpose()?;
                let mut objects = self.tables.objects();
                objects.retain(|(name, _)| match &only {
                    Some(only) => *only == name.schema,
                    None => name.schema != SYSTEM_SCHEMA,
                });
                objects.sort_by(|(a, _), (b, _)| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
                let column = |of: fn(&(TableName, &'static str)) -> String| {
                    objects.iter().map(of).collect::<Vec<_>>()
                };
                rows(&[
                    ("table_schema", column(|(name, _)| name.schema.clone())),
                    ("table_name", column(|(name, _)| name.name.clone())),
                    ("kind", column(|(_, kind)| (*kind).to_owned())),
                ])
            }
            Show::Schemas => rows(&[("schema_name", self.tables.schemas())]),
            Show::Columns { table } => self.columns(&self.name(table)?).await,
            Show::Settings { prefix } => self.setting_rows(prefix.as_deref()),
        }
    }

    async fn columns(&self, name: &TableName) -> Result<LogicalPlan> {
        let scope = Scope::new(Arc::clone(&self.tables));
        let Some(provider) = names::provider(&self.base, &scope, name).await? else {
            return Err(self.no_such_table(name));
        };
        let schema = provider.schema();
        let column = |of: fn(&datafusion::arrow::datatypes::Field) -> String| {
            schema
                .fields()
                .iter()
                .map(|field| of(field))
                .collect::<Vec<_>>()
        };
        rows(&[
            ("column_name", column(|field| field.name().clone())),
            ("data_type", column(|field| field.data_type().to_string())),
            (
                "is_nullable",
                column(|field| if field.is_nullable() { "YES" } else { "NO" }.to_owned()),
            ),
        ])
    }

    fn setting_rows(&self, prefix: Option<&str>) -> Result<LogicalPlan> {
        let mut settings = self.all_settings();
        settings.retain(|(name, _)| prefix.is_none_or(|prefix| name.starts_with(prefix)));
        if let (Some(prefix), true) = (prefix, settings.is_empty()) {
            self.known_setting(prefix)?;
        }
        let (names, values) = settings.into_iter().unzip();
        rows(&[("name", names), ("value", values)])
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

fn rows(columns: &[(&str, Vec<String>)]) -> Result<LogicalPlan> {
    let array = |values: &[String]| Arc::new(StringArray::from_iter_values(values)) as ArrayRef;
    let batch =
        RecordBatch::try_from_iter(columns.iter().map(|(name, values)| (*name, array(values))))
            .map_err(|error| Error::bug(format!("rows of SHOW: {error}")))?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    Ok(LogicalPlanBuilder::scan("show", provider_as_source(Arc::new(table)), None)?.build()?)
}
