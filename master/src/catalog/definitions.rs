//! Statements that change names: one atomic step of the catalog each, safe to repeat.

use std::sync::Arc;

use super::Names;

use drumline_engine::Definition;
use drumline_lake::{
    Catalog, CatalogSnapshot, Change, Error, NewTable, Object, ObjectKind, Result, StatementId,
    Table, TableName,
};

/// Refuses to change what is not the lake's.
pub(crate) fn check_schema(schema: &str) -> Result<()> {
    match schema {
        crate::system::SCHEMA | "information_schema" => Err(Error::Name {
            name: schema.to_owned(),
            reason: "this schema shows what Drumline itself knows, and cannot be changed",
        }),
        _ => Ok(()),
    }
}

/// Applies a definition; answers with a line for people.
pub(crate) async fn define(
    names: &Names,
    definition: Definition,
    statement: StatementId,
) -> Result<String> {
    let catalog = names.catalog();
    check_schema(match &definition {
        Definition::CreateSchema { schema, .. } | Definition::DropSchema { schema, .. } => schema,
        Definition::CreateTable { table, .. }
        | Definition::CreateExternal { table, .. }
        | Definition::DropTable { table, .. } => &table.schema,
        Definition::CreateView { view, .. } | Definition::DropView { view, .. } => &view.schema,
    })?;
    match definition {
        Definition::CreateSchema {
            schema,
            if_not_exists,
        } => create_schema(catalog, schema, if_not_exists).await,
        Definition::DropSchema { schema, if_exists } => {
            drop_schema(catalog, schema, if_exists).await
        }
        Definition::CreateTable {
            table,
            schema,
            create,
        } => {
            let name = TableName::new(table.schema, table.name);
            let new = NewTable {
                name: name.clone(),
                format: create.format,
                location: create.location,
                schema: Arc::clone(&schema),
                partition_columns: create.partition_by,
                properties: create.properties,
                created_by: Some(statement),
            };
            Table::create(catalog, new, create.if_not_exists).await?;
            Ok(format!("created table {name}"))
        }
        Definition::CreateView {
            view,
            sql,
            or_replace,
            if_not_exists,
        } => {
            let name = TableName::new(view.schema, view.name);
            let object = Object::view(catalog.lake(), sql, Some(statement));
            put(catalog, name, object, or_replace, if_not_exists).await
        }
        Definition::CreateExternal {
            table,
            location,
            if_not_exists,
        } => {
            let name = TableName::new(table.schema, table.name);
            names.locations().check(&location)?;
            let object = Object::external(location, Some(statement));
            put(catalog, name, object, false, if_not_exists).await
        }
        Definition::DropTable { table, if_exists } => {
            let name = TableName::new(table.schema, table.name);
            match Table::drop(catalog, &name, if_exists).await? {
                true => Ok(format!("dropped table {name}")),
                false => Ok(format!("there is no table {name}: nothing was done")),
            }
        }
        Definition::DropView { view, if_exists } => {
            drop_view(catalog, TableName::new(view.schema, view.name), if_exists).await
        }
    }
}

/// A definition that may have been carried out by a master that was killed before it could say so: what it
/// would make or drop may be made or dropped. What knows its own statement again needs no leniency.
pub(crate) fn repeated(definition: Definition) -> Definition {
    match definition {
        Definition::CreateSchema { schema, .. } => Definition::CreateSchema {
            schema,
            if_not_exists: true,
        },
        Definition::DropSchema { schema, .. } => Definition::DropSchema {
            schema,
            if_exists: true,
        },
        Definition::DropTable { table, .. } => Definition::DropTable {
            table,
            if_exists: true,
        },
        Definition::DropView { view, .. } => Definition::DropView {
            view,
            if_exists: true,
        },
        other => other,
    }
}

async fn create_schema(catalog: &Catalog, schema: String, if_not_exists: bool) -> Result<String> {
    let exists = |snapshot: &CatalogSnapshot| snapshot.schemas().any(|other| other == schema);
    let existed = exists(&*catalog.refresh().await?);
    if existed && if_not_exists {
        return Ok(format!("schema {schema} exists: nothing was done"));
    }
    catalog
        .change(|snapshot| match exists(snapshot) {
            true if if_not_exists => Ok(vec![]),
            true => Err(already("schema", &schema)),
            false => Ok(vec![Change::PutSchema {
                schema: schema.clone(),
            }]),
        })
        .await?;
    Ok(format!("created schema {schema}"))
}

async fn drop_schema(catalog: &Catalog, schema: String, if_exists: bool) -> Result<String> {
    let exists = |snapshot: &CatalogSnapshot| snapshot.schemas().any(|other| other == schema);
    if !exists(&*catalog.refresh().await?) && if_exists {
        return Ok(format!("there is no schema {schema}: nothing was done"));
    }
    catalog
        .change(|snapshot| match exists(snapshot) {
            true => Ok(vec![Change::DropSchema {
                schema: schema.clone(),
            }]),
            false if if_exists => Ok(vec![]),
            false => Err(missing("schema", &schema)),
        })
        .await?;
    Ok(format!("dropped schema {schema}"))
}

/// Puts a view or an external table in place. Only a view may be replaced, and only by a view.
async fn put(
    catalog: &Catalog,
    name: TableName,
    object: Object,
    or_replace: bool,
    if_not_exists: bool,
) -> Result<String> {
    let kind = kind_name(object.kind);
    let is_mine = |other: &Object| other.created_by == object.created_by;
    let stands = |snapshot: &CatalogSnapshot| snapshot.get(&name).cloned();
    if if_not_exists && stands(&*catalog.refresh().await?).is_some_and(|other| !is_mine(&other)) {
        return Ok(format!("{name} exists: nothing was done"));
    }
    catalog
        .change(|snapshot| match stands(snapshot) {
            // Made by this very statement, whose answer was lost.
            Some(other) if is_mine(&other) => Ok(vec![]),
            Some(other) if or_replace && other.kind == object.kind => {
                Ok(put_change(&name, &object))
            }
            Some(_) if if_not_exists => Ok(vec![]),
            Some(other) => Err(already(kind_name(other.kind), &name)),
            None => Ok(put_change(&name, &object)),
        })
        .await?;
    Ok(format!("created {kind} {name}"))
}

fn put_change(name: &TableName, object: &Object) -> Vec<Change> {
    vec![Change::Put {
        name: name.clone(),
        object: object.clone(),
    }]
}

async fn drop_view(catalog: &Catalog, name: TableName, if_exists: bool) -> Result<String> {
    let is_view = |snapshot: &CatalogSnapshot| {
        snapshot
            .get(&name)
            .is_some_and(|object| object.kind == ObjectKind::View)
    };
    if if_exists && catalog.refresh().await?.get(&name).is_none() {
        return Ok(format!("there is no view {name}: nothing was done"));
    }
    catalog
        .change(|snapshot| match is_view(snapshot) {
            true => Ok(vec![Change::Drop { name: name.clone() }]),
            false if if_exists && snapshot.get(&name).is_none() => Ok(vec![]),
            false => Err(missing("view", &name)),
        })
        .await?;
    Ok(format!("dropped view {name}"))
}

fn already(kind: &'static str, name: impl ToString) -> Error {
    Error::AlreadyExists {
        kind,
        name: name.to_string(),
    }
}

fn missing(kind: &'static str, name: impl ToString) -> Error {
    Error::NotFound {
        kind,
        name: name.to_string(),
    }
}

fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "table",
        ObjectKind::View => "view",
        ObjectKind::External => "external table",
    }
}
