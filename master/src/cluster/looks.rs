//! Questions to workers about topics: the master itself reaches no broker.

use std::time::Duration;

use drumline_engine::Error;
use drumline_lake::ErrorKind;
use drumline_proto::v1::{
    Failure, FailureKind, LookAtTopic, MasterMessage, TopicSeen, TopicSource, master_message,
};

use super::Workers;

/// How long a statement waits for the first worker to join.
const JOINED_WITHIN: Duration = Duration::from_secs(30);

/// How long a worker may take to answer: brokers that do not answer take it several time-outs to give up.
const ANSWER_LIMIT: Duration = Duration::from_secs(45);

/// Workers that are asked, one after another, where one is lost or does not answer.
const ASKED: usize = 3;

impl Workers {
    /// What a topic holds now, and where its records of these instants (milliseconds since 1970) begin.
    pub(crate) async fn look_at_topic(
        &self,
        source: &TopicSource,
        times: &[i64],
    ) -> Result<TopicSeen, Error> {
        let mut usable = self.usable();
        let joined = usable.wait_for(|workers| !workers.is_empty());
        let workers = match tokio::time::timeout(JOINED_WITHIN, joined).await {
            Ok(Ok(workers)) => workers.clone(),
            _ => return Err(Error::NoReader),
        };
        let (mut asked, mut last) = (Vec::new(), None);
        for worker in workers.iter().take(ASKED) {
            asked.push(worker.id.as_str());
            if let Some(seen) = self.ask_about(&worker.id, source, times).await {
                match &seen.failure {
                    None => return Ok(seen),
                    // Another one may reach what this one does not.
                    Some(failure) if failure.kind() == FailureKind::Retryable => {
                        last = seen.failure;
                    }
                    Some(failure) => return Err(told(failure)),
                }
            }
        }
        Err(match last {
            Some(failure) => told(&failure),
            None => Error::Failed {
                kind: ErrorKind::Retryable,
                message: format!(
                    "no worker could say in time what a topic holds ({} asked)",
                    asked.join(", ")
                ),
                hint: Some("look at their logs with `drumline logs worker`".to_owned()),
                worker: None,
            },
        })
    }

    async fn ask_about(
        &self,
        worker: &str,
        source: &TopicSource,
        times: &[i64],
    ) -> Option<TopicSeen> {
        let (id, answer) = self.looks.ask(worker);
        let look = LookAtTopic {
            id,
            source: Some(source.clone()),
            times: times.to_vec(),
        };
        let message = MasterMessage {
            message: Some(master_message::Message::LookAtTopic(look)),
        };
        self.send(worker, message).await;
        tokio::time::timeout(ANSWER_LIMIT, answer).await.ok()?.ok()
    }
}

fn told(failure: &Failure) -> Error {
    let kind = match failure.kind() {
        FailureKind::Retryable => ErrorKind::Retryable,
        FailureKind::User => ErrorKind::User,
        FailureKind::Bug | FailureKind::Unspecified => ErrorKind::Bug,
    };
    Error::Failed {
        kind,
        message: failure.message.clone(),
        hint: Some(failure.hint.clone()).filter(|hint| !hint.is_empty()),
        worker: None,
    }
}
