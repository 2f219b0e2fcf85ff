use std::collections::HashMap;

use super::*;
use crate::{Role, Seal, Tokens};

/// A user's home, and a master's state folder with its two tokens.
struct Home {
    folder: tempfile::TempDir,
    users: Token,
    workers: Token,
    set: HashMap<String, String>,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let tokens = Tokens::open(&state, Seal::random().unwrap()).unwrap();
        let kept = |file: &str, role| tokens.kept_in(&state.join(file), "local", role).unwrap();
        let home = folder.path().display().to_string();
        Self {
            users: kept(TOKEN_FILE, Role::Admin),
            workers: kept(WORKER_TOKEN_FILE, Role::Worker),
            set: HashMap::from([("HOME".to_owned(), home)]),
            folder,
        }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn announce(&self, address: &str) -> Announcement {
        let folder = folder(&|name| self.set.get(name).cloned()).unwrap();
        announce(&folder, address.parse().unwrap(), &self.state(), None).unwrap()
    }

    fn find_as(&self, host: &str, port: u16, wanted: Wanted, given: &Given) -> Result<Found> {
        find(host, port, wanted, given, &|name| {
            self.set.get(name).cloned()
        })
    }

    fn find(&self, host: &str, port: u16) -> Option<Token> {
        self.find_as(host, port, Wanted::Users, &Given::default())
            .unwrap()
            .token
    }
}

#[test]
fn the_token_of_a_master_of_this_user_is_found_by_its_address() {
    let home = Home::new();
    let entry = home.announce("127.0.0.1:7077");
    assert_eq!(home.find("127.0.0.1", 7077), Some(home.users.clone()));
    assert_eq!(home.find("localhost", 7077), Some(home.users.clone()));
    assert_eq!(home.find("127.0.0.1", 7078), None);
    assert_eq!(home.find("10.0.0.1", 7077), None);
    let workers = home.find_as("localhost", 7077, Wanted::Workers, &Given::default());
    assert_eq!(workers.unwrap().token, Some(home.workers.clone()));
    let mode = private::open_to_others(&entry.path).unwrap();
    assert_eq!(mode, None);
    drop(entry);
    assert_eq!(home.find("127.0.0.1", 7077), None);
}

#[test]
fn a_master_on_all_addresses_is_found_at_loopback() {
    let home = Home::new();
    let _v4 = home.announce("0.0.0.0:7077");
    assert_eq!(home.find("localhost", 7077), Some(home.users.clone()));
    let _v6 = home.announce("[::]:7078");
    assert_eq!(home.find("[::1]", 7078), Some(home.users.clone()));
}

#[test]
fn the_entry_of_a_master_that_died_does_not_count() {
    let home = Home::new();
    let entry = home.announce("127.0.0.1:7077");
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let dead = Entry {
        format: FORMAT,
        pid,
        started: Some(1),
        state_dir: home.state(),
        ca: None,
    };
    std::fs::write(&entry.path, serde_json::to_vec(&dead).unwrap()).unwrap();
    assert_eq!(home.find("127.0.0.1", 7077), None);
    // Its id was given to another process: this one.
    let again = Entry {
        pid: std::process::id(),
        ..dead
    };
    std::fs::write(&entry.path, serde_json::to_vec(&again).unwrap()).unwrap();
    assert_eq!(home.find("127.0.0.1", 7077), None);
}

#[test]
fn an_entry_is_left_to_the_master_that_took_the_address_over() {
    let home = Home::new();
    let first = home.announce("127.0.0.1:7077");
    std::fs::write(&first.path, "another's").unwrap();
    let path = first.path.clone();
    drop(first);
    assert!(path.exists());
}

#[test]
fn what_is_said_outright_counts_more_in_order() {
    let mut home = Home::new();
    let _entry = home.announce("127.0.0.1:7077");
    let file = |name: &str| {
        let token = Token::random().unwrap();
        let path = home.folder.path().join(name);
        std::fs::write(&path, format!("{}\n", token.text())).unwrap();
        (path, token)
    };
    let (config_file, configured) = file("config");
    let (env_file, in_env_file) = file("env");
    let (flag_file, flagged) = file("flag");
    let in_env = Token::random().unwrap();
    let mut given = Given {
        configured_token_file: Some(config_file),
        ..Given::default()
    };
    let token = |home: &Home, given: &Given| {
        home.find_as("127.0.0.1", 7077, Wanted::Users, given)
            .unwrap()
            .token
    };
    assert_eq!(token(&home, &given), Some(configured));
    let path = env_file.display().to_string();
    home.set.insert("DRUMLINE_TOKEN_FILE".to_owned(), path);
    assert_eq!(token(&home, &given), Some(in_env_file));
    home.set
        .insert("DRUMLINE_TOKEN".to_owned(), in_env.text().to_owned());
    assert_eq!(token(&home, &given), Some(in_env));
    given.token_file = Some(flag_file);
    assert_eq!(token(&home, &given), Some(flagged));
}

#[test]
fn a_file_that_was_named_must_hold_a_token() {
    let home = Home::new();
    let path = home.folder.path().join("notes");
    let given = Given {
        token_file: Some(path.clone()),
        ..Given::default()
    };
    let find = || home.find_as("h", 1, Wanted::Users, &given);
    assert!(matches!(find(), Err(Error::File { .. })));
    std::fs::write(&path, "my notes").unwrap();
    let said = find().unwrap_err().to_string();
    assert!(
        said.contains("notes") && !said.contains("my notes"),
        "{said}"
    );
}

#[test]
fn a_state_folders_tokens_are_for_the_master_that_runs_on_it_and_for_no_other_port() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("master.lock");
    assert!(!serves(folder.path(), 7077));
    std::fs::write(&lock, lock_line(7077)).unwrap();
    assert!(serves(folder.path(), 7077));
    assert!(!serves(folder.path(), 9000), "somebody else's port");
    let other_life = format!("{} 7077 1\n", std::process::id());
    std::fs::write(&lock, other_life).unwrap();
    assert!(
        !serves(folder.path(), 7077),
        "the process id was used again"
    );
    std::fs::write(&lock, "4711\n").unwrap();
    assert!(!serves(folder.path(), 7077));
}
