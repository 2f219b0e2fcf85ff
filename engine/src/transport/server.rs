//! The worker's side: both services over the library's `Worker`. Called on the network's thread; everything
//! that decodes, runs or encodes is spawned on the compute runtime.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion_distributed::{
    DistributedConfig, MaybeEncoded, SetPlanRequest, TaskKey, Worker, WorkerToCoordinatorMsg,
};
use drumline_proto::v1 as pb;
use drumline_proto::v1::coordinator_message::Message as FromCoordinator;
use drumline_proto::v1::task_message::Message as FromTask;
use drumline_security::{Passes, SealError};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use url::Url;

use super::codec::{decode_from_coordinator, decode_plan, encode_from_task, task_message};
use super::compact::compact;
use super::status::{failure_status, to_status};
use super::sweep::sweep;
use super::ticket::decode_ticket;
use crate::Error;
use crate::fault::{self, Place};
use crate::tasks::{OpenTask, TASK_HEADER, Task, Tasks};

/// Time between a task's reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The library forgets a plan that was not asked for in ten minutes. A consumer may need longer than that
/// before it reads its other side, so an open task is asked for by the worker itself.
const KEEP_EVERY: Duration = Duration::from_secs(3 * 60);
/// Encoded messages of one partition that wait for the socket.
const ENCODED_AHEAD: usize = 2;

type Answer<T> = BoxStream<'static, Result<T, Status>>;

/// Serves `Tasks` and Flight `DoGet`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Services {
    worker: Worker,
    compute: Handle,
    tasks: Tasks,
    passes: Option<Passes>,
    /// Ends with the last clone.
    _sweeping: Arc<JoinSet<()>>,
}

impl Services {
    pub(crate) fn new(
        worker: Worker,
        compute: Handle,
        tasks: Tasks,
        passes: Option<Passes>,
    ) -> Self {
        let mut sweeping = JoinSet::new();
        // Any URL will do: nothing is called.
        if let Ok(url) = Url::parse("http://localhost") {
            sweeping.spawn_on(sweep(worker.clone(), tasks.running(), url), &compute);
        }
        Self {
            worker,
            compute,
            tasks,
            passes,
            _sweeping: Arc::new(sweeping),
        }
    }

    /// The ticket in a signed one.
    fn unsealed<'a>(&self, ticket: &'a [u8]) -> Result<&'a [u8], Status> {
        let Some(passes) = &self.passes else {
            return Ok(ticket);
        };
        passes.open_rows(ticket).map_err(|error| match error {
            SealError::Forged => Status::permission_denied(
                "the ticket for rows is not one of this cluster's master and workers",
            ),
            SealError::Expired => Status::permission_denied("the ticket for rows has expired"),
        })
    }

    /// Runs on the compute runtime; stops when the caller goes away.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Status> {
        let mut running = JoinSet::new();
        running.spawn_on(work, &self.compute);
        match running.join_next().await {
            Some(Ok(done)) => Ok(done),
            _ => Err(stopped("a task stopped while it was being set up")),
        }
    }
}

#[tonic::async_trait]
impl pb::tasks_server::Tasks for Services {
    type RunStream = Answer<pb::TaskMessage>;

