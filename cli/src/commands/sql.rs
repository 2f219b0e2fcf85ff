//! `drumline sql`: one text, a file, stdin, or line by line.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use crate::application::{self, Script, View};
use crate::config::MasterArg;
use crate::connect::connect;
use crate::failure::{Failure, OrFail as _, Result};
use crate::output::Format;
use crate::signals::StopSignals;
use crate::sql::interactive;
use crate::terminal::Terminal;

/// Run SQL on the cluster.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drumline sql                                     # line by line\n  \
    drumline sql -c 'SELECT count(*) FROM listen_events'\n  \
    drumline sql -f daily.sql -o csv > daily.csv\n  \
    echo 'SHOW TABLES' | drumline sql -o json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    master: MasterArg,
    /// Statements to run, separated by semicolons
    #[arg(
        short = 'c',
        // SQL may begin with a comment.
        allow_hyphen_values = true,
        long = "command",
        value_name = "SQL",
        conflicts_with = "file"
    )]
    command: Option<String>,
    /// File of statements to run; `-` is stdin
    #[arg(short, long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    show: ShowArg,
}

/// How answers are shown; shared with `submit`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArg {
    /// Shape of rows on stdout
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Session setting, e.g. datafusion.execution.batch_size=4096; may be repeated
    #[arg(long = "settings", value_name = "KEY=VALUE", value_parser = crate::commands::setting)]
    settings: Vec<(String, String)>,
    /// Show what each task did: rows read, rows and bytes exchanged
    #[arg(long)]
    facts: bool,
    /// No progress and no messages, only errors
    #[arg(long, short)]
    quiet: bool,
}

impl ShowArg {
    pub(crate) fn view(&self) -> View {
        View {
            terminal: Terminal::new(self.quiet),
            format: self.output,
            facts: self.facts,
        }
    }

    pub(crate) fn settings(&self) -> HashMap<String, String> {
        self.settings.iter().cloned().collect()
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result {
    let master = arguments.master.resolve()?;
    let view = arguments.show.view();
    let text = match (arguments.command, arguments.file) {
        (Some(sql), _) => Some((sql, None)),
        (None, Some(path)) => Some(read(&path)?),
        (None, None) if std::io::stdin().is_terminal() => None,
        (None, None) => Some(read(std::path::Path::new("-"))?),
    };
    let Some((sql, source)) = text else {
        let client = connect(&master).await?;
        return interactive::run(&client, &master.url, arguments.show.settings(), view).await;
    };
    if sql.trim().is_empty() {
        return Err(Failure::usage("there is no SQL to run")
            .hint("give a statement with -c, or a file with -f"));
    }
    let mut signals = StopSignals::listen()?;
    let client = tokio::select! {
        client = connect(&master) => client?,
        () = signals.recv() => return Err(Failure::cancelled()),
    };
    let script = Script {
        name: source.as_deref().unwrap_or("drumline sql"),
        sql: &sql,
        source: source.as_deref(),
        settings: arguments.show.settings(),
    };
    application::run(&client, &script, view, &mut signals).await
}

/// Text of a file (`-`: stdin), and its name for positions in errors.
pub(crate) fn read(path: &std::path::Path) -> Result<(String, Option<String>)> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .or_usage(|| "cannot read SQL from stdin".to_owned())?;
        return Ok((text, None));
    }
    let text =
        std::fs::read_to_string(path).or_usage(|| format!("cannot read {}", path.display()))?;
    Ok((text, Some(path.display().to_string())))
}
