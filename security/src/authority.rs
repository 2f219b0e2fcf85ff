//! A small authority: one root, a certificate for masters and one for workers, in a folder of files.
//!
//! ```text
//! ca.pem   ca.key      who signs; the key is needed for new certificates only: keep it elsewhere
//! master.pem  .key     URI drumline:role:master
//! worker.pem  .key     URI drumline:role:worker; the name drumline-worker and no other
//! ```
//!
//! They are made in a folder within, which is renamed once it is whole, and then emptied file by file: what a crash
//! leaves behind, the next call removes or brings to its end.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use chrono::{Datelike as _, Days, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};

use crate::certificates::{AUTHORITY, ROLE_URI};
use crate::secret::{random, to_hex};
use crate::{Error, Result, Role, private};

const AUTHORITY_KEY: &str = "ca.key";
const AUTHORITY_DAYS: u64 = 3650;
const MEMBER_DAYS: u64 = 825;
const MEMBERS: [Role; 2] = [Role::Master, Role::Worker];
/// What workers' certificates are good for by name. They are servers too: with the master's names, whoever has a
/// worker's key could pose as the master to clients, which look at names.
pub const WORKER_NAME: &str = "drumline-worker";
/// Certificates that are being made.
const NEW: &str = ".new";
/// A whole set that is being moved to its place.
const MADE: &str = ".made";

/// Makes an authority and certificates in `folder` that are good for `names` (hosts and addresses that the
/// master and the workers are reached by). Overwrites nothing. Answers with the files made.
pub fn create(folder: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let alternatives = alternative_names(names)?;
    let all: Vec<PathBuf> = all_files().map(|name| folder.join(name)).collect();
    let made = folder.join(MADE);
    if made.exists() {
        // Of a call that did not come to its end; it may have been asked for other names.
        publish(&made, folder)?;
        renew(folder, names)?;
        return Ok(all);
    }
    if let Some(path) = all.iter().find(|path| path.exists()) {
        return Err(Error::WouldOverwrite { path: path.clone() });
    }
    let new = folder.join(NEW);
    match std::fs::remove_dir_all(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::write(new, error));
        }
        _ => {}
    }
    make_folder(&new)?;
    write_set(&new, &alternatives)?;
    private::sync_folder(&new)?;
    std::fs::rename(&new, &made).map_err(|error| Error::write(&made, error))?;
    publish(&made, folder)?;
    Ok(all)
}

/// Moves a whole set to its place. Interrupted, it can be called again.
fn publish(made: &Path, folder: &Path) -> Result<()> {
    private::sync_folder(folder)?;
    for name in all_files() {
        let (from, to) = (made.join(&name), folder.join(&name));
        match (from.exists(), to.exists()) {
            (true, true) => return Err(Error::WouldOverwrite { path: to }),
            (true, false) => {
                std::fs::rename(&from, &to).map_err(|error| Error::write(&to, error))?
            }
            (false, _) => {}
        }
    }
    private::sync_folder(folder)?;
    std::fs::remove_dir(made).map_err(|error| Error::write(made, error))
}

fn write_set(folder: &Path, names: &[SanType]) -> Result<()> {
    let paths = |name: &str| folder.join(name);
    let key = key()?;
    let params = authority_params()?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    private::write_new(&paths(AUTHORITY_KEY), key.serialize_pem().as_bytes())?;
    private::write_new(&paths(AUTHORITY), certificate.pem().as_bytes())?;
    let issuer = Issuer::new(params, key);
    for role in MEMBERS {
        let [certificate_file, key_file] = member_files(role);
        let (certificate, key) = member(&issuer, role, names)?;
        private::write_new(&paths(&key_file), key.as_bytes())?;
        private::write_new(&paths(&certificate_file), certificate.as_bytes())?;
    }
    Ok(())
}

fn all_files() -> impl Iterator<Item = String> {
    [AUTHORITY.to_owned(), AUTHORITY_KEY.to_owned()]
        .into_iter()
        .chain(MEMBERS.into_iter().flat_map(member_files))
}

/// New certificates for master and workers from the authority in `folder`. Processes that use them notice.
pub fn renew(folder: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let names = alternative_names(names)?;
    let text = |name: &str| -> Result<String> {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| Error::read(path, error))
    };
    let wrong = |name: &str, error: rcgen::Error| Error::Certificate {
        path: folder.join(name),
        reason: error.to_string(),
    };
    let key =
        KeyPair::from_pem(&text(AUTHORITY_KEY)?).map_err(|error| wrong(AUTHORITY_KEY, error))?;
    let issuer = Issuer::from_ca_cert_pem(&text(AUTHORITY)?, key)
        .map_err(|error| wrong(AUTHORITY, error))?;
    let mut made = Vec::new();
    for role in MEMBERS {
        let (certificate, key) = member(&issuer, role, &names)?;
        for (name, text) in member_files(role).into_iter().zip([certificate, key]) {
            let path = folder.join(name);
            private::replace(&path, text.as_bytes())?;
            made.push(path);
        }
    }
    Ok(made)
}

