//! The keeper of one agent: a small process between the host and the agent.
//!
//! It starts the agent in a process group of its own, under its limits, writes its output to a log, and ends it with
//! everything that it has started: when the agent's own process ends, when the host asks for it, and when the host has
//! gone, however it went. The host holds the other end of the keeper's standard input; the kernel closes that with the
//! host.
//!
//! It is a process, because it must outlive a killed host, and because a process that takes in orphans must reap all of
//! them: no library may do that in the process of a program that it is a part of.

mod log_file;
pub mod order;
mod processes;
mod run_file;

pub use log_file::LOG_FILE;
pub use run_file::{Run, RunFile, places};

use super::launch::RUN_VARIABLE;
use crate::clock::{Clock, SystemClock};
use log_file::LogFile;
use order::{AgentLimits, Cause, Event, LINE_BYTES_MAX, Order, Request};
use processes::Exit;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getrlimit, prlimit, set_child_subreaper, setrlimit,
};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// Between two looks at how many processes the agent has.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two rounds of killing what is left; after the agent's own end it doubles with each round.
const KILL_INTERVAL: Duration = Duration::from_millis(5);
/// The longest pause between them: what cannot be killed waits for a disk.
const KILL_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// The longest wait for the lock of a session whose former agent is ending, beyond the grace that it may have.
const LOCK_WAIT: Duration = Duration::from_secs(20);
/// Between two tries to take it.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);
/// How much output is read at once, in bytes.
const OUTPUT_BYTES: usize = 64 * 1024;

/// Keeps one agent, as the first line on standard input says, until it has ended. The program that
/// [`super::command::CommandSettings::keeper`] names calls this and nothing else: no other thread may live in the
/// process. Returns whether the agent was kept to its end; the host is told in any case.
pub fn run() -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(keep())) {
        Ok(last) => {
            say(&last);
            true
        }
        Err(error) => {
            say(&Event::Failed { reason: error.to_string() });
            false
        }
    }
}

/// Tells the host, if there still is one.
fn say(event: &Event) {
    if let Ok(line) = serde_json::to_string(event) {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

/// The lines of the host.
struct Host {
    input: pipe::Receiver,
    buffer: Vec<u8>,
}

impl Host {
    fn open() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self { input: pipe::Receiver::from_owned_fd(input)?, buffer: Vec::new() })
    }

    /// The next line; `None` when the host has gone. Nothing is lost when the wait is given up.
    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Some(std::mem::replace(&mut self.buffer, rest));
            }
            match self.input.read_buf(&mut self.buffer).await {
                Ok(count) if count > 0 && self.buffer.len() <= LINE_BYTES_MAX => {}
                _ => return None,
            }
        }
    }

    /// Waits for the request to end the agent; how long that may take, or `None` when the host has gone.
    async fn stop(&mut self) -> Option<Duration> {
        let line = self.line().await?;
        let Request::Stop { grace_ms } = serde_json::from_slice(&line).ok()?;
        Some(Duration::from_millis(grace_ms))
    }
}

async fn keep() -> io::Result<Event> {
    // A service manager that ends the whole group of a host must not end the keeper before its agent.
    let mut ignored = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    if let Some(error) = ignored.iter_mut().find_map(|signal| signal.as_mut().err()) {
        return Err(io::Error::new(error.kind(), error.to_string()));
    }
    let mut host = Host::open()?;
    let Some(line) = host.line().await else { return Err(io::Error::other("the host gave no order")) };
    let order: Order = serde_json::from_slice(&line)?;
    set_child_subreaper(Some(getpid()))?;
    let Some(mut run_file) = lock(&order, &mut host).await? else {
        return Ok(Event::Ended { cause: Cause::Stopped, code: None, signal: None, killed: 0 });
    };
    let leftovers = run_file.end_leftovers()?;
    // Tells at once when the kernel cannot do what is needed at the end.
    processes::descendants()?;
    let mut log = LogFile::open(&order.place, order.log.clone())?;
    let mut run = Run::begin();
    let (agent, output) = match run_file.write(&run).and_then(|()| start(&order, &run, &mut log)) {
        Ok(started) => started,
        Err(error) => {
            note(&mut log, &format!("not started: {error}"));
            run_file.clear()?;
            let program = order.command.first().map_or("", String::as_str);
            return Err(io::Error::new(error.kind(), format!("cannot start {program:?}: {error}")));
        }
    };
    let mut tending =
        Tending { order, agent, log, output: Some(output), cause: Cause::Itself, kill_at: None };
    run.process_id = agent.as_raw_nonzero().get();
    run.start_ticks = processes::start_ticks(run.process_id);
    let started = run_file.write(&run);
    let tended = match started {
        Ok(()) => {
            note(&mut tending.log, &format!("started as process {}", run.process_id));
            say(&Event::Started { process_id: run.process_id, leftovers });
            tending.tend(&mut host).await
        }
        Err(error) => Err(error),
    };
    if tended.is_err() {
        // Whatever has failed, no agent is left without its keeper.
        let _ = rustix::process::kill_process_group(agent, Signal::KILL);
    }
    let killed = tending.end_the_rest().await;
    run_file.clear()?;
    let cause = tending.cause;
    match tended {
        Ok(Exit { code, signal }) => {
            tending.drain_output().await;
            note(&mut tending.log, &how_it_ended(cause, code, signal));
            Ok(Event::Ended { cause, code, signal, killed })
        }
        Err(error) => {
            note(&mut tending.log, &format!("ended, because it cannot be kept: {error}"));
            Err(error)
        }
    }
}

