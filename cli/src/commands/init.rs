//! `drumline init`: certificates for a cluster.

use std::path::PathBuf;

use drumline_security::local::TOKEN_FILE;
use drumline_security::{Error, authority};

use crate::failure::{Failure, Result};
use crate::output;

/// Make certificates: a small authority, one for masters and one for workers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline init --name master.example.org --name 10.0.0.1\n  \
    drumline init --dir /etc/drumline/tls --name 10.0.0.1\n  \
    drumline init --renew --dir /etc/drumline/tls --name 10.0.0.1   # new certificates, the same authority"
)]
pub(crate) struct Arguments {
    /// Folder for the certificates; nothing in it is overwritten
    #[arg(long, default_value = "./drumline-tls")]
    dir: PathBuf,
    /// Host name or address that clients reach the master by; may be repeated. This machine's name, localhost and
    /// the loopback addresses are always in
    #[arg(long = "name", value_name = "HOST_OR_IP")]
    names: Vec<String>,
    /// Replace the certificates of master and workers by new ones of the same authority; running processes take
    /// them up by themselves
    #[arg(long)]
    renew: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result {
    let Arguments { dir, names, renew } = arguments;
    let mut all = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    all.extend(host_name());
    all.extend(names);
    all.dedup();
    if renew {
        authority::renew(&dir, &all).map_err(explain)?;
        return output::print(&format!(
            "new certificates are in {}; copy them to where master and workers run\n",
            dir.display()
        ));
    }
    authority::create(&dir, &all).map_err(explain)?;
    output::print(&next_steps(&dir.display().to_string(), &all))
}

/// The name of this machine, where a certificate can carry it.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_owned();
    let is_plain = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    is_plain.then_some(name)
}

fn explain(error: Error) -> Failure {
    Failure::failed(error.to_string()).hint(error.hint().unwrap_or_default())
}

fn next_steps(dir: &str, names: &[String]) -> String {
    let host = names.last().map_or("localhost", String::as_str);
    format!(
        "certificates for {} are in {dir}; keys can be read by you alone\n\n\
         Next:\n  \
         drumline master --tls {dir} --listen {host}:7077 --lake …\n  \
         drumline worker --tls {dir} --listen HOST:0 --master https://{host}:7077\n  \
         drumline sql --ca {dir}/ca.pem --master https://{host}:7077\n\n\
         Each machine needs its own two files and ca.pem; clients need ca.pem. Keep ca.key away from them all: it\n\
         is needed for new certificates only (`drumline init --renew`).\n\
         The first token, an admin's, is made by the master at its start: file `{TOKEN_FILE}` in its --state-dir.\n\
         With it: drumline token create --name NAME --role submit\n",
        names.join(", ")
    )
}
