//! Which credentials a store of Google Cloud Storage will use: named for people, and refused where they are of a
//! kind that is not supported. What they are is told to nobody.

use std::path::PathBuf;

use serde::Deserialize;

/// Where a name of the environment is looked up.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the application-default credentials of a user say they are.
const WELL_KNOWN: &str = ".config/gcloud/application_default_credentials.json";
const SUPPORTED: [&str; 2] = ["service_account", "authorized_user"];

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// The credentials for `gs://`, in a few words.
///
/// # Errors
/// Why they cannot be used.
pub(crate) fn of_google(variables: Variables<'_>) -> Result<String, String> {
    // In the order in which they are looked for.
    for name in ["GOOGLE_SERVICE_ACCOUNT_KEY"] {
        if variables(name).is_some() {
            return Ok(format!("the service account's key in {name}"));
        }
    }
    for name in ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"] {
        if let Some(path) = variables(name) {
            return Ok(format!("the service account's key in {path} ({name})"));
        }
    }
    let named = variables("GOOGLE_APPLICATION_CREDENTIALS");
    let (path, from) = match named {
        Some(path) => (PathBuf::from(path), "GOOGLE_APPLICATION_CREDENTIALS"),
        None => {
            let home = variables("HOME").unwrap_or_default();
            let path = PathBuf::from(home).join(WELL_KNOWN);
            if !path.is_file() {
                return Ok("this machine's own account (metadata server)".to_owned());
            }
            (path, "application-default credentials")
        }
    };
    let shown = path.display();
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{shown} ({from}): {error}"))?;
    // What serde says of broken JSON may quote it, and it may be a key.
    let Kind { kind } = serde_json::from_str(&text)
        .map_err(|_| format!("{shown} ({from}) holds no credentials: it has no `type`"))?;
    match SUPPORTED.contains(&kind.as_str()) {
        true => Ok(format!("{kind} in {shown} ({from})")),
        false => Err(format!(
            "{shown} ({from}) holds credentials of type `{kind}`, which are not supported: use those of a service \
             account, `gcloud auth application-default login`, or the machine's own account"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(text: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adc.json");
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        of_google(&|name| (name == "GOOGLE_APPLICATION_CREDENTIALS").then(|| path.clone()))
            .map_err(|reason| reason.replace(&path, "FILE"))
            .map(|which| which.replace(&path, "FILE"))
    }

    #[test]
    fn kinds_that_are_not_supported_are_refused_by_name() {
        let reason = credentials(r#"{"type": "external_account", "audience": "x"}"#).unwrap_err();
        assert!(reason.contains("`external_account`"), "{reason}");
        let reason = credentials(r#"{"private_key": "hush""#).unwrap_err();
        assert!(!reason.contains("hush"), "{reason}");
    }

    #[test]
    fn what_will_be_used_is_named() {
        assert_eq!(
            credentials(r#"{"type": "authorized_user"}"#).unwrap(),
            "authorized_user in FILE (GOOGLE_APPLICATION_CREDENTIALS)"
        );
        let key =
            of_google(&|name| (name == "GOOGLE_SERVICE_ACCOUNT_KEY").then(|| "hush".to_owned()));
        assert_eq!(
            key.unwrap(),
            "the service account's key in GOOGLE_SERVICE_ACCOUNT_KEY"
        );
        let nothing = of_google(&|_| None).unwrap();
        assert!(nothing.contains("metadata server"), "{nothing}");
    }
}
