//! Every way into a master, tried by everybody who should not get in.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use drumline_master::{Authentication, Handle, Options};
use drumline_proto::v1::access_client::AccessClient;
use drumline_proto::v1::applications_client::ApplicationsClient;
use drumline_proto::v1::cluster_client::ClusterClient;
use drumline_proto::v1::{
    ClusterStatusRequest, CreateTokenRequest, Heartbeat, Hello, ListTokensRequest, ResultTicket,
    RevokeTokenRequest, SubmitRequest, WatchRequest, WorkerMessage, application_event,
    submit_request, worker_message,
};
use drumline_security::{Access, Door, Role};
use prost::Message;
use reqwest::{Client, Method, RequestBuilder, Response};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Channel;

use crate::cluster::options;

/// A master that asks for tokens, and who calls it.
struct House {
    master: Handle,
    folder: tempfile::TempDir,
    /// Tokens by what they are: a role, `expired`, `revoked`.
    tokens: BTreeMap<&'static str, String>,
    http2: Client,
}

fn with_tokens(folder: &tempfile::TempDir) -> Options {
    Options {
        authentication: Authentication::Tokens,
        ..options(folder)
    }
}

fn local_token(state: &Path) -> String {
    let text = std::fs::read_to_string(state.join("token")).unwrap();
    text.trim().to_owned()
}

fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

