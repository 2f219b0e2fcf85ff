//! How processes of one user find the token of a cluster by themselves.
//!
//! A master writes where its token files are under its address, into a folder of its user's (`announce`); the
//! command line, the SDK and workers look there (`find`). An entry counts only while the process that wrote it
//! lives: a token must not go to whoever took the port after it. The same holds for the state folder of a cluster
//! that was started here, where there is no entry.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::tokens::read_token;
use crate::{Error, Result, Token, private};

const FORMAT: u32 = 1;
/// File of the local admin token, in a master's state folder.
pub const TOKEN_FILE: &str = "token";
/// File of the token that this machine's workers join with.
pub const WORKER_TOKEN_FILE: &str = "worker-token";
/// Where the state is of a cluster that was started without further ado.
const DEFAULT_STATE: &str = "drumline-data/state";

/// What a master tells the processes of its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    format: u32,
    /// Process id of the master.
    pid: u32,
    /// When that process started, in the kernel's ticks: ids are given again.
    started: Option<u64>,
    state_dir: PathBuf,
    /// Certificate of its authority, where it serves TLS.
    ca: Option<PathBuf>,
}

/// An entry; gone when dropped.
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
    written: Vec<u8>,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Another master may have taken the address since.
        if std::fs::read(&self.path).is_ok_and(|found| found == self.written) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The folder of entries: below `XDG_STATE_HOME`, else `~/.local/state`. `None`: the user has no home.
pub fn folder(environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let given = |name: &str| environment(name).filter(|value| !value.is_empty());
    let base = match given("XDG_STATE_HOME") {
        Some(state) => PathBuf::from(state),
        None => PathBuf::from(given("HOME")?).join(".local/state"),
    };
    // A relative one would mean another folder for each process.
    base.is_absolute().then(|| base.join("drumline/clusters"))
}

/// Writes the entry of this process, a master that listens at `address`.
pub fn announce(
    folder: &Path,
    address: SocketAddr,
    state_dir: &Path,
    ca: Option<&Path>,
) -> Result<Announcement> {
    let whole = |path: &Path| std::path::absolute(path).map_err(|error| Error::read(path, error));
    let pid = std::process::id();
    let entry = Entry {
        format: FORMAT,
        pid,
        started: started(pid),
        state_dir: whole(state_dir)?,
        ca: ca.map(whole).transpose()?,
    };
    let written = serde_json::to_vec(&entry)
        .map_err(|error| Error::bug(format!("an entry cannot be written: {error}")))?;
    std::fs::create_dir_all(folder).map_err(|error| Error::write(folder, error))?;
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip.to_string(),
        IpAddr::V4(_) => "127.0.0.1".to_owned(),
        IpAddr::V6(_) => "::1".to_owned(),
    };
    let path = folder.join(file_name(&ip, address.port()));
    private::replace(&path, &written)?;
    Ok(Announcement { path, written })
}

/// What a process needs to be let in.
#[derive(Clone, Default)]
pub struct Found {
    /// Its token.
    pub token: Option<Token>,
    /// The authority's certificate, in PEM.
    pub ca: Option<Vec<u8>>,
    /// Where the token comes from, for people.
    pub source: String,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Found({:?} of {})", self.token, self.source)
    }
}

/// What was said outright about tokens, strongest first.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
    /// `--ca`.
    pub ca_file: Option<PathBuf>,
    /// Of the config file.
    pub configured_token_file: Option<PathBuf>,
    /// Of the config file.
    pub configured_ca_file: Option<PathBuf>,
}

/// Whose token is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The user's, to call the master with.
    Users,
    /// A worker's, to join with.
    Workers,
}

