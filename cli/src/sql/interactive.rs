//! Reads statements line by line and runs each as an application of its own.
//!
//! Ctrl-C clears what is being typed, or cancels what is running; Ctrl-D leaves.

use std::collections::HashMap;
use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::{ReadlineError, Signal};
use url::Url;

use crate::application::{self, Script, View};
use crate::config::shown;
use crate::failure::{Code, OrFail as _, Result};
use crate::output;
use crate::signals::StopSignals;
use crate::sql::buffer::is_complete;
use drumline_client::Client;

const PROMPT: &str = "drumline> ";
const MORE: &str = "       -> ";

const HELP: &str = "\
A statement ends with a semicolon and may span lines.
  \\d          tables            \\d NAME     columns of a table
  \\h          this text         \\q          leave (or Ctrl-D)
Ctrl-C clears the line, or cancels the running statement.
";

/// What a finished input asks for.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Sql(String),
    Help,
    Quit,
    Unknown(String),
}

/// Commands that are no SQL. `None`: it is SQL.
fn command(text: &str) -> Option<Input> {
    let text = text.trim();
    let bare = text.trim_end_matches(';').trim();
    if matches!(bare.to_ascii_lowercase().as_str(), "exit" | "quit" | "\\q") {
        return Some(Input::Quit);
    }
    if bare.eq_ignore_ascii_case("help") {
        return Some(Input::Help);
    }
    let command = bare.strip_prefix('\\')?;
    Some(
        match command.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["h" | "?" | "help"] => Input::Help,
            ["d" | "dt"] => Input::Sql("SHOW TABLES".to_owned()),
            ["d", table] => Input::Sql(format!("DESCRIBE {table}")),
            _ => Input::Unknown(bare.to_owned()),
        },
    )
}

pub(crate) async fn run(
    client: &Client,
    url: &Url,
    settings: HashMap<String, String>,
    view: View,
) -> Result {
    let mut editor = DefaultEditor::new().or_fail(|| "cannot read from the terminal".to_owned())?;
    // After the editor: it replaces the process's handler of SIGINT, where ours is put in front of it.
    let mut signals = StopSignals::interrupts()?;
    let history = history_file();
    if let Some(path) = &history {
        // There is none before the first session.
        let _ = editor.load_history(path);
    }
    view.terminal.say(format!(
        "connected to {}; \\h for help, \\q to leave",
        shown(url)
    ));
    let mut typed = String::new();
    loop {
        let prompt = if typed.is_empty() { PROMPT } else { MORE };
        let line = match tokio::task::block_in_place(|| editor.readline(prompt)) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                typed.clear();
                continue;
            }
            // The editor's own note of a SIGINT that went to a statement.
            Err(ReadlineError::Signal(Signal::Interrupt)) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).or_fail(|| "cannot read from the terminal".to_owned()),
        };
        if typed.is_empty() && line.trim().is_empty() {
            continue;
        }
        if !typed.is_empty() {
            typed.push('\n');
        }
        typed.push_str(&line);
        let input = match command(&typed) {
            Some(input) => input,
            None if is_complete(&typed) => Input::Sql(typed.clone()),
            None => continue,
        };
        let _ = editor.add_history_entry(typed.trim());
        if let Some(path) = &history {
            let _ = editor.save_history(path);
        }
        typed.clear();
        match input {
            Input::Quit => break,
            Input::Help => output::print(HELP)?,
            Input::Unknown(what) => view
                .terminal
                .say(format!("no command `{what}`; \\h for help")),
            Input::Sql(sql) => {
                signals.forget();
                let script = Script {
                    name: "drumline sql",
                    sql: &sql,
                    source: None,
                    settings: settings.clone(),
                };
                if let Err(failure) = application::run(client, &script, view, &mut signals).await {
                    failure.report();
                    if failure.code == Code::Unreachable {
                        view.terminal
                            .say("the prompt stays; the next statement tries again");
                    }
                }
            }
        }
    }
    Ok(())
}

/// `$XDG_STATE_HOME/drumline/history`, by default under `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME")?)
            .join(".local")
            .join("state"),
    };
    let dir = base.join("drumline");
    std::fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslash_commands_become_sql() {
        assert_eq!(command("\\d"), Some(Input::Sql("SHOW TABLES".to_owned())));
        assert_eq!(
            command("\\d listen_events;"),
            Some(Input::Sql("DESCRIBE listen_events".to_owned()))
        );
        assert_eq!(command("\\x"), Some(Input::Unknown("\\x".to_owned())));
    }

    #[test]
    fn leaving_needs_no_semicolon() {
        for text in ["exit", "quit;", "\\q", " QUIT "] {
            assert_eq!(command(text), Some(Input::Quit), "{text}");
        }
    }

    #[test]
    fn everything_else_is_sql() {
        assert_eq!(command("SELECT 1;"), None);
        assert_eq!(command("SELECT '\\d'"), None);
    }
}