fn how_it_ended(cause: Cause, code: Option<i32>, signal: Option<i32>) -> String {
    let why = match cause {
        Cause::Itself => "by itself",
        Cause::Stopped => "as the host wished",
        Cause::TooManyProcesses => "for having too many processes",
    };
    match (code, signal) {
        (Some(code), _) => format!("ended {why}, with exit code {code}"),
        (None, Some(signal)) => format!("ended {why}, by signal {signal}"),
        (None, None) => format!("ended {why}"),
    }
}

/// Takes the session's lock, when the agent of a former host has ended; `None` when the host no longer wants it.
async fn lock(order: &Order, host: &mut Host) -> io::Result<Option<RunFile>> {
    let grace = Duration::from_millis(order.stop_grace_ms);
    let until = Instant::now() + grace + LOCK_WAIT;
    loop {
        if let Some(locked) = RunFile::lock(&order.place)? {
            return Ok(Some(locked));
        }
        if Instant::now() >= until {
            return Err(io::Error::other("an agent that a former host has started does not end"));
        }
        tokio::select! {
            () = tokio::time::sleep(LOCK_INTERVAL) => {}
            _ = host.stop() => return Ok(None),
        }
    }
}

/// Starts the agent; its process, and the end at which its output comes out.
fn start(order: &Order, run: &Run, log: &mut LogFile) -> io::Result<(Pid, pipe::Receiver)> {
    let Some((program, arguments)) = order.command.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
    };
    let (sender, receiver) = pipe::pipe()?;
    let sender = sender.into_blocking_fd()?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&order.environment).env(RUN_VARIABLE, &run.run_id);
    command.current_dir(&order.directory).process_group(0);
    command.stdin(Stdio::null()).stdout(sender.try_clone()?).stderr(sender);
    // Its end is seen by `processes::reap`.
    let before = lower_soft_limits(&order.limits);
    let child = before.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()));
    let child = child.and_then(|_| command.spawn());
    for (resource, limit) in before.into_iter().flatten() {
        // What was lowered may be raised again up to the hard limit, which stayed as it was.
        let _ = setrlimit(resource, limit);
    }
    let agent = Pid::from_child(&child?);
    if let Err(error) = set_hard_limits(agent, &order.limits) {
        // It has ended already, or is another user's by now: a wrapper that changes the user.
        note(log, &format!("its limits are soft ones only: {error}"));
    }
    Ok((agent, receiver))
}

/// What each process of the agent may use; only a privileged one may have more than the host has.
fn limits_of(limits: &AgentLimits) -> impl Iterator<Item = (Resource, u64)> {
    let all = [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Nofile, limits.open_files),
    ];
    all.into_iter().filter_map(|(resource, limit)| {
        let maximum = getrlimit(resource).maximum;
        Some((resource, limit?.min(maximum.unwrap_or(u64::MAX))))
    })
}

/// Lowers the soft limits of this process for what it starts next; what they were. The hard ones stay: they could not be
/// raised again, and the keeper, which copies all that the agent says, would die of the agent's limit of time.
fn lower_soft_limits(limits: &AgentLimits) -> io::Result<Vec<(Resource, Rlimit)>> {
    let mut before = Vec::new();
    for (resource, limit) in limits_of(limits) {
        let now = getrlimit(resource);
        setrlimit(resource, Rlimit { current: Some(limit), ..now })?;
        before.push((resource, now));
    }
    Ok(before)
}

