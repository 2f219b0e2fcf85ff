//! A statement's rows, as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use drumline_proto::v1;
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use crate::{Client, Error, Result};

impl Client {
    /// Fetches the rows a statement has ready. They can be fetched once; the statement goes on as
    /// they are read, and is cancelled when they are dropped before their end.
    pub async fn rows(&self, ready: &v1::ResultReady) -> Result<Rows> {
        let schema = schema(&ready.schema_ipc)?;
        let ticket = Ticket {
            ticket: ready.ticket.clone().into(),
        };
        let data = self
            .flight()
            .do_get(ticket)
            .await
            .map_err(|status| self.failed(&status))?
            .into_inner();
        let batches = FlightRecordBatchStream::new_from_flight_data(
            data.map_err(|status| FlightError::Tonic(Box::new(status))),
        );
        Ok(Rows {
            client: self.clone(),
            schema,
            batches: Box::new(batches),
        })
    }
}

/// Rows of one statement; a stream of batches.
pub struct Rows {
    client: Client,
    schema: SchemaRef,
    batches: Box<FlightRecordBatchStream>,
}

impl Rows {
    /// Columns and types; known before the first row.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// All rows that are still to come.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        self.try_collect().await
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context).map(|batch| {
            Some(batch?.map_err(|error| match error {
                FlightError::Tonic(status) => self.client.failed(&status),
                other => Error::Protocol {
                    reason: other.to_string(),
                },
            }))
        })
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// An Arrow schema as the master sends it: an IPC stream of which only the beginning counts.
pub(crate) fn schema(ipc: &[u8]) -> Result<SchemaRef> {
    let schema: Schema = try_schema_from_ipc_buffer(ipc).map_err(|error| Error::Protocol {
        reason: error.to_string(),
    })?;
    Ok(schema.into())
}