impl House {
    async fn open() -> Self {
        drumline_security::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let master = drumline_master::start(with_tokens(&folder)).await.unwrap();
        let admin = local_token(&folder.path().join("state"));
        let mut house = Self {
            master,
            folder,
            tokens: BTreeMap::from([("admin", admin)]),
            http2: Client::builder().http2_prior_knowledge().build().unwrap(),
        };
        for (what, role, seconds) in [
            ("submit", "submit", 0),
            ("read", "read", 3600),
            ("worker", "worker", 0),
            ("expired", "admin", 2),
            ("revoked", "admin", 0),
        ] {
            let token = house.create(what, role, seconds).await;
            house.tokens.insert(what, token);
        }
        let revoked = house.id("revoked");
        let request = authorized(RevokeTokenRequest { id: revoked }, house.token("admin"));
        house.access().await.revoke_token(request).await.unwrap();
        // Until the one that expires has.
        let status = loop {
            let response = house
                .rpc("/drumline.v1.Cluster/Status", Some("expired"))
                .await;
            match grpc_status(&response) {
                Some(16) => break response,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let said = status.headers()["grpc-message"].to_str().unwrap();
        assert!(said.contains("expired"), "{said}");
        house
    }

    async fn access(&self) -> AccessClient<Channel> {
        let channel = Channel::from_shared(self.master.url()).unwrap();
        AccessClient::new(channel.connect().await.unwrap())
    }

    async fn create(&self, name: &str, role: &str, lifetime_seconds: u64) -> String {
        let message = CreateTokenRequest {
            name: name.to_owned(),
            role: role.to_owned(),
            lifetime_seconds,
        };
        let request = authorized(message, self.token("admin"));
        let answer = self.access().await.create_token(request).await.unwrap();
        answer.into_inner().text
    }

    fn token(&self, what: &str) -> &str {
        &self.tokens[what]
    }

    fn id(&self, what: &str) -> String {
        self.token(what).split('_').nth(1).unwrap().to_owned()
    }

    fn request(&self, method: Method, path: &str, who: Option<&str>) -> RequestBuilder {
        let request = self
            .http2
            .request(method, format!("{}{path}", self.master.url()));
        match who {
            Some(who) => request.bearer_auth(self.token(who)),
            None => request,
        }
    }

    /// An empty message to a gRPC method.
    async fn rpc(&self, path: &str, who: Option<&str>) -> Response {
        let request = self.request(Method::POST, path, who);
        let request = request.header("content-type", "application/grpc");
        request.body(vec![0; 5]).send().await.unwrap()
    }

    /// Whether this caller is turned away at this door.
    async fn is_refused(&self, door: &Door, who: Option<&str>) -> bool {
        let path = fill(&door.path);
        if is_rpc(door) {
            let response = self.rpc(&path, who).await;
            return is_turned_away(&response);
        }
        let request = self.request(door.method.clone(), &path, who);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let refused = matches!(status, 401 | 403);
        if refused {
            let asks = response.headers().contains_key("www-authenticate");
            assert_eq!(asks, status == 401, "{path}");
            let said: serde_json::Value =
                serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert!(said["error"]["message"].is_string(), "{said}");
            assert!(said["error"]["hint"].is_string(), "{said}");
        }
        refused
    }
}

fn is_rpc(door: &Door) -> bool {
    door.path[1..].split('/').next().unwrap().contains('.')
}

/// Some value for each parameter of a path.
fn fill(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| match segment {
        segment if segment.starts_with('{') => "x",
        segment => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// By the gate: a service behind it may say no as well, for reasons of its own.
fn is_turned_away(response: &Response) -> bool {
    let message = response.headers().get("grpc-message");
    let message = message.map_or("", |message| message.to_str().unwrap());
    match grpc_status(response) {
        Some(16) => true,
        Some(7) => message.contains("role"),
        _ => false,
    }
}

/// Of an answer that is a status alone; others passed the door.
fn grpc_status(response: &Response) -> Option<u32> {
    let status = response.headers().get("grpc-status")?;
    status.to_str().unwrap().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_lets_in_those_it_is_for_and_nobody_else() {
    let house = House::open().await;
    let role_of = |who: &str| who.parse::<Role>().ok();
    let doors = house.master.doors().to_vec();
    assert!(doors.len() > 20, "{doors:?}");
    for door in &doors {
        let mut tried = Vec::new();
        for who in [
            None,
            Some("expired"),
            Some("revoked"),
            Some("read"),
            Some("submit"),
            Some("worker"),
            Some("admin"),
        ] {
            let expected = match door.access {
                Access::Public => false,
                Access::Needs(needed) => {
                    !who.and_then(role_of).is_some_and(|role| role.may(needed))
                }
            };
            let refused = house.is_refused(door, who).await;
            let who = who.unwrap_or("nobody");
            assert_eq!(refused, expected, "{who} at {} {}", door.method, door.path);
            tried.push(format!("{who} {}", if refused { "refused" } else { "in" }));
        }
        println!(
            "{:<7}{:<50}{:<8}{}",
            door.method.as_str(),
            door.path,
            door.access.to_string(),
            tried.join(", ")
        );
    }
    house.master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_the_contracts_and_of_flight_is_refused_to_nobody_and_the_wrong_role() {
    let house = House::open().await;
    let flight = [
        "Handshake",
        "ListFlights",
        "GetFlightInfo",
        "PollFlightInfo",
        "GetSchema",
        "DoGet",
        "DoPut",
        "DoExchange",
        "DoAction",
        "ListActions",
    ]
    .map(|method| format!("/arrow.flight.protocol.FlightService/{method}"));
    let ours = drumline_proto::METHODS
        .iter()
        .map(|path| (*path).to_owned());
    for path in ours.chain(flight) {
        for who in [None, Some("expired"), Some("revoked")] {
            let response = house.rpc(&path, who).await;
            assert_eq!(grpc_status(&response), Some(16), "{who:?} at {path}");
        }
        let listed = house.master.doors().iter().any(|door| door.path == path);
        if !listed {
            // A worker's, or one that Drumline has no use for.
            let response = house.rpc(&path, Some("admin")).await;
            assert_eq!(grpc_status(&response), Some(12), "{path}");
        }
    }
    // And what is in no contract.
    for path in [
        "/",
        "/drumline.v1.Nothing/At",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let response = house.rpc(path, None).await;
        assert_eq!(grpc_status(&response), Some(16), "{path}");
    }
    for path in [
        "/secret",
        "/api",
        "/api/v1",
        "/.git/config",
        "/%2e%2e/etc/passwd",
        "//healthz",
        "/healthz/",
    ] {
        let response = house.request(Method::GET, path, None).send().await.unwrap();
        assert_eq!(response.status(), 401, "{path}");
        let response = house
            .request(Method::GET, path, Some("admin"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    house.master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_signs_in_with_a_token_and_out_again() {
    let house = House::open().await;
    let sign_in = |token: String| {
        let body = serde_json::json!({ "token": token }).to_string();
        let request = house.request(Method::POST, "/api/v1/session", None);
        request
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    for wrong in ["drl_x", house.token("expired"), house.token("revoked")] {
        let response = sign_in(wrong.to_owned()).await.unwrap();
        assert_eq!(response.status(), 401);
        assert!(!response.headers().contains_key("set-cookie"));
    }
    let response = sign_in(house.token("read").to_owned()).await.unwrap();
    assert_eq!(response.status(), 204);
    let cookie = response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(&house.token("read")[16..]), "{cookie}");
    let session = cookie.split(';').next().unwrap().to_owned();

    let caller = |session: &str| {
        let request = house.request(Method::GET, "/api/v1/session", None);
        let request = request.header("cookie", session).send();
        async move {
            let caller: serde_json::Value = request.await.unwrap().json().await.unwrap();
            caller["role"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!(caller(&session).await, "read");
    assert_eq!(caller("").await, "", "nobody is signed in");

    let status = |session: String, own_page: bool| {
        let mut request = house
            .request(Method::POST, "/drumline.v1.Cluster/Status", None)
            .header("content-type", "application/grpc")
            .header("cookie", session)
            .body(vec![0; 5]);
        if own_page {
            request = request.header("x-drumline", "1");
        }
        async move { grpc_status(&request.send().await.unwrap()) }
    };
    let who = house
        .request(Method::GET, "/api/v1/session", None)
        .header("cookie", &session)
        .send()
        .await
        .unwrap();
    let who: serde_json::Value = serde_json::from_str(&who.text().await.unwrap()).unwrap();
    assert_eq!(
        (&who["name"], &who["role"]),
        (&"read".into(), &"read".into())
    );
    // What another site's form could send changes nothing.
    assert_eq!(status(session.clone(), false).await, Some(7));
    assert_eq!(status(session.clone(), true).await, None);
    let last = match session.ends_with('A') {
        true => 'B',
        false => 'A',
    };
    let forged = format!("{}{last}", &session[..session.len() - 1]);
    assert_eq!(caller(&forged).await, "");
    assert_eq!(status(forged, true).await, Some(16));

    let request = authorized(
        RevokeTokenRequest {
            id: house.id("read"),
        },
        house.token("admin"),
    );
    house.access().await.revoke_token(request).await.unwrap();
    assert_eq!(caller(&session).await, "", "the token is revoked");
    assert_eq!(
        status(session, true).await,
        Some(16),
        "the token is revoked"
    );

    house.master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_outlive_the_master_and_their_use_is_told() {
    let house = House::open().await;
    let House {
        master,
        folder,
        tokens,
        ..
    } = house;
    master.stop().await;
    let master = drumline_master::start(with_tokens(&folder)).await.unwrap();
    assert_eq!(local_token(&folder.path().join("state")), tokens["admin"]);
    let channel = Channel::from_shared(master.url()).unwrap();
    let mut access = AccessClient::new(channel.connect().await.unwrap());
    let list = access
        .list_tokens(authorized(ListTokensRequest {}, &tokens["admin"]))
        .await
        .unwrap()
        .into_inner()
        .tokens;
    let state = |name: &str| {
        let token = list.iter().find(|token| token.name == name).unwrap();
        (token.state.as_str(), token.last_used > 0)
    };
    assert_eq!(state("local"), ("active", true));
    assert_eq!(state("revoked"), ("revoked", false));
    assert_eq!(state("expired").0, "expired");
    assert_eq!(state("local workers"), ("active", false));
    let refused = access
        .list_tokens(authorized(ListTokensRequest {}, &tokens["revoked"]))
        .await
        .unwrap_err();
    assert!(refused.message().contains("revoked"), "{refused}");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_somebody_made_up_fetches_nothing() {
    let house = House::open().await;
    let channel = Channel::from_shared(house.master.url()).unwrap();
    let mut flight = FlightServiceClient::new(channel.connect().await.unwrap());
    let made_up = ResultTicket {
        application_id: "../../etc/passwd".to_owned(),
        ordinal: 0,
    };
    for ticket in [made_up.encode_to_vec(), vec![0; 200], vec![]] {
        let ticket = Ticket {
            ticket: ticket.into(),
        };
        let refused = flight
            .do_get(authorized(ticket, house.token("admin")))
            .await;
        let status = refused.err().unwrap();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
        assert!(status.message().contains("not one of this master's"));
    }
    house.master.stop().await;
}

impl House {
    /// A page's cookie, `name=value`.
    async fn sign_in(&self, who: &str) -> String {
        let body = serde_json::json!({ "token": self.token(who) }).to_string();
        let request = self.request(Method::POST, "/api/v1/session", None);
        let request = request.header("content-type", "application/json");
        let response = request.body(body).send().await.unwrap();
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// What happens in the cluster, as it happens.
    async fn events(&self, token: Option<&str>, cookie: Option<&str>) -> Response {
        let url = format!("{}/api/v1/events", self.master.url());
        let mut request = self.http2.get(url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    }

    async fn revoke(&self, who: &str) {
        let request = authorized(RevokeTokenRequest { id: self.id(who) }, self.token("admin"));
        self.access().await.revoke_token(request).await.unwrap();
    }

    async fn workers(&self) -> usize {
        let channel = Channel::from_shared(self.master.url()).unwrap();
        let mut cluster = ClusterClient::new(channel.connect().await.unwrap());
        let request = authorized(ClusterStatusRequest {}, self.token("admin"));
        cluster
            .status(request)
            .await
            .unwrap()
            .into_inner()
            .workers
            .len()
    }
}

/// Whether an answer ends within a few seconds.
async fn ends(mut response: Response) -> bool {
    let reading = async { while let Ok(Some(_)) = response.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_calls_end_with_the_token_they_were_made_with() {
    let mut house = House::open().await;
    let page = house.sign_in("read").await;
    let of_token = house.events(Some(house.token("read")), None).await;
    let of_page = house.events(None, Some(&page)).await;
    let mut of_other = house.events(Some(house.token("submit")), None).await;
    let soon_over = house.create("soon over", "read", 2).await;
    let of_short = house.events(Some(&soon_over), None).await;

    let worker = Hello {
        worker_id: "w".to_owned(),
        url: "http://127.0.0.1:1".to_owned(),
        cores: 1,
        build: drumline_proto::BUILD.to_owned(),
        ..Hello::default()
    };
    let (say, said) = tokio::sync::mpsc::channel(8);
    let message = |message| WorkerMessage {
        message: Some(message),
    };
    say.send(message(worker_message::Message::Hello(worker)))
        .await
        .unwrap();
    let channel = Channel::from_shared(house.master.url()).unwrap();
    let mut cluster = ClusterClient::new(channel.connect().await.unwrap());
    let joining = authorized(ReceiverStream::new(said), house.token("worker"));
    let mut orders = cluster.join(joining).await.unwrap().into_inner();
    orders.message().await.unwrap().unwrap();
    // It lives for as long as the call does.
    let beating = tokio::spawn(async move {
        loop {
            let beat = worker_message::Message::Heartbeat(Heartbeat::default());
            if say.send(message(beat)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    while house.workers().await != 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    house.revoke("read").await;
    house.revoke("worker").await;
    assert!(ends(of_token).await, "a revoked token's stream goes on");
    assert!(ends(of_page).await, "its page's stream goes on");
    assert!(ends(of_short).await, "an expired token's stream goes on");
    let ended = async {
        loop {
            match orders.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
    let status = ended.expect("the worker's call goes on").unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status}");
    assert!(status.message().contains("revoked"), "{status}");
    let gone = async {
        while house.workers().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(5), gone).await;
    gone.expect("the worker stays a member");
    beating.await.unwrap();

    // Others hear on.
    house.create("anything", "read", 0).await;
    house.tokens.remove("read");
    let chunk = tokio::time::timeout(Duration::from_secs(20), of_other.chunk()).await;
    assert!(chunk.unwrap().unwrap().is_some());
    house.master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_on_the_server() {
    let house = House::open().await;
    let (page, other) = (house.sign_in("read").await, house.sign_in("read").await);
    let port = house.master.address.port();
    assert!(
        page.starts_with(&format!("drumline_session_{port}=")),
        "{page}"
    );
    let open = house.events(None, Some(&page)).await;
    let out = house.request(Method::DELETE, "/api/v1/session", None);
    let out = out.header("cookie", &page).send().await.unwrap();
    assert_eq!(out.status(), 204);
    let gone = out.headers()["set-cookie"].to_str().unwrap();
    assert!(
        gone.starts_with(&format!("drumline_session_{port}=;")) && gone.contains("Max-Age=0"),
        "{gone}"
    );
    assert!(ends(open).await, "its stream goes on");
    for (cookie, status) in [(&page, 401), (&other, 200)] {
        let request = house.request(Method::GET, "/api/v1/jobs", None);
        let response = request.header("cookie", cookie).send().await.unwrap();
        assert_eq!(response.status(), status);
    }
    house.master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_and_a_long_result_end_with_the_token_too() {
    let house = House::open().await;
    let channel = Channel::from_shared(house.master.url()).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut applications = ApplicationsClient::new(channel.clone());
    let submission = SubmitRequest {
        body: Some(submit_request::Body::Sql(
            "SELECT value FROM generate_series(1, 100000000000)".to_owned(),
        )),
        ..SubmitRequest::default()
    };
    let submitted = authorized(submission, house.token("submit"));
    let id = applications.submit(submitted).await.unwrap().into_inner();
    let watch = WatchRequest {
        application_id: id.application_id,
    };
    let watch = authorized(watch, house.token("submit"));
    let mut events = applications.watch(watch).await.unwrap().into_inner();
    let ticket = loop {
        let event = events.message().await.unwrap().unwrap().event;
        if let Some(application_event::Event::ResultReady(ready)) = event {
            break ready.ticket;
        }
    };
    let ticket = Ticket {
        ticket: ticket.into(),
    };
    let mut rows = FlightServiceClient::new(channel)
        .max_decoding_message_size(64 << 20)
        .do_get(authorized(ticket, house.token("submit")))
        .await
        .unwrap()
        .into_inner();
    rows.message().await.unwrap().unwrap();

    house.revoke("submit").await;
    let rows_end = async { while let Ok(Some(_)) = rows.message().await {} };
    let ended = tokio::time::timeout(Duration::from_secs(5), rows_end).await;
    ended.expect("rows go on");
    let told = async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(5), told).await;
    let status = told.expect("the watch goes on").unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status}");
    house.master.stop().await;
}
