//! Two workers, their data, and ways to hurt them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use drumline_engine::server::TaskHost;
use drumline_engine::{Engine, Error, Job, Options, Query, WorkerTarget, route};
use drumline_lake::Stores;
use drumline_security::Passes;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use url::Url;

pub const EVENTS: i64 = 120_000;
pub const USERS: i64 = 500;
/// Longer than anything here takes on a busy machine, shorter than a person waits for a hang.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub type Settings = BTreeMap<String, String>;

/// Settings under which every scan is read by both workers.
pub fn forced(more: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::from([("drumline.bytes_per_task".to_owned(), "1".to_owned())]);
    settings.extend(
        more.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    settings
}

pub struct Worker {
    pub host: TaskHost,
    pub target: WorkerTarget,
    stop: Option<oneshot::Sender<()>>,
    pub frozen: watch::Sender<bool>,
}

impl Worker {
    /// A worker that is reached through a wire that can be cut or frozen.
    async fn start(id: &str, options: Options) -> Self {
        let host = TaskHost::new(options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = host.clone();
        tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            serving.serve(listener, None, stopped).await.unwrap();
        });
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", outside.local_addr().unwrap())).unwrap();
        let (frozen, wire) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = outside.accept().await {
                let far = TcpStream::connect(address).await;
                let Ok(far) = far else { continue };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(forward(near_read, far_write, wire.clone()));
                tokio::spawn(forward(far_read, near_write, wire.clone()));
            }
        });
        let target = WorkerTarget {
            id: id.to_owned(),
            url,
            cores: 1,
        };
        Self {
            host,
            target,
            stop: Some(stop),
            frozen,
        }
    }

    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub async fn idle(&self) {
        let mut running = self.host.running();
        let idle = running.wait_for(|running| *running == 0);
        tokio::time::timeout(PATIENCE, idle)
            .await
            .expect("tasks still run")
            .unwrap();
    }
}

/// Passes bytes on until the wire is frozen; then keeps the connection open and silent.
async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut wire: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            biased;
            () = frozen(&mut wire) => std::future::pending::<()>().await,
            read = from.read(&mut buffer) => match read {
                Ok(read) if read > 0 => if to.write_all(&buffer[..read]).await.is_err() { return },
                _ => return,
            },
        }
    }
}

async fn frozen(wire: &mut watch::Receiver<bool>) {
    // A test that has ended has no wire to freeze any more.
    if wire.wait_for(|frozen| *frozen).await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub struct Cluster {
    pub engine: Engine,
    pub workers: Vec<Worker>,
    pub local: SessionContext,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::with_passes(None, &[None, None]).await
    }

    pub async fn with_passes(master: Option<&Passes>, workers: &[Option<&Passes>; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tables(folder.path());
        let options = |name: &str, passes: Option<&Passes>| Options {
            passes: passes.cloned(),
            topics: Some(Arc::new(crate::topics::Numbers)),
            ..Options::new(Stores::from_env(), folder.path().join(name))
        };
        let engine = Engine::new(options("master", master)).unwrap();
        let local = drumline_engine::local_session(engine.runtime(), &Settings::new()).unwrap();
        for table in ["events", "users"] {
            let files = folder.path().join(table);
            local
                .register_parquet(
                    table,
                    files.to_str().unwrap(),
                    ParquetReadOptions::default(),
                )
                .await
                .unwrap();
        }
        let workers = vec![
            Worker::start("w1", options("w1", workers[0])).await,
            Worker::start("w2", options("w2", workers[1])).await,
        ];
        Self {
            engine,
            workers,
            local,
            folder,
        }
    }

    /// As when worker `number` has joined this master.
    pub fn join(&self, master: &Passes, number: usize, worker: &Passes) {
        let url = self.workers[number].target.url.as_str();
        let (rows, control) = master.for_worker(url).unwrap();
        worker.accept(&rows, &control).unwrap();
    }

    /// Where the tables' files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn targets(&self) -> Vec<WorkerTarget> {
        self.workers
            .iter()
            .map(|worker| worker.target.clone())
            .collect()
    }

    pub async fn job(&self, sql: &str, settings: Settings) -> Result<Job, Error> {
        let plan = self.local.state().create_logical_plan(sql).await.unwrap();
        self.engine
            .start(&Query { plan, settings }, self.targets(), route::spread(0))
            .await
    }

    pub async fn rows(&self, sql: &str, settings: Settings) -> Result<Vec<String>, Error> {
        let mut job = self.job(sql, settings).await?;
        collect(&mut job).await
    }

    pub async fn local_rows(&self, sql: &str) -> Vec<String> {
        let batches = self.local.sql(sql).await.unwrap().collect().await.unwrap();
        batches.iter().flat_map(lines).collect()
    }
}

pub async fn collect(job: &mut Job) -> Result<Vec<String>, Error> {
    let mut rows = Vec::new();
    let reading = async {
        while let Some(batch) = job.stream.next().await {
            rows.extend(lines(&batch.map_err(Error::from)?));
        }
        Ok::<(), Error>(())
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the job hangs")?;
    Ok(rows)
}

pub fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect()
}

/// `events`: four files, nine rows of ten belong to user 0. `users`: one file; two users have no events.
fn write_tables(folder: &Path) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("user_id", DataType::Int64, true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("amount", DataType::Int64, false),
        Field::new(
            "at",
            DataType::Timestamp(TimeUnit::Microsecond, None),
            false,
        ),
    ]));
    for file in 0..4 {
        let ids: Vec<i64> = (0..EVENTS).filter(|id| id % 4 == file).collect();
        let user = |id: &i64| {
            if id % 10 != 0 {
                Some(0)
            } else if id % 70 == 0 {
                None
            } else {
                Some(id / 10 % (USERS - 2))
            }
        };
        let kind = |id: &i64| {
            if id % 11 == 0 {
                None
            } else {
                Some(format!("kind {} with a name longer than a view", id % 7))
            }
        };
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(Int64Array::from(ids.clone())),
                Arc::new(Int64Array::from_iter(ids.iter().map(user))),
                Arc::new(StringArray::from_iter(ids.iter().map(kind))),
                Arc::new(Int64Array::from_iter_values(
                    ids.iter().map(|id| id * 7919 % 10_007),
                )),
                Arc::new(TimestampMicrosecondArray::from_iter_values(
                    ids.iter().map(|id| id * 1_000_000),
                )),
            ],
        );
        write_file(
            &folder.join(format!("events/{file}.parquet")),
            &batch.unwrap(),
        );
    }
    let schema = Schema::new(vec![
        Field::new("user_id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("state", DataType::Utf8, false),
    ]);
    let batch = RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from_iter_values(0..USERS)),
            Arc::new(StringArray::from_iter_values(
                (0..USERS).map(|user| format!("user {user}")),
            )),
            Arc::new(StringArray::from_iter_values(
                (0..USERS).map(|user| ["CA", "NY", "TX"][user as usize % 3]),
            )),
        ],
    );
    write_file(&folder.join("users/0.parquet"), &batch.unwrap());
}

fn write_file(path: &Path, batch: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}
