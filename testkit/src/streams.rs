//! The shipped example stream and example events, pointed at a test's own broker.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, rows};
use crate::process::poll;

/// Records of the shipped month of events, by topic.
pub const EXAMPLE_RECORDS: [(&str, i64); 3] = [
    ("listen_events", 6_820),
    ("page_view_events", 8_056),
    ("auth_events", 182),
];

/// Topics of the example stream, as a broker is told to make them.
pub const EXAMPLE_TOPICS: [(&str, u32); 3] = [
    ("listen_events", 4),
    ("page_view_events", 4),
    ("auth_events", 4),
];

/// The shipped `examples/beatlytica/beatlytica.toml`, with other brokers and another interval.
pub fn example_stream(brokers: &str, flush_interval: Duration) -> Result<String> {
    let path = root().join("examples/beatlytica/beatlytica.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let interval = format!("{}ms", flush_interval.as_millis());
    let text = with_setting(&text, "brokers", brokers)?;
    with_setting(&text, "flush_interval", &interval)
}

/// The text with one top-level setting replaced; it must be there.
fn with_setting(text: &str, key: &str, value: &str) -> Result<String> {
    let mut replaced = 0;
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.split_once('=') {
            Some((name, _)) if name.trim() == key => {
                replaced += 1;
                format!("{key} = \"{value}\"")
            }
            _ => line.to_owned(),
        })
        .collect();
    ensure!(replaced == 1, "{key} is set {replaced} times");
    Ok(lines.join("\n") + "\n")
}

impl Cluster {
    /// Applies a stream file's text; fails with what the command line says.
    pub fn apply_stream(&self, text: &str) -> Result<()> {
        let path = self.path("stream.toml");
        std::fs::write(&path, text)?;
        rows(&self.run(&["stream", "apply", &path.display().to_string(), "-o", "json"])?)?;
        Ok(())
    }

    /// Replays the shipped events to a broker, to the end.
    pub fn replay(&self, brokers: &str) -> Result<()> {
        let output = self.run(&["replay", "--quiet", "--brokers", brokers])?;
        ensure!(
            output.status.success(),
            "replay: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Waits until every row of the example is in its table.
    pub fn wait_for_example(&self, deadline: Duration) -> Result<()> {
        for (table, count) in EXAMPLE_RECORDS {
            self.wait_for_number(&format!("SELECT count(*) FROM {table}"), count, deadline)?;
        }
        Ok(())
    }

    /// Waits until a table has some rows, but not all: the middle of consuming.
    pub fn wait_for_some(&self, table: &str, deadline: Duration) -> Result<i64> {
        poll(&format!("some rows in {table}"), deadline, || {
            let count = self.number(&format!("SELECT count(*) FROM {table}"));
            Ok(count.ok().filter(|count| *count > 0))
        })
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_replaced_once_or_refused() {
        let text = "name = \"x\"\nbrokers = \"a:1\" # here\n";
        assert_eq!(
            with_setting(text, "brokers", "b:2").unwrap(),
            "name = \"x\"\nbrokers = \"b:2\"\n"
        );
        assert!(with_setting(text, "flush_interval", "1s").is_err());
    }
}
