//! Reaching a master, or not.

use drumline_client::{Applied, Client, Error, Kind, Options};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use crate::fake_master::FakeMaster;
use drumline_client::proto as v1;

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable_and_named() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = Client::connect(&format!("127.0.0.1:{port}"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    let said = error.to_string();
    assert!(
        said.starts_with(&format!(
            "cannot reach a master at http://127.0.0.1:{port}: Connection refused"
        )),
        "{said}"
    );
    assert!(error.hint().unwrap().contains("drumline up"));
}

#[tokio::test]
async fn a_server_that_is_no_master_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let streams = v1::streams_server::StreamsServer::new(FakeMaster::default());
    let server = tonic::transport::Server::builder().add_service(streams);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let error = Client::connect(&url).await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. })
            && error.to_string().contains("no Drumline master"),
        "{error}"
    );
}

#[tokio::test]
async fn a_listener_that_never_answers_is_unreachable_within_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut options = Options::default();
    options.connect_timeout = std::time::Duration::from_millis(300);
    let error = Client::connect_with(&url, options).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn addresses_that_make_no_sense_are_the_users_mistake() {
    for url in ["ftp://host:1", "http://", "http://host:99999"] {
        let error = Client::connect(url).await.unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{url}: {error:?}");
        assert_eq!(error.kind(), Kind::User);
    }
}

#[tokio::test]
async fn an_encrypted_master_needs_an_authority_to_be_known_by() {
    let error = Client::connect("https://master.invalid:1")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoAuthority { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("--ca"));
    let mut options = Options::default();
    options.ca = Some(b"no certificate".to_vec());
    let error = Client::connect_with("https://master.invalid:1", options)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error:?}");
}

#[tokio::test]
async fn the_token_goes_with_every_call() {
    let master = FakeMaster::default();
    let mut options = Options::default();
    options.token = Some("secret".into());
    let client = Client::connect_with(&master.serve().await, options)
        .await
        .unwrap();
    client.cluster_status().await.unwrap();
    let tokens = master.0.lock().unwrap().tokens.clone();
    assert_eq!(
        tokens,
        [
            Some("Bearer secret".to_owned()),
            Some("Bearer secret".to_owned())
        ]
    );
}

#[tokio::test]
async fn a_refused_stream_names_its_key_and_an_accepted_one_says_what_changed() {
    let master = FakeMaster::default();
    let client = Client::connect(&master.serve().await).await.unwrap();
    let definition = v1::StreamDefinition {
        name: "s".into(),
        ..Default::default()
    };
    for (created, changed, applied) in [
        (true, false, Applied::Created),
        (false, true, Applied::Changed),
        (false, false, Applied::Unchanged),
    ] {
        master.0.lock().unwrap().applied = v1::ApplyStreamResponse {
            created,
            changed,
            ..Default::default()
        };
        assert_eq!(
            client.streams().apply(definition.clone()).await.unwrap(),
            applied
        );
    }
    master.0.lock().unwrap().applied = v1::ApplyStreamResponse {
        failure: Some(v1::Failure {
            kind: v1::FailureKind::User.into(),
            message: "topic clicks does not exist at b:1".into(),
            hint: "create it first".into(),
            ..Default::default()
        }),
        key: "topic[0].topic".into(),
        ..Default::default()
    };
    let error = client.streams().apply(definition).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "stream s: topic[0].topic: topic clicks does not exist at b:1"
    );
    assert_eq!(
        (error.kind(), error.hint().as_deref()),
        (Kind::User, Some("create it first"))
    );
    let error = client.streams().status("s").await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("stream s not found", Kind::User)
    );
}
