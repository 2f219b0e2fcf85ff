//! More than a hundred ways to get around: paths in ids, forged tickets, other people's files, oversized and
//! nested input, tricks with headers, script in names. Each is refused or shown as text, and the cluster goes
//! on answering others.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use drumline_testkit::Cluster;
use drumline_testkit::cluster::Options;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;

const SCRIPT: &str = "<script>alert(1)</script>";
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that speaks gRPC and REST by hand, so that it can say what no client of ours would.
struct Caller {
    http: reqwest::Client,
    rpc: reqwest::Client,
    url: String,
    token: String,
}

impl Caller {
    fn new(cluster: &Cluster) -> Self {
        let plain = || reqwest::Client::builder().timeout(PATIENCE).no_proxy();
        Self {
            http: plain().http1_only().build().unwrap(),
            rpc: plain().http2_prior_knowledge().build().unwrap(),
            url: cluster.url(),
            token: cluster.token().unwrap(),
        }
    }

    /// One unary call: the gRPC status it ends with where it failed at once, and the bytes of its answer.
    async fn call(&self, url: &str, method: &str, message: &[u8]) -> (Option<i32>, Vec<u8>) {
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let answer = self
            .rpc
            .post(format!("{url}{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .bearer_auth(&self.token)
            .body(body)
            .send()
            .await;
        // A connection that is cut off counts as refused; that the server lives is looked at elsewhere.
        let Ok(answer) = answer else {
            return (Some(-1), vec![]);
        };
        let status = answer.headers().get("grpc-status").cloned();
        let status = status.map(|status| status.to_str().unwrap().parse().unwrap());
        let bytes = answer.bytes().await.unwrap_or_default();
        (status, bytes.to_vec())
    }

    /// Submits SQL; the application's id, or the status it was refused with.
    async fn submit(&self, name: &str, sql: &str) -> Result<String, i32> {
        let message = [field(1, name.as_bytes()), field(2, sql.as_bytes())].concat();
        let method = "/drumline.v1.Applications/Submit";
        let (status, answer) = self.call(&self.url, method, &message).await;
        match status {
            Some(status) if status != 0 => Err(status),
            // The frame's head, then field 1: its key and a length below 128.
            _ => Ok(String::from_utf8(answer[7..].to_vec()).unwrap()),
        }
    }

    /// Runs SQL to its end: its application as REST shows it.
    async fn run(&self, sql: &str) -> Result<Value, i32> {
        let id = self.submit("payload", sql).await?;
        let until = Instant::now() + PATIENCE;
        loop {
            let application = self.get(&format!("/api/v1/applications/{id}")).await.1;
            let state = application["state"].as_str().unwrap_or_default();
            if !["waiting", "running"].contains(&state) {
                return Ok(application);
            }
            assert!(Instant::now() < until, "`{sql:.200}` hangs: {application}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(format!("{}{path}", self.url));
        let answer = answer.bearer_auth(&self.token).send().await.unwrap();
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").cloned();
        let text = answer.text().await.unwrap();
        if status == 200 {
            let kind = kind.unwrap();
            assert!(
                kind.to_str().unwrap().starts_with("application/json"),
                "{path} is {kind:?}"
            );
        }
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

/// A length-delimited protobuf field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

fn cluster() -> Cluster {
    Cluster::start(Options {
        workers: 1,
        ..Options::default()
    })
    .unwrap()
}

/// Others are unharmed: a query gives its answer.
fn still_answers(cluster: &Cluster) {
    let sum = cluster.number("SELECT sum(value) FROM generate_series(1, 1000)");
    assert_eq!(sum.unwrap(), 500_500);
}

#[tokio::test]
async fn sql_reaches_no_file_bucket_or_address_that_is_not_the_lakes() {
    let cluster = cluster();
    let caller = Caller::new(&cluster);
    let elsewhere = [
        "file:///etc/passwd",
        "file:///etc/",
        "/etc/passwd",
        "/",
        "file:///",
        "file:///proc/self/environ",
        "file:///proc/self/root/etc/",
        "../../../../etc/",
        "../state/",
        "t/../../state/",
        "file://localhost/etc/",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1:7077/",
        "https://example.com/data/",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1:25/x",
        "gs://somebody-elses/data/",
        "s3://somebody-elses/data/",
        "s3a://somebody-elses/data/",
        "s3://key:secret@bucket/x/",
        "s3://bucket/x/?endpoint=http://169.254.169.254",
        "az://container/x/",
        "memory:///x/",
        "_drumline/catalog/",
        "%5Fdrumline/catalog/",
        "t/%2e%2e/%2e%2e/state/",
        "t\\..\\..\\state",
        "data:text/plain,x",
    ];
    let mut statements: Vec<String> = vec![];
    for location in elsewhere {
        statements.push(format!(
            "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '{location}'"
        ));
        statements.push(format!(
            "CREATE TABLE x STORED AS PARQUET LOCATION '{location}' AS SELECT 1 AS a"
        ));
        // Relative ones without `..` are folders of odd names under the lake's root.
        if location.contains("://") || location.starts_with(['/', '.', '_']) {
            statements.push(format!(
                "COPY (SELECT 1 AS a) TO '{location}' STORED AS CSV OPTIONS (existing 'replace')"
            ));
        }
    }
    statements.extend(
        [
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM \"/etc/passwd\"",
            "SELECT * FROM \"file:///etc/passwd\"",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM read_parquet('/etc/passwd')",
            "SELECT * FROM read_json('/etc/passwd')",
            "COPY (SELECT 1 AS a) TO '/tmp/drumline-payload.parquet'",
            "COPY (SELECT 1 AS a) TO 'gs://somebody-elses/x.parquet'",
            "INSERT INTO '/tmp/x' SELECT 1",
            "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION 's3://b/x/' OPTIONS ('aws.endpoint' 'http://169.254.169.254')",
            "SET datafusion.runtime.temp_directory = '/etc'",
            "SET aws.endpoint = 'http://169.254.169.254'",
            "CREATE FUNCTION f() RETURNS INT LANGUAGE C AS '/tmp/evil.so'",
            "LOAD '/tmp/evil.so'",
        ]
        .map(str::to_owned),
    );
    for sql in &statements {
        match caller.run(sql).await {
            Err(_) => {}
            Ok(application) => {
                // A table's folder is under the lake's root whatever it is called, and these are odd names.
                let odd = ["'t\\..", "'%5F", "'t/%2e"]
                    .iter()
                    .any(|name| sql.contains(name));
                let inside = sql.starts_with("CREATE TABLE x") && odd;
                let failed = application["state"] == "failed";
                assert!(failed || inside, "`{sql}` was not refused: {application}");
                let kind = &application["failure"]["kind"];
                assert!(inside || kind != "bug", "`{sql}`: {application}");
            }
        }
    }
    assert!(statements.len() >= 70);
    assert!(!std::path::Path::new("/tmp/drumline-payload.parquet").exists());
    still_answers(&cluster);
}

#[tokio::test]
async fn oversized_and_deeply_nested_input_is_refused_and_nothing_falls_over() {
    let cluster = cluster();
    let caller = Caller::new(&cluster);
    let nested = |open: &str, close: &str, depth: usize| {
        format!("SELECT {}1{}", open.repeat(depth), close.repeat(depth))
    };
    let refused = [
        format!("SELECT '{}'", "x".repeat(5 << 20)),
        nested("(", ")", 50_000),
        nested("CASE WHEN true THEN ", " END", 20_000),
        nested("abs(", ")", 20_000),
        nested("NOT ", "", 100_000),
        nested("- ", "", 100_000),
        nested("(SELECT ", ")", 5_000),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(20_000)),
        format!("SELECT 1{}", " + 1".repeat(100_000)),
        format!("SELECT ARRAY{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        "SELECT '".to_owned(),
        "SELECT \u{0}".to_owned(),
        ";".repeat(3 << 20),
        format!("SELECT 1 AS \"{}\" FROM nothing", "n".repeat(1 << 20)),
    ];
    for sql in &refused {
        if let Ok(application) = caller.run(sql).await {
            let is_only_semicolons = sql.starts_with(';');
            let state = &application["state"];
            assert!(
                state == "failed" || is_only_semicolons,
                "{sql:.60}: {state}"
            );
        }
    }
    // Larger than any message.
    let huge = vec![b'x'; 65 << 20];
    assert!(
        caller
            .submit("huge", std::str::from_utf8(&huge).unwrap())
            .await
            .is_err()
    );
    still_answers(&cluster);
}

#[tokio::test]
async fn ids_are_no_paths_and_tickets_cannot_be_made_up() {
    let cluster = cluster();
    let caller = Caller::new(&cluster);
    let long = "a".repeat(100_000);
    let ids = [
        "..",
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "a/../../b",
        "/etc/passwd",
        "C:\\windows",
        "\u{0}",
        "a\nb",
        "'; DROP TABLE x; --",
        "\" OR 1=1",
        SCRIPT,
        "${jndi:ldap://127.0.0.1/x}",
        "{{7*7}}",
        "\u{202e}",
        long.as_str(),
    ];
    for id in ids {
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [
            format!("/api/v1/applications/{encoded}"),
            format!("/api/v1/jobs/{encoded}"),
            format!("/api/v1/workers/{encoded}"),
            format!("/api/v1/streams/{encoded}"),
            format!("/api/v1/logs?component={encoded}"),
            format!("/assets/{encoded}"),
        ] {
            let (status, body) = caller.get_any(&path).await;
            // A client takes `%2E%2E` away itself: this one asks for the page.
            let is_page = id == ".." && path.starts_with("/assets/");
            assert!(
                (400..500).contains(&status) || is_page,
                "{path:.100} is {status}"
            );
            assert!(!body.contains("root:x:0"), "{path:.100}");
        }
        for method in ["Watch", "Cancel"] {
            let method = format!("/drumline.v1.Applications/{method}");
            let (status, _) = caller
                .call(&caller.url, &method, &field(1, id.as_bytes()))
                .await;
            assert!(
                status.is_some_and(|status| status != 0),
                "{method} {id:.40}"
            );
        }
    }
    let mut tickets: Vec<Vec<u8>> = vec![
        vec![],
        b"../../etc/passwd".to_vec(),
        field(1, b"../../etc/passwd"),
        vec![0; 1 << 20],
        vec![0xff; 41],
        vec![1; 41],
        b"{\"sql\":\"SELECT 1\"}".to_vec(),
    ];
    // What a ticket would hold, without its seal.
    let id = caller.submit("mine", "SELECT 1").await.unwrap();
    tickets.push([field(1, id.as_bytes()), vec![0x10, 1]].concat());
    let do_get = "/arrow.flight.protocol.FlightService/DoGet";
    let workers = caller.get("/api/v1/workers").await.1;
    let worker = workers["items"][0]["url"]
        .as_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    for ticket in &tickets {
        for server in [&caller.url, &worker] {
            let (status, _) = caller.call(server, do_get, &field(1, ticket)).await;
            assert!(
                status.is_some_and(|status| status != 0),
                "{ticket:.40?} at {server}"
            );
        }
    }
    for method in [
        "/drumline.v1.Tasks/Run",
        "/drumline.v1.Nothing/AtAll",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let (status, _) = caller.call(&worker, method, &[]).await;
        assert!(status.is_some_and(|status| status != 0), "{method}");
    }
    still_answers(&cluster);
}

impl Caller {
    async fn get_any(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.url));
        match answer.bearer_auth(&self.token).send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                (status, answer.text().await.unwrap_or_default())
            }
            // Longer than any line it reads: cut off.
            Err(_) => (400, String::new()),
        }
    }
}

#[tokio::test]
async fn tricks_with_headers_get_nobody_in() {
    let cluster = cluster();
    let caller = Caller::new(&cluster);
    let good = format!("Bearer {}", caller.token);
    let port = caller.url.rsplit_once(':').unwrap().1;
    let session = format!("drumline_session_{port}");
    let tricks: Vec<Vec<(&str, String)>> = vec![
        vec![],
        vec![("authorization", "Bearer".to_owned())],
        vec![("authorization", "Bearer ".to_owned())],
        vec![("authorization", "Basic YWRtaW46YWRtaW4=".to_owned())],
        vec![("authorization", "Bearer null".to_owned())],
        vec![("authorization", format!("Bearer {SCRIPT}"))],
        vec![
            ("authorization", "Bearer nobody".to_owned()),
            ("authorization", good.clone()),
        ],
        vec![
            ("authorization", good.clone()),
            ("authorization", good.clone()),
        ],
        vec![("x-forwarded-for", "127.0.0.1".to_owned())],
        vec![("x-real-ip", "127.0.0.1".to_owned())],
        vec![("x-original-url", "/healthz".to_owned())],
        vec![("x-rewrite-url", "/healthz".to_owned())],
        vec![("x-http-method-override", "GET".to_owned())],
        vec![("host", "localhost".to_owned())],
        vec![("cookie", format!("{session}="))],
        vec![("cookie", format!("{session}=AAAA"))],
        vec![("cookie", format!("{session}={}", caller.token))],
        vec![("content-type", "application/grpc".to_owned())],
        vec![("x-drumline-identity", "admin".to_owned())],
    ];
    for trick in tricks {
        let mut headers = HeaderMap::new();
        for (name, value) in &trick {
            let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let answer = caller
            .http
            .get(format!("{}/api/v1/applications", caller.url));
        let answer = answer.headers(headers).send().await.unwrap();
        let status = answer.status().as_u16();
        let rpc = answer.headers().get("grpc-status").cloned();
        let refused = status == 401 || rpc.is_some_and(|status| status == "16");
        assert!(refused, "{trick:?} is {status}");
        assert!(!answer.text().await.unwrap().contains(&caller.token));
    }
    for request in [
        "GET /api/v1/applications HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/applications HTTP/1.1\r\n\r\n".to_owned(),
        "GET /api/v1/applications\r\n".to_owned(),
        "GET http://127.0.0.1/api/v1/applications HTTP/1.1\r\nHost: y\r\n\r\n".to_owned(),
        "GET //api/v1/applications HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /healthz/../api/v1/applications HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /assets/../api/v1/applications HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /API/V1/applications HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /api/v1/applications;x=/healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /api/v1/applications%00 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: y\r\n".repeat(2_000)),
    ] {
        let address = caller.url.trim_start_matches("http://");
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        // It may be cut off in the middle.
        let _ = socket.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("\"items\""), "{request:.80}: {answer:.300}");
    }
    still_answers(&cluster);
}

#[tokio::test]
async fn script_in_names_is_shown_as_text() {
    let cluster = cluster();
    let caller = Caller::new(&cluster);
    let id = caller
        .submit(SCRIPT, &format!("SELECT '{SCRIPT}' AS \"{SCRIPT}\""))
        .await
        .unwrap();
    let (status, application) = caller.get(&format!("/api/v1/applications/{id}")).await;
    assert_eq!((status, application["name"].as_str()), (200, Some(SCRIPT)));
    caller
        .run(&format!("CREATE TABLE \"{SCRIPT}\" AS SELECT 1 AS a"))
        .await
        .ok();
    let answer = caller
        .http
        .get(format!("{}/api/v1/applications", caller.url));
    let answer = answer.bearer_auth(&caller.token).send().await.unwrap();
    let headers: BTreeMap<String, String> = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    assert!(
        headers["content-type"].starts_with("application/json"),
        "{headers:?}"
    );
    assert_eq!(
        headers.get("x-content-type-options").map(String::as_str),
        Some("nosniff")
    );
    still_answers(&cluster);
}

/// Secrets that a cluster is given, and where none of them may come out.
#[tokio::test]
async fn no_secret_comes_out_anywhere() {
    const CANARY: &str = "canary-5f1c9e7a";
    let cluster = Cluster::start(Options {
        workers: 1,
        environment: vec![
            ("AWS_ACCESS_KEY_ID".to_owned(), format!("{CANARY}-id")),
            (
                "AWS_SECRET_ACCESS_KEY".to_owned(),
                format!("{CANARY}-secret"),
            ),
            ("KAFKA_PASSWORD".to_owned(), format!("{CANARY}-password")),
        ],
        ..Options::default()
    })
    .unwrap();
    let caller = Caller::new(&cluster);
    // Errors of every kind that could quote what they were given.
    caller
        .run("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION 's3://nobody/x/'")
        .await
        .ok();
    caller.run("SELECT nothing FROM nowhere").await.ok();
    // Nobody fetches its rows, so it is not waited for.
    caller.submit("plan", "EXPLAIN VERBOSE SELECT 1").await.ok();
    caller.run("CREATE TABLE t AS SELECT 1 AS a").await.ok();
    let stream = "name = \"s\"\nbrokers = \"127.0.0.1:1\"\n[kafka]\n\"sasl.username\" = \"u\"\n\"sasl.password\" = \"${KAFKA_PASSWORD}\"\n\
         [[topic]]\ntopic = \"t\"\nschema = { a = \"bigint\" }\n";
    let file = cluster.path("s.toml");
    std::fs::write(&file, stream).unwrap();
    let applied = cluster
        .run(&["stream", "apply", file.to_str().unwrap()])
        .unwrap();
    let said = |output: &std::process::Output| [&output.stdout[..], &output.stderr[..]].concat();
    let mut seen: Vec<(String, Vec<u8>)> = vec![("stream apply".to_owned(), said(&applied))];
    for path in [
        "/api/v1/cluster",
        "/api/v1/workers",
        "/api/v1/applications",
        "/api/v1/statements",
        "/api/v1/jobs",
        "/api/v1/tasks",
        "/api/v1/streams",
        "/api/v1/tables",
        "/api/v1/commits",
        "/api/v1/settings",
        "/api/v1/logs?component=master&tail=1000",
        "/metrics",
        "/",
    ] {
        seen.push((path.to_owned(), caller.get_any(path).await.1.into_bytes()));
    }
    for table in [
        "applications",
        "statements",
        "jobs",
        "operators",
        "workers",
        "streams",
    ] {
        let sql = format!("SELECT * FROM system.{table}");
        let rows = cluster.run(&["sql", "-c", &sql]).unwrap();
        seen.push((format!("system.{table}"), said(&rows)));
    }
    let settings = cluster.run(&["sql", "-c", "SHOW ALL"]).unwrap();
    seen.push(("SHOW ALL".to_owned(), said(&settings)));
    for log in std::fs::read_dir(cluster.path("logs")).unwrap() {
        let path = log.unwrap().path();
        seen.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
    for (place, bytes) in &seen {
        let text = String::from_utf8_lossy(bytes);
        assert!(
            !text.contains(CANARY),
            "{place} shows a secret: {text:.400}"
        );
        assert!(!text.contains(&caller.token), "{place} shows a token");
    }
}
