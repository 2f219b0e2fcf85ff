//! The OpenAPI document against what the master really answers.

use serde_json::Value;

use super::http::{Answer, call, get};
use super::schema::wrong;
use super::{items, used};

/// Every route of the contract: none may go missing unnoticed.
const ROUTES: &[&str] = &[
    "GET /api/v1/cluster",
    "GET /api/v1/workers",
    "GET /api/v1/workers/{id}",
    "POST /api/v1/workers/{id}/drain",
    "GET /api/v1/applications",
    "GET /api/v1/applications/{id}",
    "GET /api/v1/applications/{id}/statements",
    "POST /api/v1/applications/{id}/cancel",
    "GET /api/v1/statements",
    "GET /api/v1/attempts",
    "GET /api/v1/jobs",
    "GET /api/v1/jobs/{id}",
    "GET /api/v1/jobs/{id}/stages",
    "GET /api/v1/jobs/{id}/plan",
    "GET /api/v1/stages",
    "GET /api/v1/tasks",
    "GET /api/v1/streams",
    "GET /api/v1/streams/{name}",
    "POST /api/v1/streams/{name}/pause",
    "POST /api/v1/streams/{name}/resume",
    "GET /api/v1/tables",
    "GET /api/v1/tables/{schema}/{name}",
    "GET /api/v1/commits",
    "GET /api/v1/settings",
    "GET /api/v1/events",
    "GET /api/v1/logs",
    "GET /api/v1/openapi.json",
    "GET /api/v1/session",
    "POST /api/v1/session",
    "DELETE /api/v1/session",
    "GET /healthz",
    "GET /readyz",
];

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            if !item[method].is_null() {
                found.push((method.to_uppercase(), path.clone(), item[method].clone()));
            }
        }
    }
    found
}

/// Checks an answer against what the document says of its status.
#[track_caller]
fn check(document: &Value, operation: &Value, route: &str, answer: &Answer) {
    let described = &operation["responses"][answer.status.to_string()];
    assert!(described.is_object(), "{route} may not answer {answer:?}");
    let schema = &described["content"]["application/json"]["schema"];
    if schema.is_null() {
        return;
    }
    assert!(
        answer.head.to_lowercase().contains("application/json"),
        "{answer:?}"
    );
    // The document does not describe documents.
    if route.ends_with("openapi.json") {
        return;
    }
    let found = wrong(document, schema, &answer.json(), route);
    assert!(found.is_empty(), "{found:#?}\n{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_answers_as_described() {
    let cluster = used().await;
    let address = cluster.master.address;
    let document = get(address, "/api/v1/openapi.json").await.json();
    let mut routes: Vec<String> = operations(&document)
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    let mut expected: Vec<String> = ROUTES.iter().map(|route| (*route).to_owned()).collect();
    routes.sort();
    expected.sort();
    assert_eq!(routes, expected);

    let spread = items(&cluster, "/api/v1/jobs").await;
    let job = spread[0]["id"].as_str().unwrap();
    let application = spread[0]["application"].as_str().unwrap();
    let mut bodies = 0;
    for (method, path, operation) in operations(&document) {
        let route = format!("{method} {path}");
        assert!(operation["summary"].is_string(), "{route} has no summary");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let described = parameter["description"].as_str().unwrap_or_default();
            assert!(!described.is_empty(), "{route}: {parameter}");
        }
        let id = match path.as_str() {
            path if path.contains("jobs/") => job,
            path if path.contains("applications/") => application,
            _ => "worker-0",
        };
        let concrete = path
            .replace("{id}", id)
            .replace("{schema}/{name}", "default/numbers")
            .replace("{name}", "no-such-stream");
        // Never ends.
        if path.ends_with("/events") {
            continue;
        }
        let answer = call(address, &method, &concrete).await;
        assert_ne!(answer.status, 405, "{route}");
        let is_sign_in = route == "POST /api/v1/session";
        if !path.contains("streams/") && !path.ends_with("/drain") && !is_sign_in {
            assert!((200..300).contains(&answer.status), "{route}: {answer:?}");
        }
        check(&document, &operation, &route, &answer);
        bodies += usize::from(answer.body.starts_with('{'));

        // Names that are not known, and parameters that are none.
        if path.contains("{id}") {
            let unknown = path.replace("{id}", "no-such-id");
            let answer = call(address, &method, &unknown).await;
            assert_eq!(answer.status, 404, "{unknown}: {answer:?}");
            check(&document, &operation, &route, &answer);
        }
        if operation["parameters"].to_string().contains("\"query\"") {
            let answer = call(address, &method, &format!("{concrete}?nonsense=1")).await;
            assert_eq!(answer.status, 400, "{route}: {answer:?}");
            check(&document, &operation, &route, &answer);
        }
    }
    assert!(bodies > 20, "{bodies} answers were looked at");
    cluster.stop().await;
}
