use super::*;

fn definition() -> SchemaRegistry {
    SchemaRegistry {
        url: "http://r:8081".to_owned(),
        ..Default::default()
    }
}

fn refused(change: impl FnOnce(&mut SchemaRegistry)) -> (String, String) {
    let mut definition = definition();
    change(&mut definition);
    let made = Registry::new(&definition);
    let Err(Error::Definition { key, reason }) = made else {
        panic!("accepted")
    };
    (key, reason)
}

#[test]
fn credentials_are_named_never_written() {
    let (key, reason) = refused(|it| it.url = "http://me:hunter2@r:8081".to_owned());
    assert_eq!(key, "registry.url");
    assert!(!reason.contains("hunter2"), "{reason}");
    let (key, reason) = refused(|it| {
        it.username = "me".to_owned();
        it.password_env = "DRUMLINE_NO_SUCH_VARIABLE".to_owned();
    });
    assert_eq!(key, "registry.password_env");
    assert!(
        reason.contains("DRUMLINE_NO_SUCH_VARIABLE is not set"),
        "{reason}"
    );
    let (key, _) = refused(|it| it.token_file = "/no/such/file".to_owned());
    assert_eq!(key, "registry.token_file");
    let (key, _) = refused(|it| it.username = "me".to_owned());
    assert_eq!(key, "registry.password_env");
    let (key, _) = refused(|it| it.url = "r:8081".to_owned());
    assert_eq!(key, "registry.url");
}

#[test]
fn a_secret_in_a_file_loses_its_newline_and_is_in_no_debug_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "hunter2\n").unwrap();
    let mut definition = definition();
    definition.username = "me".to_owned();
    definition.password_file = path.display().to_string();
    let registry = Registry::new(&definition).unwrap();
    let Credentials::Basic { username, password } = &registry.credentials else {
        panic!("no basic credentials")
    };
    assert_eq!((username.as_str(), password.as_str()), ("me", "hunter2"));
    assert!(!format!("{registry:?}").contains("hunter2"));
}

#[test]
fn subjects_are_parts_of_a_path() {
    assert_eq!(escaped("a/b c-value"), "a%2Fb%20c-value");
}
