//! The port, the lock, start and stop.

use drumline_master::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, options};

async fn http_get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_serves_pages_and_calls() {
    let cluster = Cluster::start(0).await;
    let address = cluster.master.address;
    assert!(
        http_get(address, "/healthz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    // The page, or how to get it.
    assert!(
        http_get(address, "/")
            .await
            .contains("<title>Drumline</title>")
    );
    assert!(
        http_get(address, "/nothing")
            .await
            .starts_with("HTTP/1.1 404")
    );
    cluster.has_workers(0).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_port_is_named() {
    let cluster = Cluster::start(0).await;
    let folder = tempfile::tempdir().unwrap();
    let mut second = options(&folder);
    second.listen = cluster.master.address;
    let error = drumline_master::start(second).await.err().unwrap();
    assert!(
        matches!(&error, Error::Listen { address, .. } if *address == cluster.master.address),
        "{error}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_folder_is_free_again_after_stop() {
    let folder = tempfile::tempdir().unwrap();
    let first = drumline_master::start(options(&folder)).await.unwrap();
    assert!(matches!(
        drumline_master::start(options(&folder)).await,
        Err(Error::StateDirInUse { .. })
    ));
    first.stop().await;
    assert!(!folder.path().join("state/master.lock").exists());
    drumline_master::start(options(&folder))
        .await
        .unwrap()
        .stop()
        .await;
}
