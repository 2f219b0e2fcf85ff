//! What a collector of OpenTelemetry traces is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drumline_testkit::cluster::Options;
use drumline_testkit::{Cluster, poll};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Keeps what it is sent, once it has refused a call: traces must survive that.
#[derive(Clone, Default)]
struct Collector {
    refused: Arc<Mutex<bool>>,
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if !std::mem::replace(&mut *self.refused.lock().unwrap(), true) {
            return Err(Status::unavailable("not yet"));
        }
        let spans = request.into_inner().resource_spans.into_iter();
        let spans = spans.flat_map(|resource| resource.scope_spans);
        let spans = spans.flat_map(|scope| scope.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == key);
    match found.and_then(|pair| pair.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_one_trace_down_to_its_tasks() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let collector = Collector::default();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);

    let cluster = Cluster::start(Options {
        environment: vec![(
            "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            format!("http://{address}"),
        )],
        ..Options::default()
    })
    .unwrap();
    let ran = cluster.run(&[
        "sql",
        "-c",
        "CREATE TABLE n AS SELECT value AS v FROM generate_series(1, 5000); SET drumline.bytes_per_task = 1; \
         SELECT v % 3, count(*) FROM n GROUP BY 1; SELECT CAST(v || 'x' AS INT) FROM n",
    ]);
    assert!(!ran.unwrap().status.success());
    let id = cluster.run(&["apps", "-o", "json"]).unwrap();
    let line = String::from_utf8(id.stdout).unwrap();
    let applications: serde_json::Value =
        serde_json::from_str(line.lines().next().unwrap()).unwrap();
    let id = applications["id"].as_str().unwrap().replace('-', "");

    let is_root = |span: &Span| span.parent_span_id.is_empty();
    poll("the root span", Duration::from_secs(30), || {
        Ok(collector
            .spans
            .lock()
            .unwrap()
            .iter()
            .any(is_root)
            .then_some(()))
    })
    .unwrap();
    let spans = collector.spans.lock().unwrap().clone();
    server.abort();

    let by_id: BTreeMap<Vec<u8>, &Span> = spans
        .iter()
        .map(|span| (span.span_id.clone(), span))
        .collect();
    assert_eq!(by_id.len(), spans.len(), "each span is sent once");
    for span in &spans {
        let trace: String = span
            .trace_id
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(trace, id);
        assert!(
            span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano,
            "{span:?}"
        );
        assert!(
            is_root(span) || by_id.contains_key(&span.parent_span_id),
            "{span:?}"
        );
    }
    let named = |prefix: &str| -> Vec<&Span> {
        spans
            .iter()
            .filter(|span| span.name.starts_with(prefix))
            .collect()
    };
    assert_eq!(named("statement ").len(), 4);
    // SET runs no job.
    assert_eq!(named("job").len(), 3);
    let workers: std::collections::BTreeSet<String> = named("task")
        .into_iter()
        .map(|task| text(task, "drumline.worker"))
        .collect();
    assert_eq!(workers.len(), 2, "tasks of both workers: {spans:?}");
    let read: u64 = named("task")
        .iter()
        .map(|task| text(task, "drumline.rows_read").parse::<u64>().unwrap())
        .sum();
    assert!(read >= 5000, "{read}");
    let failed = spans.iter().filter(|span| {
        span.status
            .as_ref()
            .is_some_and(|status| status.code == StatusCode::Error as i32)
    });
    let failed: Vec<&str> = failed
        .map(|span| span.name.as_str())
        .filter(|name| !name.starts_with("stage") && !name.starts_with("task"))
        .collect();
    assert!(
        failed.len() == 3 && failed.iter().any(|name| name.starts_with("application")),
        "{failed:?}"
    );
    let query = named("statement 3");
    assert!(
        text(query[0], "db.query.text").contains("GROUP BY"),
        "{query:?}"
    );
}
