//! What the README shows is what runs: its stream and its SQL, taken out of the page as they stand.

use std::path::Path;
use std::time::Duration;

use drumline_testkit::cluster::Options;
use drumline_testkit::outside::read_bare_folder;
use drumline_testkit::streams::root;
use drumline_testkit::{Cluster, Kafka};

const PATIENCE: Duration = Duration::from_secs(120);

/// The README's one block in this language that holds `part`.
fn block(language: &str, part: &str) -> String {
    let page = std::fs::read_to_string(root().join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    let mut blocks = page
        .split(&fence)
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|block| block.contains(part));
    let block = blocks
        .next()
        .unwrap_or_else(|| panic!("no {language} block"));
    assert!(blocks.next().is_none(), "several {language} blocks");
    block.to_owned()
}

#[test]
fn the_stream_and_the_sql_of_the_readme_do_what_it_says() {
    let kafka = Kafka::start().unwrap();
    let cluster = Cluster::start(Options {
        // The file takes its brokers from here.
        environment: vec![("DRUMLINE_BROKERS".to_owned(), kafka.brokers())],
        ..Options::default()
    })
    .unwrap();
    cluster.replay(&kafka.brokers()).unwrap();
    let text = block("toml", "[[topic]]");
    let hurried = text.replace("\"120s\"", "\"500ms\"");
    assert_ne!(text, hurried, "{text}");
    cluster.apply_stream(&hurried).unwrap();
    let count = "SELECT count(*) FROM listen_events";
    cluster.wait_for_number(count, 6_820, PATIENCE).unwrap();

    let folder = Path::new(cluster.lake()).join("listen_events");
    let found = read_bare_folder(&folder, &[]).unwrap();
    assert_eq!(
        (found.rows, found.hours, found.twice),
        (6_820, 544, 0),
        "{found:?}"
    );
    // Delta is the default; its log is all there is beside the hours.
    let is_log = |path: &String| path.starts_with("_delta_log/");
    assert!(found.misplaced.iter().all(is_log), "{found:?}");
    assert!(folder.join("month=11/day=2/hour=3").is_dir());

    let script = cluster.path("readme.sql");
    std::fs::write(&script, block("sql", "CREATE TABLE top_artists")).unwrap();
    let output = cluster.run(&["submit", script.to_str().unwrap()]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let listens = "SELECT sum(listens) FROM top_artists";
    assert_eq!(cluster.number(listens).unwrap(), 6_820);
}
