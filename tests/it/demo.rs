//! `nanorelay demo` as a process: the first thing that a newcomer runs.

use crate::support::program::nanorelay;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// What the README promises: it ends by itself after a short while.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn it_shows_every_kind_of_message_and_ends_by_itself() {
    let temporary = tempfile::tempdir().unwrap();
    let before = Instant::now();
    let ended = nanorelay(&["demo"]).env("TMPDIR", temporary.path()).run().expect_code(0);
    assert!(before.elapsed() < BOUND);
    for (what, text) in [
        ("a text", "Good morning!"),
        ("a file", "report.csv"),
        ("a question", "Deploy"),
        ("an edit", "edit"),
        ("an answer of the other agent", "ben"),
        ("the task", "The scheduled task: row cleo-digest"),
        ("the poison row's state", "The poison row cleo-2-poison of Cleo is dead"),
        ("how to replay it", "nanorelay deliveries replay"),
        (
            "the counts",
            "6 delivered to the console, 1 system action applied, 1 routed to another agent, 1 dead",
        ),
    ] {
        assert!(ended.stdout.contains(text), "{what} is missing: {}", ended.stdout);
    }
    assert_eq!(ended.stderr, "");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "the directory is removed");
}

#[test]
fn a_kept_directory_can_be_gone_on_with() {
    let temporary = tempfile::tempdir().unwrap();
    let kept = temporary.path().join("demo");
    let run = |dir: &Path| nanorelay(&["demo", "--dir"]).arg(dir).run();
    run(&kept).expect_code(0);
    fs::write(kept.join("nanorelay.toml"), "[channels.\"*\"]\nkind = \"console\"\n").unwrap();
    let drained = nanorelay(&["drain", "--json"]).data(&kept).run().expect_code(0).json();
    let expected = json!({
        "delivered": 0, "applied": 0, "routed": 0, "dead": 0, "retrying": 0, "held": 0, "ambiguous": 0,
        "scheduled": 0,
    });
    assert_eq!(drained, expected);
    let dead = nanorelay(&["deliveries", "list", "--state", "dead", "--json"]).data(&kept).run().json();
    assert_eq!(dead[0]["message_id"], "cleo-2-poison");
    let refused = run(&kept).expect_code(1);
    assert!(refused.stderr.contains("demo"), "a directory that is in use is left alone: {refused:?}");
}
