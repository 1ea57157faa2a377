//! The program itself, as a process. Every wait has an end, and no process outlives its test.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process, pidfd_open, prlimit};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine. A test that waits for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A command line that is being put together.
pub struct Invocation {
    command: Command,
}

/// `nanorelay` with these arguments, and no setting from the environment of the tests.
pub fn nanorelay(arguments: &[&str]) -> Invocation {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nanorelay"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NANORELAY")) {
        command.env_remove(name);
    }
    if arguments.first() == Some(&"serve") {
        // Many hosts run at a time; tests of the control plane ask for a port.
        command.env("NANORELAY__SERVER__LISTEN", "off");
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Invocation { command }
}

impl Invocation {
    /// Adds `--data`.
    pub fn data(mut self, folder: &Path) -> Self {
        self.command.arg("--data").arg(folder);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Gives the program this standard output; it is not collected then.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Starts the program.
    #[track_caller]
    pub fn start(mut self) -> Program {
        let mut child = self.command.spawn().expect("the program starts");
        let stdout = child.stdout.take().map(lines_of);
        let stderr = child.stderr.take().map(lines_of).expect("a pipe");
        Program { child, stdout, stderr, seen: Vec::new() }
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.start().finish()
    }
}

/// A thread reads, so that a full pipe never stops the program.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (lines, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A running program. It is killed when this value is dropped.
pub struct Program {
    child: Child,
    stdout: Option<Receiver<String>>,
    stderr: Receiver<String>,
    /// What has been read of standard error so far.
    seen: Vec<String>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit code; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Whether `kill -9` ended it.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// Fails unless it ended with this exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self:#?}");
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl Program {
    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log record with this message; one that an earlier wait has passed over counts too.
    #[track_caller]
    pub fn wait_for_log(&mut self, message: &str) -> Value {
        self.wait_for_log_of(&[message])
    }

    /// The same for one of several messages.
    #[track_caller]
    pub fn wait_for_log_of(&mut self, messages: &[&str]) -> Value {
        let parse = |line: &String| serde_json::from_str::<Value>(line).unwrap_or_default();
        let is_wanted =
            |record: &Value| record["msg"].as_str().is_some_and(|found| messages.contains(&found));
        if let Some(record) = self.seen.iter().map(parse).find(is_wanted) {
            return record;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let line = match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("no {messages:?} in time: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("no {messages:?} at all: {:#?}", self.seen),
            };
            let record = parse(&line);
            self.seen.push(line);
            if is_wanted(&record) {
                return record;
            }
        }
    }

    /// Waits for a line of standard output that holds this text.
    #[track_caller]
    pub fn wait_for_output(&mut self, text: &str) -> String {
        let stdout = self.stdout.as_ref().expect("standard output is collected");
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = stdout.recv_timeout(left).unwrap_or_else(|_| panic!("no {text:?} on standard output"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let process = Pid::from_child(&self.child);
        // It may have ended already.
        let _ = kill_process(process, signal);
    }

    /// Sets what it may use from now on; returns what it might before.
    pub fn limit(&self, resource: Resource, limit: Rlimit) -> Rlimit {
        prlimit(Some(Pid::from_child(&self.child)), resource, limit).expect("the limit of a child can be set")
    }

    /// Waits for its end for at most this long; whether it came.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        let Ok(handle) = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) else { return true };
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).expect("a short time");
            match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)) {
                Ok(count) => return count > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("cannot wait for the program: {error}"),
            }
        }
    }

    /// Kills it with a signal that nothing can catch, and waits for its end.
    #[track_caller]
    pub fn kill(self) -> Finished {
        self.signal(Signal::KILL);
        self.finish()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        if !self.ends_within(PATIENCE) {
            self.signal(Signal::KILL);
            let stderr = std::mem::take(&mut self.seen).into_iter().chain(self.stderr.iter());
            panic!("the program did not end in time: {:#?}", stderr.collect::<Vec<_>>());
        }
        let status = self.child.wait().expect("it has ended");
        let stdout = self.stdout.take().map(|lines| lines.iter().map(|line| line + "\n").collect());
        let stderr = std::mem::take(&mut self.seen).into_iter().chain(self.stderr.iter());
        let stderr = stderr.map(|line| line + "\n").collect();
        Finished { status, stdout: stdout.unwrap_or_default(), stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
