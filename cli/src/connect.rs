//! Reaching a cluster: the SDK's client, with its errors as exit codes.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use drumline_proto::v1::application_event::Event;
use drumline_proto::v1::{ClusterStatusResponse, ResultReady, SubmitRequest};
use futures::Stream;
use url::Url;

use crate::failure::{Failure, Result};

pub(crate) struct Client;
pub(crate) struct Application;
pub(crate) struct Rows;

pub(crate) async fn connect(url: &Url) -> Result<Client> {
    Err(Failure::unreachable(format!("no master at {url}"))
        .hint("start one with `drumline up`, or say where it is with --master"))
}

impl Client {
    pub(crate) async fn submit(&self, _request: SubmitRequest) -> Result<Application> {
        Err(Failure::failed("not connected"))
    }

    pub(crate) async fn cluster_status(&self) -> Result<ClusterStatusResponse> {
        Err(Failure::failed("not connected"))
    }
}

impl Application {
    pub(crate) async fn next_event(&mut self) -> Result<Option<Event>> {
        Err(Failure::failed("not connected"))
    }

    pub(crate) async fn rows(&self, _ready: &ResultReady) -> Result<Rows> {
        Err(Failure::failed("not connected"))
    }

    pub(crate) async fn cancel(&self) -> Result {
        Err(Failure::failed("not connected"))
    }
}

impl Rows {
    pub(crate) fn schema(&self) -> SchemaRef {
        SchemaRef::new(arrow::datatypes::Schema::empty())
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
