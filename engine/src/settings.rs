//! Session settings: their defaults, how they are set, and how they reach the workers.
//!
//! DataFusion's own settings do not travel with a distributed plan. The settings that a job was given go
//! along as one header, and every session is built from the same defaults, so that equal builds with equal
//! settings plan and compute equally.

use std::collections::BTreeMap;

use datafusion::common::extensions_options;
use datafusion::config::{ConfigExtension, ConfigOptions};
use datafusion::prelude::SessionConfig;
use http::{HeaderMap, HeaderValue};

use crate::{Error, Result};

/// Settings as they were given, by name.
pub(crate) type Settings = BTreeMap<String, String>;

const HEADER: &str = "drumline-settings";
/// Calls carry at most 16 KiB of headers, other headers included.
const HEADER_LIMIT: usize = 8 * 1024;

extensions_options! {
    /// Settings of Drumline's own (`drumline.*`).
    pub struct DrumlineSettings {
        /// Bytes of files for which a scan gets one more task: what reads less runs in place.
        pub bytes_per_task: usize, default = 32 * 1024 * 1024
        /// Cores that a job asks the master for; 0: an equal share, on every worker.
        pub cores: u32, default = 0
        /// Seconds after which a job is given up; 0: never.
        pub job_deadline: u64, default = 0
        /// Whether INSERT INTO takes columns by name, and adds those to the table that it has not.
        pub add_columns: bool, default = false
        /// Whether INSERT INTO takes columns by name, and gives those of the table a wider type where its rows need it.
        pub widen_columns: bool, default = false
        /// What INSERT OVERWRITE replaces where it names no PARTITION: the whole `table`, or the `partitions`
        /// that its rows are in.
        pub overwrite: String, default = "table".to_owned()
        /// Seconds after which a client that takes none of its rows, while their job holds cores, is given up; 0: never.
        pub read_limit: u64, default = 120
        /// Seconds without any progress after which a job is tried again elsewhere; 0: never.
        pub stall_limit: u64, default = 600
        /// Seconds that VACUUM must be told to keep, at least: what is younger may be in use.
        pub vacuum_shortest: u64, default = 24 * 3600
        /// Set for what upkeep does by itself: the epoch in which it owns the lake's upkeep; 0: none.
        pub upkeep_epoch: u64, default = 0
    }
}

impl ConfigExtension for DrumlineSettings {
    const PREFIX: &'static str = "drumline";
}

/// Drumline's settings of a session.
pub(crate) fn of(config: &ConfigOptions) -> DrumlineSettings {
    config
        .extensions
        .get::<DrumlineSettings>()
        .cloned()
        .unwrap_or_default()
}

/// The defaults that all our sessions share.
pub(crate) fn set_defaults(config: SessionConfig) -> SessionConfig {
    let mut config = config
        .with_option_extension(DrumlineSettings::default())
        .with_default_catalog_and_schema("lake", drumline_lake::DEFAULT_SCHEMA)
        .with_information_schema(true);
    let options = config.options_mut();
    options.execution.time_zone = Some("+00:00".to_owned());
    options.execution.parquet.pushdown_filters = true;
    config
}

/// Sets what was asked for.
pub(crate) fn apply(config: &mut SessionConfig, settings: &Settings) -> Result<()> {
    for (key, value) in settings {
        config
            .options_mut()
            .set(key, value)
            .map_err(|error| Error::Setting {
                key: key.clone(),
                value: value.clone(),
                reason: error.find_root().message().into_owned(),
            })?;
    }
    Ok(())
}

/// The settings as a header for workers.
pub(crate) fn to_headers(settings: &Settings) -> Result<HeaderMap> {
    let wrong = |reason: String| Error::Setting {
        key: "the session's settings".to_owned(),
        value: format!("{} of them", settings.len()),
        reason,
    };
    let text = serde_json::to_string(settings).map_err(|error| wrong(error.to_string()))?;
    if text.len() > HEADER_LIMIT {
        return Err(wrong(format!(
            "together they may take {HEADER_LIMIT} bytes, not {}",
            text.len()
        )));
    }
    let value =
        HeaderValue::from_bytes(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    Ok(HeaderMap::from_iter([(
        http::HeaderName::from_static(HEADER),
        value,
    )]))
}

/// The settings that came with a call.
pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Settings> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(Settings::new());
    };
    serde_json::from_slice(value.as_bytes())
        .map_err(|error| Error::bug(format!("the settings of a call cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let mut config = set_defaults(SessionConfig::new());
        let settings = Settings::from([("drumline.no_such".to_owned(), "1".to_owned())]);
        let error = apply(&mut config, &settings).unwrap_err();
        assert!(error.to_string().contains("drumline.no_such"), "{error}");
        assert_eq!(error.kind(), drumline_lake::ErrorKind::User);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused() {
        let mut config = set_defaults(SessionConfig::new());
        let settings = Settings::from([(
            "datafusion.execution.batch_size".to_owned(),
            "many".to_owned(),
        )]);
        assert!(apply(&mut config, &settings).is_err());
    }

    #[test]
    fn settings_survive_the_header() {
        let settings = Settings::from([
            (
                "datafusion.format.null".to_owned(),
                "—\t\"nothing\"\n".to_owned(),
            ),
            ("drumline.bytes_per_task".to_owned(), "1".to_owned()),
        ]);
        assert_eq!(
            from_headers(&to_headers(&settings).unwrap()).unwrap(),
            settings
        );
    }

    #[test]
    fn too_many_settings_are_refused_before_they_are_sent() {
        let settings = Settings::from([(
            "datafusion.format.null".to_owned(),
            "x".repeat(HEADER_LIMIT),
        )]);
        assert!(matches!(to_headers(&settings), Err(Error::Setting { .. })));
    }
}
