//! Messages of a task's control call, between the library's types and the wire.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion_distributed::{
    CoordinatorToWorkerMsg, LoadInfo, MaybeEncoded, SetPlanRequest, TaskMetrics, WorkUnitBatch,
    WorkUnitFeedDeclaration, WorkUnitMsg, WorkerToCoordinatorMsg,
};
use drumline_proto::v1 as pb;
use drumline_proto::v1::coordinator_message::Message as FromCoordinator;
use drumline_proto::v1::task_message::Message as FromTask;
use tonic::Status;
use url::Url;

use super::metrics::{decode_set, encode_set};
use super::ticket::{decode_key, decode_uuid, encode_key};
use crate::Error;

pub(super) fn encode_plan(
    request: SetPlanRequest,
    context: &Arc<TaskContext>,
) -> Result<pb::CoordinatorMessage> {
    Ok(coordinator_message(FromCoordinator::SetPlan(pb::SetPlan {
        key: Some(encode_key(&request.task_key)),
        task_count: request.task_count as u64,
        plan: request.plan.encode(context)?,
        feeds: request
            .work_unit_feed_declarations
            .iter()
            .map(|feed| pb::WorkUnitFeed {
                id: feed.id.as_bytes().to_vec(),
                partitions: feed.partitions as u64,
            })
            .collect(),
        worker_url: request.target_worker_url.to_string(),
        query_start_unix_nanos: request.query_start_time_ns as u64,
    })))
}

pub(super) fn decode_plan(plan: pb::SetPlan) -> Result<SetPlanRequest, Status> {
    let worker_url = Url::parse(&plan.worker_url).map_err(|error| {
        Status::invalid_argument(format!("'{}' is no URL: {error}", plan.worker_url))
    })?;
    let feeds = plan.feeds.iter().map(|feed| {
        Ok(WorkUnitFeedDeclaration {
            id: decode_uuid(&feed.id)?,
            partitions: feed.partitions as usize,
        })
    });
    Ok(SetPlanRequest {
        task_key: decode_key(plan.key)?,
        task_count: plan.task_count as usize,
        plan: MaybeEncoded::Encoded(plan.plan),
        work_unit_feed_declarations: feeds.collect::<Result<_, Status>>()?,
        target_worker_url: worker_url,
        query_start_time_ns: plan.query_start_unix_nanos as usize,
    })
}

pub(super) fn encode_from_coordinator(message: CoordinatorToWorkerMsg) -> pb::CoordinatorMessage {
    coordinator_message(match message {
        CoordinatorToWorkerMsg::WorkUnitBatch(batch) => FromCoordinator::WorkUnits(pb::WorkUnits {
            units: batch.batch.into_iter().map(encode_unit).collect(),
        }),
        CoordinatorToWorkerMsg::WorkUnitEos => FromCoordinator::WorkUnitsEnd(pb::WorkUnitsEnd {}),
    })
}

pub(super) fn decode_from_coordinator(
    message: pb::CoordinatorMessage,
) -> Result<CoordinatorToWorkerMsg> {
    match message.message {
        Some(FromCoordinator::WorkUnits(units)) => {
            let batch = units
                .units
                .into_iter()
                .map(decode_unit)
                .collect::<Result<_>>()?;
            Ok(CoordinatorToWorkerMsg::WorkUnitBatch(WorkUnitBatch {
                batch,
            }))
        }
        Some(FromCoordinator::WorkUnitsEnd(_)) => Ok(CoordinatorToWorkerMsg::WorkUnitEos),
        Some(FromCoordinator::SetPlan(_)) | None => {
            Err(Error::bug("a coordinator sent a second plan, or an empty message").into())
        }
    }
}

/// None where this side does not know the message.
pub(super) fn decode_from_task(message: FromTask) -> Option<WorkerToCoordinatorMsg> {
    match message {
        FromTask::Metrics(metrics) => Some(WorkerToCoordinatorMsg::TaskMetrics(TaskMetrics {
            pre_order_plan_metrics: metrics.nodes.into_iter().map(decode_set).collect(),
            task_metrics: decode_set(metrics.task.unwrap_or_default()),
        })),
        FromTask::Load(load) => Some(WorkerToCoordinatorMsg::LoadInfo(decode_load(load))),
        FromTask::LoadEnd(_) => Some(WorkerToCoordinatorMsg::LoadInfoEos),
        FromTask::Report(_) => None,
    }
}

pub(super) fn encode_from_task(message: WorkerToCoordinatorMsg) -> pb::TaskMessage {
    task_message(match message {
        WorkerToCoordinatorMsg::TaskMetrics(metrics) => FromTask::Metrics(pb::TaskMetrics {
            nodes: metrics
                .pre_order_plan_metrics
                .iter()
                .map(encode_set)
                .collect(),
            task: Some(encode_set(&metrics.task_metrics)),
        }),
        WorkerToCoordinatorMsg::LoadInfo(load) => FromTask::Load(encode_load(load)),
        WorkerToCoordinatorMsg::LoadInfoEos => FromTask::LoadEnd(pb::LoadInfoEnd {}),
    })
}

pub(super) fn task_message(message: FromTask) -> pb::TaskMessage {
    pb::TaskMessage {
        message: Some(message),
    }
}

fn coordinator_message(message: FromCoordinator) -> pb::CoordinatorMessage {
    pb::CoordinatorMessage {
        message: Some(message),
    }
}

fn encode_unit(unit: WorkUnitMsg) -> pb::WorkUnit {
    pb::WorkUnit {
        id: unit.id.as_bytes().to_vec(),
        partition: unit.partition as u64,
        body: match unit.body {
            MaybeEncoded::Encoded(bytes) => bytes,
            MaybeEncoded::Decoded(unit) => unit.encode_to_bytes(),
        },
        created_unix_nanos: unit.created_timestamp_unix_nanos as u64,
        sent_unix_nanos: unit.sent_timestamp_unix_nanos as u64,
    }
}

fn decode_unit(unit: pb::WorkUnit) -> Result<WorkUnitMsg> {
    Ok(WorkUnitMsg {
        id: decode_uuid(&unit.id).map_err(|status| DataFusionError::External(Box::new(status)))?,
        partition: unit.partition as usize,
        body: MaybeEncoded::Encoded(unit.body),
        created_timestamp_unix_nanos: unit.created_unix_nanos as usize,
        sent_timestamp_unix_nanos: unit.sent_unix_nanos as usize,
        received_timestamp_unix_nanos: 0,
        processed_timestamp_unix_nanos: 0,
    })
}

fn encode_load(load: LoadInfo) -> pb::LoadInfo {
    pb::LoadInfo {
        partition: load.partition as u64,
        rows: load.rows_ready as u64,
        column_bytes: load
            .per_column_bytes_ready
            .iter()
            .map(|bytes| *bytes as u64)
            .collect(),
        column_ndv: load.per_column_ndv_percentage,
        column_nulls: load.per_column_null_percentage,
        rows_from_leaf: load.rows_pulled_from_leaf as u64,
        reached_end: load.reached_eos,
    }
}

fn decode_load(load: pb::LoadInfo) -> LoadInfo {
    LoadInfo {
        partition: load.partition as usize,
        rows_ready: load.rows as usize,
        per_column_bytes_ready: load
            .column_bytes
            .iter()
            .map(|bytes| *bytes as usize)
            .collect(),
        per_column_ndv_percentage: load.column_ndv,
        per_column_null_percentage: load.column_nulls,
        rows_pulled_from_leaf: load.rows_from_leaf as usize,
        reached_eos: load.reached_end,
    }
}
