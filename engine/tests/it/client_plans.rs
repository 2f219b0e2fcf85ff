//! Logical plans as clients send them: scans that only name tables.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::JoinType;
use datafusion::common::{Result as PlanResult, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, TableType, col, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use datafusion_proto::bytes::logical_plan_to_bytes_with_extension_codec;
use datafusion_proto::logical_plan::{DefaultLogicalExtensionCodec, LogicalExtensionCodec};
use drumline_engine::{Planned, Result};

use crate::cluster::lines;
use crate::lake::Home;

#[derive(Debug)]
struct Named(SchemaRef);

#[async_trait::async_trait]
impl TableProvider for Named {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        unreachable!("a client scans nothing")
    }
}

/// Writes the table's reference as its name.
#[derive(Debug)]
struct Names;

impl LogicalExtensionCodec for Names {
    fn try_decode(&self, _: &[u8], _: &[LogicalPlan], _: &TaskContext) -> PlanResult<Extension> {
        unreachable!("only encodes")
    }
    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> PlanResult<()> {
        DefaultLogicalExtensionCodec {}.try_encode(node, buf)
    }
    fn try_decode_table_provider(
        &self,
        _: &[u8],
        _: &TableReference,
        _: SchemaRef,
        _: &TaskContext,
    ) -> PlanResult<Arc<dyn TableProvider>> {
        unreachable!("only encodes")
    }
    fn try_encode_table_provider(
        &self,
        table: &TableReference,
        _: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> PlanResult<()> {
        buf.extend_from_slice(table.to_string().as_bytes());
        Ok(())
    }
}

fn scan(name: &str, columns: &[(&str, DataType)]) -> LogicalPlanBuilder {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, kind)| Field::new(*name, kind.clone(), true))
        .collect();
    let table = Named(Arc::new(Schema::new(fields)));
    LogicalPlanBuilder::scan(
        TableReference::from(name),
        provider_as_source(Arc::new(table)),
        None,
    )
    .unwrap()
}

fn events() -> LogicalPlanBuilder {
    scan(
        "lake.default.events",
        &[("id", DataType::Int64), ("song", DataType::Utf8)],
    )
}

fn bytes(plan: &LogicalPlan) -> Vec<u8> {
    logical_plan_to_bytes_with_extension_codec(plan, &Names)
        .unwrap()
        .to_vec()
}

async fn rows(home: &Home, plan: LogicalPlan) -> Result<Vec<String>> {
    let planned = home
        .engine
        .plan_logical(&bytes(&plan), home.tables().await, &home.settings)
        .await?;
    let Planned::Query(query) = planned else {
        panic!("not a query")
    };
    Ok(home.collect(&query).await?.iter().flat_map(lines).collect())
}

async fn refused(home: &Home, plan: LogicalPlan) -> String {
    match rows(home, plan).await {
        Ok(rows) => panic!("not refused: {rows:?}"),
        Err(error) => format!("{error} ({})", error.hint().unwrap_or_default()),
    }
}

async fn home() -> Home {
    let home = Home::new().await;
    home.run(
        "CREATE TABLE events AS SELECT column1 AS id, column2 AS song FROM VALUES (1, 'a'), (2, 'b'), (3, 'b');
         CREATE VIEW loud AS SELECT id, upper(song) AS song FROM events",
    )
    .await
    .unwrap();
    home
}

#[tokio::test]
async fn a_plan_is_bound_to_the_tables_it_names() {
    let home = home().await;
    let plan = events()
        .filter(col("song").eq(lit("b")))
        .unwrap()
        .aggregate(Vec::<Expr>::new(), vec![sum(col("id"))])
        .unwrap();
    assert_eq!(rows(&home, plan.build().unwrap()).await.unwrap(), ["5"]);
}

#[tokio::test]
async fn columns_that_came_later_or_moved_do_not_change_an_answer() {
    let home = home().await;
    home.run("CREATE TABLE wide AS SELECT 'x' AS more, 'a' AS song, 7 AS id")
        .await
        .unwrap();
    let plan = scan(
        "lake.default.wide",
        &[("id", DataType::Int64), ("song", DataType::Utf8)],
    );
    assert_eq!(rows(&home, plan.build().unwrap()).await.unwrap(), ["7|a"]);
}

