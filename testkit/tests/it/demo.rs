//! The README's first command, as a newcomer runs it, and its questions on one process and on many.

use std::path::Path;
use std::process::{Command, Stdio};

use drumline_testkit::Cluster;
use drumline_testkit::cluster::{Options, drumline, rows};
use drumline_testkit::streams::root;

use crate::consumer::assert_bare_folders_hold_the_example;

/// Processes whose command line names the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&name))
        .collect()
}

fn run_demo(folder: &Path) -> String {
    let output = Command::new(drumline())
        .args(["demo", "--port", "0", "--data-dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_demo_answers_from_every_event_and_leaves_no_process() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("demo");
    let answers = run_demo(&folder);
    for count in ["8056", "6820", "182"] {
        assert!(answers.contains(count), "no {count} in {answers}");
    }
    assert!(answers.contains("Björk"), "{answers}");
    assert_bare_folders_hold_the_example(&folder.join("lake"));
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert!(!folder.join("work").exists(), "scratch space is left");

    let cluster = Cluster::start(Options {
        lake: Some(folder.join("lake").display().to_string()),
        ..Options::default()
    })
    .unwrap();
    assert_same_answers_on_many(&cluster);
}

/// Every shipped question: in place, which is one process, against all stages on all workers. The
/// questions order their rows whole, so the rows are compared one by one.
fn assert_same_answers_on_many(cluster: &Cluster) {
    let text = std::fs::read_to_string(root().join("examples/beatlytica/questions.sql")).unwrap();
    let questions: Vec<&str> = text
        .split(';')
        .map(str::trim)
        .filter(|question| question.contains("SELECT"))
        .collect();
    assert!(questions.len() >= 5, "{text}");
    for question in questions {
        let ask = |settings: &[&str]| {
            let arguments = ["sql", "--quiet", "-o", "json", "-c", question];
            rows(&cluster.run(&[&arguments, settings].concat()).unwrap()).unwrap()
        };
        let one = ask(&[]);
        assert!(!one.is_empty(), "{question}");
        assert_eq!(
            one,
            ask(&["--settings", "drumline.bytes_per_task=1"]),
            "{question}"
        );
    }
}
