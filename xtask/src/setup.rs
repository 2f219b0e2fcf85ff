//! `cargo xtask setup`: what tests need beside Rust.
//!
//! Each part is looked for first and brought only when it is missing, so that a second run changes
//! nothing. System packages are installed where that can be done without asking: on Debian, as root.
//! Elsewhere the command to run is printed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::page;
use crate::run::{probe, run};

/// What the workspace's `rust-version` says.
const RUST: (u32, u32) = (1, 95);
/// What Apache Kafka 4 needs.
const JAVA: u32 = 17;
const KAFKA: &str = include_str!("../../testkit/kafka.version").trim_ascii();
const PYARROW: &str = include_str!("../../testkit/pyarrow.version").trim_ascii();
const MOTO: &str = include_str!("../../testkit/moto.requirements");
const ENGINES: &str = include_str!("../../testkit/engines.requirements");
/// Routes the broker's log to its stdout; goes with the log4j that Kafka brings.
const LOG4J: &str = "2.25.4";
const MAVEN_DEPENDENCY_PLUGIN: &str = "3.8.1";

/// Does all of it.
pub(crate) fn setup() -> Result<()> {
    rust()?;
    packages()?;
    kafka()?;
    pyarrow()?;
    engines()?;
    python_packages("moto", &[MOTO.trim()], MOTO, "import moto.server")?;
    npm_packages()
}

fn say(part: &str, what: &str) {
    eprintln!("setup: {part}: {what}");
}

fn rust() -> Result<()> {
    let said = probe("rustc", &["--version"]).context("no rustc: install Rust from rustup.rs")?;
    let version = said.split_whitespace().nth(1).unwrap_or_default();
    let found = first_two(version).with_context(|| format!("unknown rustc version: {said}"))?;
    ensure!(
        found >= RUST,
        "rustc {version} is too old: {}.{} is needed; `rustup update` brings it",
        RUST.0,
        RUST.1
    );
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if probe("cargo", &[tool, "--version"]).is_none() {
            say(component, "missing, adding it with rustup");
            run("rustup", &["component", "add", component])?;
        }
    }
    say("rust", &format!("{version} is there"));
    Ok(())
}

/// A system package, and how to see that it is not needed.
struct Package {
    name: &'static str,
    is_there: fn() -> bool,
}

const PACKAGES: [Package; 10] = [
    Package {
        name: "gcc",
        is_there: || probe("cc", &["--version"]).is_some(),
    },
    Package {
        name: "g++",
        is_there: || probe("c++", &["--version"]).is_some(),
    },
    Package {
        name: "make",
        is_there: || probe("make", &["--version"]).is_some(),
    },
    // OpenSSL, inside librdkafka, configures itself with it.
    Package {
        name: "perl",
        is_there: || probe("perl", &["-MFindBin", "-MIPC::Cmd", "-e", "1"]).is_some(),
    },
    Package {
        name: "openjdk-17-jdk-headless",
        is_there: || java_major() >= Some(JAVA),
    },
    Package {
        name: "maven",
        is_there: || probe("mvn", &["--version"]).is_some(),
    },
    Package {
        name: "python3-venv",
        is_there: || probe("python3", &["-c", "import venv, ensurepip"]).is_some(),
    },
    Package {
        name: "nodejs",
        is_there: || page::node_version() >= Some(page::NODE),
    },
    Package {
        name: "npm",
        is_there: || probe("npm", &["--version"]).is_some(),
    },
    // Where the page's tests look for it, unless CHROMIUM names another.
    Package {
        name: "chromium",
        is_there: || {
            std::env::var_os("CHROMIUM").is_some() || Path::new("/usr/bin/chromium").exists()
        },
    },
];

fn packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|package| !(package.is_there)())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        say(
            "system packages",
            "C compiler, make, Java, Maven, Python, Node, Chromium are there",
        );
        return Ok(());
    }
    let install = format!(
        "apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    let is_root = probe("id", &["-u"]).is_some_and(|id| id.trim() == "0");
    let is_debian = Path::new("/etc/debian_version").exists();
    if !(is_root && is_debian) {
        let sudo = if is_debian {
            "sudo "
        } else {
            "on Debian: sudo "
        };
        bail!(
            "missing: {}\n  {sudo}{install}\nthen run this again",
            missing.join(", ")
        );
    }
    say(
        "system packages",
        &format!("missing {}, running {install}", missing.join(", ")),
    );
    // A stale list is no failure as long as the install works.
    let _ = run("apt-get", &["update", "-q"]);
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(&missing);
    run(
        "env",
        &[
            &["DEBIAN_FRONTEND=noninteractive", "apt-get"],
            arguments.as_slice(),
        ]
        .concat(),
    )?;
    for package in &PACKAGES {
        ensure!(
            (package.is_there)(),
            "{} is installed but does not work",
            package.name
        );
    }
    Ok(())
}

