//! The `Streams` gRPC service.

use std::collections::BTreeMap;

use drumline_lake::{Catalog, Change, ErrorKind};
use drumline_proto::v1::{
    ApplyStreamRequest, ApplyStreamResponse, DeleteStreamRequest, DeleteStreamResponse, Failure,
    FailureKind, ListStreamsRequest, ListStreamsResponse, PauseStreamRequest, PauseStreamResponse,
    ReplayDeadLettersRequest, ReplayDeadLettersResponse, ResetStreamRequest, ResetStreamResponse,
    ResumeStreamRequest, ResumeStreamResponse, StreamDefinition, StreamStatus, StreamStatusRequest,
    StreamSummary, VerifyStreamRequest, VerifyStreamResponse,
    streams_server::Streams as StreamsRpc,
};
use tonic::{Request, Response, Status};

use super::apply::Applier;
use super::handle::Streams;
use super::statements::Statements;
use super::verify::Verifier;
use crate::Error;

/// Serves `drumline.v1.Streams`.
#[derive(Debug, Clone)]
pub(crate) struct StreamsService {
    applier: Applier,
}

impl StreamsService {
    pub(crate) fn new(
        catalog: Catalog,
        streams: Streams,
        tables: super::tables::StreamTables,
        workers: crate::cluster::Workers,
        statements: Statements,
    ) -> Self {
        Self {
            applier: Applier {
                catalog,
                streams,
                tables,
                workers,
                statements,
                turn: Default::default(),
                replaying: Default::default(),
            },
        }
    }

    /// What changes streams.
    pub(crate) fn applier(&self) -> Applier {
        self.applier.clone()
    }

    /// Starts every stream that the catalog names; called once, before clients are let in.
    pub(crate) async fn start_all(&self) -> Result<(), Error> {
        let snapshot = self.applier.catalog.refresh().await?;
        for (name, stream) in snapshot.streams() {
            let mut definition = decode(name, &stream.definition)?;
            definition.paused = stream.paused;
            definition.revision = stream.revision;
            self.applier.streams.put(definition, None).await;
        }
        Ok(())
    }

    /// Every stream as it stands, by name.
    pub(crate) async fn all(&self) -> BTreeMap<String, StreamStatus> {
        self.applier.streams.status().await
    }

    /// Pauses a stream, or has it consume again; nothing where it is so already.
    pub(crate) async fn set_paused(&self, name: &str, paused: bool) -> Result<(), Status> {
        let snapshot = self.applier.catalog.refresh().await.map_err(lake_status)?;
        let stream = snapshot
            .stream(name)
            .ok_or_else(|| self.unknown(name, &snapshot))?;
        let mut definition =
            decode(name, &stream.definition).map_err(|e| Status::internal(e.to_string()))?;
        if stream.paused != paused {
            let change = || Change::SetStreamPaused {
                name: name.to_owned(),
                paused,
            };
            self.applier
                .catalog
                .change(|_| Ok(vec![change()]))
                .await
                .map_err(lake_status)?;
            definition.paused = paused;
            definition.revision = stream.revision;
            self.applier.streams.put(definition, None).await;
        }
        Ok(())
    }

    fn unknown(&self, name: &str, snapshot: &drumline_lake::CatalogSnapshot) -> Status {
        let names: Vec<&str> = snapshot.streams().map(|(name, _)| name).collect();
        let known = match names.as_slice() {
            [] => "there are none".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        Status::not_found(format!("no stream is named `{name}`; {known}"))
    }
}

#[tonic::async_trait]
impl StreamsRpc for StreamsService {
    async fn apply(
        &self,
        request: Request<ApplyStreamRequest>,
    ) -> Result<Response<ApplyStreamResponse>, Status> {
        let definition = request
            .into_inner()
            .definition
            .ok_or_else(|| Status::invalid_argument("the request holds no stream definition"))?;
        Ok(Response::new(self.applier.apply(definition).await))
    }

    async fn list(
        &self,
        _: Request<ListStreamsRequest>,
    ) -> Result<Response<ListStreamsResponse>, Status> {
        let streams = self
            .applier
            .streams
            .status()
            .await
            .into_values()
            .map(summary)
            .collect();
        Ok(Response::new(ListStreamsResponse { streams }))
    }

    async fn status(
        &self,
        request: Request<StreamStatusRequest>,
    ) -> Result<Response<StreamStatus>, Status> {
        let name = request.into_inner().name;
        match self.applier.streams.status().await.remove(&name) {
            Some(status) => Ok(Response::new(status)),
            None => Err(self.unknown(&name, &self.applier.catalog.current())),
        }
    }

    async fn pause(
        &self,
        request: Request<PauseStreamRequest>,
    ) -> Result<Response<PauseStreamResponse>, Status> {
        self.set_paused(&request.into_inner().name, true).await?;
        Ok(Response::new(PauseStreamResponse {}))
    }

    async fn resume(
        &self,
        request: Request<ResumeStreamRequest>,
    ) -> Result<Response<ResumeStreamResponse>, Status> {
        self.set_paused(&request.into_inner().name, false).await?;
        Ok(Response::new(ResumeStreamResponse {}))
    }

