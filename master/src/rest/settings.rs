//! What the master was started with. Secrets are not shown.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::asked::{Nothing, Paged};
use super::page::{Key, Order, Page, PageQuery};
use super::{Problem, Rest};
use crate::{Collector, Options};

/// What is shown in a secret's place.
const REDACTED: &str = "(redacted)";

/// One setting of the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Setting {
    name: String,
    /// As text; secrets as `(redacted)`.
    value: String,
    /// `default`, or `set` where it is something else.
    source: String,
}

/// The master's settings, by name
#[utoipa::path(
    get,
    path = "/settings",
    tag = "cluster",
    params(PageQuery),
    responses((status = 200, description = "Settings", body = Page<Setting>))
)]
pub(super) async fn list_settings(
    State(rest): State<Rest>,
    Paged(paging, _): Paged<Nothing>,
) -> Result<Json<Page<Setting>>, Problem> {
    Ok(Json(paging.page(
        Order::ByName,
        rest.settings.iter(),
        |setting| Key::name(&setting.name),
        |setting| (setting.clone(), 1),
    )))
}

/// What is shown of options.
pub(crate) fn of(options: &Options) -> Vec<Setting> {
    let defaults = Options::new(options.listen, &options.lake, &options.state_dir);
    let memory = |options: &Options| match options.memory_limit {
        Some(bytes) => format!("{bytes} bytes"),
        None => "none".to_owned(),
    };
    let mut settings = vec![
        given("listen", options.listen.to_string()),
        given("lake", options.lake.clone()),
        given("state_dir", options.state_dir.display().to_string()),
        compared(
            "work_dir",
            options.work_dir.display().to_string(),
            defaults.work_dir.display().to_string(),
        ),
        compared("memory_limit", memory(options), memory(&defaults)),
        compared(
            "concurrent_jobs",
            options.concurrent_jobs.to_string(),
            defaults.concurrent_jobs.to_string(),
        ),
        compared(
            "kept_applications",
            options.kept_applications.to_string(),
            defaults.kept_applications.to_string(),
        ),
        compared(
            "history_age",
            format!("{} s", options.history_age.as_secs()),
            format!("{} s", defaults.history_age.as_secs()),
        ),
        compared(
            "history_size",
            format!("{} bytes", options.history_size),
            format!("{} bytes", defaults.history_size),
        ),
        compared(
            "allowed_locations",
            options.allowed_locations.join(", "),
            defaults.allowed_locations.join(", "),
        ),
        compared(
            "collector",
            options
                .collector
                .as_ref()
                .map_or_else(String::new, Collector::address),
            String::new(),
        ),
    ];
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    settings
}

fn given(name: &str, value: String) -> Setting {
    setting(name, value, "set")
}

fn compared(name: &str, value: String, default: String) -> Setting {
    let source = match value == default {
        true => "default",
        false => "set",
    };
    setting(name, value, source)
}

fn setting(name: &str, value: String, source: &str) -> Setting {
    Setting {
        name: name.to_owned(),
        value: without_secrets(name, value),
        source: source.to_owned(),
    }
}

/// Nothing that is called a secret, and no credentials or parameters of a URL.
fn without_secrets(name: &str, value: String) -> String {
    let name = name.to_lowercase();
    let is_secret = [
        "secret",
        "password",
        "token",
        "credential",
        "private",
        "_key",
    ]
    .iter()
    .any(|word| name.contains(word));
    if is_secret && !value.is_empty() {
        return REDACTED.to_owned();
    }
    let Ok(mut url) = url::Url::parse(&value) else {
        return value;
    };
    let has_login = !url.username().is_empty() || url.password().is_some();
    if !has_login && url.query().is_none() {
        return value;
    }
    if has_login {
        // Fails only for URLs that cannot have a login.
        let _ = url.set_username("redacted");
        let _ = url.set_password(None);
    }
    if url.query().is_some() {
        url.set_query(Some("redacted"));
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let shown = |name: &str, value: &str| without_secrets(name, value.to_owned());
        assert_eq!(shown("webhook_token", "hush"), REDACTED);
        assert_eq!(shown("AWS_SECRET_ACCESS_KEY", "hush"), REDACTED);
        assert_eq!(shown("lake", "gs://bucket/lake"), "gs://bucket/lake");
        for url in [
            "https://me:hush@host/x",
            "https://hush@host/x",
            "https://host/x?key=hush",
        ] {
            assert!(!shown("lake", url).contains("hush"), "{url}");
        }
    }

    #[test]
    fn what_differs_from_its_default_is_said_to_be_set() {
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut options = Options::new(listen, "file:///lake", "/state");
        options.concurrent_jobs = 9;
        let settings = of(&options);
        let source = |name: &str| {
            let found = settings.iter().find(|setting| setting.name == name);
            found.unwrap().source.clone()
        };
        assert_eq!(source("concurrent_jobs"), "set");
        assert_eq!(source("kept_applications"), "default");
    }
}
