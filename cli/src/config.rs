//! Where the cluster is: `--master`, then `DRUMLINE_MASTER`, then the config file, then the default. And what
//! lets us in: `--token-file`, `DRUMLINE_TOKEN`, `DRUMLINE_TOKEN_FILE`, the config file, then what a master of
//! this user tells.
//!
//! The config file is `./drumline.toml`, else `~/.config/drumline/config.toml`; the first that
//! exists is the only one that is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use drumline_lake::{BucketSettings, Stores};
use drumline_master::TopicBrokers;
use drumline_security::local::Given;
use serde::Deserialize;
use url::Url;

use crate::failure::{Failure, OrFail as _, Result};

/// Port of a master that was not told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 7077;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Client,
    #[serde(default)]
    notify: Notify,
    /// `brokers` whose topics a master lets SQL read, and settings for librdkafka.
    #[serde(default)]
    kafka: BTreeMap<String, String>,
    /// Settings of single buckets, by `gs://bucket` or `s3://bucket`.
    #[serde(default)]
    stores: BTreeMap<String, BTreeMap<String, StoreSetting>>,
}

/// A store's setting: as it is, or where it is. No value is ever shown.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoreSetting {
    Is(String),
    In(Elsewhere),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Elsewhere {
    /// The name of a variable of the environment.
    Env(String),
    /// A file, relative to the config file; without the blanks around it.
    File(PathBuf),
}

impl std::fmt::Debug for StoreSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl StoreSetting {
    fn read(self, config: &Path) -> std::result::Result<String, String> {
        match self {
            Self::Is(value) => Ok(value),
            Self::In(Elsewhere::Env(name)) => {
                std::env::var(&name).map_err(|_| format!("the variable {name} is not set"))
            }
            Self::In(Elsewhere::File(file)) => {
                let path = config.parent().unwrap_or(Path::new("")).join(file);
                let text = std::fs::read_to_string(&path);
                text.map(|text| text.trim().to_owned())
                    .map_err(|error| format!("{}: {error}", path.display()))
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notify {
    /// A secret: whoever has it can write there.
    webhook: Option<String>,
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    master: Option<String>,
    /// Relative to the config file.
    token_file: Option<PathBuf>,
    /// Relative to the config file.
    ca: Option<PathBuf>,
}

/// A master, and what was said about how to be let in.
#[derive(Clone, Debug)]
pub(crate) struct Master {
    pub(crate) url: Url,
    pub(crate) given: Given,
}

/// `--master` and its company, as every command takes it that talks to a cluster.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct MasterArg {
    /// Where the master is [default: config file, else http://127.0.0.1:7077]
    #[arg(long, value_name = "URL", env = "DRUMLINE_MASTER", global = true)]
    master: Option<String>,
    /// File with the token to be let in with [default: DRUMLINE_TOKEN, else DRUMLINE_TOKEN_FILE, else the
    /// config file, else found for masters of this user]
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Certificate of the authority that an https master's is signed by [default: DRUMLINE_CA, else found for
    /// masters of this user]
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
}

impl MasterArg {
    /// Whether a master was named with the command, or by the environment.
    pub(crate) fn is_named(&self) -> bool {
        self.master
            .as_ref()
            .is_some_and(|master| !master.is_empty())
    }

    /// The master, and what lets us in.
    pub(crate) fn resolve(&self) -> Result<Master> {
        let files = [Some(PathBuf::from("drumline.toml")), user_config()];
        let mut master = resolve(self.master.as_deref(), files.into_iter().flatten())?;
        master.given.token_file.clone_from(&self.token_file);
        master.given.ca_file.clone_from(&self.ca);
        Ok(master)
    }
}

/// The webhook that a master tells of failures: as given, else `webhook` under `[notify]` of the config file.
pub(crate) fn webhook(given: Option<String>) -> Result<Option<String>> {
    if given.is_some() {
        return Ok(given.filter(|url| !url.is_empty()));
    }
    let files = [Some(PathBuf::from("drumline.toml")), user_config()];
    let file = first_of(files.into_iter().flatten())?;
    Ok(file.and_then(|(_, file)| file.notify.webhook))
}

/// Brokers of topics that no stream reads: as given, else `brokers` under `[kafka]` of the config file, where all other
/// settings stand.
pub(crate) fn kafka(given: Option<String>) -> Result<Option<TopicBrokers>> {
    let files = [Some(PathBuf::from("drumline.toml")), user_config()];
    let file = first_of(files.into_iter().flatten())?;
    let mut settings = file.map(|(_, file)| file.kafka).unwrap_or_default();
    let configured = settings.remove("brokers");
    let brokers = given.or(configured).filter(|brokers| !brokers.is_empty());
    Ok(brokers.map(|brokers| TopicBrokers { brokers, settings }))
}

/// The object stores: as the environment says, and single buckets as `[stores."gs://bucket"]` of the config file does.
pub(crate) fn stores() -> Result<Stores> {
    stores_of(
        [Some(PathBuf::from("drumline.toml")), user_config()]
            .into_iter()
            .flatten(),
    )
}

fn stores_of(files: impl Iterator<Item = PathBuf>) -> Result<Stores> {
    let Some((path, file)) = first_of(files)? else {
        return Ok(Stores::from_env());
    };
    let mut buckets = BTreeMap::new();
    for (bucket, settings) in file.stores {
        let mut values = BucketSettings::new();
        for (key, setting) in settings {
            let value = setting.read(&path).map_err(|reason| {
                Failure::usage(format!(
                    "{}: stores.\"{bucket}\".{key}: {reason}",
                    path.display()
                ))
            })?;
            values.insert(key, value);
        }
        buckets.insert(bucket, values);
    }
    Stores::configured(buckets).map_err(|error| {
        Failure::usage(format!("{}: stores: {error}", path.display()))
            .hint("a bucket's settings have the names of its environment's variables in small letters, e.g. aws_endpoint")
    })
}

fn user_config() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".config"),
    };
    Some(base.join("drumline").join("config.toml"))
}

