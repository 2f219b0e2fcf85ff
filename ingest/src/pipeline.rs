//! One `[[topic]]` of an assignment: takes batches from its source, transforms and writes them for each of its
//! routes, and closes files when told to. It goes on writing into new files while the old ones are being closed.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use drumline_lake::{Requests, Stores};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::budget::{Order, Share};
use crate::counts::Fate;
use crate::decode::{Batch, Letters, letters};
use crate::machine::{Positions, Written};
use crate::planner::Planner;
use crate::roll::{Roll, Rolled, Target};
use crate::source::{Identity, Read, Seen};
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
        written: Written,
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
    pub share: Share,
    pub identity: Arc<Identity>,
    /// Counts the calls of object stores.
    pub requests: Requests,
    pub reports: mpsc::Sender<(usize, Report)>,
}

/// Closes files, and makes sure that all of their rows are of the topic that was met.
async fn finish(rolls: Vec<Roll>, identity: Arc<Identity>) -> Result<Vec<Rolled>> {
    let mut tables = Vec::with_capacity(rolls.len());
    for roll in rolls {
        tables.push(roll.finish().await?);
    }
    identity.confirm().await?;
    Ok(tables)
}

/// One table that a topic's rows go to.
pub(crate) struct Route {
    pub planner: Planner,
    pub transform: Transform,
    pub table_schema: SchemaRef,
    pub target: Target,
}

impl Pipeline {
    /// Runs until `revoked`, or until something fails. Open files are given up at the end, always:
    /// what was closed and reported belongs to the assignment.
    pub(crate) async fn run(
        self,
        reads: mpsc::Receiver<Read>,
        commands: mpsc::Receiver<Command>,
        revoked: CancellationToken,
    ) {
        let requests = self.requests.clone();
        requests.during(self.work(reads, commands, revoked)).await;
    }

