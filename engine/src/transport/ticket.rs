//! Keys of tasks and tickets for rows, between the library's types and the wire.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion_distributed::{ExecuteTaskRequest, MaybeEncoded, ProducerHead, TaskKey};
use drumline_proto::v1 as pb;
use prost::Message;
use tonic::Status;
use uuid::Uuid;

pub(super) fn encode_key(key: &TaskKey) -> pb::TaskKey {
    pb::TaskKey {
        query_id: key.query_id.as_bytes().to_vec(),
        stage: key.stage_id as u64,
        task: key.task_number as u64,
    }
}

pub(super) fn decode_key(key: Option<pb::TaskKey>) -> Result<TaskKey, Status> {
    let key = key.ok_or_else(|| Status::invalid_argument("the task's key is missing"))?;
    Ok(TaskKey {
        query_id: decode_uuid(&key.query_id)?,
        stage_id: key.stage as usize,
        task_number: key.task as usize,
    })
}

pub(super) fn decode_uuid(bytes: &[u8]) -> Result<Uuid, Status> {
    Uuid::from_slice(bytes).map_err(|error| Status::invalid_argument(format!("not an id: {error}")))
}

/// A ticket for one producer task's partitions.
pub(super) fn encode_ticket(
    request: ExecuteTaskRequest,
    context: &Arc<TaskContext>,
) -> Result<Vec<u8>> {
    let mut ticket = pb::RowsTicket {
        key: Some(encode_key(&request.task_key)),
        start: request.target_partition_start as u64,
        end: request.target_partition_end as u64,
        ..Default::default()
    };
    match request.producer_head {
        ProducerHead::None => ticket.set_head(pb::ProducerHead::None),
        ProducerHead::BroadcastExec { output_partitions } => {
            ticket.set_head(pb::ProducerHead::Broadcast);
            ticket.broadcast_partitions = output_partitions as u64;
        }
        ProducerHead::RepartitionExec { partitioning } => {
            ticket.set_head(pb::ProducerHead::Repartition);
            ticket.partitioning = partitioning.encode(context)?;
        }
    }
    Ok(ticket.encode_to_vec())
}

pub(super) fn decode_ticket(bytes: &[u8]) -> Result<ExecuteTaskRequest, Status> {
    let ticket = pb::RowsTicket::decode(bytes)
        .map_err(|error| Status::invalid_argument(format!("not a ticket for rows: {error}")))?;
    let producer_head = match ticket.head() {
        pb::ProducerHead::None => ProducerHead::None,
        pb::ProducerHead::Broadcast => ProducerHead::BroadcastExec {
            output_partitions: ticket.broadcast_partitions as usize,
        },
        pb::ProducerHead::Repartition => ProducerHead::RepartitionExec {
            partitioning: MaybeEncoded::Encoded(ticket.partitioning),
        },
    };
    if ticket.end < ticket.start {
        return Err(Status::invalid_argument(
            "a ticket's partitions end before they start",
        ));
    }
    Ok(ExecuteTaskRequest {
        task_key: decode_key(ticket.key)?,
        target_partition_start: ticket.start as usize,
        target_partition_end: ticket.end as usize,
        producer_head,
    })
}