    async fn run(
        &self,
        request: Request<Streaming<pb::CoordinatorMessage>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let (metadata, _, mut body) = request.into_parts();
        let first = body.message().await?.and_then(|message| message.message);
        let Some(FromCoordinator::SetPlan(plan)) = first else {
            return Err(Status::invalid_argument("a task begins with its plan"));
        };
        let plan = decode_plan(plan)?;
        fault::at(Place::TaskStart);
        let task = self.tasks.open(&plan.task_key);
        let mut headers = metadata.into_headers();
        let name = HeaderValue::from_str(task.name())
            .map_err(|error| Status::internal(error.to_string()))?;
        headers.insert(TASK_HEADER, name);
        let messages = body
            .map_err(|status| DataFusionError::External(Box::new(status)))
            .and_then(|message| std::future::ready(decode_from_coordinator(message)))
            .boxed();
        let worker = self.worker.clone();
        let mut keeping = JoinSet::new();
        let kept = keep(
            worker.clone(),
            headers.clone(),
            plan.task_key,
            plan.target_worker_url.clone(),
        );
        keeping.spawn_on(kept, &self.compute);
        let answers = self
            .compute(async move { worker.coordinator_channel(headers, plan, messages).await })
            .await?
            .map_err(to_status)?;
        let answers = with_reports(answers, task).inspect(move |_| {
            // Goes on for as long as the call.
            let _ = &keeping;
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// Looks a task's plan up again and again, by setting it once more: the library refuses that, after it has
/// found the plan. It has no call that only looks.
async fn keep(worker: Worker, headers: HeaderMap, task_key: TaskKey, target_worker_url: Url) {
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        let again = SetPlanRequest {
            task_key,
            task_count: 1,
            plan: MaybeEncoded::Encoded(Vec::new()),
            work_unit_feed_declarations: Vec::new(),
            target_worker_url: target_worker_url.clone(),
            query_start_time_ns: 0,
        };
        let refused = worker.coordinator_channel(headers.clone(), again, stream::empty().boxed());
        drop(refused.await);
    }
}

/// The task's own messages, a report every second, and a last one at its end.
fn with_reports(
    answers: BoxStream<'static, Result<WorkerToCoordinatorMsg, DataFusionError>>,
    task: OpenTask,
) -> impl futures::Stream<Item = Result<pb::TaskMessage, Status>> + Send {
    let mut every = tokio::time::interval(REPORT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold(Some((answers, every, task)), |running| async move {
        let (mut answers, mut every, task): (BoxStream<'static, _>, Interval, OpenTask) = running?;
        let report = |finished| task_message(FromTask::Report(task.task().report(finished)));
        tokio::select! {
            biased;
            answer = answers.next() => match answer {
                Some(Ok(answer)) => Some((Ok(encode_from_task(answer)), Some((answers, every, task)))),
                Some(Err(error)) => Some((Err(to_status(error)), None)),
                None => Some((Ok(report(true)), None)),
            },
            _ = every.tick() => Some((Ok(report(false)), Some((answers, every, task)))),
        }
    })
}

#[tonic::async_trait]
impl FlightService for Services {
    type HandshakeStream = Answer<HandshakeResponse>;
    type ListFlightsStream = Answer<FlightInfo>;
    type DoGetStream = Answer<FlightData>;
    type DoPutStream = Answer<PutResult>;
    type DoActionStream = Answer<arrow_flight::Result>;
    type ListActionsStream = Answer<ActionType>;
    type DoExchangeStream = Answer<FlightData>;

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = request.into_inner().ticket;
        let request = decode_ticket(self.unsealed(&ticket)?)?;
        let key = request.task_key;
        let partitions = request.target_partition_start..request.target_partition_end;
        let worker = self.worker.clone();
        let (streams, context) = self
            .compute(async move { worker.execute_task(request).await })
            .await?
            .map_err(to_status)?;
        let options = write_options(&context)?;
        let task = self.tasks.get(&key);
        let mut encoding = JoinSet::new();
        let messages: Vec<_> = partitions
            .zip(streams)
            .map(|(partition, rows)| {
                let (sender, receiver) = mpsc::channel(ENCODED_AHEAD);
                let complete = Arc::new(AtomicBool::new(false));
                let partition = Partition {
                    number: partition as u64,
                    options: options.clone(),
                    task: task.clone(),
                    reads_others: key.stage_id > 1,
                    complete: Arc::clone(&complete),
                };
                encoding.spawn_on(partition.encode(rows, sender), &self.compute);
                until_complete(receiver, complete).boxed()
            })
            .collect();
        let messages = stream::select_all(messages).inspect(move |_| {
            // Keeps the encoders for as long as the call; they stop with it.
            let _ = &encoding;
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(rows_only())
    }
    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(rows_only())
    }
    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(rows_only())
    }
    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(rows_only())
    }
    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        Err(rows_only())
    }
    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        Err(rows_only())
    }
    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        Err(rows_only())
    }
    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(rows_only())
    }
    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(rows_only())
    }
}

/// One partition of a call.
struct Partition {
    number: u64,
    options: IpcWriteOptions,
    task: Option<Arc<Task>>,
    /// Whether its stage reads another stage.
    reads_others: bool,
    complete: Arc<AtomicBool>,
}

