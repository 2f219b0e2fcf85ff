//! Names that become others or change places: pure.

use std::collections::BTreeSet;

use drumline_engine::NameChange;
use drumline_lake::{CatalogSnapshot, Change, ObjectKind, Result, TableName};

use super::find;

pub(super) fn name_changes(
    snapshot: &CatalogSnapshot,
    kind: ObjectKind,
    changes: &[NameChange<TableName>],
    if_exists: bool,
) -> Result<Vec<Change>> {
    let mut steps = Vec::new();
    // Names that an earlier pair of this statement gives or takes.
    let mut given: BTreeSet<&TableName> = BTreeSet::new();
    for NameChange { from, to, swap } in changes {
        for name in std::iter::once(from).chain(swap.then_some(to)) {
            if given.contains(name) {
                continue;
            }
            // ALTER TABLE takes any kind, as elsewhere; ALTER VIEW takes views.
            let wanted = (kind == ObjectKind::View).then_some(kind);
            if find(snapshot, wanted, name, if_exists)?.is_none() {
                return Ok(Vec::new());
            }
        }
        given.extend([from, to]);
        steps.push(match swap {
            true => Change::Swap {
                one: from.clone(),
                other: to.clone(),
            },
            false => Change::Rename {
                from: from.clone(),
                to: to.clone(),
            },
        });
    }
    Ok(steps)
}

pub(super) fn schema_changes(
    snapshot: &CatalogSnapshot,
    changes: &[NameChange<String>],
    if_exists: bool,
) -> Vec<Change> {
    let is_missing = changes
        .first()
        .is_some_and(|change| !snapshot.has_schema(&change.from));
    if if_exists && is_missing {
        return Vec::new();
    }
    let change = |NameChange { from, to, swap }: &NameChange<String>| match swap {
        true => Change::SwapSchemas {
            one: from.clone(),
            other: to.clone(),
        },
        false => Change::RenameSchema {
            from: from.clone(),
            to: to.clone(),
        },
    };
    changes.iter().map(change).collect()
}

/// What is said of it.
pub(super) fn told<Name: ToString>(changes: &[NameChange<Name>]) -> String {
    let change = |NameChange { from, to, swap }: &NameChange<Name>| {
        let (from, to) = (from.to_string(), to.to_string());
        match swap {
            true => format!("swapped {from} and {to}"),
            false => format!("renamed {from} to {to}"),
        }
    };
    let changes: Vec<String> = changes.iter().map(change).collect();
    changes.join(", ")
}
