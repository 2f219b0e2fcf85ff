//! A master that says what a test tells it to.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamWriter;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use drumline_client::proto as v1;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use v1::application_event::Event;

/// What one submitted application does.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) events: Vec<Event>,
    /// Rows that can be fetched, as one batch per entry, and whether the stream breaks after them.
    pub(crate) rows: Vec<Vec<i64>>,
    pub(crate) breaks: bool,
    /// The master is gone after them.
    pub(crate) is_lost: bool,
    /// The first watcher's connection ends after this many events.
    pub(crate) first_watch: Option<usize>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) scripts: Vec<Script>,
    pub(crate) submitted: Vec<v1::SubmitRequest>,
    pub(crate) tables: Vec<v1::TableEntry>,
    pub(crate) applied: v1::ApplyStreamResponse,
    pub(crate) tokens: Vec<Option<String>>,
    watched: HashMap<usize, usize>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeMaster(pub(crate) Arc<Mutex<State>>);

impl FakeMaster {
    pub(crate) fn new(scripts: Vec<Script>) -> FakeMaster {
        FakeMaster(Arc::new(Mutex::new(State {
            scripts,
            ..State::default()
        })))
    }

    /// Serves on a free port until the runtime ends.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(v1::applications_server::ApplicationsServer::new(
                self.clone(),
            ))
            .add_service(v1::cluster_server::ClusterServer::new(self.clone()))
            .add_service(v1::streams_server::StreamsServer::new(self.clone()))
            .add_service(FlightServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        url
    }

    fn script(&self, application: &str) -> (usize, Script) {
        let at: usize = application.parse().unwrap();
        (at, self.0.lock().unwrap().scripts[at].clone())
    }
}

pub(crate) fn batch(values: &[i64]) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

pub(crate) fn schema_ipc(schema: &Schema) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::applications_server::Applications for FakeMaster {
    type WatchStream = Answer<v1::ApplicationEvent>;

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.submitted.push(request.into_inner());
        let application_id = (state.submitted.len() - 1).to_string();
        Ok(Response::new(v1::SubmitResponse { application_id }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (at, script) = self.script(&request.into_inner().application_id);
        let mut state = self.0.lock().unwrap();
        let watched = state.watched.entry(at).or_default();
        *watched += 1;
        let shown = match script.first_watch {
            Some(shown) if *watched == 1 => shown,
            _ => script.events.len(),
        };
        let events: Vec<_> = script.events.into_iter().take(shown).enumerate().collect();
        let events = events.into_iter().map(|(sequence, event)| {
            Ok(v1::ApplicationEvent {
                sequence: sequence as u64,
                at_unix_millis: 0,
                event: Some(event),
            })
        });
        Ok(Response::new(stream::iter(events).boxed()))
    }

    async fn cancel(
        &self,
        _: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        Ok(Response::new(v1::CancelResponse {}))
    }

    async fn list_tables(
        &self,
        _: Request<v1::ListTablesRequest>,
    ) -> Result<Response<v1::ListTablesResponse>, Status> {
        Ok(Response::new(v1::ListTablesResponse {
            tables: self.0.lock().unwrap().tables.clone(),
        }))
    }
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for FakeMaster {
    type JoinStream = Answer<v1::MasterMessage>;

    async fn join(
        &self,
        _: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        Err(Status::unimplemented("join"))
    }

    async fn drain(
        &self,
        _: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn status(
        &self,
        request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let token = request
            .metadata()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        self.0.lock().unwrap().tokens.push(token);
        Ok(Response::new(v1::ClusterStatusResponse {
            cluster_id: "fake".into(),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl v1::streams_server::Streams for FakeMaster {
    async fn apply(
        &self,
        _: Request<v1::ApplyStreamRequest>,
    ) -> Result<Response<v1::ApplyStreamResponse>, Status> {
        Ok(Response::new(self.0.lock().unwrap().applied.clone()))
    }

    async fn list(
        &self,
        _: Request<v1::ListStreamsRequest>,
    ) -> Result<Response<v1::ListStreamsResponse>, Status> {
        Ok(Response::new(v1::ListStreamsResponse::default()))
    }

    async fn status(
        &self,
        request: Request<v1::StreamStatusRequest>,
    ) -> Result<Response<v1::StreamStatus>, Status> {
        Err(Status::not_found(format!(
            "stream {} not found",
            request.into_inner().name
        )))
    }

    async fn pause(
        &self,
        _: Request<v1::PauseStreamRequest>,
    ) -> Result<Response<v1::PauseStreamResponse>, Status> {
        Ok(Response::new(v1::PauseStreamResponse {}))
    }

    async fn resume(
        &self,
        _: Request<v1::ResumeStreamRequest>,
    ) -> Result<Response<v1::ResumeStreamResponse>, Status> {
        Ok(Response::new(v1::ResumeStreamResponse {}))
    }

    async fn delete(
        &self,
        _: Request<v1::DeleteStreamRequest>,
    ) -> Result<Response<v1::DeleteStreamResponse>, Status> {
        Ok(Response::new(v1::DeleteStreamResponse {}))
    }

    async fn verify(
        &self,
        request: Request<v1::VerifyStreamRequest>,
    ) -> Result<Response<v1::VerifyStreamResponse>, Status> {
        Err(Status::not_found(format!(
            "stream {} not found",
            request.into_inner().name
        )))
    }

    async fn reset(
        &self,
        request: Request<v1::ResetStreamRequest>,
    ) -> Result<Response<v1::ResetStreamResponse>, Status> {
        Err(Status::not_found(format!(
            "stream {} not found",
            request.into_inner().name
        )))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        Err(Status::not_found(format!(
            "stream {} not found",
            request.into_inner().name
        )))
    }
}

#[tonic::async_trait]
impl FlightService for FakeMaster {
    type HandshakeStream = Answer<HandshakeResponse>;
    type ListFlightsStream = Answer<FlightInfo>;
    type DoGetStream = Answer<FlightData>;
    type DoPutStream = Answer<PutResult>;
    type DoExchangeStream = Answer<FlightData>;
    type DoActionStream = Answer<arrow_flight::Result>;
    type ListActionsStream = Answer<ActionType>;

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = String::from_utf8(request.into_inner().ticket.to_vec()).unwrap();
        let (_, script) = self.script(&ticket);
        let batches: Vec<_> = script.rows.iter().map(|values| Ok(batch(values))).collect();
        let rows = FlightDataEncoderBuilder::new()
            .with_schema(batch(&[]).schema())
            .build(stream::iter(batches))
            .map_err(|error| Status::internal(error.to_string()));
        let end = match (script.is_lost, script.breaks) {
            (true, _) => Some(Err(Status::unavailable("connection reset"))),
            (false, true) => Some(Err(Status::aborted("worker w1 was lost"))),
            (false, false) => None,
        };
        Ok(Response::new(rows.chain(stream::iter(end)).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("handshake"))
    }

    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("list_flights"))
    }

    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented("get_flight_info"))
    }

    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("poll_flight_info"))
    }

    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented("get_schema"))
    }

    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented("do_put"))
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("do_exchange"))
    }

    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented("do_action"))
    }

    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("list_actions"))
    }
}
