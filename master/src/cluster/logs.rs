//! Questions to workers about their logs.

use std::time::Duration;

use drumline_engine::LogLine;
use drumline_proto::v1::{LogRequest, MasterMessage, log_request, master_message};

use super::Workers;

/// How long a worker may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Workers {
    /// Lines of a worker's log; nothing if it does not answer.
    pub(crate) async fn log(&self, worker: &str, from: log_request::From) -> Option<Vec<LogLine>> {
        let (id, answer) = self.logs.ask(worker);
        let request = LogRequest {
            id,
            from: Some(from),
        };
        let message = MasterMessage {
            message: Some(master_message::Message::LogRequest(request)),
        };
        self.send(worker, message).await;
        let lines = tokio::time::timeout(ANSWER_LIMIT, answer)
            .await
            .ok()?
            .ok()?;
        let lines = lines.lines.into_iter().map(|line| LogLine {
            number: line.number,
            text: line.text.into(),
        });
        Some(lines.collect())
    }
}
