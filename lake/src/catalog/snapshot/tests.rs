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
        comment: None,
        column_comments: BTreeMap::new(),
        external: None,
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
        tables: BTreeSet::new(),
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

#[test]
fn a_streams_tables_keep_their_names() {
    let mut changes = schemas(&["raw", "other"]);
    changes.extend([put("raw.a", "memory:///a/"), put("b", "memory:///b/")]);
    let table = |name: &str| TableName::parse(name).unwrap();
    let stream = |tables: &[&str]| Change::PutStream {
        name: "listens".to_owned(),
        stream: StreamObject {
            definition: "text".to_owned(),
            paused: false,
            revision: 1,
            tables: tables.iter().map(|name| table(name)).collect(),
        },
    };
    let before = CatalogSnapshot::default().apply(&changes).unwrap();
    let step = |before: &CatalogSnapshot, changes: &[Change]| {
        let next = before.apply(changes)?;
        before.check_streams(&next)?;
        Ok::<_, Error>(next)
    };
    let gone = step(&before, &[stream(&["raw.gone"])]).unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");

    let before = step(&before, &[stream(&["raw.a"])]).unwrap();
    let drop = |name: &str| Change::Drop { name: table(name) };
    let rename = |from: &str, to: &str| Change::Rename {
        from: table(from),
        to: table(to),
    };
    let refused = [
        vec![drop("raw.a")],
        vec![put("raw.a", "memory:///new/")],
        vec![rename("raw.a", "raw.c")],
        vec![Change::Swap {
            one: table("b"),
            other: table("raw.a"),
        }],
        vec![Change::RenameSchema {
            from: "raw".to_owned(),
            to: "new".to_owned(),
        }],
        vec![Change::SwapSchemas {
            one: "other".to_owned(),
            other: "raw".to_owned(),
        }],
    ];
    for changes in refused {
        let error = step(&before, &changes).unwrap_err();
        assert!(matches!(error, Error::WrittenByStream { .. }), "{error}");
    }
    let object = before.get(&table("raw.a")).unwrap().clone();
    let commented = Object {
        comment: Some("of listens".to_owned()),
        ..object
    };
    let put_again = Change::Put {
        name: table("raw.a"),
        object: commented,
    };
    let there_and_back = [rename("raw.a", "c"), rename("c", "raw.a")];
    let free = Change::DropStream {
        name: "listens".to_owned(),
    };
    for changes in [
        vec![drop("b")],
        vec![put_again],
        there_and_back.to_vec(),
        vec![stream(&["b"]), drop("raw.a")],
        vec![free, drop("raw.a")],
    ] {
        step(&before, &changes).unwrap();
    }
}

fn names(snapshot: &CatalogSnapshot) -> Vec<String> {
    let objects = snapshot.objects();
    objects
        .map(|(name, object)| format!("{name} in {}", object.location))
        .collect()
}

fn schemas(names: &[&str]) -> Vec<Change> {
    let put = |name: &&str| Change::PutSchema {
        schema: (*name).to_owned(),
    };
    names.iter().map(put).collect()
}

#[test]
fn names_and_whole_schemas_change_places() {
    let mut changes = schemas(&["s", "empty"]);
    changes.extend([
        put("s.a", "memory:///a/"),
        put("s.b", "memory:///b/"),
        put("c", "memory:///c/"),
    ]);
    let before = CatalogSnapshot::default().apply(&changes).unwrap();
    let swap = |one: &str, other: &str| Change::Swap {
        one: TableName::parse(one).unwrap(),
        other: TableName::parse(other).unwrap(),
    };
    let after = before.apply(&[swap("s.a", "c"), swap("c", "s.b")]).unwrap();
    assert_eq!(
        names(&after),
        [
            "c in memory:///b/",
            "s.a in memory:///c/",
            "s.b in memory:///a/"
        ]
    );
    let swap = |one: &str, other: &str| Change::SwapSchemas {
        one: one.to_owned(),
        other: other.to_owned(),
    };
    let after = before
        .apply(&[swap("s", "default"), swap("s", "empty")])
        .unwrap();
    assert_eq!(
        names(&after),
        [
            "a in memory:///a/",
            "b in memory:///b/",
            "empty.c in memory:///c/"
        ]
    );
    for (one, other) in [("s", "nowhere"), ("nowhere", "s")] {
        let error = before.apply(&[swap(one, other)]).unwrap_err();
        assert!(matches!(error, Error::NotFound { kind: "schema", .. }));
    }
}

#[test]
fn a_schema_keeps_its_tables_and_comment_under_its_new_name() {
    let mut changes = schemas(&["s", "taken"]);
    changes.extend([
        put("s.a", "memory:///a/"),
        Change::SetSchemaComment {
            schema: "s".to_owned(),
            comment: Some("songs".to_owned()),
        },
    ]);
    let before = CatalogSnapshot::default().apply(&changes).unwrap();
    let rename = |from: &str, to: &str| Change::RenameSchema {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let after = before.apply(&[rename("s", "music")]).unwrap();
    assert_eq!(names(&after), ["music.a in memory:///a/"]);
    assert_eq!(after.schema_comment("music"), Some("songs"));
    assert!(!after.has_schema("s") && after.schema_comment("s").is_none());
    let kind = |from, to| before.apply(&[rename(from, to)]).unwrap_err();
    assert!(matches!(kind("s", "taken"), Error::AlreadyExists { .. }));
    assert!(matches!(kind("nowhere", "x"), Error::NotFound { .. }));
    assert!(matches!(kind("default", "x"), Error::Name { .. }));
}

#[test]
fn a_statement_is_known_again_until_a_thousand_others_came() {
    let statement = |application: &str, ordinal, text_hash| StatementId {
        application: application.to_owned(),
        ordinal,
        text_hash,
    };
    let mut snapshot = CatalogSnapshot::default();
    let mut define = |application: &str, ordinal| {
        let change = schemas(&["s"]);
        let id = statement(application, ordinal, 7);
        snapshot = snapshot.apply_made_by(&change, Some(&id)).unwrap();
        snapshot.clone()
    };
    let after = define("app", 3);
    assert!(after.has_done(&statement("app", 3, 7)).unwrap());
    assert!(after.has_done(&statement("app", 2, 9)).unwrap());
    assert!(!after.has_done(&statement("app", 4, 7)).unwrap());
    assert!(!after.has_done(&statement("other", 3, 7)).unwrap());
    let error = after.has_done(&statement("app", 3, 8)).unwrap_err();
    assert!(matches!(error, Error::StatementChanged { .. }), "{error}");
    for n in 0..REMEMBERED_APPLICATIONS {
        define(&format!("other {n}"), 0);
    }
    let after = define("other 0", 1);
    assert!(!after.has_done(&statement("app", 3, 7)).unwrap());
    assert!(after.has_done(&statement("other 1", 0, 7)).unwrap());
    assert_eq!(after.statements.len(), REMEMBERED_APPLICATIONS);
}