fn resolve(given: Option<&str>, files: impl Iterator<Item = PathBuf>) -> Result<Master> {
    let file = first_of(files)?.map(|(path, file)| (path, file.client));
    let mut lets_in = Given::default();
    if let Some((path, client)) = &file {
        let beside = |named: &PathBuf| path.parent().unwrap_or(Path::new("")).join(named);
        lets_in.configured_token_file = client.token_file.as_ref().map(beside);
        lets_in.configured_ca_file = client.ca.as_ref().map(beside);
    }
    let configured = file.and_then(|(path, client)| Some((path, client.master?)));
    let url = match (given.filter(|text| !text.is_empty()), configured) {
        (Some(text), _) => parse_master(text).map_err(|reason| {
            Failure::usage(format!("--master `{text}`: {reason}")).hint(EXAMPLE)
        })?,
        (None, Some((path, text))) => parse_master(&text).map_err(|reason| {
            let path = path.display();
            Failure::usage(format!("{path}: client.master `{text}`: {reason}")).hint(EXAMPLE)
        })?,
        (None, None) => {
            parse_master(&format!("127.0.0.1:{DEFAULT_PORT}")).map_err(Failure::failed)?
        }
    };
    Ok(Master {
        url,
        given: lets_in,
    })
}

const EXAMPLE: &str = "a master looks like http://127.0.0.1:7077";

/// The first config file that exists.
fn first_of(files: impl Iterator<Item = PathBuf>) -> Result<Option<(PathBuf, File)>> {
    for path in files {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).or_usage(|| format!("{}", path.display())),
        };
        let file: File = toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("{}: {}", path.display(), error.message()))
                .hint(
                    "the command line reads `master`, `token_file` and `ca` under `[client]`, a master `webhook` under \
                     `[notify]` and `brokers` and librdkafka's settings under `[kafka]`, masters and workers settings of \
                     buckets under `[stores.\"gs://bucket\"]`",
                )
        })?;
        return Ok(Some((path, file)));
    }
    Ok(None)
}

