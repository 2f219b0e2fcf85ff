//! One topic of an assignment: takes batches from its source, transforms and writes them, and closes
//! files when told to. It goes on writing into new files while the old ones are being closed.

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
    pub transform: Transform,
    pub table_schema: SchemaRef,
    /// The topic's table, then the dead letters.
    pub targets: [Target; 2],
    pub reports: mpsc::Sender<(usize, Report)>,
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
            transform,
            table_schema,
            targets: [rows, letters],
            reports,
        } = self;
        let mut open = Open {
            topic,
            stores,
            transform,
            table_schema,
            starts: [rows.start.clone(), letters.start.clone()],
            rows: Roll::new(rows),
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
                        let (rows, letters, next) = (open.rows.take(), open.letters.take(), open.next.clone());
                        closing.spawn(async move {
                            let tables = vec![rows.finish().await?, letters.finish().await?];
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
        open.rows.abort().await;
        open.letters.abort().await;
    }
}

struct Open {
    topic: String,
    stores: Stores,
    transform: Transform,
    table_schema: SchemaRef,
    starts: [Positions; 2],
    rows: Roll,
    letters: Roll,
    // Everything below is with the writers.
    next: Positions,
}

impl Open {
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
        if rows.num_rows() > 0 {
            let transformed = self.transform.apply(&rows, &origins, &self.table_schema)?;
            for (row, reason) in &transformed.refused {
                if let Some(record) = origins.record(*row) {
                    dead.push(record, reason);
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
            self.rows
                .write(&self.stores, transformed.rows, &positions)
                .await?;
        }
        if dead.len() > 0 {
            self.write_letters(dead).await?;
        }
        self.next.extend(next);
        let buffered = self.rows.buffered_bytes() + self.letters.buffered_bytes();
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
