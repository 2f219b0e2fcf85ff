use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{FutureExt, stream};

use super::*;

const LIMITS: Limits = Limits {
    held_back: 32 << 20,
    fetch_within: Duration::from_secs(60),
    read_within: Duration::from_secs(120),
};

fn batch(rows: usize) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    RecordBatch::try_from_iter([("n", numbers)]).unwrap()
}

fn rows(batches: Vec<datafusion::error::Result<RecordBatch>>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(
        batch(0).schema(),
        stream::iter(batches),
    ))
}

fn endless(batch: RecordBatch) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(
        batch.schema(),
        stream::repeat_with(move || Ok(batch.clone())),
    ))
}

fn lost() -> DataFusionError {
    DataFusionError::Execution("a worker was lost".into())
}

fn slot() -> ResultSlot {
    ResultSlot::new(batch(0).schema())
}

/// A million rows: 8 MB.
fn large() -> RecordBatch {
    batch(1_000_000)
}

#[tokio::test]
async fn nothing_of_an_attempt_that_fails_early_is_delivered() {
    let (slot, delivered) = (slot(), AtomicBool::new(false));
    let mut client = slot.fetch().unwrap();
    let deliver = || async { delivered.store(true, Ordering::Relaxed) };
    pump(
        rows(vec![Ok(large()), Err(lost())]),
        &slot,
        LIMITS,
        deliver(),
    )
    .await
    .unwrap_err();
    assert!(!delivered.load(Ordering::Relaxed));
    assert!(client.try_recv().is_err());

    let pumped = pump(rows(vec![Ok(batch(3))]), &slot, LIMITS, deliver())
        .await
        .unwrap();
    assert_eq!(pumped, Pumped::Delivered { rows: 3 });
    slot.end(None);
    assert_eq!(client.recv().await.unwrap().unwrap().num_rows(), 3);
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn rows_beyond_what_is_held_back_are_delivered_while_the_job_runs() {
    let (slot, delivered) = (slot(), AtomicBool::new(false));
    let mut client = slot.fetch().unwrap();
    let deliver = async { delivered.store(true, Ordering::Relaxed) };
    let batches = (0..9).map(|_| Ok(large())).chain([Err(lost())]).collect();
    let reading = async {
        let mut read = 0;
        while let Some(Ok(_)) = client.recv().await {
            read += 1;
        }
        read
    };
    let pumping = async {
        pump(rows(batches), &slot, LIMITS, deliver)
            .await
            .unwrap_err();
        slot.end(Some(Failure::retryable("a worker was lost")));
    };
    let (read, ()) = tokio::join!(reading, pumping);
    assert!(delivered.load(Ordering::Relaxed));
    assert_eq!(read, 9);
}

#[tokio::test]
async fn failure_follows_the_rows_even_for_a_slow_reader() {
    let slot = slot();
    let mut client = slot.fetch().unwrap();
    let batches = (0..CHANNEL).map(|_| Ok(batch(1))).collect();
    pump(rows(batches), &slot, LIMITS, async {}).await.unwrap();
    let failure = Failure::retryable("gone");
    slot.end(Some(failure.clone()));
    for _ in 0..CHANNEL {
        client.recv().await.unwrap().unwrap();
    }
    assert_eq!(client.recv().await, Some(Err(failure)));
    assert_eq!(client.recv().await, None);
}

#[tokio::test]
async fn result_that_nobody_fetches_is_given_up() {
    let limits = Limits {
        fetch_within: Duration::from_millis(20),
        ..LIMITS
    };
    let pumped = pump(rows(vec![Ok(batch(1))]), &slot(), limits, async {})
        .await
        .unwrap();
    assert_eq!(pumped, Pumped::Unfetched);
}

#[tokio::test]
async fn result_without_rows_waits_for_nobody_and_can_still_be_fetched() {
    let slot = slot();
    let pumped = pump(rows(vec![]), &slot, LIMITS, async {}).await.unwrap();
    assert_eq!(pumped, Pumped::Delivered { rows: 0 });
    slot.end(None);
    assert_eq!(slot.fetch().unwrap().recv().await, None);
    assert_eq!(slot.fetch().unwrap_err(), FetchError::FetchedAlready);
}

#[tokio::test]
async fn client_that_hangs_up_stops_an_endless_job() {
    let slot = slot();
    let client = slot.fetch().unwrap();
    let mut pumping = Box::pin(pump(endless(large()), &slot, LIMITS, async {}));
    assert!(
        (&mut pumping).now_or_never().is_none(),
        "the reader is slow"
    );
    drop(client);
    assert_eq!(pumping.await.unwrap(), Pumped::ClientGone);
}

#[tokio::test]
async fn client_that_hangs_up_before_the_first_row_is_noticed() {
    let slot = slot();
    drop(slot.fetch().unwrap());
    let silent = RecordBatchStreamAdapter::new(batch(0).schema(), stream::pending());
    assert_eq!(
        pump(Box::pin(silent), &slot, LIMITS, async {})
            .await
            .unwrap(),
        Pumped::ClientGone
    );
}

#[tokio::test]
async fn result_is_fetched_once() {
    let slot = slot();
    let _client = slot.fetch().unwrap();
    assert_eq!(slot.fetch().unwrap_err(), FetchError::FetchedAlready);
}

#[tokio::test]
async fn failed_result_says_why_to_who_comes_late() {
    let slot = slot();
    let failure = Failure::retryable("gone");
    slot.end(Some(failure.clone()));
    assert_eq!(slot.fetch().unwrap_err(), FetchError::Failed(failure));
}

#[tokio::test]
async fn a_client_that_stops_reading_does_not_hold_the_job_for_ever() {
    let slot = slot();
    let client = slot.fetch().unwrap();
    let limits = Limits {
        read_within: Duration::from_millis(50),
        ..LIMITS
    };
    let pumped = pump(endless(large()), &slot, limits, async {}).await;
    assert_eq!(pumped.unwrap(), Pumped::Unread);
    drop(client);
}

#[tokio::test]
async fn a_slow_client_may_take_its_time() {
    let slot = slot();
    let limits = Limits {
        read_within: Duration::from_millis(500),
        ..LIMITS
    };
    let mut client = slot.fetch().unwrap();
    let batches = (0..12).map(|_| Ok(large())).collect();
    let read = async {
        let mut batches = 0;
        while let Some(Ok(_)) = client.recv().await {
            batches += 1;
            // It is the client that is slow: all together takes longer than it may let one batch wait.
            tokio::time::sleep(Duration::from_millis(60)).await;
            if batches == 12 {
                break;
            }
        }
    };
    let (pumped, ()) = tokio::join!(pump(rows(batches), &slot, limits, async {}), read);
    assert_eq!(pumped.unwrap(), Pumped::Delivered { rows: 12_000_000 });
}
