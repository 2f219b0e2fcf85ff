//! What goes when names are dropped: pure.

use std::collections::BTreeSet;

use drumline_engine::names_in;
use drumline_lake::{CatalogSnapshot, Change, Object, ObjectKind, Result, TableName};

use super::find;

/// Names to be taken away, and what they stand for.
pub(super) struct Drops {
    pub(super) changes: Vec<Change>,
    pub(super) objects: Vec<(TableName, Object)>,
}

impl Drops {
    fn of(snapshot: &CatalogSnapshot, names: BTreeSet<TableName>) -> Self {
        let objects = names.into_iter().filter_map(|name| {
            let object = snapshot.get(&name)?.clone();
            Some((name, object))
        });
        let objects: Vec<(TableName, Object)> = objects.collect();
        let changes = objects
            .iter()
            .map(|(name, _)| Change::Drop { name: name.clone() });
        Self {
            changes: changes.collect(),
            objects,
        }
    }
}

pub(super) fn drops(
    snapshot: &CatalogSnapshot,
    kind: ObjectKind,
    names: &[TableName],
    if_exists: bool,
    cascade: bool,
) -> Result<Drops> {
    let mut dropped = BTreeSet::new();
    for name in names {
        if find(snapshot, Some(kind), name, if_exists)?.is_some() {
            dropped.insert(name.clone());
        }
    }
    if cascade {
        add_readers(snapshot, &mut dropped);
    }
    Ok(Drops::of(snapshot, dropped))
}

pub(super) fn drop_schemas(
    snapshot: &CatalogSnapshot,
    schemas: &[String],
    if_exists: bool,
    cascade: bool,
) -> Result<Drops> {
    let gone: BTreeSet<&String> = schemas
        .iter()
        .filter(|schema| !if_exists || snapshot.has_schema(schema))
        .collect();
    let mut inside = BTreeSet::new();
    if cascade {
        let names = snapshot.objects().map(|(name, _)| name);
        inside.extend(names.filter(|name| gone.contains(&name.schema)));
        add_readers(snapshot, &mut inside);
    }
    let mut drops = Drops::of(snapshot, inside);
    let schemas = gone.into_iter().map(|schema| Change::DropSchema {
        schema: schema.clone(),
    });
    drops.changes.extend(schemas);
    Ok(drops)
}

/// Adds the views that read what is dropped, and those that read these.
fn add_readers(snapshot: &CatalogSnapshot, dropped: &mut BTreeSet<TableName>) {
    let views: Vec<(TableName, Vec<TableName>)> = snapshot
        .objects()
        .filter_map(|(name, object)| {
            let sql = object.view_sql.as_ref()?;
            Some((name, names_in(sql)))
        })
        .collect();
    loop {
        let before = dropped.len();
        for (view, reads) in &views {
            if reads.iter().any(|read| dropped.contains(read)) {
                dropped.insert(view.clone());
            }
        }
        if dropped.len() == before {
            return;
        }
    }
}
