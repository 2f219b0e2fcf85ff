//! What a broker needs to ask who comes: keys, certificates, users.
//!
//! Keys and certificates are made by the Java that runs the broker.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The user that the broker knows by every mechanism, and its password.
pub const USER: &str = "ann";
/// Her password.
pub const PASSWORD: &str = "correct-horse-7";

/// Opens the key stores.
const STORES: &str = "changeit";

/// A broker's listeners that ask who comes.
#[derive(Debug, Clone)]
pub struct Secured {
    /// Encrypted, with a user's name: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER (unsigned tokens).
    pub sasl: u16,
    /// Encrypted, with a client's certificate.
    pub tls: u16,
    folder: PathBuf,
}

impl Secured {
    /// Makes keys and certificates in a folder.
    pub(super) fn new(sasl: u16, tls: u16, folder: &Path) -> Result<Self> {
        let secured = Self {
            sasl,
            tls,
            folder: folder.to_owned(),
        };
        for (name, extension) in [
            ("broker", "SAN=ip:127.0.0.1,dns:localhost"),
            ("client", "SAN=dns:client"),
        ] {
            let store = secured.path(&format!("{name}.p12"));
            keytool(&[
                "-genkeypair",
                "-alias",
                name,
                "-keyalg",
                "EC",
                "-groupname",
                "secp256r1",
                "-validity",
                "3650",
                "-dname",
                &format!("CN={name}"),
                "-ext",
                extension,
                "-ext",
                "BC=ca:true",
                "-storetype",
                "PKCS12",
                "-keystore",
                &store,
                "-storepass",
                STORES,
            ])?;
            keytool(&[
                "-exportcert",
                "-rfc",
                "-alias",
                name,
                "-keystore",
                &store,
                "-storepass",
                STORES,
                "-file",
                &secured.path(&format!("{name}.pem")),
            ])?;
        }
        keytool(&[
            "-importcert",
            "-noprompt",
            "-alias",
            "client",
            "-file",
            &secured.path("client.pem"),
            "-storetype",
            "PKCS12",
            "-keystore",
            &secured.path("trusted.p12"),
            "-storepass",
            STORES,
        ])?;
        std::fs::write(secured.path("password"), format!("{PASSWORD}\n"))?;
        Ok(secured)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The folder with the file `password`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client's settings for a user's name and password, which is in a file.
    pub fn with_password(&self, mechanism: &str) -> Vec<(String, String)> {
        self.settings(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", USER),
            (
                "sasl.password",
                &format!("${{file:{}}}", self.path("password")),
            ),
        ])
    }

    /// A client's settings for a token that nobody signed.
    pub fn with_token(&self) -> Vec<(String, String)> {
        self.settings(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
            ("sasl.oauthbearer.config", "principal=ann"),
        ])
    }

    /// A client's settings for its certificate.
    pub fn with_certificate(&self) -> Vec<(String, String)> {
        self.settings(&[
            ("security.protocol", "SSL"),
            ("ssl.keystore.location", &self.path("client.p12")),
            ("ssl.keystore.password", STORES),
        ])
    }

    /// A client's settings without a certificate.
    pub fn without_certificate(&self) -> Vec<(String, String)> {
        self.settings(&[("security.protocol", "SSL")])
    }

    fn settings(&self, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let authority = self.path("broker.pem");
        let all = settings
            .iter()
            .copied()
            .chain([("ssl.ca.location", authority.as_str())]);
        all.map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// Lines of `server.properties`.
    pub(super) fn properties(&self) -> String {
        let login = "org.apache.kafka.common.security";
        format!(
            "inter.broker.listener.name=PLAINTEXT\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required \
             user_{USER}=\"{PASSWORD}\";\n\
             listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n\
             listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=\
             {login}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";\n\
             ssl.keystore.type=PKCS12\nssl.keystore.location={}\nssl.keystore.password={STORES}\n\
             ssl.truststore.type=PKCS12\nssl.truststore.location={}\nssl.truststore.password={STORES}\n\
             listener.name.ssl.ssl.client.auth=required\n",
            self.path("broker.p12"),
            self.path("trusted.p12"),
        )
    }

    /// Arguments of `StorageTool format`: the user, by both kinds of SCRAM.
    pub(super) fn users() -> Vec<String> {
        ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .into_iter()
            .flat_map(|kind| {
                let user = format!("{kind}=[name={USER},password={PASSWORD}]");
                ["--add-scram".to_owned(), user]
            })
            .collect()
    }
}

fn keytool(arguments: &[&str]) -> Result<()> {
    let made = Command::new("keytool")
        .args(arguments)
        .output()
        .context("cannot run keytool, which comes with java")?;
    ensure!(
        made.status.success(),
        "keytool {arguments:?}: {}{}",
        String::from_utf8_lossy(&made.stdout),
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(())
}
