//! The status page: `cargo xtask web` builds it from `web/`, and `verify` tests it in a browser.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::run::{probe, root, run_in};

/// What `engines` of `web/package.json` says.
pub(crate) const NODE: (u32, u32) = (18, 19);

/// Kept beside the installed packages: the lock that they were installed from.
const INSTALLED: &str = "node_modules/.installed-lock.json";

fn folder() -> PathBuf {
    root().join("web")
}

/// `cargo xtask web`: makes `web/dist`, which debug builds read and release builds take in.
pub(crate) fn build() -> Result<()> {
    ensure!(
        node_version().is_some_and(|found| found >= NODE),
        "the page is built with Node {}.{} or newer and npm: `cargo xtask setup` installs what is missing",
        NODE.0,
        NODE.1
    );
    install()?;
    npm(&["run", "--silent", "build"], &[])
}

/// Types, logic, and the page in Chromium against a cluster of this binary.
pub(crate) fn test(binary: &Path) -> Result<()> {
    build()?;
    npm(&["run", "--silent", "check"], &[])?;
    npm(&["run", "--silent", "test"], &[])?;
    let binary = binary.display().to_string();
    npm(
        &["run", "--silent", "test:browser"],
        &[("DRUMLINE_BIN", &binary)],
    )
}

/// Brings the packages that the lock names, unless they are there already. Says whether it had to.
pub(crate) fn install() -> Result<bool> {
    let folder = folder();
    let lock = std::fs::read(folder.join("package-lock.json"))
        .context("web/package-lock.json cannot be read")?;
    let installed = folder.join(INSTALLED);
    if std::fs::read(&installed).is_ok_and(|from| from == lock) {
        return Ok(false);
    }
    // Not `npm ci`: newer versions of it refuse a lock without download addresses, which names versions and
    // digests all the same.
    npm(&["install", "--no-save", "--no-audit", "--no-fund"], &[])?;
    std::fs::write(installed, lock)?;
    Ok(true)
}

/// Major and minor.
pub(crate) fn node_version() -> Option<(u32, u32)> {
    let said = probe("node", &["--version"])?;
    let mut parts = said.trim().trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn npm(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    run_in(&folder(), "npm", arguments, environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(name: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
    }

    #[test]
    fn packages_are_pinned_and_the_lock_names_no_host() {
        let package = json("package.json");
        for (name, version) in package["devDependencies"].as_object().unwrap() {
            let version = version.as_str().unwrap();
            assert!(
                version.chars().all(|c| c.is_ascii_digit() || c == '.'),
                "{name} is not pinned: {version}"
            );
        }
        assert!(
            package["dependencies"].is_null(),
            "the page brings all it needs"
        );
        let lock = json("package-lock.json");
        for (name, entry) in lock["packages"].as_object().unwrap() {
            assert!(entry["resolved"].is_null(), "{name} names a host");
            assert!(
                name.is_empty() || entry["integrity"].is_string(),
                "{name} has no digest"
            );
        }
    }

    #[test]
    fn the_page_says_the_node_that_is_asked_for() {
        let (major, minor) = NODE;
        assert_eq!(
            json("package.json")["engines"]["node"],
            format!(">={major}.{minor}")
        );
    }
}
