//! The OpenAPI document: a frame, the routes as registered, and what all of them have in common.

use axum::extract::State;
use axum::response::IntoResponse;
use drumline_security::{Access, Doors, Role};
use http::header::CONTENT_TYPE;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};

use super::problem::{ErrorBody, ErrorDetail};
use super::{PREFIX, Problem, Rest};

const JSON: &str = "application/json";
const TOKEN: &str = "token";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Drumline",
        description = "What a Drumline cluster knows and does, as JSON.\n\n\
            Times are milliseconds since 1970, UTC; 0 means not yet. Durations end in their unit (`_micros`), \
            sizes are bytes. Lists come in pages: `next` of one is `after` of the following. New fields may \
            be added; none is removed or changes its meaning within `/api/v1`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ErrorBody, ErrorDetail)),
    tags(
        (name = "cluster", description = "The cluster as a whole"),
        (name = "workers", description = "The processes that run tasks and consume streams"),
        (name = "applications", description = "What users submit"),
        (name = "jobs", description = "Runs of statements' plans, in stages and tasks"),
        (name = "streams", description = "Standing consumers of Kafka topics"),
        (name = "tables", description = "What is in the lake"),
        (name = "session", description = "Signing a browser in and out"),
        (name = "health", description = "For probes"),
    ),
)]
struct Frame;

/// The document before the routes are in it.
pub(super) fn frame() -> OpenApi {
    let mut document = Frame::openapi();
    document.info.version = drumline_proto::BUILD.to_owned();
    document
}

/// What each route asks for: looking, or what its action takes.
pub(super) fn doors(document: &OpenApi) -> Doors {
    let mut doors = Doors::new();
    for (path, item) in &document.paths.paths {
        // The others are open to everybody, and listed as such.
        if !path.starts_with(PREFIX) {
            continue;
        }
        if item.get.as_ref().is_some_and(|get| !is_open(get)) {
            doors = doors.get(path, Access::Needs(Role::Read));
        }
        if item.post.as_ref().is_some_and(|post| !is_open(post)) {
            let needed = match path.ends_with("/drain") {
                true => Role::Admin,
                false => Role::Submit,
            };
            doors = doors.post(path, needed);
        }
    }
    doors
}

/// Adds what holds for every route, and makes it text.
pub(super) fn finish(mut document: OpenApi) -> String {
    let bearer = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token, as `drumline token create` prints it"))
        .build();
    if let Some(components) = &mut document.components {
        components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    }
    for (path, item) in &mut document.paths.paths {
        let is_named = path.contains('{');
        let is_outside = !path.starts_with(PREFIX);
        for operation in operations(item) {
            let is_open = is_outside || is_open(operation);
            complete(operation, is_named, is_open);
        }
    }
    match document.to_json() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document cannot be written");
            "{}".to_owned()
        }
    }
}

/// Whether an operation says that it asks nobody who they are.
fn is_open(operation: &Operation) -> bool {
    let needs = operation.security.as_deref().unwrap_or_default();
    needs.contains(&SecurityRequirement::default())
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

fn complete(operation: &mut Operation, is_named: bool, is_open: bool) {
    let mut errors = vec![("503", "It cannot be done now; try again")];
    if !is_open {
        errors.extend([
            ("400", "The request cannot be understood"),
            ("401", "It is not known who asks"),
            ("403", "Who asks may not"),
            ("500", "A defect of Drumline"),
        ]);
        let needs = SecurityRequirement::new(TOKEN, Vec::<String>::new());
        operation.security.get_or_insert_with(|| vec![needs]);
    }
    if is_named {
        errors.push(("404", "No object of that name is known"));
    }
    for (status, description) in errors {
        let error = Response::builder()
            .description(description)
            .content(JSON, Content::new(Some(Ref::from_schema_name("ErrorBody"))));
        let responses = &mut operation.responses.responses;
        responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(error.build()));
    }
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "cluster",
    responses((status = 200, description = "An OpenAPI document", body = Object))
)]
pub(super) async fn get_document(
    State(rest): State<Rest>,
) -> Result<impl IntoResponse + use<>, Problem> {
    match rest.document.get() {
        Some(text) => Ok(([(CONTENT_TYPE, JSON)], text.clone())),
        None => Err(Problem::unavailable("the document is not made yet")),
    }
}