/// Finds the token for the master at `host` and `port`: given by file, by `DRUMLINE_TOKEN` or
/// `DRUMLINE_TOKEN_FILE`, by the config file, by the entry of a master of this user, or in the state folder of a
/// cluster started here. The authority's certificate likewise.
pub fn find(
    host: &str,
    port: u16,
    wanted: Wanted,
    given: &Given,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Found> {
    let set = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
    let announced = folder(environment).and_then(|folder| announced(&folder, host, port));
    let ca_file = given
        .ca_file
        .clone()
        .or_else(|| set("DRUMLINE_CA").map(PathBuf::from))
        .or_else(|| given.configured_ca_file.clone())
        .or_else(|| announced.as_ref()?.ca.clone());
    let ca = ca_file
        .map(|path| std::fs::read(&path).map_err(|error| Error::read(path, error)))
        .transpose()?;
    let found = |token, source: String| {
        Ok(Found {
            token,
            ca: ca.clone(),
            source,
        })
    };

    if let Some(path) = &given.token_file {
        return found(Some(token_in(path)?), path.display().to_string());
    }
    if let Some(text) = set("DRUMLINE_TOKEN") {
        let token =
            Token::parse(text.trim()).ok_or_else(|| not_a_token("DRUMLINE_TOKEN".into()))?;
        return found(Some(token), "DRUMLINE_TOKEN".to_owned());
    }
    let named = set("DRUMLINE_TOKEN_FILE")
        .map(PathBuf::from)
        .or_else(|| given.configured_token_file.clone());
    if let Some(path) = named {
        return found(Some(token_in(&path)?), path.display().to_string());
    }
    let state_dir = match announced {
        Some(entry) => Some(entry.state_dir),
        None if is_loopback(host) => {
            Some(PathBuf::from(DEFAULT_STATE)).filter(|state| serves(state, port))
        }
        None => None,
    };
    let path = state_dir.map(|folder| {
        folder.join(match wanted {
            Wanted::Users => TOKEN_FILE,
            Wanted::Workers => WORKER_TOKEN_FILE,
        })
    });
    match path {
        // Nobody named this file: that it cannot be read means that it is not this user's.
        Some(path) => match read_token(&path) {
            Ok(token) => found(token, path.display().to_string()),
            Err(_) => found(None, String::new()),
        },
        None => found(None, String::new()),
    }
}

fn token_in(path: &Path) -> Result<Token> {
    if !path.exists() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(Error::read(path, missing));
    }
    read_token(path)?.ok_or_else(|| not_a_token(path.display().to_string()))
}

fn not_a_token(source: String) -> Error {
    Error::TokenRequest {
        field: "of",
        value: source,
        reason: "there is no token in it: a token looks like drl_…_…".to_owned(),
    }
}

fn announced(folder: &Path, host: &str, port: u16) -> Option<Entry> {
    let hosts: &[&str] = match host {
        "localhost" => &["127.0.0.1", "::1"],
        _ => &[host.trim_start_matches('[').trim_end_matches(']')],
    };
    hosts.iter().find_map(|host| {
        let path = folder.join(file_name(host, port));
        let entry: Entry = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let lives = entry.format == FORMAT && started(entry.pid) == entry.started;
        lives.then_some(entry)
    })
}

fn file_name(host: &str, port: u16) -> String {
    let plain: String = host
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | ':' | '-' => c,
            _ => '_',
        })
        .collect();
    format!("{plain}_{port}")
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// What a master writes into its lock file once it listens: by it others know the master that a state folder's
/// tokens are for.
pub fn lock_line(port: u16) -> String {
    let pid = std::process::id();
    let started = started(pid).unwrap_or_default();
    format!("{pid} {port} {started}\n")
}

/// Whether the master at this port runs on this state folder. Its tokens go to nobody else.
fn serves(state_dir: &Path, port: u16) -> bool {
    let line = std::fs::read_to_string(state_dir.join("master.lock")).unwrap_or_default();
    let numbers: Vec<u64> = line
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    let [pid, of_port, since] = numbers[..] else {
        return false;
    };
    let is_alive = u32::try_from(pid).is_ok_and(|pid| started(pid) == Some(since));
    is_alive && of_port == u64::from(port)
}

/// Field 22 of proc_pid_stat(5); `None` if there is no such process, or no /proc.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests;
