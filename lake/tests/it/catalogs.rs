use drumline_lake::conformance::new_table;
use drumline_lake::{Catalog, Change, Error, Format, Table, TableName};

use crate::faults::{faulty_lake, reopened};

#[tokio::test]
async fn of_two_masters_that_make_one_name_one_wins() {
    let (lake, _) = faulty_lake().await;
    let first = Catalog::open(lake.clone()).await.unwrap();
    let second = Catalog::open(reopened(&lake).await).await.unwrap();
    let make = |catalog: Catalog| async move {
        Table::create(&catalog, new_table("t", Format::Delta, None), false).await
    };
    let (a, b) = tokio::join!(make(first.clone()), make(second));
    let errors: Vec<Error> = [a, b].into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let snapshot = first.refresh().await.unwrap();
    let name = TableName::bare("t");
    let table = Table::open(&lake, &name, snapshot.get(&name).unwrap())
        .await
        .unwrap();
    assert_eq!(table.snapshot().await.unwrap().rows(), 0);
}

#[tokio::test]
async fn a_catalog_of_many_changes_opens_from_its_checkpoint() {
    let (lake, store) = faulty_lake().await;
    let catalog = Catalog::open(lake.clone()).await.unwrap();
    for n in 0..105 {
        catalog
            .change(|_| {
                Ok(vec![Change::PutSchema {
                    schema: format!("s{n}"),
                }])
            })
            .await
            .unwrap();
    }
    store.calls();
    let opened = Catalog::open(reopened(&lake).await).await.unwrap();
    let reads = store.calls().len();
    assert!(reads < 40, "{reads} calls to open");
    assert_eq!(opened.current(), catalog.current());
    assert_eq!(opened.current().version, 105);
}

#[tokio::test]
async fn subscribers_hear_of_changes() {
    let (lake, _) = faulty_lake().await;
    let catalog = Catalog::open(lake).await.unwrap();
    let mut changes = catalog.subscribe();
    catalog
        .change(|_| {
            Ok(vec![Change::PutSchema {
                schema: "s".to_owned(),
            }])
        })
        .await
        .unwrap();
    changes.changed().await.unwrap();
    assert!(changes.borrow().has_schema("s"));
}