    async fn verify(
        &self,
        request: Request<VerifyStreamRequest>,
    ) -> Result<Response<VerifyStreamResponse>, Status> {
        let name = request.into_inner().name;
        let snapshot = self.applier.catalog.refresh().await.map_err(lake_status)?;
        let stream = snapshot
            .stream(&name)
            .ok_or_else(|| self.unknown(&name, &snapshot))?;
        let definition =
            decode(&name, &stream.definition).map_err(|e| Status::internal(e.to_string()))?;
        let verifier = Verifier {
            streams: self.applier.streams.clone(),
            tables: self.applier.tables.clone(),
            workers: self.applier.workers.clone(),
        };
        let verified = verifier.verify(&definition).await;
        verified
            .map(Response::new)
            .map_err(|error| match error.kind() {
                ErrorKind::User => Status::failed_precondition(error.to_string()),
                ErrorKind::Retryable => Status::unavailable(error.to_string()),
                ErrorKind::Bug => Status::internal(error.to_string()),
            })
    }

    async fn reset(
        &self,
        request: Request<ResetStreamRequest>,
    ) -> Result<Response<ResetStreamResponse>, Status> {
        let request = request.into_inner();
        let snapshot = self.applier.catalog.refresh().await.map_err(lake_status)?;
        let stream = snapshot
            .stream(&request.name)
            .ok_or_else(|| self.unknown(&request.name, &snapshot))?;
        let mut definition = decode(&request.name, &stream.definition)
            .map_err(|e| Status::internal(e.to_string()))?;
        definition.paused = stream.paused;
        let response = self.applier.reset(definition, request).await;
        Ok(Response::new(response))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<ReplayDeadLettersRequest>,
    ) -> Result<Response<ReplayDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let snapshot = self.applier.catalog.refresh().await.map_err(lake_status)?;
        let stream = snapshot
            .stream(&request.name)
            .ok_or_else(|| self.unknown(&request.name, &snapshot))?;
        let kept = decode(&request.name, &stream.definition)
            .map_err(|e| Status::internal(e.to_string()))?;
        // Which topics patterns match is known to who runs the stream.
        let running = self.applier.streams.status().await.remove(&request.name);
        let definition = running.and_then(|status| status.definition).unwrap_or(kept);
        let response = self.applier.replay(definition, request).await;
        Ok(Response::new(response))
    }

    async fn delete(
        &self,
        request: Request<DeleteStreamRequest>,
    ) -> Result<Response<DeleteStreamResponse>, Status> {
        let name = request.into_inner().name;
        let snapshot = self.applier.catalog.refresh().await.map_err(lake_status)?;
        if snapshot.stream(&name).is_none() {
            return Err(self.unknown(&name, &snapshot));
        }
        let change = || Change::DropStream { name: name.clone() };
        self.applier
            .catalog
            .change(|_| Ok(vec![change()]))
            .await
            .map_err(lake_status)?;
        self.applier.streams.delete(name).await;
        Ok(Response::new(DeleteStreamResponse {}))
    }
}

fn summary(status: StreamStatus) -> StreamSummary {
    let rows = |kind: &str| {
        status
            .tables
            .iter()
            .filter(|t| t.kind == kind)
            .map(|t| t.rows)
            .sum()
    };
    StreamSummary {
        topics: status
            .definition
            .iter()
            .flat_map(|definition| &definition.topics)
            .map(|topic| topic.names().count() as u32)
            .sum(),
        partitions: status.partitions.len() as u32,
        lag: status.lag,
        lag_millis: status.lag_millis,
        rows: rows("rows"),
        dead_letters: rows("dead letters"),
        name: status.name,
        state: status.state,
        last_error: status.last_error,
        since_unix_millis: status.since_unix_millis,
    }
}

/// A definition as the catalog keeps it.
pub(super) fn encode(definition: &StreamDefinition) -> Result<String, Error> {
    // Whether it is paused, and which one it is, are kept beside it.
    let plain = StreamDefinition {
        paused: false,
        revision: 0,
        ..definition.clone()
    };
    serde_json::to_string(&plain).map_err(|source| Error::Bug {
        context: format!("stream definition: {source}"),
    })
}

pub(super) fn decode(name: &str, text: &str) -> Result<StreamDefinition, Error> {
    serde_json::from_str(text).map_err(|source| Error::StreamDefinition {
        stream: name.to_owned(),
        reason: source.to_string(),
    })
}

pub(super) fn failure_of(error: &Error) -> Failure {
    let kind = match error.kind() {
        ErrorKind::User => FailureKind::User,
        ErrorKind::Retryable => FailureKind::Retryable,
        ErrorKind::Bug => FailureKind::Bug,
    };
    Failure {
        kind: kind.into(),
        message: error.to_string(),
        hint: error.hint().unwrap_or_default(),
        ..Failure::default()
    }
}

fn lake_status(error: drumline_lake::Error) -> Status {
    Status::unavailable(error.to_string())
}
