//! Rows on their way from a statement's job to the client that fetches them.
//!
//! A [`ResultSlot`] belongs to one statement and outlives its attempts. Each attempt [`pump`]s its rows
//! to it: while they fit into [`Limits::held_back`], nothing reaches the client and the attempt can be repeated
//! unseen; once they do not, rows flow, and a lost worker fails the statement.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};

use crate::failure::Failure;

/// What a pump may keep, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of rows that are held back before the first are given to the client.
    pub(crate) held_back: usize,
    /// How long rows wait for someone to fetch them.
    pub(crate) fetch_within: Duration,
    /// How long a client that fetches rows may take none, while its job holds cores.
    pub(crate) read_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            held_back: 32 << 20,
            fetch_within: Duration::from_secs(60),
            read_within: Duration::from_secs(120),
        }
    }
}

/// Batches between an attempt and the Flight stream.
const CHANNEL: usize = 4;

/// What a client reads: rows, and a failure as the last item if there was one.
pub(crate) type Rows = mpsc::Receiver<Result<RecordBatch, Failure>>;
type RowSender = mpsc::Sender<Result<RecordBatch, Failure>>;

/// Where one statement's rows are fetched, once.
#[derive(Debug)]
pub(crate) struct ResultSlot {
    schema: SchemaRef,
    client: watch::Sender<Client>,
}

#[derive(Debug, Clone)]
enum Client {
    Awaited,
    Attached(RowSender),
    /// Has been fetched, and the statement is over.
    Served,
    /// The statement was over before anybody came.
    Over(Option<Failure>),
}

/// Why a result cannot be fetched.
#[derive(Debug, PartialEq)]
pub(crate) enum FetchError {
    /// By this or another client.
    FetchedAlready,
    Failed(Failure),
}

/// How a pump came to its end, other than by an error of the job.
#[derive(Debug, PartialEq)]
pub(crate) enum Pumped {
    /// All rows are with the client.
    Delivered {
        rows: u64,
    },
    ClientGone,
    /// Nobody came for the rows.
    Unfetched,
    /// Somebody came, and takes no more.
    Unread,
}

impl ResultSlot {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            client: watch::Sender::new(Client::Awaited),
        }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes the rows, which come as the job makes them. The channel's end is the result's end.
    pub(crate) fn fetch(&self) -> Result<Rows, FetchError> {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let mut answer = Ok(receiver);
        self.client.send_modify(|client| match client {
            Client::Awaited => *client = Client::Attached(sender),
            // A statement without rows does not wait for its client: the channel has ended already.
            Client::Over(None) => *client = Client::Served,
            Client::Over(Some(failure)) => answer = Err(FetchError::Failed(failure.clone())),
            Client::Attached(_) | Client::Served => answer = Err(FetchError::FetchedAlready),
        });
        answer
    }

    /// Ends the result. Whoever reads it sees the failure after the rows.
    pub(crate) fn end(&self, failure: Option<Failure>) {
        let mut attached = None;
        self.client.send_modify(|client| match client {
            Client::Awaited => *client = Client::Over(failure.clone()),
            Client::Attached(rows) => {
                attached = Some(rows.clone());
                *client = Client::Served;
            }
            Client::Served | Client::Over(_) => {}
        });
        let (Some(rows), Some(failure)) = (attached, failure) else {
            return;
        };
        // A full channel has a slow reader, who must still not take a part for the whole.
        if let Err(mpsc::error::TrySendError::Full(failure)) = rows.try_send(Err(failure)) {
            tokio::spawn(async move { rows.send(failure).await });
        }
    }

    async fn attached(&self) -> RowSender {
        let mut client = self.client.subscribe();
        loop {
            if let Client::Attached(rows) = &*client.borrow_and_update() {
                return rows.clone();
            }
            if client.changed().await.is_err() {
                // Cannot be: `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Resolves when the client has hung up; never before there is one.
    async fn client_gone(&self) {
        self.attached().await.closed().await;
    }
}

/// Moves an attempt's rows to the client. `deliver` is asked once, before the first row goes: from then
/// on the attempt cannot be repeated unseen.
pub(crate) async fn pump(
    mut rows: impl Stream<Item = datafusion::error::Result<RecordBatch>> + Unpin,
    slot: &ResultSlot,
    limits: Limits,
    deliver: impl Future<Output = ()>,
) -> datafusion::error::Result<Pumped> {
    let mut held = Vec::new();
    let mut held_bytes = 0;
    let mut count = 0;
    let mut is_complete = false;
    while held_bytes < limits.held_back {
        let next = tokio::select! {
            () = slot.client_gone() => return Ok(Pumped::ClientGone),
            next = rows.next() => next,
        };
        let Some(batch) = next.transpose()? else {
            is_complete = true;
            break;
        };
        count += batch.num_rows() as u64;
        held_bytes += batch.get_array_memory_size();
        held.push(batch);
    }
    if is_complete && count == 0 {
        return Ok(Pumped::Delivered { rows: 0 });
    }
    // The place in line of a job that has ended is another's while its rows wait.
    let rest = (!is_complete).then_some(rows);
    let Ok(client) = tokio::time::timeout(limits.fetch_within, slot.attached()).await else {
        return Ok(Pumped::Unfetched);
    };
    deliver.await;
    let Some(mut rows) = rest else {
        // Nobody waits for what these rows take: who reads them has all the time.
        for batch in held {
            if client.send(Ok(batch)).await.is_err() {
                return Ok(Pumped::ClientGone);
            }
        }
        return Ok(Pumped::Delivered { rows: count });
    };
    for batch in held {
        if let Some(end) = hand_over(&client, batch, limits).await {
            return Ok(end);
        }
    }
    loop {
        let next = tokio::select! {
            () = client.closed() => return Ok(Pumped::ClientGone),
            next = rows.next() => next,
        };
        let Some(batch) = next.transpose()? else {
            break;
        };
        count += batch.num_rows() as u64;
        if let Some(end) = hand_over(&client, batch, limits).await {
            return Ok(end);
        }
    }
    Ok(Pumped::Delivered { rows: count })
}

/// Gives a batch to the client; how the pump ends, where it cannot.
async fn hand_over(client: &RowSender, batch: RecordBatch, limits: Limits) -> Option<Pumped> {
    match tokio::time::timeout(limits.read_within, client.send(Ok(batch))).await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(Pumped::ClientGone),
        Err(_) => Some(Pumped::Unread),
    }
}

#[cfg(test)]
mod tests;
