//! Properties of tables: what they are now, and `ALTER TABLE … SET | UNSET TBLPROPERTIES` with properties of Delta's own.
//! These are in the table's log, where every writer finds them; all others are in the catalog.

use super::redefine::nothing;
use super::rewrite::{Redefine, Search};
use super::{Planned, Planner};
use crate::Result;
use crate::sql::{Alter, ObjectType};
use drumline_lake::{Format, ObjectKind, Operation};
use std::collections::BTreeMap;

/// Prefix of Delta's own.
const OWN: &str = "delta.";
const AUTO_COMPACT: &str = "delta.autoOptimize.autoCompact";

impl Planner<'_> {
    /// None where the statement is about none of Delta's own properties of a table.
    pub(super) async fn own_properties(&self, alter: &Alter) -> Result<Option<Planned>> {
        let Alter::Properties {
            object: ObjectType::Table,
            name,
            if_exists,
            set,
            unset,
            unset_if_exists,
        } = alter
        else {
            return Ok(None);
        };
        let is_own = |key: &str| key.starts_with(OWN);
        let keys = || set.iter().map(|(key, _)| key).chain(unset);
        if !keys().any(|key| is_own(key)) {
            return Ok(None);
        }
        let name = self.name(name)?;
        match self.tables.object(&name) {
            None if *if_exists => return Ok(Some(nothing(name))),
            Some(object) if object.kind != ObjectKind::Table => return Ok(None),
            _ => {}
        }
        if let Some(other) = keys().find(|key| !is_own(key)) {
            return Err(self.invalid(
                format!("'{other}' is kept in the catalog, and properties of Delta's own in the table's log"),
                Some("set them in two statements"),
            ));
        }
        let target = self.whole_target(&name).await?;
        let snapshot = &target.snapshot;
        if snapshot.format != Format::Delta {
            return Err(self.invalid(
                format!(
                    "`{name}` is stored as plain Parquet, and has no properties of Delta's own"
                ),
                None,
            ));
        }
        if let Some(key) = keys().find(|key| key.starts_with(super::constraints::CHECK)) {
            return Err(self.invalid(
                format!("'{key}' keeps a constraint"),
                Some("ALTER TABLE … ADD CONSTRAINT and DROP CONSTRAINT change them"),
            ));
        }
        if set.iter().any(|(key, _)| key == AUTO_COMPACT) {
            return Err(self.invalid(
                format!("'{AUTO_COMPACT}' is taken when a table is made"),
                Some("SET TBLPROPERTIES ('auto_compact' = …) does the same"),
            ));
        }
        let mut properties = snapshot.properties.clone();
        let mut changes = BTreeMap::new();
        for key in unset {
            if properties.remove(key).is_none() {
                if *unset_if_exists {
                    continue;
                }
                return Err(self.invalid(
                    format!("`{name}` has no property '{key}'"),
                    Some("UNSET TBLPROPERTIES IF EXISTS passes over it"),
                ));
            }
            changes.insert(key.clone(), None);
        }
        for (key, value) in set {
            properties.insert(key.clone(), value.clone());
            changes.insert(key.clone(), Some(value.clone()));
        }
        if changes.is_empty() {
            return Ok(Some(nothing(name)));
        }
        properties.retain(|key, _| is_own(key));
        snapshot.check_properties(&set.iter().cloned().collect(), &properties)?;
        let operation = match set.is_empty() {
            true => Operation::UnsetProperties,
            false => Operation::SetProperties,
        };
        let redefined = Redefine {
            properties: changes,
            ..Redefine::of(snapshot)
        };
        self.redefined(target, operation, Search::None, redefined)
            .map(Some)
    }
}
