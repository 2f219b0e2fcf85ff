//! What a master can be told besides where it is: of `drumline master` itself, and of `drumline up`, which passes it on.

use std::time::Duration;

use drumline_master::{Collector, Options, Webhook};

use crate::amount;
use crate::config;
use crate::failure::Result;

const WEBHOOK: &str = "DRUMLINE_NOTIFY__WEBHOOK";

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Tuning {
    /// How long applications are remembered after their end, e.g. 12h or 30d
    #[arg(
        long,
        default_value = "30d",
        value_name = "TIME",
        value_parser = amount::duration,
        env = "DRUMLINE_MASTER__HISTORY_AGE"
    )]
    history_age: Duration,
    /// How much history is kept in the state folder, in each of its two copies; above it the oldest is forgotten
    #[arg(
        long,
        default_value = "256MiB",
        value_name = "SIZE",
        value_parser = amount::size,
        env = "DRUMLINE_MASTER__HISTORY_SIZE"
    )]
    history_size: u64,
    /// Who is told, by POST, of failed applications, failing streams and lost workers; a secret [default:
    /// `webhook` under `[notify]` in the config file]
    #[arg(long, value_name = "URL", env = WEBHOOK, hide_env_values = true)]
    notify_webhook: Option<String>,
    /// Jobs that run at the same time, as far as there are cores; more wait in line
    #[arg(
        long,
        default_value_t = 4,
        value_name = "N",
        env = "DRUMLINE_MASTER__CONCURRENT_JOBS",
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    concurrent_jobs: u16,
    /// Collector of traces (OTLP over gRPC), e.g. http://127.0.0.1:4317; without one none are made
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// A folder beside the lake's that external tables may be over, by URL or absolute path; may be repeated
    #[arg(
        long = "allow-location",
        value_name = "URL",
        env = "DRUMLINE_MASTER__ALLOW_LOCATION",
        value_delimiter = ','
    )]
    allowed_locations: Vec<String>,
    /// Kafka brokers whose topics SQL may read where no stream does, e.g. kafka-1:9092; how they are reached is said
    /// under `[kafka]` in the config file [default: `brokers` there]
    #[arg(
        long,
        value_name = "HOST:PORT,…",
        env = "DRUMLINE_MASTER__KAFKA_BROKERS"
    )]
    kafka_brokers: Option<String>,
}

impl Tuning {
    /// Sets a master's options by it.
    pub(crate) fn apply(
        self,
        options: &mut Options,
        explain: impl Fn(drumline_master::Error) -> crate::failure::Failure + Copy,
    ) -> Result {
        options.history_age = self.history_age;
        options.history_size = self.history_size;
        options.concurrent_jobs = usize::from(self.concurrent_jobs);
        options.allowed_locations = self.allowed_locations;
        options.kafka = config::kafka(self.kafka_brokers)?;
        options.webhook = config::webhook(self.notify_webhook)?
            .map(|url| Webhook::new(&url))
            .transpose()
            .map_err(explain)?;
        options.collector = self
            .otlp_endpoint
            .filter(|url| !url.is_empty())
            .map(|url| Collector::new(&url))
            .transpose()
            .map_err(explain)?;
        Ok(())
    }

    /// As arguments of `drumline master`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--history-age={}s", self.history_age.as_secs()),
            format!("--history-size={}", self.history_size),
            format!("--concurrent-jobs={}", self.concurrent_jobs),
        ];
        let allowed = self.allowed_locations.iter();
        arguments.extend(allowed.map(|url| format!("--allow-location={url}")));
        let brokers = self.kafka_brokers.iter();
        arguments.extend(brokers.map(|brokers| format!("--kafka-brokers={brokers}")));
        let endpoint = self.otlp_endpoint.iter();
        arguments.extend(endpoint.map(|url| format!("--otlp-endpoint={url}")));
        arguments
    }

    /// What everybody on this machine could read among a process's arguments.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let webhook = self.notify_webhook.iter();
        webhook.map(|url| (WEBHOOK, url.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Wrapped {
        #[command(flatten)]
        tuning: Tuning,
    }

    #[test]
    fn what_up_is_told_its_master_hears() {
        let given = [
            "up",
            "--history-age=12h",
            "--history-size=1.5MiB",
            "--concurrent-jobs=9",
            "--allow-location=/a,gs://b/c",
            "--otlp-endpoint=http://127.0.0.1:4317",
            "--kafka-brokers=a:1,b:2",
            "--notify-webhook=https://hooks.example/secret",
        ];
        let up = Wrapped::parse_from(given).tuning;
        let passed = up.arguments();
        assert!(!passed.concat().contains("secret"), "{passed:?}");
        let webhook = (
            "DRUMLINE_NOTIFY__WEBHOOK",
            "https://hooks.example/secret".to_owned(),
        );
        assert_eq!(up.environment(), [webhook]);
        let name = std::iter::once("master".to_owned());
        let master = Wrapped::parse_from(name.chain(passed)).tuning;
        assert_eq!(master.history_age, Duration::from_secs(12 * 3600));
        assert_eq!(master.history_size, 3 << 19);
        assert_eq!(master.concurrent_jobs, 9);
        assert_eq!(master.allowed_locations, ["/a", "gs://b/c"]);
        assert_eq!(master.kafka_brokers.as_deref(), Some("a:1,b:2"));
        assert_eq!(
            master.otlp_endpoint.as_deref(),
            Some("http://127.0.0.1:4317")
        );
    }
}