/// Reads `http://host:port`, `https://…` or a bare `host:port`.
pub(crate) fn parse_master(text: &str) -> std::result::Result<Url, String> {
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let mut url = Url::parse(&whole).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "scheme `{}` is neither http nor https",
            url.scheme()
        ));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host".to_owned());
    }
    // Without a port, the master's own default is meant, not the web's. (A written `:80` cannot be told
    // from no port once parsed, so the text decides.)
    if url.port().is_none()
        && !whole
            .trim_end_matches('/')
            .ends_with(&format!(":{}", url.port_or_known_default().unwrap_or(0)))
    {
        let _ = url.set_port(Some(DEFAULT_PORT));
    }
    Ok(url)
}

/// A URL as people write it.
pub(crate) fn shown(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(given: Option<&str>, file: Option<&str>) -> std::result::Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drumline.toml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        resolve(given, [path].into_iter())
            .map(|master| master.url.to_string())
            .map_err(|failure| {
                failure
                    .message
                    .replace(&dir.path().display().to_string(), "DIR")
            })
    }

    #[test]
    fn a_given_master_wins_over_the_file() {
        let file = Some("[client]\nmaster = \"http://file:1\"\n");
        assert_eq!(
            resolved(Some("http://given:2"), file).unwrap(),
            "http://given:2/"
        );
        assert_eq!(resolved(None, file).unwrap(), "http://file:1/");
    }

    #[test]
    fn without_anything_the_master_is_local() {
        assert_eq!(resolved(None, None).unwrap(), "http://127.0.0.1:7077/");
        assert_eq!(resolved(None, Some("")).unwrap(), "http://127.0.0.1:7077/");
    }

    #[test]
    fn host_and_port_are_enough_and_the_port_may_be_left_out() {
        assert_eq!(
            resolved(Some("lake-master:9000"), None).unwrap(),
            "http://lake-master:9000/"
        );
        assert_eq!(
            resolved(Some("lake-master"), None).unwrap(),
            "http://lake-master:7077/"
        );
        assert_eq!(
            resolved(Some("https://m.example:443"), None).unwrap(),
            "https://m.example/"
        );
    }

    #[test]
    fn the_file_names_token_and_authority_beside_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drumline.toml");
        std::fs::write(
            &path,
            "[client]\ntoken_file = \"t\"\nca = \"/etc/ca.pem\"\n",
        )
        .unwrap();
        let given = resolve(None, [path].into_iter()).unwrap().given;
        assert_eq!(given.configured_token_file, Some(dir.path().join("t")));
        assert_eq!(given.configured_ca_file, Some("/etc/ca.pem".into()));
    }

    #[test]
    fn settings_of_buckets_come_from_the_file_or_where_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drumline.toml");
        let stores = |text: &str| {
            std::fs::write(&path, text).unwrap();
            stores_of([path.clone()].into_iter()).map_err(|failure| failure.message)
        };
        std::fs::write(dir.path().join("secret"), "hush\n").unwrap();
        let good = "[stores.\"s3://events\"]\naws_region = \"eu\"\naws_secret_access_key = { file = \"secret\" }\n";
        let good = stores(good).unwrap();
        assert!(
            good.credentials(&"s3://events/lake".parse().unwrap())
                .is_ok()
        );
        for (text, reason) in [
            (
                "[stores.\"s3://events\"]\naws_regoin = \"eu\"\n",
                "aws_regoin",
            ),
            (
                "[stores.\"s3://events\"]\naws_region = { file = \"none\" }\n",
                "none",
            ),
            (
                "[stores.\"s3://events\"]\naws_region = { env = \"DRUMLINE_NOT_SET\" }\n",
                "DRUMLINE_NOT_SET",
            ),
            ("[stores.\"ftp://events\"]\nuser = \"x\"\n", "ftp"),
        ] {
            let message = stores(text).unwrap_err();
            assert!(message.contains(reason), "{message}");
        }
    }

    #[test]
    fn a_wrong_key_names_file_and_key() {
        let message = resolved(None, Some("[client]\nmastre = \"x\"\n")).unwrap_err();
        assert!(
            message.contains("DIR/drumline.toml") && message.contains("mastre"),
            "{message}"
        );
    }

    #[test]
    fn another_scheme_is_refused() {
        let message = resolved(Some("ftp://x"), None).unwrap_err();
        assert_eq!(
            message,
            "--master `ftp://x`: scheme `ftp` is neither http nor https"
        );
    }
}
