//! Statements that change names: one atomic step of the catalog each, safe to repeat.
//!
//! What is to be changed is decided on the newest version, inside of the step; the statement's identity goes into
//! the same record. So who loses a race decides again on what the other did, and a statement that is repeated
//! after its answer was lost changes nothing. Files are deleted after the step that took their name away.

mod drops;
mod renames;

use std::collections::BTreeMap;
use std::sync::Arc;

use drops::{Drops, drop_schemas, drops};
use drumline_engine::Definition;
use drumline_lake::{
    CatalogSnapshot, Change, Changed, Error, NewTable, Object, ObjectKind, Result, StatementId,
    Table, TableName, Wishes, WriteOptions,
};

use renames::{name_changes, schema_changes, told};

use super::Names;

/// Refuses to change what is not the lake's.
pub(crate) fn check_schema(schema: &str) -> Result<()> {
    match schema {
        crate::system::SCHEMA | "information_schema" => Err(Error::Name {
            name: schema.to_owned(),
            reason: "this schema shows what Drumline itself knows, and cannot be changed",
        }),
        crate::topics::SCHEMA => Err(Error::Name {
            name: schema.to_owned(),
            reason: "this schema shows topics of Kafka, which are only read",
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
    for schema in definition.schemas() {
        check_schema(schema)?;
    }
    let step = Step {
        names,
        statement: &statement,
    };
    step.carry_out(definition).await
}

/// One definition being carried out.
struct Step<'a> {
    names: &'a Names,
    statement: &'a StatementId,
}

impl Step<'_> {
    async fn carry_out(&self, definition: Definition) -> Result<String> {
        match definition {
            Definition::CreateSchema {
                schema,
                if_not_exists,
                comment,
            } => self.create_schema(&schema, if_not_exists, comment).await,
            Definition::CreateTable { .. } => self.create_table(definition).await,
            Definition::AdoptTable {
                table,
                location,
                if_not_exists,
                comment,
                properties,
            } => {
                let catalog = self.names.catalog();
                let describe = |object| Object {
                    comment,
                    properties,
                    ..object
                };
                let object =
                    Table::adopt(catalog, &table, &location, self.statement, describe).await?;
                let told = format!("created table {table} over the Delta table that lies there");
                self.change(told, |snapshot| match snapshot.get(&table) {
                    None => Ok(vec![put(&table, object.clone())]),
                    Some(_) if if_not_exists => Ok(Vec::new()),
                    Some(other) => Err(already(other.kind.noun(), &table)),
                })
                .await
            }
            Definition::CreateView { .. } | Definition::CreateExternal { .. } => {
                self.create_named(definition).await
            }
            Definition::Drop {
                kind,
                names,
                if_exists,
                cascade,
            } => {
                let label = list(&names);
                let decide =
                    |snapshot: &CatalogSnapshot| drops(snapshot, kind, &names, if_exists, cascade);
                let noun = kind.noun();
                self.drop(decide, noun, &label).await
            }
            Definition::DropSchemas {
                schemas,
                if_exists,
                cascade,
            } => {
                let label = list(&schemas);
                let decide = |snapshot: &CatalogSnapshot| {
                    drop_schemas(snapshot, &schemas, if_exists, cascade)
                };
                self.drop(decide, "schema", &label).await
            }
            Definition::Names {
                kind,
                changes,
                if_exists,
            } => {
                let told = told(&changes);
                self.change(told, |snapshot| {
                    name_changes(snapshot, kind, &changes, if_exists)
                })
                .await
            }
            Definition::SchemaNames { changes, if_exists } => {
                let told = told(&changes);
                self.change(told, |snapshot| {
                    Ok(schema_changes(snapshot, &changes, if_exists))
                })
                .await
            }
            Definition::AddColumns { .. } => self.add_columns(definition).await,
            Definition::SetProperties {
                kind,
                name,
                if_exists,
                set,
                unset,
                unset_if_exists,
            } => {
                self.check_wishes(&name, &set).await?;
                let edit = |object: &mut Object| {
                    for (property, value) in &set {
                        check_property(object, property)?;
                        object.properties.insert(property.clone(), value.clone());
                    }
                    for property in &unset {
                        if object.properties.remove(property).is_none() && !unset_if_exists {
                            return Err(Error::NoProperty {
                                name: name.to_string(),
                                property: property.clone(),
                            });
                        }
                    }
                    if object.kind == ObjectKind::Table {
                        WriteOptions::of(&name.to_string(), &object.properties)?;
                        Wishes::of(&name.to_string(), &object.properties)?;
                    }
                    Ok(())
                };
                let told = format!("changed properties of {name}");
                self.edit(told, Some(kind), &name, if_exists, edit).await
            }
            Definition::Comment {
                kind,
                name,
                text,
                if_exists,
            } => {
                let edit = |object: &mut Object| {
                    object.comment.clone_from(&text);
                    Ok(())
                };
                let told = format!("commented on {name}");
                self.edit(told, Some(kind), &name, if_exists, edit).await
            }
            Definition::CommentOnColumn { name, column, text } => {
                let edit = |object: &mut Object| {
                    match &text {
                        Some(text) => object.column_comments.insert(column.clone(), text.clone()),
                        None => object.column_comments.remove(&column),
                    };
                    Ok(())
                };
                let told = format!("commented on {name}.{column}");
                self.edit(told, None, &name, false, edit).await
            }
            Definition::CommentOnSchema {
                schema,
                text,
                if_exists,
            } => {
                let told = format!("commented on schema {schema}");
                self.change(told, |snapshot| {
                    if if_exists && !snapshot.has_schema(&schema) {
                        return Ok(Vec::new());
                    }
                    Ok(vec![Change::SetSchemaComment {
                        schema: schema.clone(),
                        comment: text.clone(),
                    }])
                })
                .await
            }
        }
    }

    /// Makes one step. `told` is what is said of it where it changes something.
    async fn change(
        &self,
        told: String,
        decide: impl Fn(&CatalogSnapshot) -> Result<Vec<Change>> + Send + Sync,
    ) -> Result<String> {
        let Changed {
            already, changed, ..
        } = self
            .names
            .catalog()
            .change_by(self.statement, decide)
            .await?;
        Ok(match already || changed {
            true => told,
            false => "nothing was done".to_owned(),
        })
    }

    /// Changes what the catalog says of one object.
    async fn edit(
        &self,
        told: String,
        kind: Option<ObjectKind>,
        name: &TableName,
        if_exists: bool,
        edit: impl Fn(&mut Object) -> Result<()> + Send + Sync,
    ) -> Result<String> {
        self.change(told, |snapshot| {
            let Some(found) = find(snapshot, kind, name, if_exists)? else {
                return Ok(Vec::new());
            };
            let mut object = found.clone();
            edit(&mut object)?;
            if object == *found {
                return Ok(Vec::new());
            }
            Ok(vec![put(name, object)])
        })
        .await
    }

    async fn create_schema(
        &self,
        schema: &str,
        if_not_exists: bool,
        comment: Option<String>,
    ) -> Result<String> {
        self.change(format!("created schema {schema}"), |snapshot| {
            match snapshot.has_schema(schema) {
                true if if_not_exists => return Ok(Vec::new()),
                true => return Err(already("schema", schema)),
                false => {}
            }
            let mut changes = vec![Change::PutSchema {
                schema: schema.to_owned(),
            }];
            if comment.is_some() {
                changes.push(Change::SetSchemaComment {
                    schema: schema.to_owned(),
                    comment: comment.clone(),
                });
            }
            Ok(changes)
        })
        .await
    }

    /// What upkeep is asked for must be possible with the table's columns.
    async fn check_wishes(&self, name: &TableName, set: &BTreeMap<String, String>) -> Result<()> {
        let catalog = self.names.catalog().refresh().await?;
        let table = catalog.get(name);
        let Some(object) = table.filter(|object| object.kind == ObjectKind::Table) else {
            return Ok(());
        };
        let mut properties = object.properties.clone();
        properties.extend(set.clone());
        if Wishes::of(&name.to_string(), &properties)?.is_empty() {
            return Ok(());
        }
        let snapshot = self.names.open(name, object).await?.snapshot().await?;
        let (schema, partitions) = (&snapshot.schema, &snapshot.partition_columns);
        Wishes::checked(
            &name.to_string(),
            &properties,
            schema,
            partitions,
            object.format,
        )?;
        Ok(())
    }

    /// A table without rows.
    async fn create_table(&self, definition: Definition) -> Result<String> {
        let Definition::CreateTable {
            table: name,
            schema,
            create,
        } = definition
        else {
            return Err(Error::Bug {
                context: "a definition makes no table".to_owned(),
            });
        };
        let catalog = self.names.catalog();
        if let Some(object) = catalog.refresh().await?.get(&name) {
            let is_ours = object.created_by.as_ref() == Some(self.statement);
            if create.if_not_exists && !is_ours {
                return Ok(format!("{name} exists: nothing was done"));
            }
        }
        let new = NewTable {
            name: name.clone(),
            format: create.format,
            location: create.location,
            schema: Arc::clone(&schema),
            partition_columns: create.partition_by,
            properties: create.properties,
            comment: create.comment,
            column_comments: create.column_comments,
            or_replace: create.or_replace,
            created_by: Some(self.statement.clone()),
        };
        Table::create(catalog, new, create.if_not_exists).await?;
        Ok(format!("created table {name}"))
    }

    /// The table's own log has its columns; the catalog has what is said of them.
    async fn add_columns(&self, definition: Definition) -> Result<String> {
        let Definition::AddColumns {
            table: name,
            columns,
            column_comments,
            if_exists,
            if_not_exists,
        } = definition
        else {
            return Err(Error::Bug {
                context: "a definition adds no columns".to_owned(),
            });
        };
        let catalog = self.names.catalog().refresh().await?;
        let Some(object) = find(&catalog, Some(ObjectKind::Table), &name, if_exists)? else {
            return Ok("nothing was done".to_owned());
        };
        let table = self.names.open(&name, object).await?;
        let known = table.snapshot().await?.schema;
        let names: Vec<&String> = columns.fields().iter().map(|field| field.name()).collect();
        let is_known = |name: &&&String| {
            let mut fields = known.fields().iter();
            fields.any(|field| field.name().eq_ignore_ascii_case(name))
        };
        if names.is_empty() {
            return Ok("nothing was done".to_owned());
        }
        let have_all = names.iter().filter(is_known).count() == names.len();
        if if_not_exists && have_all {
            return Ok(format!("{name} has {}: nothing was done", list(&names)));
        }
        table
            .add_columns(&columns, if_not_exists, self.statement.clone())
            .await?;
        let told = format!("added {} to {name}", list(&names));
        if column_comments.is_empty() {
            return Ok(told);
        }
        let edit = |object: &mut Object| {
            object.column_comments.extend(column_comments.clone());
            Ok(())
        };
        self.edit(told.clone(), Some(ObjectKind::Table), &name, true, edit)
            .await?;
        Ok(told)
    }

    /// A view or an external table: it is in the catalog only.
    async fn create_named(&self, definition: Definition) -> Result<String> {
        let by = Some(self.statement.clone());
        let (name, object, or_replace, if_not_exists) = match definition {
            Definition::CreateView {
                view,
                sql,
                or_replace,
                if_not_exists,
                comment,
                properties,
            } => {
                let object = Object {
                    comment,
                    properties,
                    ..Object::view(self.names.catalog().lake(), sql, by)
                };
                (view, object, or_replace, if_not_exists)
            }
            Definition::CreateExternal {
                table,
                location,
                external,
                or_replace,
                if_not_exists,
                comment,
                column_comments,
                properties,
            } => {
                self.names.locations().check(&location)?;
                let object = Object {
                    comment,
                    column_comments,
                    properties,
                    ..Object::external(location, external, by)
                };
                (table, object, or_replace, if_not_exists)
            }
            _ => {
                return Err(Error::Bug {
                    context: "a definition makes no view and no external table".to_owned(),
                });
            }
        };
        let kind = object.kind.noun();
        self.change(format!("created {kind} {name}"), |snapshot| {
            match snapshot.get(&name) {
                None => {}
                // Only a name is lost: a table's rows never are.
                Some(other) if or_replace && other.kind != ObjectKind::Table => {}
                Some(_) if if_not_exists => return Ok(Vec::new()),
                Some(other) => return Err(already(other.kind.noun(), &name)),
            }
            Ok(vec![put(&name, object.clone())])
        })
        .await
    }

    /// Takes names away, then deletes the files of tables among them.
    async fn drop(
        &self,
        decide: impl Fn(&CatalogSnapshot) -> Result<Drops> + Send + Sync,
        noun: &str,
        label: &str,
    ) -> Result<String> {
        let catalog = self.names.catalog();
        // Before their names go: whatever crashes then, their files are found.
        let newest = catalog.refresh().await?;
        if let Ok(drops) = decide(&newest) {
            newest.allows(&drops.changes)?;
            for (name, object) in drops.objects {
                Table::to_be_erased(catalog.lake(), &name, &object).await?;
            }
        }
        let dropped = std::sync::Mutex::new(Vec::new());
        let Changed {
            already, changed, ..
        } = catalog
            .change_by(self.statement, |snapshot| {
                let drops = decide(snapshot)?;
                let mut dropped = dropped
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                *dropped = drops.objects;
                Ok(drops.changes)
            })
            .await?;
        if !changed {
            return Ok(match already {
                true => format!("dropped {noun} {label}"),
                false => format!("there is no {noun} {label}: nothing was done"),
            });
        }
        let dropped = dropped
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for (name, object) in &dropped {
            Table::erase(catalog.lake(), name, object).await;
        }
        let others: Vec<String> = dropped
            .iter()
            .map(|(name, _)| name.to_string())
            .filter(|name| !label.split(", ").any(|named| named == name))
            .collect();
        Ok(match others.is_empty() {
            true => format!("dropped {noun} {label}"),
            false => format!("dropped {noun} {label}, and with it {}", others.join(", ")),
        })
    }
}

/// What a name stands for, if it is of the kind that is meant; any kind where none is.
fn find<'a>(
    snapshot: &'a CatalogSnapshot,
    kind: Option<ObjectKind>,
    name: &TableName,
    if_exists: bool,
) -> Result<Option<&'a Object>> {
    let Some(object) = snapshot.get(name) else {
        return match if_exists {
            true => Ok(None),
            false => Err(Error::NotFound {
                kind: kind.map_or("table", ObjectKind::noun),
                name: name.to_string(),
            }),
        };
    };
    let is_view = object.kind == ObjectKind::View;
    match kind {
        Some(kind) if is_view != (kind == ObjectKind::View) => Err(Error::WrongKind {
            name: name.to_string(),
            wanted: kind.noun(),
            found: object.kind.noun(),
        }),
        _ => Ok(Some(object)),
    }
}

/// Delta gives some properties a meaning, which a note in the catalog would not.
fn check_property(object: &Object, property: &str) -> Result<()> {
    match object.kind == ObjectKind::Table && property.starts_with("delta.") {
        true => Err(Error::NotYet {
            what: format!("table property '{property}'"),
        }),
        false => Ok(()),
    }
}

fn put(name: &TableName, object: Object) -> Change {
    Change::Put {
        name: name.clone(),
        object,
    }
}

fn list(names: &[impl ToString]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn already(kind: &'static str, name: impl ToString) -> Error {
    Error::AlreadyExists {
        kind,
        name: name.to_string(),
    }
}
