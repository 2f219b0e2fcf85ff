use url::Url;
use uuid::Uuid;

use super::*;
use crate::Format;

fn table(location: &str) -> Object {
    Object {
        id: Uuid::new_v4(),
        kind: ObjectKind::Table,
        location: Url::parse(location).unwrap(),
        format: Format::Delta,
        log: None,
        properties: BTreeMap::new(),
        created_by: None,
        view_sql: None,
    }
}

fn put(name: &str, location: &str) -> Change {
    Change::Put {
        name: TableName::parse(name).unwrap(),
        object: table(location),
    }
}

#[test]
fn several_changes_are_one_step() {
    let before = CatalogSnapshot::default()
        .apply(&[put("a", "memory:///a/"), put("b", "memory:///b/")])
        .unwrap();
    let rename = |from: &str, to: &str| Change::Rename {
        from: TableName::bare(from),
        to: TableName::bare(to),
    };
    let after = before
        .apply(&[rename("a", "t"), rename("b", "a"), rename("t", "b")])
        .unwrap();
    assert_eq!(after.version, before.version + 1);
    let (a, b) = (TableName::bare("a"), TableName::bare("b"));
    assert_eq!(after.get(&a), before.get(&b));
    assert_eq!(after.get(&b), before.get(&a));
}

#[test]
fn one_impossible_change_refuses_all() {
    let before = CatalogSnapshot::default();
    let drop = Change::Drop {
        name: TableName::bare("missing"),
    };
    let error = before.apply(&[put("a", "memory:///a/"), drop]).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: "table", .. }));
    assert!(before.objects().next().is_none());
}

#[test]
fn a_table_inside_another_tables_folder_is_refused() {
    let snapshot = CatalogSnapshot::default()
        .apply(&[put("a", "memory:///x/a/")])
        .unwrap();
    for location in ["memory:///x/a/", "memory:///x/a/b/", "memory:///x/"] {
        let error = snapshot.apply(&[put("b", location)]).unwrap_err();
        assert!(matches!(error, Error::LocationTaken { .. }), "{location}");
    }
    snapshot.apply(&[put("b", "memory:///x/ab/")]).unwrap();
}

#[test]
fn a_schema_with_tables_stays() {
    let schema = Change::PutSchema {
        schema: "s".to_owned(),
    };
    let snapshot = CatalogSnapshot::default()
        .apply(&[schema, put("s.a", "memory:///a/")])
        .unwrap();
    let drop = Change::DropSchema {
        schema: "s".to_owned(),
    };
    assert!(matches!(
        snapshot.apply(std::slice::from_ref(&drop)),
        Err(Error::SchemaNotEmpty { objects: 1, .. })
    ));
    let emptied = Change::Drop {
        name: TableName::new("s", "a"),
    };
    let after = snapshot.apply(&[emptied, drop]).unwrap();
    assert_eq!(after.schemas().collect::<Vec<_>>(), ["default"]);
}

#[test]
fn a_table_in_a_missing_schema_is_refused() {
    let error = CatalogSnapshot::default()
        .apply(&[put("nowhere.a", "memory:///a/")])
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: "schema", .. }));
}

#[test]
fn pausing_a_stream_keeps_its_definition() {
    let stream = StreamObject {
        definition: "text".to_owned(),
        paused: false,
        revision: 3,
    };
    let name = "listens".to_owned();
    let after = CatalogSnapshot::default()
        .apply(&[
            Change::PutStream {
                name: name.clone(),
                stream,
            },
            Change::SetStreamPaused { name, paused: true },
        ])
        .unwrap();
    let stream = after.stream("listens").unwrap();
    assert!(stream.paused && stream.definition == "text" && stream.revision == 3);
}
