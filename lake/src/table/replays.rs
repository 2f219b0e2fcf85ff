//! Replays of a stream's dead letters, as its tables tell of them.
//!
//! A replay is committed to each table that gets rows of it, and then to the table of dead letters, which are fewer by
//! what passed. A table that tells of a later replay than the dead letters do holds rows of letters that are still there:
//! the next replay leaves these out, and takes the letters away.

use super::{MadeBy, OffsetRange, Table};
use crate::{Result, StatementId};

/// The identity of a stream's replays in its tables; `attempt` tells two apart that took the same number.
pub fn replay_id(stream: &str, number: u32, attempt: u64) -> StatementId {
    StatementId {
        application: application(stream),
        ordinal: number,
        text_hash: attempt,
    }
}

fn application(stream: &str) -> String {
    format!("replay/{stream}")
}

impl Table {
    /// The last replay of a stream's dead letters that the table holds, and which letters it was.
    pub async fn last_replay(&self, stream: &str) -> Result<Option<(u32, Vec<OffsetRange>)>> {
        let known = self.refresh().await?;
        let application = application(stream);
        let last = match known.state.statements.get(&application) {
            Some(done) => Some((i64::from(done.ordinal), done.version)),
            None => match &known.loaded {
                Some(loaded) => {
                    let ordinal = loaded.last_ordinal(&application).await?;
                    ordinal.map(|ordinal| (ordinal, known.state.version))
                }
                None => None,
            },
        };
        let Some((ordinal, newest)) = last else {
            return Ok(None);
        };
        let number = u32::try_from(ordinal).unwrap_or(u32::MAX);
        // Where a checkpoint tells no more than the number, the record is somewhere back in the log.
        for version in (0..=newest).rev() {
            let Some(told) = self.log.describe(version).await? else {
                break;
            };
            if let Some(MadeBy::Replay { id, letters, .. }) = told.made_by
                && id.application == application
            {
                return Ok(Some((id.ordinal, letters)));
            }
        }
        // The record was cleaned up: so long ago that its letters were taken away.
        Ok(Some((number, Vec::new())))
    }
}
