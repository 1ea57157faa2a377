//! The lease on a session: a file with a lock that the keeper of its agent holds, and the marks of what it runs.
//!
//! The kernel gives the lock back however a keeper ends. So a lock that is held says that an agent of the session may
//! live, whichever host has started it; a lock that is free, over marks, says that a keeper was killed and that
//! processes may be left.

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::processes;

const RUN_FILE: &str = "run";
/// A longer file is none of ours.
const RUN_FILE_BYTES_MAX: u64 = 4096;

/// The marks of one run of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The value of [`crate::runtime::launch::RUN_VARIABLE`] in its processes' environment.
    pub run_id: String,
    /// The agent's process, and the number of its process group; 0 before it was started.
    pub process_id: i32,
    /// When the agent's process was started.
    pub start_ticks: Option<u64>,
    /// The boot in which that was: process numbers begin anew with each.
    pub boot_id: String,
}

impl Run {
    /// A new run, of which nothing lives yet.
    pub fn begin() -> Self {
        let run_id = format!("{:032x}", fastrand::u128(..));
        Self { run_id, process_id: 0, start_ticks: None, boot_id: boot_id() }
    }

    /// Whether its process numbers still mean something.
    pub fn is_of_this_boot(&self) -> bool {
        self.process_id > 0 && self.boot_id == boot_id()
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The host's folders for sessions: those of `folder/<agent group>/<session>`.
pub fn places(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    for group in folders_in(folder)? {
        places.extend(folders_in(&group)?);
    }
    Ok(places)
}

fn folders_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        // No agent was ever started.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// A locked run file.
pub struct RunFile {
    file: File,
}

impl Drop for RunFile {
    /// Not by closing the file: a process that was forked a moment ago holds a copy of it.
    fn drop(&mut self) {
        // The kernel gives it back at the end of the process at the latest.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl RunFile {
    /// Makes the host's folder for a session, and takes the lock; `None` while another one holds it.
    pub fn lock(place: &Path) -> io::Result<Option<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(place)?;
        let mut options = File::options();
        let file = options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = file.open(place.join(RUN_FILE))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The marks of the last run, when it was not ended by its keeper.
    pub fn read(&mut self) -> io::Result<Option<Run>> {
        let mut text = String::new();
        self.file.rewind()?;
        (&self.file).take(RUN_FILE_BYTES_MAX).read_to_string(&mut text)?;
        // Nothing but zeros is what a power loss leaves of marks: nothing lives after it.
        if text.bytes().all(|byte| byte == 0) {
            return Ok(None);
        }
        let run = serde_json::from_str(&text).map_err(|error| {
            let text = "the marks of an earlier run cannot be read; end what is left of its agent, and remove the file";
            io::Error::other(format!("{RUN_FILE}: {text}: {error}"))
        })?;
        Ok(Some(run))
    }

    /// Writes the marks of a run.
    pub fn write(&mut self, run: &Run) -> io::Result<()> {
        let text = serde_json::to_string(run)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }

    /// Nothing of the run is left.
    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Ends what a killed keeper has left; how many processes that were.
    pub fn end_leftovers(&mut self) -> io::Result<usize> {
        let Some(run) = self.read()? else { return Ok(0) };
        let killed = processes::kill_leftovers(&run)?;
        self.clear()?;
        Ok(killed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::launch::RUN_VARIABLE;
    use rustix::process::{Pid, Signal, kill_process, test_kill_process};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    /// A process that lives until it is killed, or for a minute.
    fn sleeper(run: &Run, has_mark: bool, group: i32) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").env_clear().env("PATH", "/usr/bin:/bin").process_group(group);
        if has_mark {
            command.env(RUN_VARIABLE, &run.run_id);
        }
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    fn lives(child: &mut Child) -> bool {
        child.try_wait().unwrap().is_none()
    }

    #[test]
    fn a_lock_is_held_once_and_marks_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("group/session");
        let mut first = RunFile::lock(&place).unwrap().unwrap();
        assert!(RunFile::lock(&place).unwrap().is_none());
        let run = Run { process_id: 7, ..Run::begin() };
        first.write(&run).unwrap();
        drop(first);
        let mut second = RunFile::lock(&place).unwrap().unwrap();
        assert_eq!(second.read().unwrap(), Some(run));
        second.clear().unwrap();
        assert_eq!(second.read().unwrap(), None);
    }

    #[test]
    fn marks_that_cannot_be_read_are_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RunFile::lock(folder.path()).unwrap().unwrap();
        fs::write(folder.path().join(RUN_FILE), "{\"run_id\":\"0").unwrap();
        let error = file.end_leftovers().unwrap_err().to_string();
        assert!(error.starts_with("run: the marks of an earlier run cannot be read; "), "{error}");
        fs::write(folder.path().join(RUN_FILE), [0; 100]).unwrap();
        assert_eq!(file.end_leftovers().unwrap(), 0);
    }

    #[test]
    fn leftovers_are_known_by_their_variable_and_by_their_group() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::begin();
        let mut leader = sleeper(&run, true, 0);
        run.process_id = i32::try_from(leader.id()).unwrap();
        run.start_ticks = processes::start_ticks(run.process_id);
        let mut in_group = sleeper(&run, false, run.process_id);
        let mut of_own_group = sleeper(&run, true, 0);
        let mut stranger = sleeper(&Run::begin(), true, 0);
        let mut file = RunFile::lock(folder.path()).unwrap().unwrap();
        file.write(&run).unwrap();
        assert_eq!(file.end_leftovers().unwrap(), 3);
        for child in [&mut leader, &mut in_group, &mut of_own_group] {
            assert!(!child.wait().unwrap().success());
        }
        assert!(lives(&mut stranger));
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert_eq!(file.end_leftovers().unwrap(), 0);
    }

    #[test]
    fn a_number_that_was_given_out_again_is_somebody_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::begin();
        let mut other = sleeper(&run, false, 0);
        run.process_id = i32::try_from(other.id()).unwrap();
        run.start_ticks = processes::start_ticks(run.process_id).map(|ticks| ticks.wrapping_sub(1));
        let mut file = RunFile::lock(folder.path()).unwrap().unwrap();
        for run in [run.clone(), Run { boot_id: "another".to_owned(), start_ticks: None, ..run }] {
            file.write(&run).unwrap();
            assert_eq!(file.end_leftovers().unwrap(), 0);
        }
        let process = Pid::from_child(&other);
        test_kill_process(process).unwrap();
        kill_process(process, Signal::KILL).unwrap();
        other.wait().unwrap();
    }
}