fn kafka() -> Result<()> {
    let folder = cache()?.join(format!("kafka-{KAFKA}"));
    let part = format!("Apache Kafka {KAFKA}");
    if folder.join(format!("kafka_2.13-{KAFKA}.jar")).exists() {
        say(&part, &format!("is in {}", folder.display()));
        return Ok(());
    }
    say(
        &part,
        &format!("bringing it from Maven Central to {}", folder.display()),
    );
    into_place(&folder, |staging| {
        let pom = staging.join("pom.xml");
        std::fs::write(&pom, pom_text())?;
        let plugin = format!(
            "org.apache.maven.plugins:maven-dependency-plugin:{MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies"
        );
        run(
            "mvn",
            &[
                "--quiet",
                "--batch-mode",
                "--file",
                &pom.display().to_string(),
                &plugin,
                "-DincludeScope=runtime",
                &format!("-DoutputDirectory={}", staging.display()),
            ],
        )
    })
}

fn pom_text() -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n\
         <modelVersion>4.0.0</modelVersion>\n\
         <groupId>drumline</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>\n\
         <packaging>pom</packaging>\n\
         <dependencies>\n\
         <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>\
         <version>{KAFKA}</version></dependency>\n\
         <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>\
         <version>{LOG4J}</version></dependency>\n\
         </dependencies>\n\
         </project>\n"
    )
}

fn pyarrow() -> Result<()> {
    let package = format!("pyarrow=={PYARROW}");
    let check = "import pyarrow.parquet";
    python_packages(&format!("pyarrow-{PYARROW}"), &[&package], "", check)
}

/// Other engines that read and write Delta tables.
fn engines() -> Result<()> {
    let packages: Vec<&str> = ENGINES.split_whitespace().collect();
    python_packages(
        "engines",
        &packages,
        ENGINES,
        "import deltalake, duckdb, polars",
    )
}

/// A virtual environment with some packages; `mark` says which ones they are.
fn python_packages(name: &str, packages: &[&str], mark: &str, check: &str) -> Result<()> {
    let folder = cache()?.join(name);
    let part = packages.join(", ");
    let ready = folder.join("ready");
    if std::fs::read_to_string(&ready).is_ok_and(|found| found == mark) {
        say(&part, &format!("in {}", folder.display()));
        return Ok(());
    }
    say(
        &part,
        &format!("bringing from PyPI to {}", folder.display()),
    );
    // A virtual environment cannot be moved: made in place, and marked when it is whole.
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let at = folder.display().to_string();
    run("python3", &["-m", "venv", &at])?;
    let python = folder.join("bin/python").display().to_string();
    let mut install = vec![
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    install.extend(packages);
    run(&python, &install)?;
    run(&python, &["-c", check])?;
    std::fs::write(ready, mark)?;
    Ok(())
}

/// What builds and tests the status page, in `web/node_modules`.
fn npm_packages() -> Result<()> {
    let part = "npm packages of web/";
    match page::install()? {
        true => say(part, "brought as web/package-lock.json pins them"),
        false => say(part, "are there"),
    }
    Ok(())
}

/// `$XDG_CACHE_HOME/drumline` or `~/.cache/drumline`; testkit looks in the same place.
fn cache() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("drumline"))
}

/// Fills a new folder beside `folder` and renames it, so that `folder` is whole or not there.
fn into_place(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let staging = folder.with_extension(format!("partial-{}", std::process::id()));
    std::fs::create_dir_all(&staging)?;
    let filled = fill(&staging).and_then(|()| {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::rename(&staging, folder).context("cannot move the new folder into place")
    });
    if filled.is_err() {
        let _ = std::fs::remove_dir_all(&staging);
    }
    filled
}

fn java_major() -> Option<u32> {
    let said = probe("java", &["-version"])?;
    java_version(&said)
}

/// The major version in what `java -version` says: `openjdk version "17.0.15" 2025-04-15`.
fn java_version(said: &str) -> Option<u32> {
    let (_, rest) = said.split_once("version \"")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn first_two(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_says_its_version_in_several_ways() {
        assert_eq!(
            java_version("openjdk version \"17.0.15\" 2025-04-15"),
            Some(17)
        );
        assert_eq!(java_version("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(java_version("java version \"1.8.0_392\""), Some(1));
        assert_eq!(java_version("no java"), None);
    }

    #[test]
    fn rust_versions_compare_as_numbers() {
        assert!(first_two("1.100.0-nightly").unwrap() > RUST);
        assert!(first_two("1.94.1").unwrap() < RUST);
    }

    #[test]
    fn a_folder_that_could_not_be_filled_is_not_there() {
        let folder = std::env::temp_dir().join(format!("drumline-xtask-{}", std::process::id()));
        let failed = into_place(&folder, |_| bail!("no network"));
        assert_eq!(failed.unwrap_err().to_string(), "no network");
        assert!(!folder.exists());
        into_place(&folder, |staging| {
            Ok(std::fs::write(staging.join("jar"), "")?)
        })
        .unwrap();
        assert!(folder.join("jar").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
