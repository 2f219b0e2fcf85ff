//! What a stream has committed, and what that took of its worker.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use drumline_client::Client;

/// Waits until the tables of a stream, dead letters aside, hold so many rows; how many they hold then.
///
/// # Errors
/// When they do not by then; says how many there are, and why.
pub async fn wait_for_rows(
    client: &Client,
    stream: &str,
    rows: u64,
    until: Instant,
) -> Result<u64> {
    loop {
        let status = client.streams().status(stream).await?;
        let letters = status.definition.map(|definition| definition.dead_letters);
        let tables = status.tables.iter();
        let tables = tables.filter(|table| letters.as_ref() != Some(&table.table));
        let committed: u64 = tables.map(|table| table.rows).sum();
        if committed >= rows {
            return Ok(committed);
        }
        if Instant::now() >= until {
            bail!(
                "{committed} of {rows} rows are committed; {}",
                status.last_error
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// User and system time of a process (proc_pid_stat(5), fields 14 and 15, 100 ticks a second).
///
/// # Errors
/// When the process is gone.
pub fn processor_time(process: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat
        .rsplit_once(") ")
        .context("unknown layout of /proc/PID/stat")?;
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>());
    let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
