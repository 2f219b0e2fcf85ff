//! Shows records once: a list, or one of it.

use chrono::Utc;
use clap::ValueEnum;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::Client;
use super::column::Column;
use super::table::{Table, csv, width};
use super::watch;
use crate::config::MasterArg;
use crate::failure::{OrFail as _, Result};
use crate::output;
use crate::signals::StopSignals;
use crate::terminal::Terminal;

/// Shape of records on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Columns with units, for people; as wide as the terminal.
    #[default]
    Table,
    /// RFC 4180 with a header line; numbers as they are, times in milliseconds since 1970.
    Csv,
    /// One record per line, as the master's REST answers it.
    Json,
}

/// What all listing commands take.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    pub(crate) master: MasterArg,
    /// Shape of the records on stdout
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
    /// How many at most, the newest first
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on: draw anew on a terminal, print what has changed elsewhere; until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// A kind of records.
pub(crate) struct Kind {
    /// Its list's path below `/api/v1`.
    pub(crate) path: &'static str,
    pub(crate) columns: &'static [Column],
    /// Fields that tell one record from another, as JSON pointers.
    pub(crate) identity: &'static [&'static str],
    pub(crate) parts: &'static [Part],
}

/// Records within a record, shown below it where it is shown alone.
pub(crate) struct Part {
    pub(crate) title: &'static str,
    /// The list, as a JSON pointer.
    pub(crate) field: &'static str,
    pub(crate) columns: &'static [Column],
}

/// What is shown of a kind.
pub(crate) enum Which {
    /// The one of this id.
    One(String),
    /// Those that the filters let pass; a filter without a value lets all pass.
    List(Vec<(&'static str, Option<String>)>),
    /// The same, of one job.
    OfJob(String, Vec<(&'static str, Option<String>)>),
}

/// A record: as it came, and to look into.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) text: String,
    pub(super) value: Value,
}

/// What to fetch and how to show it.
pub(super) struct View {
    pub(super) client: Client,
    pub(super) kind: &'static Kind,
    which: Which,
    limit: usize,
    pub(super) shape: Shape,
}

/// Answers a listing command.
pub(crate) async fn run(asked: Asked, kind: &'static Kind, which: Which) -> Result {
    let view = View {
        client: Client::new(&asked.master.resolve()?)?,
        kind,
        which,
        limit: asked.limit as usize,
        shape: asked.output,
    };
    let mut signals = StopSignals::listen()?;
    let work = async {
        match asked.watch {
            true => watch::run(&view).await,
            false => view.once().await,
        }
    };
    tokio::select! {
        result = work => result,
        // Whoever watches ends that when it is enough.
        () = signals.recv() => Ok(()),
    }
}

impl View {
    async fn once(&self) -> Result {
        let (records, more) = self.fetch().await?;
        output::print(&self.text(&records, width()))?;
        if more && self.shape == Shape::Table {
            Terminal::new(false).say(format!("there are more: these are {}", self.limit));
        }
        Ok(())
    }

    /// The records, and whether there are more than were asked for.
    pub(super) async fn fetch(&self) -> Result<(Vec<Record>, bool)> {
        let (raw, more) = match &self.which {
            Which::One(id) => (vec![self.client.get(&[self.kind.path, id]).await?], false),
            Which::List(filters) => self.list(filters, None).await?,
            Which::OfJob(job, filters) => {
                let found = self.list(filters, Some(job)).await?;
                if found.0.is_empty() {
                    // A job that is not known has none either.
                    self.client.get(&["jobs", job]).await?;
                }
                found
            }
        };
        let records = raw.into_iter().map(|raw| {
            let value =
                serde_json::from_str(raw.get()).or_fail(|| "cannot read a record".to_owned())?;
            Ok(Record {
                text: raw.get().to_owned(),
                value,
            })
        });
        Ok((records.collect::<Result<_>>()?, more))
    }

    async fn list(
        &self,
        filters: &[(&'static str, Option<String>)],
        job: Option<&String>,
    ) -> Result<(Vec<Box<RawValue>>, bool)> {
        let given = filters
            .iter()
            .filter_map(|(name, value)| Some((*name, value.clone()?)));
        let of_job = job.map(|job| ("job", job.clone()));
        let filters: Vec<(&str, String)> = given.chain(of_job).collect();
        self.client.list(self.kind.path, &filters, self.limit).await
    }

    /// All of the answer.
    pub(super) fn text(&self, records: &[Record], width: Option<usize>) -> String {
        if let (Shape::Table, Which::One(_), [record]) = (self.shape, &self.which, records) {
            return self.alone(record, width);
        }
        let mut text = self.header(records, width);
        text.extend(self.rows(records, width));
        text
    }

    pub(super) fn header(&self, records: &[Record], width: Option<usize>) -> String {
        match self.shape {
            Shape::Table => self.table(records, width).header(),
            Shape::Csv => csv(self
                .kind
                .columns
                .iter()
                .map(|column| column.name.to_owned())),
            Shape::Json => String::new(),
        }
    }

    pub(super) fn rows(&self, records: &[Record], width: Option<usize>) -> Vec<String> {
        let now = Utc::now();
        match self.shape {
            Shape::Table => self.table(records, width).rows().collect(),
            Shape::Csv => records
                .iter()
                .map(|record| {
                    let columns = self.kind.columns.iter();
                    csv(columns.map(|column| column.raw(&record.value, now)))
                })
                .collect(),
            Shape::Json => records
                .iter()
                .map(|record| format!("{}\n", record.text))
                .collect(),
        }
    }

    /// One record, a line for each field, and what is within it.
    fn alone(&self, record: &Record, width: Option<usize>) -> String {
        let now = Utc::now();
        let columns = self.kind.columns;
        let titles = columns.iter().map(|column| column.title.len());
        let indent = titles.max().unwrap_or(0) + 2;
        let mut text = String::new();
        for column in columns {
            let cell = column.shown(&record.value, now);
            let line = format!("{:<indent$}{cell}", column.title);
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for part in self.kind.parts {
            let within = record.value.pointer(part.field).and_then(Value::as_array);
            let Some(within) = within.filter(|within| !within.is_empty()) else {
                continue;
            };
            let table = Table::new(part.columns, within, now, width);
            text.push_str(&format!("\n{}\n{}", part.title, table.header()));
            text.extend(table.rows());
        }
        text
    }

    fn table(&self, records: &[Record], width: Option<usize>) -> Table<'static> {
        let values: Vec<Value> = records.iter().map(|record| record.value.clone()).collect();
        Table::new(self.kind.columns, &values, Utc::now(), width)
    }

    /// What tells a record from others of its kind.
    pub(super) fn identity(&self, record: &Record) -> String {
        let parts = self.kind.identity.iter().map(|field| {
            let part = record.value.pointer(field);
            part.map(Value::to_string).unwrap_or_default()
        });
        parts.collect::<Vec<_>>().join("/")
    }
}
