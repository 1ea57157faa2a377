//! `nanorelay demo` as a process: the first thing that a newcomer runs.

use crate::support::program::nanorelay;
use rustix::process::Signal;
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

/// Whether a process has this folder in its command line.
fn somebody_works_in(folder: &Path) -> bool {
    let folder = folder.to_str().expect("a plain path");
    let processes = fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
    let mut command_lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    command_lines.any(|line| String::from_utf8_lossy(&line).contains(folder))
}

#[test]
fn broken_off_it_leaves_no_process_and_no_directory() {
    for signal in [Signal::TERM, Signal::INT] {
        let temporary = tempfile::tempdir().unwrap();
        let mut demo = nanorelay(&["demo"]).env("TMPDIR", temporary.path()).start();
        demo.wait_for_output("Good morning!");
        demo.signal(signal);
        demo.finish().expect_code(128 + signal.as_raw());
        assert!(!somebody_works_in(temporary.path()));
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}

#[test]
fn without_a_reader_it_leaves_no_process_and_no_directory() {
    let temporary = tempfile::tempdir().unwrap();
    let (reading, writing) = std::io::pipe().unwrap();
    drop(reading);
    let ended = nanorelay(&["demo"]).env("TMPDIR", temporary.path()).stdout(writing).run().expect_code(1);
    assert!(!ended.stderr.contains("internal error"), "{ended:?}");
    assert!(!somebody_works_in(temporary.path()));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn kept_running_it_answers_on_its_socket_until_a_signal() {
    let temporary = tempfile::tempdir().unwrap();
    let kept = temporary.path().join("demo");
    let mut demo = nanorelay(&["demo", "--forever", "--dir"]).arg(&kept).start();
    demo.wait_for_output("The host goes on");
    let listed = nanorelay(&["deliveries", "list", "--json"]).data(&kept).run().expect_code(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(9));
    demo.signal(Signal::TERM);
    demo.finish().expect_code(0);
    assert!(!kept.join("nanorelay.sock").exists());
}
