//! A worker's `/metrics`, in the OpenMetrics text format. Whoever may join the cluster may read it: with a
//! worker's certificate, or with the token that workers of this machine join with.

use std::fmt;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use drumline_engine::Process;
use drumline_engine::server::{Pages, TaskHost, Totals};
use drumline_security::{Access, Doors, Role};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tonic::service::Routes;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a worker serves beside tasks and rows.
pub(crate) fn pages(tasks: &TaskHost) -> Pages {
    let tasks = tasks.clone();
    let routes = Router::new().route("/metrics", get(move || async move { scrape(&tasks) }));
    Pages {
        routes: Routes::from(routes),
        doors: Doors::new().get("/metrics", Access::Needs(Role::Worker)),
    }
}

fn scrape(tasks: &TaskHost) -> Response {
    let seen = Seen {
        running: *tasks.running().borrow(),
        totals: tasks.totals(),
        reserved: tasks.memory_reserved(),
        process: Process::read().unwrap_or_default(),
    };
    let mut registry = Registry::with_prefix("drumline_worker");
    registry.register_collector(Box::new(seen));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([("content-type", CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics page");
            Response::builder()
                .status(500)
                .body(axum::body::Body::empty())
                .unwrap_or_default()
        }
    }
}

/// What one scrape shows.
#[derive(Debug)]
struct Seen {
    running: u32,
    totals: Totals,
    /// Of the memory pool that tasks and streams share.
    reserved: u64,
    process: Process,
}

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let bytes = Some(Unit::Bytes);
        for (name, help, unit, value) in [
            (
                "running_tasks",
                "Tasks that are open",
                &None,
                u64::from(self.running),
            ),
            (
                "reserved_memory",
                "Memory that operators of tasks and streams have reserved",
                &bytes,
                self.reserved,
            ),
            (
                "process_resident_memory",
                "Resident memory of the worker",
                &bytes,
                self.process.resident_bytes,
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric =
                encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        for (name, help, unit, value) in [
            ("tasks", "Tasks that were opened", &None, self.totals.tasks),
            (
                "rows_exchanged",
                "Rows sent to other tasks",
                &None,
                self.totals.rows_exchanged,
            ),
            (
                "exchanged",
                "Bytes sent to other tasks, as encoded",
                &bytes,
                self.totals.bytes_exchanged,
            ),
        ] {
            let counter = ConstCounter::new(value);
            let metric =
                encoder.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?;
            counter.encode(metric)?;
        }
        let cpu = ConstCounter::new(self.process.cpu_seconds);
        let metric = encoder.encode_descriptor(
            "process_cpu",
            "Processor time of the worker",
            Some(&Unit::Seconds),
            cpu.metric_type(),
        )?;
        cpu.encode(metric)
    }
}
