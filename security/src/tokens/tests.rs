use std::os::unix::fs::PermissionsExt as _;

use chrono::TimeDelta;

use super::*;

fn tokens(folder: &Path) -> Tokens {
    Tokens::open(folder, Seal::random().unwrap()).unwrap()
}

fn soon() -> Option<DateTime<Utc>> {
    Some(Utc::now() + TimeDelta::seconds(60))
}

#[test]
fn a_token_lets_in_who_holds_it_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (token, info) = tokens(folder.path())
        .create("ann", Role::Submit, soon())
        .unwrap();
    let again = tokens(folder.path());
    let identity = again.bearer(token.text()).unwrap();
    assert_eq!((identity.id, identity.name), (info.id, "ann".to_owned()));
    assert_eq!(identity.role, Role::Submit);
}

#[test]
fn nothing_at_rest_lets_anybody_in() {
    let folder = tempfile::tempdir().unwrap();
    let (token, _) = tokens(folder.path())
        .create("ann", Role::Admin, None)
        .unwrap();
    let path = folder.path().join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = token.text().rsplit_once('_').unwrap().1;
    assert!(!text.contains(secret) && text.contains(token.id()));
    assert_eq!(private::open_to_others(&path).unwrap(), None);
}

#[test]
fn a_wrong_secret_is_as_unknown_as_a_wrong_id() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(folder.path());
    let (token, _) = tokens.create("ann", Role::Admin, None).unwrap();
    let other = Token::random().unwrap();
    let mixed = other.text().replace(other.id(), token.id());
    assert_eq!(tokens.bearer(&mixed), Err(Refusal::Unknown));
    assert_eq!(tokens.bearer(other.text()), Err(Refusal::Unknown));
    assert_eq!(tokens.bearer("drl_x"), Err(Refusal::Malformed));
}

#[test]
fn a_revoked_token_lets_nobody_in_at_once_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = tokens(folder.path());
    let (token, _) = first.create("ann", Role::Admin, None).unwrap();
    let session = first.open_session(token.text()).unwrap();
    assert!(first.session(&session).is_ok());
    first.revoke(token.id()).unwrap();
    let is_revoked = |result| matches!(result, Err(Refusal::Revoked { .. }));
    assert!(is_revoked(first.bearer(token.text())));
    assert!(is_revoked(first.session(&session)));
    assert!(is_revoked(tokens(folder.path()).bearer(token.text())));
    let states: Vec<_> = first
        .list()
        .iter()
        .map(|token| token.state(Utc::now()))
        .collect();
    assert_eq!(states, [TokenState::Revoked]);
    assert!(matches!(
        first.revoke("nobody"),
        Err(Error::UnknownToken { .. })
    ));
}

#[test]
fn an_expired_token_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let tokens_now = tokens(folder.path());
    let (token, info) = tokens_now.create("ann", Role::Admin, soon()).unwrap();
    assert_eq!(
        info.state(Utc::now() + TimeDelta::seconds(61)),
        TokenState::Expired
    );
    // As if the minute were over.
    let path = folder.path().join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut file: File = serde_json::from_str(&text).unwrap();
    file.tokens[0].expires = Some(Utc::now() - TimeDelta::seconds(1));
    private::replace(&path, &serde_json::to_vec(&file).unwrap()).unwrap();
    assert!(matches!(
        tokens(folder.path()).bearer(token.text()),
        Err(Refusal::Expired { .. })
    ));
    assert!(
        tokens_now
            .create("late", Role::Read, Some(Utc::now()))
            .is_err()
    );
}

#[test]
fn a_session_is_no_token_and_another_masters_session_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let first = tokens(folder.path());
    let (token, _) = first.create("ann", Role::Read, None).unwrap();
    let session = first.open_session(token.text()).unwrap();
    assert!(!session.contains(token.text().rsplit_once('_').unwrap().1));
    assert_eq!(first.session(&session).unwrap().via, Via::Session);
    assert!(first.bearer(&session).is_err());
    // Another sealing key.
    assert_eq!(
        tokens(folder.path()).session(&session),
        Err(Refusal::SessionOver)
    );
    assert_eq!(first.session("AAAA"), Err(Refusal::SessionOver));
    assert!(first.open_session("drl_x").is_err());
}

#[test]
fn names_and_roles_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(folder.path());
    for (name, role) in [
        ("", Role::Read),
        ("two\nlines", Role::Read),
        (&"x".repeat(65), Role::Read),
        ("fine", Role::Master),
    ] {
        assert!(tokens.create(name, role, None).is_err(), "{name}");
    }
    assert!(tokens.list().is_empty());
}

#[test]
fn a_file_of_another_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    for (text, says) in [
        (r#"{"format": 2, "tokens": {}}"#, "format 2"),
        ("not json", "no such file"),
        (r#"{"format": 1, "tokens": [], "more": 1}"#, "more"),
    ] {
        private::replace(&path, text.as_bytes()).unwrap();
        let error = Tokens::open(folder.path(), Seal::random().unwrap())
            .err()
            .unwrap();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn the_local_token_is_reused_and_made_again_when_others_could_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let tokens = tokens(folder.path());
    let kept = || tokens.kept_in(&path, "local", Role::Admin).unwrap();
    let first = kept();
    assert_eq!(kept(), first);
    assert_eq!(private::open_to_others(&path).unwrap(), None);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let second = kept();
    assert_ne!(second, first);
    assert!(tokens.bearer(first.text()).is_err());
    assert!(tokens.bearer(second.text()).is_ok());
    assert_eq!(private::open_to_others(&path).unwrap(), None);

    tokens.revoke(second.id()).unwrap();
    assert_ne!(kept(), second);
    std::fs::write(&path, "nonsense").unwrap();
    assert!(tokens.bearer(kept().text()).is_ok());
}

#[test]
fn when_a_token_was_used_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let first = tokens(folder.path());
    let (token, info) = first.create("ann", Role::Read, None).unwrap();
    assert_eq!(info.last_used, None);
    first.bearer(token.text()).unwrap();
    assert!(first.list()[0].last_used.is_some());
    first.write_last_used().unwrap();
    assert_eq!(tokens(folder.path()).list(), first.list());
}