    async fn work(
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
            mut share,
            identity,
            requests,
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
        let mut closing: JoinSet<(u64, Result<Report>)> = JoinSet::new();
        let mut closing_bytes = 0u64;
        let (mut paused, mut order) = (false, Order::default());
        loop {
            let report = tokio::select! {
                biased;
                () = revoked.cancelled() => break,
                Some(closed) = closing.join_next() => match closed {
                    Ok((bytes, closed)) => {
                        closing_bytes -= bytes;
                        share.holds(open.buffered_bytes(), closing_bytes);
                        closed.unwrap_or_else(Report::Failed)
                    }
                    Err(error) => Report::Failed(Error::Bug { context: format!("closing files did not end: {error}") }),
                },
                command = commands.recv() => match command {
                    Some(Command::Close) => {
                        let (bytes, next) = (open.buffered_bytes(), open.next.clone());
                        let rolls = open.take_rolls();
                        closing_bytes += bytes;
                        share.holds(0, closing_bytes);
                        let identity = Arc::clone(&identity);
                        let requests = requests.clone();
                        closing.spawn(async move {
                            let tables = requests.during(finish(rolls, identity)).await;
                            (bytes, tables.map(|tables| Report::Closed { next, tables }))
                        });
                        match open.refresh().await {
                            Ok(()) => continue,
                            Err(error) => Report::Failed(error),
                        }
                    }
                    Some(Command::Pause) => { paused = true; continue }
                    Some(Command::Resume) => { paused = false; continue }
                    None => break,
                },
                ordered = share.ordered() => {
                    order = ordered;
                    let Some(to) = order.shrink else { continue };
                    match open.shrink(to).await {
                        Ok(()) => {
                            share.shrunk(open.buffered_bytes(), closing_bytes);
                            continue;
                        }
                        Err(error) => Report::Failed(error),
                    }
                }
                read = reads.recv(), if !paused && !order.paused => match read {
                    Some(read) => match open.take(read).await {
                        Ok(report) => {
                            share.holds(open.buffered_bytes(), closing_bytes);
                            report
                        }
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
    planner: Planner,
    transform: Transform,
    table_schema: SchemaRef,
    rows: Roll,
}

impl OpenRoute {
    fn new(route: Route) -> Self {
        let versions = route.planner.versions();
        let mut open = Self {
            table: route.target.table.clone(),
            planner: route.planner,
            transform: route.transform,
            table_schema: route.table_schema,
            rows: Roll::new(route.target),
        };
        open.rows.looked_up_in(versions);
        open
    }

    /// Between files: what is written next is made with the newest tables.
    async fn refresh(&mut self) -> Result<()> {
        if let Some(transform) = self.planner.refreshed(Instant::now()).await? {
            self.transform = transform;
            self.rows.looked_up_in(self.planner.versions());
        }
        Ok(())
    }
}

impl Open {
    async fn refresh(&mut self) -> Result<()> {
        for route in &mut self.routes {
            route.refresh().await?;
        }
        Ok(())
    }

    fn rolls(&self) -> impl Iterator<Item = &Roll> {
        self.routes
            .iter()
            .map(|route| &route.rows)
            .chain([&self.letters])
    }

    fn buffered_bytes(&self) -> u64 {
        self.rolls().map(Roll::buffered_bytes).sum()
    }

    /// Closes open files, those of the table that holds the most first, until the others hold no more than this.
    async fn shrink(&mut self, bytes: u64) -> Result<()> {
        let mut beyond = self.buffered_bytes().saturating_sub(bytes);
        let routes = self.routes.iter_mut().map(|route| &mut route.rows);
        let mut rolls: Vec<&mut Roll> = routes.chain([&mut self.letters]).collect();
        rolls.sort_by_key(|roll| std::cmp::Reverse(roll.buffered_bytes()));
        for roll in rolls {
            if beyond == 0 {
                break;
            }
            let held = roll.buffered_bytes();
            roll.shrink(held.saturating_sub(beyond)).await?;
            beyond = beyond.saturating_sub(held.saturating_sub(roll.buffered_bytes()));
        }
        Ok(())
    }

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
            skipped,
            next,
        } = batch;
        let rolls = self.routes.iter_mut().map(|route| &mut route.rows);
        for table in rolls.chain([&mut self.letters]) {
            table.tally(Fate::Read, origins.positions());
            table.tally(Fate::Read, dead.positions().iter().copied());
            table.tally(Fate::Read, skipped.iter().copied());
        }
        // What could not be decoded is dead for every table.
        for route in &mut self.routes {
            let undecoded = dead.positions().iter().copied();
            route.rows.tally(Fate::Dead, undecoded);
            route.rows.tally(Fate::Filtered, skipped.iter().copied());
        }
        let several = self.routes.len() > 1;
        // Nothing is written yet: what was looked up when the last file was closed may be long ago.
        let unwritten = self
            .routes
            .iter_mut()
            .filter(|route| route.rows.rows() == 0);
        for route in unwritten.filter(|_| rows.num_rows() > 0) {
            route.refresh().await?;
        }
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
            let mut left_out = vec![true; rows.num_rows()];
            let sources = transformed.sources.values();
            let refused = transformed.refused.iter().map(|(row, _)| *row);
            let refused_at = refused.clone().filter_map(|row| origins.position(row));
            route.rows.tally(Fate::Dead, refused_at);
            for row in sources.iter().map(|row| *row as usize).chain(refused) {
                if let Some(left_out) = left_out.get_mut(row) {
                    *left_out = false;
                }
            }
            let left_out = left_out.iter().zip(origins.positions());
            let left_out = left_out.filter_map(|(left_out, at)| left_out.then_some(at));
            route.rows.tally(Fate::Filtered, left_out);
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
        let rolls = || self.rolls();
        let written = Written {
            file: rolls().map(Roll::largest_file).max().unwrap_or(0),
            rows: rolls().map(Roll::rows).sum(),
        };
        Ok(Report::Advanced {
            next: self.next.clone(),
            written,
        })
    }

    async fn write_letters(&mut self, mut dead: Letters) -> Result<()> {
        let positions: Vec<_> = (0..dead.len())
            .filter_map(|row| dead.position(row))
            .collect();
        self.letters.refused(dead.reasons());
        let rows = dead.finish(chrono::Utc::now().timestamp_micros())?;
        let rows = letters::fitted(rows, self.letters.target())?;
        self.letters.write(&self.stores, rows, &positions).await
    }
}
