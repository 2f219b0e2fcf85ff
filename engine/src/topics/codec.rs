//! A topic's scan on the wire.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use drumline_proto::v1;
use prost::Message;

use super::Span;
use super::exec::TopicScanExec;
use crate::Error;

/// Before the scan, so that another codec's node is never taken for ours.
const TAG: &[u8] = b"drumline.topic_scan.1:";

/// Carries [`TopicScanExec`] between processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicScanCodec;

impl PhysicalExtensionCodec for TopicScanCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        _inputs: &[Arc<dyn ExecutionPlan>],
        _ctx: &TaskContext,
        _proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(scan) = buf.strip_prefix(TAG) else {
            return internal_err!("not a topic's scan");
        };
        let scan = v1::TopicScan::decode(scan)
            .map_err(|error| Error::bug(format!("a topic's scan cannot be read: {error}")))?;
        let group =
            |group: &v1::TopicRanges| group.ranges.iter().copied().map(Span::from).collect();
        Ok(Arc::new(TopicScanExec::try_new(
            Arc::new(scan.source.unwrap_or_default()),
            schema_from(&scan.schema)?,
            scan.columns.iter().map(|column| *column as usize).collect(),
            scan.groups.iter().map(group).collect(),
        )?))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(scan) = node.downcast_ref::<TopicScanExec>() else {
            return internal_err!("not a topic's scan");
        };
        buf.extend_from_slice(TAG);
        buf.extend_from_slice(&scan.to_scan()?.encode_to_vec());
        Ok(())
    }
}

/// A schema as an Arrow IPC stream without batches.
pub(super) fn schema_ipc(schema: &Schema) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

pub(super) fn schema_from(ipc: &[u8]) -> Result<SchemaRef> {
    Ok(StreamReader::try_new(ipc, None)?.schema())
}
