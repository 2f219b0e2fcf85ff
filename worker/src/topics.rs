//! Topics for tasks: brings `ingest`, which reads Kafka, to `engine`, which runs statements.

use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use drumline_engine::TopicReader;
use drumline_ingest::TopicScans;
use drumline_proto::v1;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_stream::wrappers::ReceiverStream;

/// This worker's reader of topics. Tasks know it before it can read: their sessions make the transforms'.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topics {
    scans: Arc<OnceLock<TopicScans>>,
}

impl Topics {
    /// From here on topics can be read.
    pub(crate) fn open(&self, scans: TopicScans) {
        // Opened once, when the worker starts.
        let _ = self.scans.set(scans);
    }

    /// What a topic holds, for a statement that is being planned.
    pub(crate) async fn look(&self, look: &v1::LookAtTopic) -> v1::TopicSeen {
        match self.scans.get() {
            Some(scans) => scans.look(look).await,
            None => v1::TopicSeen {
                id: look.id,
                failure: Some(v1::Failure {
                    kind: v1::FailureKind::Retryable.into(),
                    message: "the worker does not read topics yet".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        }
    }
}

impl TopicReader for Topics {
    fn read(&self, scan: v1::TopicScan) -> SendableRecordBatchStream {
        let schema = projected(&scan).unwrap_or_else(|| Arc::new(Schema::empty()));
        let scans = self.scans.get().cloned();
        let opened = async move {
            let scans = scans.ok_or_else(|| {
                drumline_engine::Error::bug("a topic is read before the worker reads topics")
            })?;
            let batches = scans.read(scan).await.map_err(failed)?;
            Ok::<_, DataFusionError>(ReceiverStream::new(batches).map_err(failed))
        };
        let rows = stream::once(opened).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed()))
    }
}

fn projected(scan: &v1::TopicScan) -> Option<SchemaRef> {
    let schema = StreamReader::try_new(scan.schema.as_slice(), None)
        .ok()?
        .schema();
    let columns: Vec<usize> = scan.columns.iter().map(|at| *at as usize).collect();
    Some(Arc::new(schema.project(&columns).ok()?))
}

/// Keeps whose fault it is, and the hint.
fn failed(error: drumline_ingest::Error) -> DataFusionError {
    drumline_engine::Error::Failed {
        kind: error.kind(),
        message: error.to_string(),
        hint: error.hint(),
        worker: None,
    }
    .into()
}
