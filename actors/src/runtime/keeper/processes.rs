//! The processes of an agent: which there are, and their end.
//!
//! While a keeper lives, it is the reaper of everything that its agent started: a process whose parent has gone becomes
//! the keeper's child, so that the tree below the keeper holds them all. When a keeper was killed, there is no tree any
//! more. Then its run is known by two marks: a variable in the environment, and the process group.

use super::run_file::Run;
use crate::runtime::launch::RUN_VARIABLE;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

/// Between two rounds of killing what is still there.
const ROUND_PAUSE: Duration = Duration::from_millis(5);
/// Rounds until what cannot be killed is reported: five seconds. A process that waits for a broken disk does not end.
const ROUNDS_MAX: u32 = 1000;

/// How a child has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// All processes below this one.
pub fn descendants() -> io::Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    let mut open = children_of("self")?;
    while let Some(process) = open.pop() {
        if found.insert(process) {
            // One that has ended meanwhile has no children any more.
            open.extend(children_of(&process.to_string()).unwrap_or_default());
        }
    }
    Ok(found)
}

fn children_of(process: &str) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let file = thread?.path().join("children");
        let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if process == "self" => {
                io::Error::other("the kernel does not tell a process's children (CONFIG_PROC_CHILDREN)")
            }
            _ => error,
        });
        children.extend(text?.split_ascii_whitespace().filter_map(|id| id.parse::<i32>().ok()));
    }
    Ok(children)
}

/// Takes note of children that have ended; the end of `agent`, when it is among them.
pub fn reap(agent: Pid) -> Option<Exit> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((child, status))) if child == agent => {
                ended = Some(Exit { code: status.exit_status(), signal: status.terminating_signal() });
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            // None has ended, or there is none.
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// Sends a signal to processes; those that have ended meanwhile do not mind.
pub fn signal_all(processes: &BTreeSet<i32>, signal: Signal) {
    for process in processes.iter().filter_map(|id| Pid::from_raw(*id)) {
        let _ = kill_process(process, signal);
    }
}

/// Kills everything that carries a run's marks; how many processes that were. For the time after a keeper was killed:
/// the caller holds the run's lock.
pub fn kill_leftovers(run: &Run) -> io::Result<usize> {
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let found = marked_by(run)?;
        if found.is_empty() {
            return Ok(killed.len());
        }
        signal_all(&found, Signal::KILL);
        killed.extend(found);
        thread::sleep(ROUND_PAUSE);
    }
    Err(io::Error::other(format!("processes {:?} do not end", marked_by(run)?)))
}

fn marked_by(run: &Run) -> io::Result<BTreeSet<i32>> {
    let mark = format!("{RUN_VARIABLE}={}", run.run_id);
    let leader = start_ticks(run.process_id);
    // A number is not given out again while a group carries it: without its leader, the group is still the run's.
    let group_is_ours = run.is_of_this_boot() && leader.is_none_or(|ticks| Some(ticks) == run.start_ticks);
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let is_in_group = || group_is_ours && stat(id).is_some_and(|stat| stat.group == run.process_id);
        let carries_mark = || {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        if (is_in_group() || carries_mark()) && stat(id).is_some_and(|stat| !stat.has_ended) {
            found.insert(id);
        }
    }
    found.remove(&rustix::process::getpid().as_raw_nonzero().get());
    Ok(found)
}

/// When a process was started, in ticks since the boot.
pub fn start_ticks(process: i32) -> Option<u64> {
    stat(process).map(|stat| stat.start_ticks)
}

struct Stat {
    group: i32,
    start_ticks: u64,
    /// Only its parent has still to take note.
    has_ended: bool,
}

fn stat(process: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything. After it: state, parent, group, …; the 20th is the start.
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    Some(Stat {
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        has_ended: matches!(*fields.first()?, "Z" | "X"),
    })
}