/// Keeps an agent from raising its limits again.
fn set_hard_limits(agent: Pid, limits: &AgentLimits) -> io::Result<()> {
    for (resource, limit) in limits_of(limits) {
        prlimit(Some(agent), resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

/// A line of our own in the agent's log, for the operator. A log that cannot be written stops nobody.
fn note(log: &mut LogFile, text: &str) {
    let _ = log.write_line(&format!("--- nanorelay {}: {text}", SystemClock.now().to_iso()));
}

/// An agent that runs.
struct Tending {
    order: Order,
    agent: Pid,
    log: LogFile,
    /// Its output; `None` when nobody can write to it any more.
    output: Option<pipe::Receiver>,
    cause: Cause,
    /// When it is ended by force, once it was asked to end.
    kill_at: Option<Instant>,
}

impl Tending {
    /// Tends the agent until its own process has ended; how that was.
    async fn tend(&mut self, host: &mut Host) -> io::Result<Exit> {
        let grace = Duration::from_millis(self.order.stop_grace_ms);
        let mut children = signal(SignalKind::child())?;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut host_is_there = true;
        let mut buffer = vec![0; OUTPUT_BYTES];
        loop {
            if let Some(exit) = processes::reap(self.agent) {
                return Ok(exit);
            }
            let kill_at = self.kill_at;
            tokio::select! {
                _ = children.recv() => {}
                asked = host.stop(), if host_is_there => {
                    host_is_there = asked.is_some();
                    self.stop(Cause::Stopped, asked.unwrap_or(grace));
                }
                count = read(self.output.as_mut(), &mut buffer), if self.output.is_some() => {
                    self.log_output(&buffer, count);
                }
                () = until(kill_at), if kill_at.is_some() => {
                    processes::signal_all(&processes::descendants()?, Signal::KILL);
                    self.kill_at = Some(Instant::now() + KILL_INTERVAL);
                }
                _ = look.tick() => self.count_processes(grace)?,
            }
        }
    }

    fn stop(&mut self, cause: Cause, grace: Duration) {
        if self.kill_at.is_none() {
            self.cause = cause;
            // To the whole group, as a terminal does: a shell does not pass it on.
            let _ = rustix::process::kill_process_group(self.agent, Signal::TERM);
        }
        let kill_at = Instant::now() + grace;
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
    }

    fn count_processes(&mut self, grace: Duration) -> io::Result<()> {
        let Some(limit) = self.order.limits.processes else { return Ok(()) };
        let found = processes::descendants()?.len() as u64;
        if found > limit && self.cause == Cause::Itself {
            note(&mut self.log, &format!("{found} processes, the limit is {limit}"));
            // One that multiplies does not stop because it is asked to.
            self.stop(Cause::TooManyProcesses, grace.min(KILL_INTERVAL));
        }
        Ok(())
    }

    fn log_output(&mut self, buffer: &[u8], count: io::Result<usize>) {
        match count {
            // A disk that is full stops no agent; what it says meanwhile is lost.
            Ok(count) if count > 0 => drop(self.log.write(&buffer[..count])),
            _ => self.output = None,
        }
    }

    /// Ends what the agent has left behind; how many processes that were. Returns only when nothing is left: until then
    /// the session's lock is held.
    async fn end_the_rest(&mut self) -> usize {
        let mut killed = std::collections::BTreeSet::new();
        let mut pause = KILL_INTERVAL;
        loop {
            processes::reap(self.agent);
            // While they cannot be counted, they count as there.
            if let Ok(rest) = processes::descendants() {
                if rest.is_empty() {
                    return killed.len();
                }
                processes::signal_all(&rest, Signal::KILL);
                killed.extend(rest);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(KILL_INTERVAL_MAX);
        }
    }

    /// What it said last. Nobody is left who could write, so that there is an end.
    async fn drain_output(&mut self) {
        let mut buffer = vec![0; OUTPUT_BYTES];
        while self.output.is_some() {
            let count = tokio::time::timeout(LOOK_INTERVAL, read(self.output.as_mut(), &mut buffer)).await;
            self.log_output(&buffer, count.unwrap_or(Ok(0)));
        }
    }
}

async fn read(output: Option<&mut (impl AsyncRead + Unpin)>, buffer: &mut [u8]) -> io::Result<usize> {
    match output {
        Some(output) => output.read(buffer).await,
        None => Ok(0),
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
