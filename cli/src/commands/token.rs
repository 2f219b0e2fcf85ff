//! `drumline token`: who may come in.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Subcommand, ValueEnum};
use drumline_client::NewToken;
use drumline_client::proto::TokenEntry;
use serde_json::json;

use crate::config::{Master, MasterArg};
use crate::connect::connect;
use crate::failure::{Failure, Result};
use crate::output::{self, Columns};
use crate::signals::StopSignals;
use crate::terminal::Terminal;

/// Who may come in: make, list and revoke tokens. For admins.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline token create --name ann --role submit --expires 90d > ann.token\n  \
    drumline token list -o json\n  drumline token revoke k3v9x2m4q7ha"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    master: MasterArg,
    /// Shape of the answer on stdout
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Shape,
    #[command(subcommand)]
    command: Command,
}

/// Shape of what `token` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// For people; `create` prints the token alone.
    #[default]
    Table,
    /// One JSON value per line.
    Json,
}

/// What a token lets its owner do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Everything, tokens included.
    Admin,
    /// Submit and cancel applications, apply and pause streams, and look.
    Submit,
    /// Look, and change nothing.
    Read,
    /// Join the cluster as a worker. No more.
    Worker,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token; it is printed once, and kept nowhere
    Create {
        /// Whose it is
        #[arg(long)]
        name: String,
        /// What it lets its owner do
        #[arg(long, value_enum)]
        role: Role,
        /// How long it is good, e.g. 12h or 30d [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// All tokens, without their secrets
    List,
    /// Let a token in no more, from now on
    Revoke {
        /// Its id, as `list` shows it
        id: String,
    },
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let master = arguments.master.resolve()?;
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        result = answer(arguments.command, &master, arguments.output) => result,
        () = signals.recv() => Err(Failure::cancelled()),
    }
}

async fn answer(command: Command, master: &Master, shape: Shape) -> Result {
    let tokens = connect(master).await?.tokens();
    match command {
        Command::Create {
            name,
            role,
            expires,
        } => {
            let role = match role {
                Role::Admin => "admin",
                Role::Submit => "submit",
                Role::Read => "read",
                Role::Worker => "worker",
            };
            created(&tokens.create(&name, role, expires).await?, shape)
        }
        Command::List => {
            let list = tokens.list().await?;
            match shape {
                Shape::Table => output::print(&table(&list)),
                Shape::Json => list.iter().try_for_each(output::print_json),
            }
        }
        Command::Revoke { id } => {
            let entry = tokens.revoke(&id).await?;
            match shape {
                Shape::Table => {
                    output::print(&format!("token {} ({}) is revoked\n", entry.id, entry.name))
                }
                Shape::Json => output::print_json(&entry),
            }
        }
    }
}

fn created(token: &NewToken, shape: Shape) -> Result {
    let NewToken { entry, text } = token;
    match shape {
        Shape::Json => output::print_json(&json!({ "token": text, "entry": entry })),
        Shape::Table => {
            Terminal::new(false).say(format!(
                "token {} ({}, role {}, {}); it is shown this once:",
                entry.id,
                entry.name,
                entry.role,
                match entry.expires {
                    0 => "until it is revoked".to_owned(),
                    end => format!("until {}", moment(end)),
                }
            ));
            output::print(&format!("{text}\n"))
        }
    }
}

fn table(tokens: &[TokenEntry]) -> String {
    let mut columns = Columns::new(&[
        "ID",
        "NAME",
        "ROLE",
        "STATE",
        "CREATED",
        "EXPIRES",
        "LAST USED",
    ]);
    for token in tokens {
        columns.row([
            token.id.clone(),
            token.name.clone(),
            token.role.clone(),
            token.state.clone(),
            moment(token.created),
            moment(token.expires),
            moment(token.last_used),
        ]);
    }
    columns.render()
}

fn moment(unix_seconds: i64) -> String {
    match DateTime::<Utc>::from_timestamp(unix_seconds, 0) {
        Some(moment) if unix_seconds > 0 => moment.to_rfc3339_opts(SecondsFormat::Secs, true),
        _ => "-".to_owned(),
    }
}

/// `45s`, `30m`, `12h`, `30d`.
fn lifetime(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || "give a number and s, m, h or d, such as 30d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_a_number_and_a_unit() {
        assert_eq!(lifetime("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(lifetime("30d").unwrap(), Duration::from_secs(2_592_000));
        for wrong in [
            "",
            "d",
            "30",
            "0d",
            "-1d",
            "1w",
            "1.5h",
            "99999999999999999999d",
            "1ü",
        ] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tokens_are_listed_without_their_secrets() {
        let token = TokenEntry {
            id: "k3v9x2m4q7ha".to_owned(),
            name: "ann".to_owned(),
            role: "submit".to_owned(),
            state: "active".to_owned(),
            created: 1_541_000_000,
            ..TokenEntry::default()
        };
        insta::assert_snapshot!(table(&[token]), @r"
        ID            NAME  ROLE    STATE   CREATED               EXPIRES  LAST USED
        k3v9x2m4q7ha  ann   submit  active  2018-10-31T15:33:20Z        -          -
        ");
    }
}
