use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use drumline_ingest::HostEvent;
use drumline_lake::StagedFile;

use crate::bed::{Bed, DEADLINE, answer, event};

const FOLDERS: i64 = 300;
const ROWS: i64 = 120_000;
const MEMORY: u64 = 4 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_closes_files_early_rather_than_hold_more_than_it_may() {
    let mut bed = Bed::new(4).await;
    let topic = &mut bed.definition.topics[0];
    topic.transform =
        format!("SELECT to_timestamp_millis(ts) AS at, song, n, n % {FOLDERS} AS part FROM input");
    bed.definition.flush_interval_millis = 10_000;
    for key in 0..4 {
        let mine = (0..ROWS).filter(|n| n % 4 == key);
        bed.send(&key.to_string(), mine.map(event));
    }
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    let mut host = bed.host_with(MEMORY, &pool);
    host.host.assign(bed.assign(1, 4).await);
    let (mut most, mut files) = (0, 0);
    let began = Instant::now();
    while bed.consumed("listens").await < ROWS {
        assert!(began.elapsed() < DEADLINE, "not in time");
        let event = tokio::time::timeout(Duration::from_millis(5), host.events.recv()).await;
        most = most.max(pool.reserved() as u64);
        match event {
            Ok(Some(HostEvent::Offer(offer))) => {
                for table in &offer.tables {
                    let staged: Vec<StagedFile> =
                        serde_json::from_slice(&table.files_json).unwrap();
                    files += staged.len() as i64;
                }
                bed.commit(&offer).await;
                host.host.offer_answer(answer(&offer, true));
            }
            Ok(Some(HostEvent::AssignmentFailed(failed))) => panic!("{failed:?}"),
            Ok(_) | Err(_) => {}
        }
    }
    let counted = bed
        .query("SELECT count(*), count(DISTINCT n), count(DISTINCT part) FROM listens")
        .await;
    let counted: Vec<i64> = counted[0]
        .columns()
        .iter()
        .map(|column| column.as_primitive::<Int64Type>().value(0))
        .collect();
    assert_eq!(counted, [ROWS, ROWS, FOLDERS]);
    println!("{most} bytes at most, {files} files");
    // One batch may come before the order to wait.
    assert!(most <= MEMORY + MEMORY / 2, "{most} bytes of {MEMORY}");
    assert!(
        files > FOLDERS + FOLDERS / 4,
        "{files} files: nothing was closed early"
    );
    host.host.shutdown().await;
    assert_eq!(pool.reserved(), 0, "streams that have ended hold something");
}
