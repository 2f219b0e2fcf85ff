//! `CREATE VIEW` and `CREATE EXTERNAL TABLE`.

use super::create_table::column_comments;
use super::{Definition, Planned, Planner, TableRef, external, names, query_statement};
use crate::Result;
use crate::sql::{self, CreateExternal, CreateTable, CreateView, Position};
use drumline_lake::{External, FileFormat};
use url::Url;

impl Planner<'_> {
    /// The view's query is planned once, so that it fits the tables of now.
    pub(super) async fn create_view(&self, create: &CreateView) -> Result<Planned> {
        let view = self.name(&create.name)?;
        self.logical(&query_statement(&create.query)).await?;
        Ok(Planned::Definition(Definition::CreateView {
            view,
            sql: create.sql.clone(),
            or_replace: create.or_replace,
            if_not_exists: create.if_not_exists,
            comment: create.comment.clone(),
            properties: create.properties.iter().cloned().collect(),
        }))
    }

    /// A Delta table that lies there already tells its columns and partitions itself.
    pub(super) fn adopt(&self, table: TableRef, create: &CreateTable) -> Result<Planned> {
        let format = create
            .format
            .as_ref()
            .map(|format| format.value.to_lowercase());
        let is_delta = format.is_none_or(|format| format == "delta");
        let (Some((location, _)), true, true, false) = (
            &create.location,
            is_delta,
            create.partition_by.is_empty(),
            create.or_replace,
        ) else {
            return Err(self.invalid(
                "CREATE TABLE takes columns, or AS and a query",
                Some("with LOCATION alone it takes over the Delta table that lies there"),
            ));
        };
        Ok(Planned::Definition(Definition::AdoptTable {
            table,
            location: location.clone(),
            if_not_exists: create.if_not_exists,
            comment: create.comment.clone(),
            properties: create.properties.iter().cloned().collect(),
        }))
    }

    pub(super) async fn create_external(&self, create: &CreateExternal) -> Result<Planned> {
        let table = self.name(&create.name)?;
        let location = self.location(&create.location)?;
        let place = Position::of(create.format.span.start);
        let wrong = |reason: String, hint: &str| {
            let hint = Some(hint.to_owned());
            crate::Error::from(sql::Error::Invalid {
                reason,
                position: place,
                hint,
            })
        };
        let formats = [
            FileFormat::Parquet,
            FileFormat::Csv,
            FileFormat::Json,
            FileFormat::Delta,
        ];
        let word = create.format.value.to_lowercase();
        let Some(format) = formats.into_iter().find(|format| format.word() == word) else {
            return Err(wrong(
                format!("external tables are not stored as `{}`", create.format),
                "STORED AS PARQUET, CSV, JSON or DELTA",
            ));
        };
        if format == FileFormat::Delta
            && !(create.columns.is_empty() && create.partition_by.is_empty())
        {
            return Err(wrong(
                "a Delta table tells its columns and partitions itself".to_owned(),
                "leave the columns and PARTITIONED BY away",
            ));
        }
        let declared = self.declared(&create.columns).await?;
        if let Some(declared) = &declared {
            self.check_columns(declared)?;
        }
        let mut columns: Vec<(String, String)> = create
            .columns
            .iter()
            .map(|column| (names::folded(&column.name), column.data_type.to_string()))
            .collect();
        let mut partition_columns = Vec::new();
        for (column, kind) in &create.partition_by {
            let name = names::folded(column);
            let is_declared = columns.iter().any(|(declared, _)| *declared == name);
            match kind {
                Some(_) if is_declared => {
                    return Err(self.invalid(
                        format!("column `{name}` is declared twice"),
                        Some("give its type in one place"),
                    ));
                }
                Some(kind) => columns.push((name.clone(), kind.to_string())),
                None if is_declared => {}
                None if columns.is_empty() => {}
                None => {
                    return Err(self.invalid(
                        format!("partition column `{name}` is not declared"),
                        Some("name it with its type among the columns"),
                    ));
                }
            }
            partition_columns.push(name);
        }
        let external = External {
            format,
            columns,
            partition_columns,
            options: external::options(format, &create.options)
                .map_err(|reason| self.invalid(reason, None))?,
        };
        // Wrong types and options are found here rather than by the first who reads.
        external::check(&self.base, &external).await?;
        Ok(Planned::Definition(Definition::CreateExternal {
            table,
            location,
            external,
            or_replace: create.or_replace,
            if_not_exists: create.if_not_exists,
            comment: create.comment.clone(),
            column_comments: column_comments(&create.columns),
            properties: create.properties.iter().cloned().collect(),
        }))
    }

    fn location(&self, (text, position): &(String, Option<Position>)) -> Result<Url> {
        let folder = format!("{}/", text.trim_end_matches('/'));
        let location = match folder.starts_with('/') {
            true => Url::from_directory_path(&folder).ok(),
            false => Url::parse(&folder).ok(),
        };
        location.ok_or_else(|| {
            sql::Error::Invalid {
                reason: format!("'{text}' is no location"),
                position: *position,
                hint: Some(
                    "use an absolute path, file:///path, gs://bucket/prefix or s3://bucket/prefix"
                        .to_owned(),
                ),
            }
            .into()
        })
    }
}
