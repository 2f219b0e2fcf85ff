//! Standing consumers: define, look at, pause, resume, delete.

use drumline_proto::v1;

use crate::connection::MAX_MESSAGE;
use crate::{Client, Error, Result, verify};

/// Calls about streams.
#[derive(Debug, Clone)]
pub struct Streams {
    client: Client,
}

/// What `apply` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The stream is new.
    Created,
    /// Its definition changed.
    Changed,
    /// It was so already.
    Unchanged,
}

impl Streams {
    pub(crate) fn new(client: Client) -> Streams {
        Streams { client }
    }

    /// Creates a stream or changes its definition. Names, types, transforms, brokers, topics and
    /// the lake are checked first, from where the stream will run.
    ///
    /// # Errors
    /// [`Error::StreamRefused`] names the key to blame; nothing was kept.
    pub async fn apply(&self, definition: v1::StreamDefinition) -> Result<Applied> {
        let stream = definition.name.clone();
        let request = v1::ApplyStreamRequest {
            definition: Some(definition),
        };
        let answer = self
            .client
            .streams_service()
            .apply(request)
            .await
            .map_err(|status| self.client.failed(&status))?;
        let v1::ApplyStreamResponse {
            created,
            changed,
            failure,
            key,
        } = answer.into_inner();
        match failure {
            Some(failure) => Err(Error::StreamRefused {
                stream,
                key,
                failure: Box::new(failure.into()),
            }),
            None if created => Ok(Applied::Created),
            None if changed => Ok(Applied::Changed),
            None => Ok(Applied::Unchanged),
        }
    }

    /// One line per stream.
    pub async fn list(&self) -> Result<Vec<v1::StreamSummary>> {
        let answer = self
            .client
            .streams_service()
            .list(v1::ListStreamsRequest {})
            .await;
        Ok(answer
            .map_err(|status| self.client.failed(&status))?
            .into_inner()
            .streams)
    }

    /// Partitions, tables and lag of one stream.
    pub async fn status(&self, name: &str) -> Result<v1::StreamStatus> {
        let request = v1::StreamStatusRequest {
            name: name.to_owned(),
        };
        let answer = self.client.streams_service().status(request).await;
        Ok(answer
            .map_err(|status| self.client.failed(&status))?
            .into_inner())
    }

    /// Stops consuming; what was staged and not committed is read again later.
    pub async fn pause(&self, name: &str) -> Result<()> {
        let request = v1::PauseStreamRequest {
            name: name.to_owned(),
        };
        self.client
            .streams_service()
            .pause(request)
            .await
            .map_err(|status| self.client.failed(&status))?;
        Ok(())
    }

    /// Goes on from where its tables are.
    pub async fn resume(&self, name: &str) -> Result<()> {
        let request = v1::ResumeStreamRequest {
            name: name.to_owned(),
        };
        self.client
            .streams_service()
            .resume(request)
            .await
            .map_err(|status| self.client.failed(&status))?;
        Ok(())
    }

    /// Walks the histories of the stream's tables and has its topics counted anew, as a reader of
    /// committed records finds them; rows that tell where they came from are looked at too.
    pub async fn verify(&self, name: &str) -> Result<v1::VerifyStreamResponse> {
        let request = v1::VerifyStreamRequest {
            name: name.to_owned(),
        };
        let answer = self
            .client
            .streams_service()
            .max_decoding_message_size(MAX_MESSAGE)
            .verify(request)
            .await
            .map_err(|status| self.client.failed(&status))?;
        let mut answer = answer.into_inner();
        verify::look_at_rows(&self.client, &mut answer).await;
        Ok(answer)
    }

    /// Tells what moving the tables of a paused stream would do, and with `apply` does it.
    pub async fn reset(&self, request: v1::ResetStreamRequest) -> Result<v1::ResetStreamResponse> {
        let answer = self.client.streams_service().reset(request.clone()).await;
        let response = answer
            .map_err(|status| self.client.failed(&status))?
            .into_inner();
        match response.failure {
            Some(failure) => Err(Error::StreamRefused {
                stream: request.name,
                key: String::new(),
                failure: Box::new(failure.into()),
            }),
            None => Ok(response),
        }
    }

    /// Decodes dead letters with the stream's present definition; those that pass become rows.
    pub async fn replay_dead_letters(
        &self,
        request: v1::ReplayDeadLettersRequest,
    ) -> Result<v1::ReplayDeadLettersResponse> {
        let mut service = self.client.streams_service();
        let answer = service.replay_dead_letters(request.clone()).await;
        let response = answer
            .map_err(|status| self.client.failed(&status))?
            .into_inner();
        match response.failure {
            Some(failure) => Err(Error::StreamRefused {
                stream: request.name,
                key: String::new(),
                failure: Box::new(failure.into()),
            }),
            None => Ok(response),
        }
    }

    /// Forgets the stream. Its tables stay.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let request = v1::DeleteStreamRequest {
            name: name.to_owned(),
        };
        self.client
            .streams_service()
            .delete(request)
            .await
            .map_err(|status| self.client.failed(&status))?;
        Ok(())
    }
}
