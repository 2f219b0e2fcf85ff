//! A process's certificate, its key and the authority it trusts; loaded again when their files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_util::sync::CancellationToken;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::listener::ClientCertificates;
use crate::{CertificateIdentity, Error, Result, Role, private};

/// File of the authority's certificate.
pub(crate) const AUTHORITY: &str = "ca.pem";
/// What a certificate's URI begins with that tells its role.
pub(crate) const ROLE_URI: &str = "drumline:role:";
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Makes ring the provider of all of this process's TLS: the graph holds another one too, and then none is
/// the default. To be called first thing by a binary.
pub fn install_crypto() {
    // A second call finds what the first has done.
    let _ = ring::default_provider().install_default();
}

/// A process's certificate and whom it trusts. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Certificates {
    inner: Arc<Inner>,
}

struct Inner {
    files: Files,
    role: Role,
    current: ArcSwap<Loaded>,
    /// The files as they were when they were last looked at, good or not.
    seen: Mutex<Stamp>,
}

struct Files {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

struct Loaded {
    optional: Arc<ServerConfig>,
    required: Arc<ServerConfig>,
    member: Arc<ClientConfig>,
}

type Stamp = [Option<(SystemTime, u64)>; 3];

impl Certificates {
    /// Loads `ca.pem`, `<role>.pem` and `<role>.key` of a folder that `drumline init` made.
    pub fn load(folder: &Path, role: Role) -> Result<Self> {
        let files = Files {
            authority: folder.join(AUTHORITY),
            certificate: folder.join(format!("{role}.pem")),
            key: folder.join(format!("{role}.key")),
        };
        let seen = files.stamp();
        let loaded = files.load(role)?;
        Ok(Self {
            inner: Arc::new(Inner {
                files,
                role,
                current: ArcSwap::from_pointee(loaded),
                seen: Mutex::new(seen),
            }),
        })
    }

    /// The certificate of the authority, for those who connect to this process.
    pub fn authority_file(&self) -> &Path {
        &self.inner.files.authority
    }

    /// Loads again what has changed; `true` if something had. On an error the old ones stay.
    pub fn reload(&self) -> Result<bool> {
        let stamp = self.inner.files.stamp();
        let mut seen = self
            .inner
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *seen == stamp {
            return Ok(false);
        }
        *seen = stamp;
        let loaded = self.inner.files.load(self.inner.role)?;
        self.inner.current.store(Arc::new(loaded));
        Ok(true)
    }

    /// Looks at the files every few seconds, until `shutdown`.
    pub async fn watch(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match self.reload() {
                Ok(false) => {}
                Ok(true) => tracing::info!(
                    certificate = %self.inner.files.certificate.display(),
                    "certificates changed and are in use"
                ),
                Err(error) => tracing::error!(
                    %error,
                    "changed certificates cannot be used, the old ones stay in use"
                ),
            }
        }
    }

    pub(crate) fn server_config(&self, clients: ClientCertificates) -> Arc<ServerConfig> {
        let current = self.inner.current.load();
        match clients {
            ClientCertificates::Optional => Arc::clone(&current.optional),
            ClientCertificates::Required => Arc::clone(&current.required),
        }
    }

    pub(crate) fn member_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.inner.current.load().member)
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Certificates({})",
            self.inner.files.certificate.display()
        )
    }
}

impl Files {
    fn stamp(&self) -> Stamp {
        [&self.authority, &self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }

    fn load(&self, role: Role) -> Result<Loaded> {
        let wrong = |path: &Path, reason: String| Error::Certificate {
            path: path.to_path_buf(),
            reason,
        };
        let chain = certificates(&self.certificate, &bytes(&self.certificate)?)?;
        let found = chain
            .first()
            .and_then(identity_of)
            .and_then(|identity| identity.role);
        if found != Some(role) {
            let found = found.map_or("none", Role::as_str);
            let reason = format!("is used as a {role}'s certificate, and its role is {found}");
            return Err(wrong(&self.certificate, reason));
        }
        let roots = roots(&self.authority, &bytes(&self.authority)?)?;
        private::must_be_private(&self.key)?;
        let key_bytes = bytes(&self.key)?;
        let key = || {
            PrivateKeyDer::from_pem_slice(&key_bytes)
                .map_err(|error| wrong(&self.key, format!("holds no private key: {error}")))
        };
        let unusable = |error: rustls::Error| {
            wrong(
                &self.certificate,
                format!("cannot be used with {}: {error}", self.key.display()),
            )
        };
        let server = |clients: ClientCertificates| -> Result<Arc<ServerConfig>> {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
            let verifier = match clients {
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
                ClientCertificates::Required => verifier,
            };
            let verifier = verifier
                .build()
                .map_err(|error| wrong(&self.authority, error.to_string()))?;
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .map_err(unusable)?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain.clone(), key()?)
                .map_err(unusable)?;
            config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
            Ok(Arc::new(config))
        };
        let mut member = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OurAuthority {
                roots: Arc::clone(&roots),
                provider: provider(),
            }))
            .with_client_auth_cert(chain.clone(), key()?)
            .map_err(unusable)?;
        member.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Loaded {
            optional: server(ClientCertificates::Optional)?,
            required: server(ClientCertificates::Required)?,
            member: Arc::new(member),
        })
    }
}

/// A client's configuration that trusts one authority and shows no certificate.
pub(crate) fn client_config(authority_pem: &[u8]) -> Result<Arc<ClientConfig>> {
    let path = Path::new("the certificate authority");
    let unusable = |error: rustls::Error| Error::Certificate {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots(path, authority_pem)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}

/// Trusts the authorities that this machine does.
pub(crate) fn system_config() -> Result<Arc<ClientConfig>> {
    let unusable = |error: rustls::Error| Error::Certificate {
        path: "the certificates that this machine trusts".into(),
        reason: error.to_string(),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_platform_verifier()
        .map_err(unusable)?
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}

/// What a certificate says of its owner; `None` if it cannot be read.
pub(crate) fn identity_of(certificate: &CertificateDer<'_>) -> Option<CertificateIdentity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed
        .subject()
        .iter_common_name()
        .find_map(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned();
    let names = parsed.subject_alternative_name().ok().flatten();
    let mut roles = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(ROLE_URI)?.parse::<Role>().ok(),
            _ => None,
        });
    // Two roles are none: it is not ours to choose.
    let role = roles.next().filter(|_| roles.next().is_none());
    Some(CertificateIdentity { name, role })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Certificate {
            path: path.to_path_buf(),
            reason: "is not there".to_owned(),
        },
        _ => Error::read(path, error),
    })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |reason: String| Error::Certificate {
        path: path.to_path_buf(),
        reason,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("holds no certificate: {error}")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(found)
}

fn roots(path: &Path, pem: &[u8]) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| Error::Certificate {
            path: path.to_path_buf(),
            reason: format!("holds no authority's certificate: {error}"),
        })?;
    }
    Ok(Arc::new(roots))
}

/// Verifies members of the cluster: signed by our authority, whatever address they are reached by. Which
/// role they have is looked at once the handshake is done.
#[derive(Debug)]
struct OurAuthority {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OurAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests;
