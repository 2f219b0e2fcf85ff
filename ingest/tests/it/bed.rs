//! What every test stands on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::prelude::SessionContext;
use drumline_ingest::kafka::{EmbeddedKafka, Producer};
use drumline_ingest::{HostEvent, Options, StreamHost};
use drumline_lake::{
    Catalog, Commit, Format, Lake, MadeBy, NewTable, OffsetRange, StagedFile, Stores, Table,
    TableName,
};
use drumline_proto::v1;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub const TOPIC: &str = "listens";
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct Bed {
    pub kafka: EmbeddedKafka,
    pub producer: Producer,
    pub tables: BTreeMap<String, Table>,
    pub definition: v1::StreamDefinition,
    pub folder: tempfile::TempDir,
    stores: Stores,
}

pub struct Host {
    pub host: StreamHost,
    pub events: mpsc::Receiver<HostEvent>,
}

impl Host {
    pub fn start(stores: Stores) -> Self {
        Self::of(Options::new(stores, Arc::new(|| Ok(SessionContext::new()))))
    }

    fn of(mut options: Options) -> Self {
        options.max_record_bytes = 64 << 10;
        options.threads = 2;
        let (host, events) = StreamHost::new(options);
        Self { host, events }
    }

    /// The next offer; a failed assignment fails the test.
    pub async fn offer(&mut self) -> v1::Offer {
        loop {
            match timeout(DEADLINE, self.events.recv())
                .await
                .expect("no offer in time")
                .expect("host is gone")
            {
                HostEvent::Offer(offer) => return offer,
                HostEvent::AssignmentFailed(failed) => panic!("{failed:?}"),
                HostEvent::Positions(_) => {}
            }
        }
    }

    /// The next report of positions that is as wanted.
    pub async fn report(
        &mut self,
        wanted: impl Fn(&v1::PositionReport) -> bool,
    ) -> v1::PositionReport {
        loop {
            let event = timeout(DEADLINE, self.events.recv())
                .await
                .expect("no such report in time")
                .expect("host is gone");
            match event {
                HostEvent::Positions(report) if wanted(&report) => return report,
                HostEvent::AssignmentFailed(failed) => panic!("{failed:?}"),
                HostEvent::Positions(_) | HostEvent::Offer(_) => {}
            }
        }
    }

    pub async fn failure(&mut self) -> v1::Failure {
        loop {
            let event = timeout(DEADLINE, self.events.recv())
                .await
                .expect("no failure in time")
                .expect("host is gone");
            if let HostEvent::AssignmentFailed(failed) = event {
                return failed.failure.expect("a failure");
            }
        }
    }
}

pub fn definition(brokers: &str) -> v1::StreamDefinition {
    let field = |name: &str, r#type: &str, required| v1::FieldDefinition {
        name: name.to_owned(),
        r#type: r#type.to_owned(),
        required,
    };
    let topic = v1::TopicDefinition {
        topic: TOPIC.to_owned(),
        table: "listens".to_owned(),
        schema: vec![
            field("ts", "bigint", true),
            field("song", "varchar", false),
            field("n", "integer", false),
        ],
        transform: "SELECT to_timestamp_millis(ts) AS at, song, n, n % 2 AS part FROM input"
            .to_owned(),
        partition_by: vec!["part".to_owned()],
        metadata_columns: true,
        format: "parquet".to_owned(),
        ..Default::default()
    };
    v1::StreamDefinition {
        name: "listening".to_owned(),
        brokers: brokers.to_owned(),
        flush_interval_millis: 300,
        target_file_size: 64 << 20,
        dead_letters: "rejected".to_owned(),
        topics: vec![topic],
        start_from: v1::StartFrom::Earliest.into(),
        format: "delta".to_owned(),
        ..Default::default()
    }
}

