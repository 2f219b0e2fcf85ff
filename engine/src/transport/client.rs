//! The caller's side: the library's `WorkerChannel` over our two services.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, DistributedConfig, ExecuteTaskRequest,
    GetWorkerInfoRequest, GetWorkerInfoResponse, SetPlanRequest, WorkerChannel,
    WorkerToCoordinatorMsg,
};
use drumline_proto::v1 as pb;
use drumline_proto::v1::task_message::Message as FromTask;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use http::HeaderMap;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Status};
use url::Url;

use super::codec::{decode_from_task, encode_from_coordinator, encode_plan};
use super::demux::{Feeder, Pull, demux};
use super::network::{Network, WorkerClients};
use super::status::from_status;
use super::ticket::encode_ticket;
use crate::Error;
use crate::board::Board;
use crate::fault::{self, Place};

/// How long a request may still take to reach its worker after nobody wants its rows any more. It has
/// to reach it: a task that is never asked for rows would wait for that until its plan is forgotten.
const GRACE: Duration = Duration::from_secs(1);

/// Finds the channel to a worker. The master's belongs to one job and has a board; a worker's has none.
#[derive(Clone)]
pub(crate) struct Channels {
    network: Arc<Network>,
    board: Option<Arc<Board>>,
}

impl Channels {
    pub(crate) fn new(network: Arc<Network>, board: Option<Arc<Board>>) -> Self {
        Self { network, board }
    }
}

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        Ok(Box::new(ToWorker {
            clients: self.network.clients(url)?,
            network: Arc::clone(&self.network),
            url: url.to_string(),
            board: self.board.clone(),
        }))
    }
}

struct ToWorker {
    clients: WorkerClients,
    network: Arc<Network>,
    url: String,
    board: Option<Arc<Board>>,
}

#[async_trait]
impl WorkerChannel for ToWorker {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        _metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        let key = request.task_key;
        let plan = encode_plan(request, context)?;
        let outgoing =
            stream::once(std::future::ready(plan)).chain(messages.map(encode_from_coordinator));
        let call = self.clients.tasks.run(with_headers(headers, outgoing));
        let incoming = call
            .boxed()
            .await
            .map_err(|status| from_status(&status, &self.url))?
            .into_inner();
        let board = self.board.clone();
        if let Some(board) = &board {
            board.started(&key, &self.url);
        }
        let url = self.url.clone();
        Ok(incoming
            .filter_map(move |message| {
                let message = match message {
                    Ok(pb::TaskMessage {
                        message: Some(FromTask::Report(report)),
                    }) => {
                        if let Some(board) = &board {
                            board.reported(&key, &report);
                        }
                        None
                    }
                    Ok(message) => message.message.and_then(decode_from_task).map(Ok),
                    Err(status) => Some(Err(from_status(&status, &url).into())),
                };
                std::future::ready(message)
            })
            .boxed())
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let budget =
            DistributedConfig::from_task_context(context)?.worker_connection_buffer_budget_bytes;
        let partitions = request.target_partition_start..request.target_partition_end;
        let ticket = self.network.seal(encode_ticket(request, context)?)?;
        let reservation = MemoryConsumer::new("exchange").register(context.memory_pool());
        let (feeder, rows) = demux(partitions.len(), budget, reservation);
        let reader = Reader {
            clients: self.clients.clone(),
            feeder,
            first: partitions.start,
            received: MetricBuilder::new(&metrics).global_counter("bytes_received"),
        };
        // Not kept: it ends by itself when the last partition's reader is gone, or has all its rows.
        tokio::spawn(reader.read(with_headers(
            headers,
            Ticket {
                ticket: ticket.into(),
            },
        )));
        let batches = rows.into_iter().map(|rows| {
            let url = self.url.clone();
            let rows = rows.map_err(|status| FlightError::Tonic(Box::new(status)));
            FlightRecordBatchStream::new_from_flight_data(rows)
                .map_err(move |error| from_flight(error, &url))
                .boxed()
        });
        Ok(batches.collect())
    }

    async fn get_worker_info(&mut self, _: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse> {
        // Every call carries the build and is refused by another one, so nothing is asked here.
        Ok(GetWorkerInfoResponse {
            version: drumline_proto::BUILD.to_owned(),
        })
    }
}

/// Reads one call and hands its messages to the partitions.
struct Reader {
    clients: WorkerClients,
    feeder: Feeder,
    first: usize,
    received: Count,
}

impl Reader {
    async fn read(mut self, request: Request<Ticket>) {
        let opened = {
            let mut opening = pin!(self.clients.rows.do_get(request));
            tokio::select! {
                biased;
                opened = &mut opening => Some(opened),
                () = self.feeder.abandoned() => tokio::time::timeout(GRACE, opening).await.ok(),
            }
        };
        let mut messages = match opened {
            None => return,
            Some(Ok(response)) => response.into_inner(),
            Some(Err(status)) => return self.feeder.fail(&status),
        };
        while self.feeder.pull().await == Pull::Next {
            let message = tokio::select! {
                message = messages.next() => message,
                () = self.feeder.abandoned() => return,
            };
            match message {
                Some(Ok(message)) => {
                    fault::at(Place::ExchangeIn);
                    if let Err(status) = self.hand_on(message) {
                        return self.feeder.fail(&status);
                    }
                }
                Some(Err(status)) => return self.feeder.fail(&status),
                None => {
                    return self
                        .feeder
                        .fail(&Status::internal("the call ended before its rows did"));
                }
            }
        }
    }

    fn hand_on(&self, message: arrow_flight::FlightData) -> Result<(), Status> {
        let metadata = pb::RowsMetadata::decode(message.app_metadata.clone())
            .map_err(|error| Status::internal(format!("rows without their partition: {error}")))?;
        self.received.add(message.data_body.len());
        let partition = (metadata.partition as usize).checked_sub(self.first);
        let known = partition.is_some_and(|partition| {
            if metadata.end {
                self.feeder.end(partition)
            } else {
                self.feeder.push(partition, message)
            }
        });
        if known {
            Ok(())
        } else {
            Err(Status::internal(
                "rows of a partition that was not asked for",
            ))
        }
    }
}

fn with_headers<T>(headers: HeaderMap, message: T) -> Request<T> {
    Request::from_parts(
        MetadataMap::from_headers(headers),
        Extensions::default(),
        message,
    )
}

fn from_flight(error: FlightError, worker: &str) -> DataFusionError {
    match error {
        FlightError::Tonic(status) => from_status(&status, worker).into(),
        FlightError::Arrow(error) => error.into(),
        other => Error::bug(format!(
            "rows of worker {worker} cannot be decoded: {other}"
        ))
        .into(),
    }
}
