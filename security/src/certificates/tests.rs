//! Real sockets: who is let in by whom.

use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower::Service as _;

use super::*;
use crate::{Connection, Connector, Incoming, Peer, Trust, authority, incoming};

fn authority_in(folder: &Path) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    authority::create(folder, &names).unwrap();
}

struct Server {
    url: String,
    incoming: Incoming,
}

async fn serve(certificates: &Certificates, clients: ClientCertificates) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    Server {
        url,
        incoming: incoming(listener, Some(certificates.clone()), clients),
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Server {
    /// Connects, and passes a byte each way; answers with whom the server saw.
    async fn meets(&mut self, trust: Trust) -> Outcome<Peer> {
        let client = async {
            let mut io: TokioIo<Connection> = Connector::new(trust).call(self.url.parse()?).await?;
            let connection = io.inner_mut();
            connection.write_all(b"?").await?;
            connection.flush().await?;
            let mut answer = [0];
            connection.read_exact(&mut answer).await?;
            Outcome::Ok(())
        };
        let server = async {
            loop {
                let Some(Ok(mut connection)) = self.incoming.next().await else {
                    return Err("no connection".into());
                };
                let mut question = [0];
                if connection.read_exact(&mut question).await.is_ok() {
                    connection.write_all(b"!").await?;
                    connection.flush().await?;
                    return Outcome::Ok(connection.peer());
                }
            }
        };
        let both = async {
            tokio::select! {
                met = async { tokio::try_join!(client, server) } => met.map(|(_, peer)| peer),
                () = tokio::time::sleep(Duration::from_secs(2)) => Err("nothing happened".into()),
            }
        };
        both.await
    }
}

fn member(folder: &Path, own: Role, to: Role) -> Trust {
    Trust::Member(Certificates::load(folder, own).unwrap(), to)
}

#[tokio::test]
async fn members_know_each_other_by_role() {
    let folder = tempfile::tempdir().unwrap();
    authority_in(folder.path());
    let worker = Certificates::load(folder.path(), Role::Worker).unwrap();
    let mut server = serve(&worker, ClientCertificates::Required).await;
    for own in [Role::Master, Role::Worker] {
        let peer = server
            .meets(member(folder.path(), own, Role::Worker))
            .await
            .unwrap();
        assert_eq!(peer.certificate.unwrap().role, Some(own));
        assert!(peer.encrypted);
    }
    // A worker is no master, whoever it says it is.
    let refused = server.meets(member(folder.path(), Role::Worker, Role::Master));
    let said = refused.await.unwrap_err().to_string();
    assert!(
        said.contains("is no master") && said.contains("worker"),
        "{said}"
    );
}

#[tokio::test]
async fn who_shows_no_certificate_or_one_of_another_authority_is_hung_up_on() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority_in(folder.path());
    authority_in(other.path());
    let worker = Certificates::load(folder.path(), Role::Worker).unwrap();
    let ca = std::fs::read(folder.path().join(AUTHORITY)).unwrap();

    let mut server = serve(&worker, ClientCertificates::Required).await;
    assert!(server.meets(Trust::Plain).await.is_err());
    assert!(server.meets(Trust::authority(&ca).unwrap()).await.is_err());
    let stranger = member(other.path(), Role::Master, Role::Worker);
    assert!(server.meets(stranger).await.is_err());
    // And the server goes on.
    let master = member(folder.path(), Role::Master, Role::Worker);
    assert!(server.meets(master).await.is_ok());
}

