//! Programs that name tables.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionContext, col, lit};
use datafusion_proto::bytes::logical_plan_from_bytes_with_extension_codec;
use drumline_client::proto as v1;
use drumline_client::{Client, Error, plan};
use v1::application_event::Event;
use v1::submit_request::Body;

use crate::fake_master::{FakeMaster, Script, batch, schema_ipc};

fn table(schema: &str, name: &str) -> v1::TableEntry {
    let columns = Schema::new(vec![
        Field::new("artist", DataType::Utf8, true),
        Field::new("duration", DataType::Float64, true),
    ]);
    v1::TableEntry {
        schema: schema.into(),
        name: name.into(),
        schema_ipc: schema_ipc(&columns),
        ..Default::default()
    }
}

async fn master_with_tables() -> (FakeMaster, Client) {
    let state = v1::ApplicationState::Succeeded.into();
    let ready = v1::ResultReady {
        ordinal: 0,
        ticket: "0".into(),
        schema_ipc: schema_ipc(&batch(&[]).schema()),
    };
    let script = Script {
        events: vec![
            Event::ApplicationStarted(v1::ApplicationStarted { statements: 1 }),
            Event::ResultReady(ready),
            Event::ApplicationFinished(v1::ApplicationFinished {
                state,
                failure: None,
            }),
        ],
        rows: vec![vec![7]],
        ..Script::default()
    };
    let master = FakeMaster::new(vec![script]);
    master.0.lock().unwrap().tables =
        vec![table("default", "listen_events"), table("music", "songs")];
    let client = Client::connect(&master.serve().await).await.unwrap();
    (master, client)
}

#[tokio::test]
async fn a_program_travels_as_a_plan_whose_scans_are_full_names() {
    let (master, client) = master_with_tables().await;
    let songs = client.table("music.songs").await.unwrap();
    let program = client
        .table("listen_events")
        .await
        .unwrap()
        .filter(col("duration").gt(lit(100.0)))
        .unwrap()
        .aggregate(vec![col("artist")], vec![count(lit(1)).alias("listens")])
        .unwrap()
        .union(
            songs
                .aggregate(vec![col("artist")], vec![count(lit(1)).alias("listens")])
                .unwrap(),
        )
        .unwrap();
    assert_eq!(client.collect(program).await.unwrap(), [batch(&[7])]);

    let Some(Body::LogicalPlan(bytes)) = master.0.lock().unwrap().submitted[0].body.clone() else {
        panic!("no plan was sent");
    };
    let context = SessionContext::new();
    let decoded =
        logical_plan_from_bytes_with_extension_codec(&bytes, &context.task_ctx(), &plan::Codec)
            .unwrap();
    let mut names = Vec::new();
    decoded
        .apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let provider = datafusion::datasource::source_as_provider(&scan.source)?;
                let provider: Arc<dyn std::any::Any + Send + Sync> = provider;
                names.push(
                    provider
                        .downcast_ref::<plan::Placeholder>()
                        .unwrap()
                        .name()
                        .to_owned(),
                );
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
    assert_eq!(names, ["lake.default.listen_events", "lake.music.songs"]);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named_with_one_that_is_close() {
    let (_master, client) = master_with_tables().await;
    let error = client.table("lisen_events").await.unwrap_err();
    assert!(matches!(error, Error::NoSuchTable { .. }));
    assert_eq!(error.to_string(), "table lisen_events not found");
    assert_eq!(error.hint().as_deref(), Some("did you mean listen_events?"));
    assert_eq!(client.table("zzz").await.unwrap_err().hint(), None);
}

#[tokio::test]
async fn rows_of_the_program_itself_are_refused_before_anything_is_sent() {
    let (master, client) = master_with_tables().await;
    let own = SessionContext::new().read_batch(batch(&[1])).unwrap();
    let error = client.collect(own).await.unwrap_err();
    assert!(
        error.to_string().contains("is not a table of the cluster"),
        "{error}"
    );
    assert!(master.0.lock().unwrap().submitted.is_empty());
}

#[tokio::test]
async fn running_a_program_in_place_says_where_it_belongs() {
    let (_master, client) = master_with_tables().await;
    let error = client
        .table("listen_events")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("pass the DataFrame to Client::collect"),
        "{error}"
    );
}
