//! Settings that are kept elsewhere: `${env:NAME}` and `${file:PATH}`, opened where a client is made.
//!
//! A stream's definition lies in the lake, where every reader of the lake can read it. So secrets are never in
//! it, only where they are; and because whoever may apply a stream also chooses whom its client talks to, a
//! worker opens only what was put there for this: variables whose names begin with `KAFKA_`, and files in
//! folders for secrets.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What names of variables begin with that a worker opens.
const PREFIX: &str = "KAFKA_";

/// Where container runtimes put secrets.
const FOLDERS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// A secret is a line or a key.
const LONGEST: u64 = 64 * 1024;

/// Which variables and files settings may name.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// None: any.
    folders: Option<Vec<PathBuf>>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self::below([])
    }
}

impl Secrets {
    /// Variables that begin with `KAFKA_`, and files below these folders or the usual ones.
    pub fn below(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let usual = FOLDERS.into_iter().map(PathBuf::from);
        Self {
            folders: Some(usual.chain(folders).collect()),
        }
    }

    /// Everything that this process can read: for who names settings and starts the process alike.
    pub fn any() -> Self {
        Self { folders: None }
    }

    /// A setting's value with what it names put in; the text around it stays.
    ///
    /// # Errors
    /// What is named is not there, or may not be opened. The error names it, and no value.
    pub(crate) fn open(&self, setting: &str, value: &str) -> Result<String> {
        let wrong = |reason: String| Error::KafkaSetting {
            setting: setting.to_owned(),
            reason,
        };
        let mut opened = String::with_capacity(value.len());
        let mut rest = value;
        while let Some((before, reference)) = rest.split_once("${") {
            opened.push_str(before);
            let (inside, after) = reference
                .split_once('}')
                .ok_or_else(|| wrong("\"${\" is not closed".to_owned()))?;
            let found = match inside.split_once(':') {
                Some(("env", name)) => self.variable(name),
                Some(("file", path)) => self.file(Path::new(path)),
                _ => Err(format!(
                    "${{{inside}}} is none of ${{env:NAME}}, ${{file:PATH}}"
                )),
            };
            opened.push_str(&found.map_err(wrong)?);
            rest = after;
        }
        opened.push_str(rest);
        Ok(opened)
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        if self.folders.is_some() && !name.starts_with(PREFIX) {
            return Err(format!(
                "the variable {name} is not for settings: names of those that are begin with {PREFIX}"
            ));
        }
        std::env::var(name)
            .map_err(|_| format!("the variable {name} is not set where the client runs"))
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let shown = path.display();
        let real = path
            .canonicalize()
            .map_err(|error| format!("{shown} cannot be read where the client runs: {error}"))?;
        if let Some(folders) = &self.folders {
            let holds =
                |folder: &PathBuf| folder.canonicalize().is_ok_and(|it| real.starts_with(it));
            if !folders.iter().any(holds) {
                let folders: Vec<_> = folders.iter().map(|it| it.display().to_string()).collect();
                return Err(format!(
                    "{shown} is in no folder for secrets ({}; a worker takes more with --secrets)",
                    folders.join(", ")
                ));
            }
        }
        let size = std::fs::metadata(&real).map_or(0, |metadata| metadata.len());
        if size > LONGEST {
            return Err(format!("{shown} has {size} bytes, and is no secret"));
        }
        let text = std::fs::read_to_string(&real)
            .map_err(|error| format!("{shown} cannot be read where the client runs: {error}"))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_opened_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        let secrets = Secrets::below([folder.path().to_owned()]);
        let value = format!("a-${{file:{}}}-b", path.display());
        assert_eq!(secrets.open("sasl.password", &value).unwrap(), "a-s3cret-b");
        assert_eq!(secrets.open("x", "$plain").unwrap(), "$plain");
    }

    #[test]
    fn what_is_not_meant_for_settings_is_refused_without_a_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "s3cret").unwrap();
        let check = |value: &str, expected: &str| {
            let error = Secrets::default().open("sasl.password", value).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(expected), "{value}: {error}");
            assert!(error.contains("sasl.password"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        };
        check("${env:PATH}", "names of those that are begin with KAFKA_");
        check("${env:KAFKA_NOT_SET_ANYWHERE}", "is not set");
        check(
            &format!("${{file:{}}}", path.display()),
            "is in no folder for secrets",
        );
        check("${file:/run/secrets/../../etc/passwd}", "/run/secrets");
        check("${HOME}", "is none of ${env:NAME}, ${file:PATH}");
        check("${env:KAFKA_X", "is not closed");
        let any = Secrets::any();
        let value = format!("${{file:{}}}", path.display());
        assert_eq!(any.open("sasl.password", &value).unwrap(), "s3cret");
    }
}