#[tokio::test]
async fn a_client_needs_no_certificate_at_a_master_and_checks_its_name_and_authority() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority_in(folder.path());
    authority_in(other.path());
    let master = Certificates::load(folder.path(), Role::Master).unwrap();
    let mut server = serve(&master, ClientCertificates::Optional).await;
    let trust =
        |folder: &Path| Trust::authority(&std::fs::read(folder.join(AUTHORITY)).unwrap()).unwrap();
    let peer = server.meets(trust(folder.path())).await.unwrap();
    assert_eq!(peer.certificate, None);
    assert!(server.meets(trust(other.path())).await.is_err());
    // A certificate of another authority is worse than none.
    let stranger = member(other.path(), Role::Worker, Role::Master);
    assert!(server.meets(stranger).await.is_err());
    // A worker's certificate does not make a master: it has none of its names.
    let worker = Certificates::load(folder.path(), Role::Worker).unwrap();
    let mut server = serve(&worker, ClientCertificates::Optional).await;
    let said = server
        .meets(trust(folder.path()))
        .await
        .unwrap_err()
        .to_string();
    assert!(said.contains("not valid for name"), "{said}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_by_clients_and_not_by_members() {
    let folder = tempfile::tempdir().unwrap();
    authority::create(folder.path(), &["elsewhere.example".to_owned()]).unwrap();
    let master = Certificates::load(folder.path(), Role::Master).unwrap();
    let mut server = serve(&master, ClientCertificates::Optional).await;
    let ca = std::fs::read(folder.path().join(AUTHORITY)).unwrap();
    let refused = server.meets(Trust::authority(&ca).unwrap()).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("not valid for name"), "{said}");
    let worker = member(folder.path(), Role::Worker, Role::Master);
    assert!(server.meets(worker).await.is_ok());
}

#[tokio::test]
async fn changed_certificates_are_used_and_bad_ones_are_not() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority_in(folder.path());
    let master = Certificates::load(folder.path(), Role::Master).unwrap();
    let mut server = serve(&master, ClientCertificates::Optional).await;
    let old_ca = std::fs::read(folder.path().join(AUTHORITY)).unwrap();
    assert!(!master.reload().unwrap());

    // A certificate without its key yet, then one that is none.
    authority_in(other.path());
    for name in ["master.pem", AUTHORITY] {
        std::fs::copy(other.path().join(name), folder.path().join(name)).unwrap();
    }
    let said = master.reload().unwrap_err().to_string();
    assert!(said.contains("master.pem"), "{said}");
    assert!(!master.reload().unwrap(), "it is told once");
    let trust_old = || Trust::authority(&old_ca).unwrap();
    assert!(server.meets(trust_old()).await.is_ok(), "the old ones stay");

    std::fs::copy(
        other.path().join("master.key"),
        folder.path().join("master.key"),
    )
    .unwrap();
    assert!(master.reload().unwrap());
    assert!(server.meets(trust_old()).await.is_err());
    let new_ca = std::fs::read(other.path().join(AUTHORITY)).unwrap();
    assert!(
        server
            .meets(Trust::authority(&new_ca).unwrap())
            .await
            .is_ok()
    );

    // Renewed by the same authority: nobody has to change anything.
    authority::renew(other.path(), &["127.0.0.1".to_owned()]).unwrap();
    for name in ["master.pem", "master.key"] {
        std::fs::copy(other.path().join(name), folder.path().join(name)).unwrap();
    }
    assert!(master.reload().unwrap());
    assert!(
        server
            .meets(Trust::authority(&new_ca).unwrap())
            .await
            .is_ok()
    );
}

#[test]
fn a_certificate_of_another_role_or_an_open_key_is_refused_by_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    authority_in(folder.path());
    let at = |name: &str| folder.path().join(name);
    let key = at("worker.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        Certificates::load(folder.path(), Role::Worker),
        Err(Error::TooOpen { .. })
    ));
    std::fs::copy(at("worker.pem"), at("master.pem")).unwrap();
    let said = Certificates::load(folder.path(), Role::Master)
        .unwrap_err()
        .to_string();
    assert!(said.contains("its role is worker"), "{said}");
}

#[tokio::test]
async fn a_caller_that_never_shakes_hands_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    authority_in(folder.path());
    let worker = Certificates::load(folder.path(), Role::Worker).unwrap();
    let mut server = serve(&worker, ClientCertificates::Required).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let master = member(folder.path(), Role::Master, Role::Worker);
    assert!(server.meets(master).await.is_ok());
}
