//! The status page at `/`: files that `cargo xtask web` builds from `web/`, part of the binary in release
//! builds and read from the source tree in debug builds. Holds no data: what it shows it asks of `/api/v1`.
//!
//! Where the page was not built, `/` says how to get it.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Built;

/// Scripts, styles and connections of this origin only; nothing inline; in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// Names of files below this hold a digest of what is in them.
const HASHED: &str = "assets/";

/// What `/` says of itself where there is no page.
const MISSING: &str = "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Drumline</title></head>\n\
    <body>\n<h1>Drumline master</h1>\n\
    <p>This build is without the status page. With Node 18.19 or newer, <code>cargo xtask web</code> makes it; \
    a release build then has to be built again.</p>\n\
    <p>The same facts are at <a href=\"api/v1/cluster\">/api/v1</a>, and \
    <code>drumline sql -c \"SELECT * FROM system.applications\"</code> prints them.</p>\n</body>\n</html>\n";

/// `/` and what it needs.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(index))
        .route("/assets/{*name}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    page(&headers, Built::get)
}

fn page(headers: &HeaderMap, find: impl Fn(&str) -> Option<EmbeddedFile>) -> Response {
    serve("index.html", headers, find).unwrap_or_else(|| {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        with_policy(([(CONTENT_TYPE, html)], MISSING).into_response())
    })
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve(&format!("{HASHED}{name}"), &headers, Built::get)
        .unwrap_or_else(|| (StatusCode::NOT_FOUND, "not found\n").into_response())
}

/// One file, or its compressed copy, or that the browser has it already.
fn serve(
    name: &str,
    headers: &HeaderMap,
    find: impl Fn(&str) -> Option<EmbeddedFile>,
) -> Option<Response> {
    let content_type = content_type(name)?;
    let (file, encoding) = match takes_gzip(headers).then(|| find(&format!("{name}.gz"))) {
        Some(Some(file)) => (file, Some(HeaderValue::from_static("gzip"))),
        _ => (find(name)?, None),
    };
    let tag = tag(&file);
    let is_held = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|held| held.trim().trim_start_matches("W/").as_bytes() == tag.as_bytes());
    let mut response = match is_held {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => {
            let mut response = file.data.into_owned().into_response();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            if let Some(encoding) = encoding {
                headers.insert(CONTENT_ENCODING, encoding);
            }
            response
        }
    };
    let lifetime = match name.starts_with(HASHED) {
        true => "public, max-age=31536000, immutable",
        // Asked for each time, and answered with `304` as long as it is the same.
        false => "no-cache",
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(lifetime));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Some(with_policy(response))
}

fn with_policy(mut response: Response) -> Response {
    let policy: [(HeaderName, &'static str); 3] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in policy {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Of the kinds that the page consists of; there is nothing else to serve.
fn content_type(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        _ => return None,
    })
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.map(str::trim).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        is_gzip && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// From the digest of the file as it is sent, so that a compressed copy has a tag of its own.
fn tag(file: &EmbeddedFile) -> HeaderValue {
    let digest = file.metadata.sha256_hash();
    let text: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderValue::try_from(format!("\"{text}\"")).unwrap_or(HeaderValue::from_static("\"page\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a page in it; files as `rust-embed` reads them.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assets")).unwrap();
        for (name, text) in [
            ("index.html", "<p>page</p>"),
            ("index.html.gz", "compressed page"),
            ("assets/a-1.js", "script"),
            ("assets/a-1.map", "map"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn ask(name: &str, sent: &[(HeaderName, &'static str)]) -> Option<Response> {
        let folder = folder();
        let headers = sent
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect();
        serve(name, &headers, |name| {
            rust_embed::utils::read_file_from_fs(&folder.path().join(name)).ok()
        })
    }

    fn header(response: &Response, name: HeaderName) -> &str {
        response
            .headers()
            .get(name)
            .map_or("", |v| v.to_str().unwrap())
    }

    #[test]
    fn every_file_says_what_it_is_and_what_it_may_do() {
        let page = ask("index.html", &[]).unwrap();
        assert_eq!(header(&page, CONTENT_TYPE), "text/html; charset=utf-8");
        assert_eq!(header(&page, CONTENT_SECURITY_POLICY), POLICY);
        assert_eq!(header(&page, X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(header(&page, REFERRER_POLICY), "no-referrer");
        assert_eq!(header(&page, CACHE_CONTROL), "no-cache");
        assert!(!POLICY.contains("unsafe"));
        let script = ask("assets/a-1.js", &[]).unwrap();
        assert_eq!(
            header(&script, CONTENT_TYPE),
            "text/javascript; charset=utf-8"
        );
        assert!(header(&script, CACHE_CONTROL).contains("immutable"));
    }

    #[test]
    fn what_is_not_part_of_the_page_is_not_served() {
        for name in [
            "assets/none.js",
            "assets/a-1.map",
            "index.html.gz",
            "assets/",
            "assets/../x.js",
        ] {
            assert!(ask(name, &[]).is_none(), "{name}");
        }
    }

    #[test]
    fn a_browser_that_has_the_file_is_told_so() {
        let first = ask("index.html", &[]).unwrap();
        let held: &'static str = Box::leak(header(&first, ETAG).to_owned().into_boxed_str());
        let again = ask("index.html", &[(IF_NONE_MATCH, held)]).unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(header(&again, CONTENT_SECURITY_POLICY), POLICY);
        let other = ask("assets/a-1.js", &[(IF_NONE_MATCH, held)]).unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn the_compressed_copy_goes_to_those_who_take_it() {
        let copy = ask("index.html", &[(ACCEPT_ENCODING, "br, GZIP;q=0.5")]).unwrap();
        assert_eq!(header(&copy, CONTENT_ENCODING), "gzip");
        let whole = ask("index.html", &[(ACCEPT_ENCODING, "gzip;q=0, br")]).unwrap();
        assert_eq!(header(&whole, CONTENT_ENCODING), "");
        assert_ne!(header(&copy, ETAG), header(&whole, ETAG));
        let none = ask("assets/a-1.js", &[(ACCEPT_ENCODING, "gzip")]).unwrap();
        assert_eq!(
            header(&none, CONTENT_ENCODING),
            "",
            "it has no compressed copy"
        );
    }

    #[test]
    fn a_build_without_the_page_says_how_to_get_it() {
        let answer = page(&HeaderMap::new(), |_| None);
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, CONTENT_SECURITY_POLICY), POLICY);
        let body = futures::executor::block_on(axum::body::to_bytes(answer.into_body(), 1 << 16));
        let text = String::from_utf8(body.unwrap().to_vec()).unwrap();
        assert!(text.contains("cargo xtask web"), "{text}");
    }
}
