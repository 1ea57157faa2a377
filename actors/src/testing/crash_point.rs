//! Labelled places at which a test lets the whole process die, as `kill -9` would.
//!
//! `NANORELAY_CRASH_AT=<label>:<n>` makes the process end when it reaches that place for the nth time. Only
//! programs that are built for tests know of it: without the feature `testing` the places are empty.

use rustix::process::{Signal, getpid, kill_process};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that names the place.
pub const VARIABLE: &str = "NANORELAY_CRASH_AT";

/// Every place, in the order of a message's way.
pub const LABELS: [&str; 9] = [
    "rows_read",
    "admitted",
    "attempt_recorded",
    "adapter_called",
    "adapter_answered",
    "outcome_recorded",
    "inbound_committed",
    "outbox_removed",
    "projected",
];

/// Places on other ways: of a message into an inbox, and of a session that is made.
pub const OTHER_LABELS: [&str; 2] = ["inbox_files_copied", "session_row_written"];

fn is_listed(label: &str) -> bool {
    LABELS.contains(&label) || OTHER_LABELS.contains(&label)
}

/// Lets a program that is built with the feature `testing` die at a place, when it reaches that for the `nth` time.
///
/// ```
/// # use std::process::Command;
/// let mut host = Command::new("target/debug/my-host");
/// nanorelay_actors::testing::crash_point::crash_at(&mut host, "adapter_answered", 3);
/// ```
///
/// # Panics
/// When there is no such place, or `nth` is 0.
#[track_caller]
pub fn crash_at(command: &mut Command, label: &str, nth: u64) {
    assert!(is_listed(label), "there is no place {label:?}; there are {LABELS:?} and {OTHER_LABELS:?}");
    assert!(nth > 0, "the first time is 1");
    command.env(VARIABLE, format!("{label}:{nth}"));
}

struct Plan {
    label: String,
    left: AtomicU64,
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (label, count) = text.split_once(':').unwrap_or((&text, "1"));
        let left = count.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text}: no number after the colon"));
        assert!(is_listed(label), "{VARIABLE}={text}: there is no such place");
        Some(Plan { label: label.to_owned(), left: AtomicU64::new(left) })
    })
    .as_ref()
}

/// Ends the process when this is the chosen place and the chosen time.
pub fn reached(label: &'static str) {
    debug_assert!(is_listed(label), "{label} is not listed");
    let Some(plan) = plan().filter(|plan| plan.label == label) else { return };
    if plan.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        // A signal that nothing can catch: no destructor, no buffer, no other thread gets a last word.
        let _ = kill_process(getpid(), Signal::KILL);
        std::process::abort();
    }
}
