//! The physical node on the wire.

use super::exec::LakeWriteExec;
use crate::Error;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use drumline_lake::{Stores, WriteTarget};
use std::sync::Arc;

/// Before the target's JSON, so that another codec's node is never taken for ours.
const TAG: &[u8] = b"drumline.lake_write.1:";

/// Carries [`LakeWriteExec`] between processes: its target as JSON. Stores are the receiver's own.
#[derive(Debug, Clone)]
pub(crate) struct LakeWriteCodec {
    stores: Stores,
}

impl LakeWriteCodec {
    /// A codec whose decoded writes go to these stores.
    pub(crate) fn new(stores: Stores) -> Self {
        Self { stores }
    }
}

impl PhysicalExtensionCodec for LakeWriteCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _ctx: &TaskContext,
        _proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(json), [input]) = (buf.strip_prefix(TAG), inputs) else {
            return internal_err!("not a LakeWrite node");
        };
        let target: WriteTarget = serde_json::from_slice(json)
            .map_err(|error| Error::bug(format!("a write's target cannot be read: {error}")))?;
        Ok(Arc::new(LakeWriteExec::try_new(
            Arc::clone(input),
            target,
            self.stores.clone(),
        )?))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(write) = node.downcast_ref::<LakeWriteExec>() else {
            return internal_err!("not a LakeWrite node");
        };
        let json = serde_json::to_vec(write.target())
            .map_err(|error| Error::bug(format!("a write's target cannot be written: {error}")))?;
        buf.extend_from_slice(TAG);
        buf.extend_from_slice(&json);
        Ok(())
    }
}
