//! The gRPC service `drumline.v1.Applications`.

use std::pin::Pin;

use drumline_proto::v1::applications_server::Applications as Service;
use drumline_proto::v1::submit_request::Body as SubmittedBody;
use drumline_proto::v1::{
    ApplicationEvent, CancelRequest, CancelResponse, ListTablesRequest, ListTablesResponse,
    SubmitRequest, SubmitResponse, WatchRequest,
};
use drumline_security::Identity;
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{Applications, Body, Submission};
use crate::Error;

/// Translates calls; everything is decided elsewhere.
pub(crate) struct ApplicationsService {
    applications: Applications,
}

impl ApplicationsService {
    pub(crate) fn new(applications: Applications) -> Self {
        Self { applications }
    }
}

#[tonic::async_trait]
impl Service for ApplicationsService {
    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let identity = request.extensions().get::<Identity>();
        let submitted_by = identity.map_or_else(String::new, |identity| identity.name.clone());
        let request = request.into_inner();
        let body = match request.body {
            Some(SubmittedBody::Sql(sql)) => Body::Sql(sql),
            Some(SubmittedBody::LogicalPlan(plan)) => Body::Plan(plan),
            None => return Err(Error::NothingToRun.into()),
        };
        let submitted = self.applications.submit(Submission {
            name: request.name,
            source: request.source,
            submitted_by,
            body,
            settings: request.settings.into_iter().collect(),
        });
        let application_id = submitted.await?;
        Ok(Response::new(SubmitResponse { application_id }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<ApplicationEvent, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let log = self
            .applications
            .log(&request.into_inner().application_id)?;
        let told = Box::pin(log.watch().map(Ok));
        Ok(Response::new(Box::pin(self.applications.until_gone(told))))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        self.applications
            .cancel(&request.into_inner().application_id)
            .await?;
        Ok(Response::new(CancelResponse {}))
    }

    async fn list_tables(
        &self,
        _: Request<ListTablesRequest>,
    ) -> Result<Response<ListTablesResponse>, Status> {
        let services = self.applications.services();
        let tables = services.names.entries(&services.engine).await?;
        Ok(Response::new(ListTablesResponse { tables }))
    }
}
