//! One `[[topic]]` of an assignment: takes batches from its source, transforms and writes them for each of its
//! routes, and closes files when told to. It goes on writing into new files while the old ones are being closed.

use arrow::datatypes::SchemaRef;
use drumline_lake::Stores;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::decode::{Batch, Letters};
use crate::machine::Positions;
use crate::roll::{Roll, Rolled, Target};
use crate::source::{Read, Seen};
use crate::transform::Transform;
use crate::{Error, Result};

/// What the assignment asks of a pipeline.
#[derive(Debug)]
pub(crate) enum Command {
    Close,
    Pause,
    Resume,
}

/// What a pipeline tells its assignment.
pub(crate) enum Report {
    Started {
        tables: Vec<Positions>,
        next: Positions,
    },
    Advanced {
        next: Positions,
        buffered: u64,
    },
    Closed {
        next: Positions,
        tables: Vec<Rolled>,
    },
    Seen(Seen),
    Failed(Error),
}

/// What a pipeline works with.
pub(crate) struct Pipeline {
    pub at: usize,
    pub topic: String,
    pub stores: Stores,
    /// The tables its rows go to, in the order of the definition.
    pub routes: Vec<Route>,
    pub letters: Target,
    pub reports: mpsc::Sender<(usize, Report)>,
}

/// One table that a topic's rows go to.
pub(crate) struct Route {
    pub transform: Transform,
    pub table_schema: SchemaRef,
    pub target: Target,
}

impl Pipeline {
    /// Runs until `revoked`, or until something fails. Open files are given up at the end, always:
    /// what was closed and reported belongs to the assignment.
    pub(crate) async fn run(
        self,
        mut reads: mpsc::Receiver<Read>,
        mut commands: mpsc::Receiver<Command>,
        revoked: CancellationToken,
    ) {
        let Self {
            at,
            topic,
            stores,
            routes,
            letters,
            reports,
        } = self;
        let targets = routes.iter().map(|route| &route.target).chain([&letters]);
        let mut open = Open {
            topic,
            stores,
            starts: targets.map(|target| target.start.clone()).collect(),
            routes: routes.into_iter().map(OpenRoute::new).collect(),
            letters: Roll::new(letters),
            next: Positions::new(),
        };
        let mut closing: JoinSet<Result<Report>> = JoinSet::new();
        let mut paused = false;
        loop {
            let report = tokio::select! {
                biased;
                () = revoked.cancelled() => break,
                Some(closed) = closing.join_next() => match closed {
                    Ok(Ok(report)) => report,
                    Ok(Err(error)) => Report::Failed(error),
                    Err(error) => Report::Failed(Error::Bug { context: format!("closing files did not end: {error}") }),
                },
                command = commands.recv() => match command {
                    Some(Command::Close) => {
                        let (rolls, next) = (open.take_rolls(), open.next.clone());
                        closing.spawn(async move {
                            let mut tables = Vec::with_capacity(rolls.len());
                            for roll in rolls {
                                tables.push(roll.finish().await?);
                            }
                            Ok(Report::Closed { next, tables })
                        });
                        continue;
                    }
                    Some(Command::Pause) => { paused = true; continue }
                    Some(Command::Resume) => { paused = false; continue }
                    None => break,
                },
                read = reads.recv(), if !paused => match read {
                    Some(read) => match open.take(read).await {
                        Ok(report) => report,
                        Err(error) => Report::Failed(error),
                    },
                    // It says why it ends, and ends only when this pipeline does.
                    None => Report::Failed(Error::Bug { context: format!("the source of topic {} ended unasked", open.topic) }),
                },
            };
            let failed = matches!(report, Report::Failed(_));
            tokio::select! {
                biased;
                () = revoked.cancelled() => break,
                sent = reports.send((at, report)) => if sent.is_err() { break },
            }
            if failed {
                break;
            }
        }
        closing.shutdown().await;
        for roll in open.take_rolls() {
            roll.abort().await;
        }
    }
}

struct Open {
    topic: String,
    stores: Stores,
    // Of each route, then of the dead letters.
    starts: Vec<Positions>,
    routes: Vec<OpenRoute>,
    letters: Roll,
    // Everything below is with the writers.
    next: Positions,
}

struct OpenRoute {
    table: String,
    transform: Transform,
    table_schema: SchemaRef,
    rows: Roll,
}

impl OpenRoute {
    fn new(route: Route) -> Self {
        Self {
            table: route.target.table.clone(),
            transform: route.transform,
            table_schema: route.table_schema,
            rows: Roll::new(route.target),
        }
    }
}

impl Open {
    /// The open files of each route, then those of the dead letters.
    fn take_rolls(&mut self) -> Vec<Roll> {
        let rows = self.routes.iter_mut().map(|route| route.rows.take());
        let mut rolls: Vec<Roll> = rows.collect();
        rolls.push(self.letters.take());
        rolls
    }

    async fn take(&mut self, read: Read) -> Result<Report> {
        match read {
            Read::Started(next) => {
                self.next = next.clone();
                // A table without an offset of its own begins where reading begins.
                let tables = self.starts.iter().map(|own| {
                    next.iter()
                        .map(|(partition, start)| {
                            (*partition, *own.get(partition).unwrap_or(start))
                        })
                        .collect()
                });
                Ok(Report::Started {
                    tables: tables.collect(),
                    next,
                })
            }
            Read::Batch(batch) => self.write(*batch).await,
            Read::Seen(seen) => Ok(Report::Seen(seen)),
            Read::Failed(error) => Err(error),
        }
    }

    async fn write(&mut self, batch: Batch) -> Result<Report> {
        let Batch {
            rows,
            origins,
            mut dead,
            next,
        } = batch;
        let several = self.routes.len() > 1;
        for route in self.routes.iter_mut().filter(|_| rows.num_rows() > 0) {
            let transformed = route
                .transform
                .apply(&rows, &origins, &route.table_schema)?;
            for (row, reason) in &transformed.refused {
                let Some(record) = origins.record(*row) else {
                    continue;
                };
                match several {
                    true => dead.push(record, &format!("table {}: {reason}", route.table)),
                    false => dead.push(record, reason),
                }
            }
            let sources = transformed.sources.values();
            let positions: Vec<_> = sources
                .iter()
                .filter_map(|row| origins.position(*row as usize))
                .collect();
            debug_assert_eq!(
                positions.len(),
                transformed.sources.len(),
                "topic {}",
                self.topic
            );
            route
                .rows
                .write(&self.stores, transformed.rows, &positions)
                .await?;
        }
        if dead.len() > 0 {
            self.write_letters(dead).await?;
        }
        self.next.extend(next);
        let rows = self.routes.iter().map(|route| route.rows.buffered_bytes());
        let buffered = rows.sum::<u64>() + self.letters.buffered_bytes();
        Ok(Report::Advanced {
            next: self.next.clone(),
            buffered,
        })
    }

    async fn write_letters(&mut self, dead: Letters) -> Result<()> {
        let positions: Vec<_> = (0..dead.len())
            .filter_map(|row| dead.position(row))
            .collect();
        let rows = dead.finish(chrono::Utc::now().timestamp_micros())?;
        self.letters.write(&self.stores, rows, &positions).await
    }
}