#[tokio::test]
async fn views_can_be_named() {
    let home = home().await;
    let plan = scan("lake.default.loud", &[("song", DataType::Utf8)]);
    let plan = plan
        .distinct()
        .unwrap()
        .sort([col("song").sort(true, true)])
        .unwrap();
    assert_eq!(
        rows(&home, plan.build().unwrap()).await.unwrap(),
        ["A", "B"]
    );
}

#[tokio::test]
async fn every_table_of_a_join_is_bound() {
    let home = home().await;
    let loud = scan(
        "lake.default.loud",
        &[("id", DataType::Int64), ("song", DataType::Utf8)],
    );
    let loud = loud
        .filter(col("song").eq(lit("B")))
        .unwrap()
        .build()
        .unwrap();
    let plan = events()
        .join(loud, JoinType::LeftSemi, (vec!["id"], vec!["id"]), None)
        .unwrap();
    let plan = plan
        .project([col("id")])
        .unwrap()
        .sort([col("id").sort(true, true)])
        .unwrap();
    assert_eq!(
        rows(&home, plan.build().unwrap()).await.unwrap(),
        ["2", "3"]
    );
}

#[tokio::test]
async fn a_table_that_changed_or_went_is_named() {
    let home = home().await;
    let gone = refused(
        &home,
        scan("lake.default.evnts", &[("id", DataType::Int64)])
            .build()
            .unwrap(),
    )
    .await;
    assert_eq!(
        gone,
        "table `evnts` does not exist (did you mean `events`?)"
    );
    let gone = refused(
        &home,
        scan("lake.default.events", &[("user", DataType::Int64)])
            .build()
            .unwrap(),
    )
    .await;
    assert!(
        gone.contains("table `events` has no column `user` any more"),
        "{gone}"
    );
    let other = refused(
        &home,
        scan("lake.default.events", &[("id", DataType::Boolean)])
            .build()
            .unwrap(),
    )
    .await;
    assert!(
        other.contains("now has Int64 in column `id`, not Boolean"),
        "{other}"
    );
    let other = refused(
        &home,
        scan("other.default.events", &[("id", DataType::Int64)])
            .build()
            .unwrap(),
    )
    .await;
    assert!(other.contains("no table of catalog lake"), "{other}");
}

/// A plan that reads a file of the master, on its own and beside a table.
#[tokio::test]
async fn a_scan_of_files_is_refused() {
    let home = home().await;
    let files = home.folder.path().join("secret.parquet");
    let session = SessionContext::new();
    let write = session.sql("SELECT 1 AS id").await.unwrap();
    write
        .write_parquet(files.to_str().unwrap(), Default::default(), None)
        .await
        .unwrap();
    let read = session
        .read_parquet(files.to_str().unwrap(), ParquetReadOptions::default())
        .await
        .unwrap();
    let direct = refused(&home, read.logical_plan().clone()).await;
    assert!(direct.contains("is refused"), "{direct}");
    let plan = events().join(
        read.logical_plan().clone(),
        JoinType::LeftSemi,
        (vec!["id"], vec!["id"]),
        None,
    );
    let nested = refused(&home, plan.unwrap().build().unwrap()).await;
    assert!(nested.contains("is refused"), "{nested}");
}

#[tokio::test]
async fn plans_that_write_or_change_names_are_refused() {
    let home = home().await;
    let session = SessionContext::new();
    session.sql("CREATE TABLE t (a INT)").await.unwrap();
    for sql in [
        "COPY (SELECT 1) TO '/tmp/never.parquet'",
        "DROP TABLE t",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/tmp'",
        "EXPLAIN COPY (SELECT 1) TO '/tmp/never.parquet'",
    ] {
        let plan = session.state().create_logical_plan(sql).await.unwrap();
        // What cannot even be encoded cannot arrive.
        let Ok(bytes) = logical_plan_to_bytes_with_extension_codec(&plan, &Names) else {
            continue;
        };
        let planned = home
            .engine
            .plan_logical(&bytes, home.tables().await, &home.settings)
            .await;
        assert!(planned.is_err(), "{sql} is not refused");
    }
    assert!(!std::path::Path::new("/tmp/never.parquet").exists());
}

#[tokio::test]
async fn bytes_that_are_no_plan_are_the_senders_fault() {
    let home = home().await;
    for bytes in [&b"no plan"[..], &[0xff; 64], &[]] {
        let planned = home
            .engine
            .plan_logical(bytes, home.tables().await, &home.settings)
            .await;
        let Err(error) = planned else {
            panic!("not refused")
        };
        assert_eq!(error.kind(), drumline_lake::ErrorKind::User, "{error}");
    }
}
