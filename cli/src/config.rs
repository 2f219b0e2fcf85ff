//! Where the cluster is: `--master`, then `DRUMLINE_MASTER`, then the config file, then the default.
//!
//! The config file is `./drumline.toml`, else `~/.config/drumline/config.toml`; the first that
//! exists is the only one that is read.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::failure::{Failure, OrFail as _, Result};

/// Port of a master that was not told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 7077;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Client,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    master: Option<String>,
}

/// `--master`, as every command takes it that talks to a cluster.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct MasterArg {
    /// Where the master is [default: config file, else http://127.0.0.1:7077]
    #[arg(long, value_name = "URL", env = "DRUMLINE_MASTER", global = true)]
    master: Option<String>,
}

impl MasterArg {
    /// The master's URL.
    pub(crate) fn resolve(&self) -> Result<Url> {
        let files = [Some(PathBuf::from("drumline.toml")), user_config()];
        resolve(self.master.as_deref(), files.into_iter().flatten())
    }
}

fn user_config() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".config"),
    };
    Some(base.join("drumline").join("config.toml"))
}

fn resolve(given: Option<&str>, files: impl Iterator<Item = PathBuf>) -> Result<Url> {
    if let Some(text) = given.filter(|text| !text.is_empty()) {
        return parse_master(text).map_err(|reason| {
            Failure::usage(format!("--master `{text}`: {reason}")).hint(EXAMPLE)
        });
    }
    for file in files {
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                if let Some(url) = from_file(&file, &text)? {
                    return Ok(url);
                }
                break;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).or_usage(|| format!("{}", file.display())),
        }
    }
    parse_master(&format!("127.0.0.1:{DEFAULT_PORT}")).map_err(Failure::failed)
}

const EXAMPLE: &str = "a master looks like http://127.0.0.1:7077";

fn from_file(path: &Path, text: &str) -> Result<Option<Url>> {
    let file: File = toml::from_str(text).map_err(|error| {
        Failure::usage(format!("{}: {}", path.display(), error.message()))
            .hint("the command line reads `master = \"http://host:7077\"` under `[client]`")
    })?;
    let Some(master) = file.client.master else {
        return Ok(None);
    };
    parse_master(&master).map(Some).map_err(|reason| {
        Failure::usage(format!(
            "{}: client.master `{master}`: {reason}",
            path.display()
        ))
        .hint(EXAMPLE)
    })
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
            .map(|url| url.to_string())
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