impl Bed {
    pub async fn new(partitions: u32) -> Self {
        let kafka = EmbeddedKafka::start().unwrap();
        kafka.create_topic(TOPIC, partitions).unwrap();
        let producer = Producer::connect(kafka.brokers(), &BTreeMap::new()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::from_env();
        let url = format!("file://{}", folder.path().display());
        let catalog = Catalog::open(Lake::open(&url, stores.clone()).await.unwrap())
            .await
            .unwrap();
        let definition = definition(kafka.brokers());
        let probe = v1::Probe {
            id: 1,
            definition: Some(definition.clone()),
            ..Default::default()
        };
        let probed = Host::start(stores.clone()).host.probe(&probe).await;
        assert_eq!(
            (probed.failure.as_ref(), probed.partitions[TOPIC]),
            (None, partitions)
        );
        let mut tables = BTreeMap::new();
        let new = [
            (
                "listens",
                &probed.table_schemas[TOPIC],
                Format::Parquet,
                vec!["part".to_owned()],
            ),
            (
                "rejected",
                &probed.dead_letter_schema,
                Format::Delta,
                vec![],
            ),
        ];
        for (name, ipc, format, partition_columns) in new {
            let new = NewTable {
                name: TableName::parse(name).unwrap(),
                format,
                location: None,
                schema: schema(ipc),
                partition_columns,
                properties: BTreeMap::new(),
                comment: None,
                column_comments: Default::default(),
                or_replace: false,
                created_by: None,
            };
            tables.insert(
                name.to_owned(),
                Table::create(&catalog, new, false).await.unwrap(),
            );
        }
        Self {
            kafka,
            producer,
            tables,
            definition,
            folder,
            stores,
        }
    }

    pub fn host(&self) -> Host {
        Host::start(self.stores.clone())
    }

    /// One that may hold so many bytes, which it tells the pool.
    pub fn host_with(&self, memory: u64, pool: &Arc<dyn MemoryPool>) -> Host {
        let session = Arc::new(|| Ok(SessionContext::new()));
        Host::of(Options::new(self.stores.clone(), session).with_memory(Some(memory), pool))
    }

    /// Sends values in order, all to the partition of `key`.
    pub fn send(&self, key: &str, values: impl IntoIterator<Item = Vec<u8>>) {
        for value in values {
            self.producer
                .send(
                    TOPIC,
                    Some(key.as_bytes()),
                    Some(&value),
                    Some(1_541_106_106_796),
                )
                .unwrap();
        }
        self.producer.flush(DEADLINE).unwrap();
    }

    /// What a master would send now: offsets as the tables have them.
    pub async fn assign(&self, epoch: u64, partitions: i32) -> v1::Assign {
        let mut assigned: Vec<_> = (0..partitions)
            .map(|partition| v1::AssignedPartition {
                topic: TOPIC.to_owned(),
                partition,
                ..Default::default()
            })
            .collect();
        let mut tables = Vec::new();
        for (name, table) in &self.tables {
            let target = table
                .write_target(&format!("attempt-{epoch}"))
                .await
                .unwrap();
            let write_target_json = serde_json::to_vec(&target).unwrap();
            tables.push(v1::AssignedTable {
                table: name.clone(),
                write_target_json,
                schema_ipc: Vec::new(),
            });
            for ((_, partition), offset) in table.snapshot().await.unwrap().offsets {
                assigned[usize::try_from(partition).unwrap()]
                    .table_offsets
                    .insert(name.clone(), offset);
            }
        }
        v1::Assign {
            definition: Some(self.definition.clone()),
            epoch,
            partitions: assigned,
            tables,
            ..Default::default()
        }
    }

    /// Commits an offer as a master would, table by table, without answering it.
    pub async fn commit(&self, offer: &v1::Offer) {
        for table in &offer.tables {
            self.commit_table(offer, table).await;
        }
    }

    pub async fn commit_table(&self, offer: &v1::Offer, table: &v1::OfferedTable) {
        let range = |range: &v1::OffsetRange| OffsetRange {
            topic: range.topic.clone(),
            partition: range.partition,
            from: range.from,
            to: range.to,
            ..OffsetRange::default()
        };
        let made_by = MadeBy::Stream {
            stream: offer.stream.clone(),
            epoch: offer.epoch,
            ranges: table.ranges.iter().map(range).collect(),
            lookups: Default::default(),
            definition: 0,
        };
        let files: Vec<StagedFile> = serde_json::from_slice(&table.files_json).unwrap();
        assert_eq!(table.rows, files.iter().map(|file| file.rows).sum::<u64>());
        self.tables[&table.table]
            .commit(Commit::append(made_by, files))
            .await
            .unwrap();
    }

    /// Commits and answers until the table's offsets add up to `records`.
    pub async fn commit_until(&self, host: &mut Host, records: i64) {
        while self.consumed("listens").await < records {
            let offer = host.offer().await;
            self.commit(&offer).await;
            host.host.offer_answer(answer(&offer, true));
        }
    }

    pub async fn consumed(&self, table: &str) -> i64 {
        self.tables[table]
            .snapshot()
            .await
            .unwrap()
            .offsets
            .values()
            .sum()
    }

    /// Rows of a query over the committed tables.
    pub async fn query(&self, sql: &str) -> Vec<RecordBatch> {
        let session = SessionContext::new();
        for (name, table) in &self.tables {
            let provider = table.snapshot().await.unwrap().provider().unwrap();
            session.register_table(name.as_str(), provider).unwrap();
        }
        session.sql(sql).await.unwrap().collect().await.unwrap()
    }

    /// Files under the lake that no commit has taken up.
    pub fn staged(&self) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().join("_drumline/staging")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path())
                } else {
                    found.push(entry.path())
                }
            }
        }
        found
    }
}

pub fn answer(offer: &v1::Offer, committed: bool) -> v1::OfferAnswer {
    let (stream, epoch, id) = (offer.stream.clone(), offer.epoch, offer.id);
    v1::OfferAnswer {
        stream,
        epoch,
        id,
        committed,
        reason: String::new(),
    }
}

pub fn event(n: i64) -> Vec<u8> {
    format!(
        r#"{{"ts":{},"song":"song {n}","n":{n}}}"#,
        1_541_106_106_796 + n
    )
    .into_bytes()
}

fn schema(ipc: &[u8]) -> SchemaRef {
    arrow::ipc::reader::StreamReader::try_new(ipc, None)
        .unwrap()
        .schema()
}