/// Certificate and key.
fn member_files(role: Role) -> [String; 2] {
    [format!("{role}.pem"), format!("{role}.key")]
}

fn make_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Error::write(folder, error))
}

fn key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

fn authority_params() -> Result<CertificateParams> {
    // A name of its own: two authorities of one name would be taken for each other.
    let mut params = params(
        &format!("Drumline authority {}", to_hex(&random::<4>()?)),
        AUTHORITY_DAYS,
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Certificate and key in PEM.
fn member(issuer: &Issuer<'_, KeyPair>, role: Role, names: &[SanType]) -> Result<(String, String)> {
    let key = key()?;
    let mut params = params(&format!("Drumline {role}"), MEMBER_DAYS);
    let uri = format!("{ROLE_URI}{role}").try_into().map_err(failed)?;
    params.subject_alt_names = match role {
        Role::Worker => vec![SanType::DnsName(WORKER_NAME.try_into().map_err(failed)?)],
        _ => names.to_vec(),
    };
    params.subject_alt_names.push(SanType::URI(uri));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn params(name: &str, days: u64) -> CertificateParams {
    let day = |date: chrono::NaiveDate| {
        // Both fit: they are a month and a day of one.
        date_time_ymd(date.year(), date.month() as u8, date.day() as u8)
    };
    let today = Utc::now().date_naive();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // A day of grace for clocks that are behind.
    params.not_before = day(today - Days::new(1));
    params.not_after = day(today + Days::new(days));
    params
}

fn alternative_names(names: &[String]) -> Result<Vec<SanType>> {
    names
        .iter()
        .map(|name| {
            let wrong = || Error::HostName { name: name.clone() };
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            if let Ok(address) = bare.parse::<IpAddr>() {
                return Ok(SanType::IpAddress(address));
            }
            let is_host = !name.is_empty()
                && !name.eq_ignore_ascii_case(WORKER_NAME)
                && name.len() <= 253
                && name.trim_start_matches("*.").split('.').all(|label| {
                    !label.is_empty()
                        && label.len() <= 63
                        && label.bytes().all(|byte| {
                            byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
                        })
                });
            let host = name.as_str().try_into().map_err(|_| wrong())?;
            is_host.then_some(SanType::DnsName(host)).ok_or_else(wrong)
        })
        .collect()
}

fn failed(error: rcgen::Error) -> Error {
    Error::bug(format!("a certificate cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};

    use super::*;

    fn names() -> Vec<String> {
        ["localhost", "127.0.0.1", "[::1]"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn all_keys_are_the_owners_alone_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tls");
        let made = create(&folder, &names()).unwrap();
        assert_eq!(made.len(), 6);
        for path in &made {
            assert_eq!(private::open_to_others(path).unwrap(), None, "{path:?}");
        }
        let before = std::fs::read(&made[0]).unwrap();
        assert!(matches!(
            create(&folder, &names()),
            Err(Error::WouldOverwrite { .. })
        ));
        assert_eq!(std::fs::read(&made[0]).unwrap(), before);
    }

    #[test]
    fn a_crash_at_any_step_leaves_nothing_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tls");
        let (new, made) = (folder.join(NEW), folder.join(MADE));
        // While the set was being written.
        make_folder(&new).unwrap();
        std::fs::write(new.join(AUTHORITY_KEY), "half").unwrap();
        let all = create(&folder, &names()).unwrap();
        assert!(!new.exists() && !made.exists());
        // While it was being moved: after so many files.
        for moved in 0..=all.len() {
            make_folder(&made).unwrap();
            for path in &all[moved..] {
                std::fs::rename(path, made.join(path.file_name().unwrap())).unwrap();
            }
            assert_eq!(create(&folder, &names()).unwrap(), all, "{moved}");
            assert!(!made.exists());
            crate::Certificates::load(&folder, Role::Worker).unwrap();
            crate::Certificates::load(&folder, Role::Master).unwrap();
        }
        assert!(matches!(
            create(&folder, &names()),
            Err(Error::WouldOverwrite { .. })
        ));
    }

    #[test]
    fn a_workers_certificate_is_good_for_none_of_the_masters_names() {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), &names()).unwrap();
        for (role, is_good) in [(Role::Master, true), (Role::Worker, false)] {
            let pem = std::fs::read(folder.path().join(format!("{role}.pem"))).unwrap();
            let der = CertificateDer::from_pem_slice(&pem).unwrap();
            let certificate = rustls::server::ParsedCertificate::try_from(&der).unwrap();
            for name in ["localhost", "127.0.0.1", "::1"] {
                let name = ServerName::try_from(name).unwrap();
                let verified = rustls::client::verify_server_name(&certificate, &name);
                assert_eq!(verified.is_ok(), is_good, "{role} {name:?}");
            }
        }
    }

    #[test]
    fn names_that_are_none_are_refused_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tls");
        for name in [
            "",
            "a b",
            "drumline-worker",
            "http://x",
            "a..b",
            "ü.example",
        ] {
            let refused = create(&folder, &[name.to_owned()]);
            assert!(matches!(refused, Err(Error::HostName { .. })), "{name}");
        }
        assert!(!folder.exists());
    }
}
