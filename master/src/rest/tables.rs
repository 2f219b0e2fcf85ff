//! Tables, views and external tables of the lake.

use axum::Json;
use axum::extract::State;
use drumline_lake::TableName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asked::{self, NamePair, Paged};
use super::page::{Key, Order, Page, PageQuery};
use super::{Problem, Rest};
use crate::catalog::Entry;
use crate::system;

/// A table, view or external table.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Table {
    schema: String,
    name: String,
    /// `table`, `view`, `external` or `system`.
    kind: String,
    /// `delta`, `parquet`, `csv` or `json`; empty for views and `system.*`.
    format: String,
    /// URL of its folder; empty for views and `system.*`.
    location: String,
    partition_columns: Vec<String>,
    /// Empty where it could not be read, which the master's log explains.
    columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Column {
    name: String,
    /// Its Arrow type, e.g. `Int64` or `Timestamp(Microsecond, Some("UTC"))`.
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
}

/// Which tables.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those of this schema.
    schema: Option<String>,
}

/// Tables, views and external tables, by schema and name
#[utoipa::path(
    get,
    path = "/tables",
    tag = "tables",
    params(Which, PageQuery),
    responses((status = 200, description = "Tables", body = Page<Table>))
)]
pub(super) async fn list_tables(
    State(rest): State<Rest>,
    Paged(paging, which): Paged<Which>,
) -> Result<Json<Page<Table>>, Problem> {
    let schema = asked::text("schema", &which.schema)?;
    let services = rest.applications.services();
    let pinned = services.names.pin().await.map_err(crate::Error::from)?;
    // Names first: only what is shown is opened.
    let mut names: Vec<TableName> = pinned
        .catalog()
        .objects()
        .map(|(name, _)| name)
        .chain(system::names().map(|name| TableName::new(system::SCHEMA, name)))
        .filter(|name| schema.is_none_or(|schema| name.schema == schema))
        .collect();
    names.sort_by(|a, b| key(a).compare(&key(b), Order::ByName));
    let page = paging.page(Order::ByName, names, key, |name| (name, 1));
    let mut items = vec![];
    for name in page.items {
        let entry = services.names.entry(&services.engine, &pinned, &name).await;
        items.extend(entry.map(table));
    }
    Ok(Json(Page {
        items,
        next: page.next,
    }))
}

/// One table, view or external table
#[utoipa::path(
    get,
    path = "/tables/{schema}/{name}",
    tag = "tables",
    params(
        ("schema" = String, Path, description = "Its schema, e.g. `default`"),
        ("name" = String, Path, description = "Its name in there"),
    ),
    responses((status = 200, description = "The table", body = Table))
)]
pub(super) async fn get_table(
    State(rest): State<Rest>,
    NamePair(schema, name): NamePair,
) -> Result<Json<Table>, Problem> {
    let services = rest.applications.services();
    let pinned = services.names.pin().await.map_err(crate::Error::from)?;
    let name = TableName::new(schema, name);
    match services.names.entry(&services.engine, &pinned, &name).await {
        Some(entry) => Ok(Json(table(entry))),
        None => Err(Problem::unknown("table", &name.to_string())
            .hint("/api/v1/tables lists those that are there")),
    }
}

// Neither part of a name can hold a dot.
fn key(name: &TableName) -> Key {
    Key::name(format!("{}.{}", name.schema, name.name))
}

fn table(entry: Entry) -> Table {
    let columns = entry.columns.iter().flat_map(|schema| schema.fields());
    Table {
        columns: columns
            .map(|field| Column {
                name: field.name().clone(),
                data_type: field.data_type().to_string(),
                nullable: field.is_nullable(),
            })
            .collect(),
        schema: entry.name.schema,
        name: entry.name.name,
        kind: entry.kind.to_owned(),
        format: entry.format.to_owned(),
        location: entry.location,
        partition_columns: entry.partition_columns,
    }
}