impl Partition {
    async fn encode(
        self,
        rows: SendableRecordBatchStream,
        sender: mpsc::Sender<Result<FlightData, Status>>,
    ) {
        let task = self.task.clone();
        let schema = rows.schema();
        let rows = rows
            .and_then(|batch| std::future::ready(compact(batch).map_err(DataFusionError::from)))
            .inspect_ok(move |batch| {
                if let Some(task) = &task {
                    task.sent(batch.num_rows(), 0);
                }
            })
            .map_err(|error| FlightError::ExternalError(Box::new(error)));
        let mut messages = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_options(self.options.clone())
            .with_dictionary_handling(DictionaryHandling::Resend)
            .with_max_flight_data_size(usize::MAX)
            .build(rows);
        loop {
            let message = tokio::select! {
                biased;
                () = sender.closed() => return,
                message = messages.next() => message,
            };
            let message = match message {
                Some(Ok(message)) => {
                    fault::at(Place::ExchangeOut);
                    if self.reads_others {
                        fault::at(Place::LastStage);
                    }
                    Ok(self.tagged(message, false))
                }
                Some(Err(error)) => Err(encoding_failed(error)),
                None => break,
            };
            let failed = message.is_err();
            if sender.send(message).await.is_err() || failed {
                return;
            }
        }
        self.complete.store(true, Ordering::Release);
        fault::at(Place::RowsSent);
        // Nobody listening any more is no loss.
        let _ = sender
            .send(Ok(self.tagged(FlightData::default(), true)))
            .await;
    }

    fn tagged(&self, message: FlightData, end: bool) -> FlightData {
        if let Some(task) = &self.task {
            task.sent(0, message.data_header.len() + message.data_body.len());
        }
        message.with_app_metadata(
            pb::RowsMetadata {
                partition: self.number,
                end,
            }
            .encode_to_vec(),
        )
    }
}

/// An encoder that went away without an end or an error has panicked: its rows are not whole.
fn until_complete(
    receiver: mpsc::Receiver<Result<FlightData, Status>>,
    complete: Arc<AtomicBool>,
) -> impl futures::Stream<Item = Result<FlightData, Status>> + Send {
    let failed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&failed);
    let last = stream::once(async move {
        let whole = complete.load(Ordering::Acquire) || failed.load(Ordering::Acquire);
        (!whole).then(|| Err(stopped("a task stopped in the middle of its rows")))
    });
    ReceiverStream::new(receiver)
        .inspect_err(move |_| seen.store(true, Ordering::Release))
        .chain(last.filter_map(std::future::ready))
}

fn write_options(context: &TaskContext) -> Result<IpcWriteOptions, Status> {
    let config =
        DistributedConfig::from_session_config(context.session_config()).map_err(to_status)?;
    let compression = match config.compression.as_str() {
        "lz4" => Some(CompressionType::LZ4_FRAME),
        "zstd" => Some(CompressionType::ZSTD),
        _ => None,
    };
    IpcWriteOptions::default()
        .try_with_compression(compression)
        .map_err(|error| to_status(error.into()))
}

fn encoding_failed(error: FlightError) -> Status {
    match error {
        FlightError::ExternalError(error) => match error.downcast::<DataFusionError>() {
            Ok(error) => to_status(*error),
            Err(error) => failure_status(&Error::bug(format!("rows cannot be encoded: {error}"))),
        },
        FlightError::Arrow(error) => to_status(error.into()),
        other => failure_status(&Error::bug(format!("rows cannot be encoded: {other}"))),
    }
}

fn stopped(what: &str) -> Status {
    failure_status(&Error::bug(what))
}

fn rows_only() -> Status {
    Status::unimplemented("this endpoint serves rows of tasks (DoGet) and nothing else")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answers(complete: bool, messages: Vec<Result<FlightData, Status>>) -> Vec<bool> {
        let (sender, receiver) = mpsc::channel(8);
        for message in messages {
            sender.send(message).await.unwrap();
        }
        drop(sender);
        let answers = until_complete(receiver, Arc::new(AtomicBool::new(complete)));
        answers.map(|answer| answer.is_ok()).collect().await
    }

    #[tokio::test]
    async fn an_encoder_that_vanished_is_an_error_not_an_end() {
        assert_eq!(
            answers(false, vec![Ok(FlightData::default())]).await,
            [true, false]
        );
        assert_eq!(answers(true, vec![Ok(FlightData::default())]).await, [true]);
    }

    #[tokio::test]
    async fn an_error_is_told_once() {
        assert_eq!(
            answers(false, vec![Err(Status::internal("x"))]).await,
            [false]
        );
    }
}
