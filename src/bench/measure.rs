//! The measurements.

use super::baseline;
use super::channel::BenchChannel;
use super::net;
use super::process;
use super::read_log::ReadLog;
use super::report::{Figure, Report, figure, percentile_us, percentiles};
use super::soak;
use super::world::{self, WorldSpec};
use super::writer::{WriterSpec, monotonic_ns};
use nanorelay_actors::relay::{Relay, StartError};
use nanorelay_actors::settings::Settings;
use nanorelay_actors::store::error::StoreError;
use slog::Logger;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long everything that was written may take to arrive.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(120);
/// Of how many sessions one has work when a host starts again.
const BUSY_EVERY: usize = 100;
/// After so many seconds in a row without work a host counts as idle.
const QUIET_SECONDS: u32 = 5;
/// How long an idle host is watched: two of its sweeps are within.
const IDLE_WINDOW: Duration = Duration::from_secs(120);

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The file system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A database of the measurement.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The relay.
    #[error("{0}")]
    Start(#[from] StartError),
    /// A row of the measurement.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Messages did not arrive, or the writer failed.
    #[error("{0}")]
    Failed(String),
}

/// Which measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchKind {
    /// From the return of an agent's commit to the channel's acceptance, at a steady rate
    Latency,
    /// How fast messages that wait are delivered, durably
    Throughput,
    /// Memory, CPU and descriptors of a host with nothing to do
    Idle,
    /// What one tenant's backlog does to the latency of the others
    Noisy,
    /// A first start, and a restart with work in one session of a hundred
    Boot,
    /// Whether delivered rows make later ones slower
    History,
    /// Latency, memory and descriptors of each minute at a steady rate
    Soak,
    /// Commits in all journal modes, and how many of them only a sweep has found
    Net,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Bench {
    /// Which measurement.
    pub kind: BenchKind,
    /// Sessions.
    pub sessions: usize,
    /// Messages in each session, or in the backlog.
    pub messages: usize,
    /// Commits per second.
    pub rate: u32,
    /// Seconds of steady commits.
    pub seconds: u32,
    /// Whether the polling algorithm is measured too.
    pub baseline: bool,
    /// Where the data is made; a temporary folder in it is removed at the end.
    pub folder: PathBuf,
}

/// Measures. Must run inside an actix system.
pub async fn run(bench: &Bench) -> Result<Report, BenchError> {
    let (figures, baseline) = match bench.kind {
        BenchKind::Latency => latency(bench, 0, 0).await?,
        BenchKind::Throughput => throughput(bench).await?,
        BenchKind::Idle => (idle(bench)?, Vec::new()),
        BenchKind::Noisy => noisy(bench).await?,
        BenchKind::Boot => (boot(bench).await?, Vec::new()),
        BenchKind::History => (history(bench).await?, Vec::new()),
        BenchKind::Soak => (soak::soak(bench).await?, Vec::new()),
        BenchKind::Net => (net::net(bench).await?, Vec::new()),
    };
    let name = match bench.kind {
        BenchKind::Latency => "latency",
        BenchKind::Throughput => "throughput",
        BenchKind::Idle => "idle",
        BenchKind::Noisy => "noisy",
        BenchKind::Boot => "boot",
        BenchKind::History => "history",
        BenchKind::Soak => "soak",
        BenchKind::Net => "net",
    };
    let parameters = vec![
        figure("sessions", bench.sessions as f64),
        figure("messages", bench.messages as f64),
        figure("rate_per_second", f64::from(bench.rate)),
        figure("seconds", f64::from(bench.seconds)),
    ];
    Ok(Report { bench: name, parameters, figures, baseline })
}

pub(super) fn make_world(bench: &Bench, spec: &WorldSpec) -> Result<TempDir, BenchError> {
    let folder = tempfile::tempdir_in(&bench.folder)?;
    world::create(folder.path(), spec)?;
    Ok(folder)
}

pub(super) fn sessions_only(bench: &Bench) -> WorldSpec {
    WorldSpec { sessions: bench.sessions, messages: 0, history: 0, noisy_messages: 0 }
}

pub(super) async fn start(data_dir: &Path, channel: &Arc<BenchChannel>) -> Result<Relay, BenchError> {
    start_logging(data_dir, channel, Logger::root(slog::Discard, slog::o!())).await
}

async fn start_logging(
    data_dir: &Path,
    channel: &Arc<BenchChannel>,
    logger: Logger,
) -> Result<Relay, BenchError> {
    let builder = Relay::builder(data_dir).settings(Settings::default()).logger(logger);
    let builder = builder.channel(world::CHANNEL_TYPE, channel.clone());
    Ok(builder.start().await?)
}

type Figures = (Vec<Figure>, Vec<Figure>);

async fn throughput(bench: &Bench) -> Result<Figures, BenchError> {
    let spec = WorldSpec { messages: bench.messages, ..sessions_only(bench) };
    let total = bench.sessions * bench.messages;
    let world = make_world(bench, &spec)?;
    let channel = Arc::new(BenchChannel::default());
    let started = Instant::now();
    let relay = start(world.path(), &channel).await?;
    let report = relay.drain(ARRIVAL_DEADLINE).await;
    let elapsed = started.elapsed();
    relay.shutdown(Duration::from_secs(10)).await;
    if report.delivered != total as u64 {
        return Err(BenchError::Failed(format!("{} of {total} messages were delivered", report.delivered)));
    }
    let rate = |elapsed: Duration| figure("messages_per_second", total as f64 / elapsed.as_secs_f64());
    let mut baseline = Vec::new();
    if bench.baseline {
        let world = make_world(bench, &spec)?;
        let channel = BenchChannel::default();
        let started = Instant::now();
        let stop = AtomicBool::new(true);
        baseline::poll(world.path(), bench.sessions, &channel, &stop, true)?;
        baseline.push(rate(started.elapsed()));
    }
    Ok((vec![rate(elapsed)], baseline))
}

/// Latency at a steady rate, with `history` delivered rows in each session and a noisy neighbour's backlog.
async fn latency(bench: &Bench, history: usize, noisy_messages: usize) -> Result<Figures, BenchError> {
    let spec = WorldSpec { history, noisy_messages, ..sessions_only(bench) };
    let writer = WriterSpec {
        sessions: bench.sessions,
        rate: bench.rate,
        count: bench.rate as usize * bench.seconds as usize,
        first_number: history,
        varies_journals: false,
    };
    let world = make_world(bench, &spec)?;
    let channel = Arc::new(BenchChannel::default());
    let reads = ReadLog::default();
    let relay = start_logging(world.path(), &channel, reads.logger()).await?;
    if noisy_messages == 0 {
        relay.settle().await;
    }
    let cpu_before = process::own_cpu_ns();
    let commits = run_writer(world.path(), &writer).await?;
    let mut figures = percentiles(arrivals(&channel, &commits).await?);
    let cpu_ns = process::own_cpu_ns().saturating_sub(cpu_before);
    figures.push(figure("cpu_per_message_us", cpu_ns as f64 / 1000.0 / writer.count.max(1) as f64));
    if noisy_messages == 0 {
        figures.extend(read_latencies(&reads, &commits));
    }
    relay.shutdown(Duration::from_secs(10)).await;
    let mut baseline = Vec::new();
    if bench.baseline {
        baseline = polling_latency(bench, &spec, &writer).await?;
    }
    Ok((figures, baseline))
}

async fn polling_latency(
    bench: &Bench,
    spec: &WorldSpec,
    writer: &WriterSpec,
) -> Result<Vec<Figure>, BenchError> {
    let world = make_world(bench, spec)?;
    let channel = Arc::new(BenchChannel::default());
    let stop = Arc::new(AtomicBool::new(false));
    let poller = {
        let (path, channel, stop, sessions) =
            (world.path().to_owned(), Arc::clone(&channel), Arc::clone(&stop), bench.sessions);
        std::thread::spawn(move || baseline::poll(&path, sessions, &channel, &stop, false))
    };
    let commits = run_writer(world.path(), writer).await?;
    let latencies = arrivals(&channel, &commits).await;
    stop.store(true, Ordering::Relaxed);
    poller.join().map_err(|_| BenchError::Failed("the polling host panicked".to_owned()))??;
    Ok(percentiles(latencies?))
}

/// A commit: session number, message number, when it returned.
pub(super) type Commit = (usize, usize, u64);

/// Runs the writer process without holding up this thread's actors.
async fn run_writer(data_dir: &Path, spec: &WriterSpec) -> Result<Vec<Commit>, BenchError> {
    let (data_dir, spec) = (data_dir.to_owned(), *spec);
    let (done, finished) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut commits = Vec::with_capacity(spec.count);
        let written = writer_process(&data_dir, &spec, |commit| commits.push(commit));
        let _ = done.send(written.map(|()| commits));
    });
    finished.await.map_err(|_| BenchError::Failed("the writer's thread ended".to_owned()))?
}

/// Runs the writer's process to its end and tells of each commit.
pub(super) fn writer_process(
    data_dir: &Path,
    spec: &WriterSpec,
    mut tell: impl FnMut(Commit),
) -> Result<(), BenchError> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("bench-writer")
        .arg("--data")
        .arg(data_dir)
        .args(["--sessions", &spec.sessions.to_string(), "--rate", &spec.rate.to_string()])
        .args(["--count", &spec.count.to_string(), "--first-number", &spec.first_number.to_string()])
        .args(spec.varies_journals.then_some("--varies-journals"))
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            let mut parts = line.split(' ').map(str::parse::<u64>);
            let (Some(Ok(session)), Some(Ok(number)), Some(Ok(at))) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(BenchError::Failed(format!("the writer said {line:?}")));
            };
            let index = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
            tell((index(session), index(number), at));
        }
    }
    if !child.wait()?.success() {
        return Err(BenchError::Failed("the writer failed".to_owned()));
    }
    Ok(())
}

/// How long it took until the row was read.
fn read_latencies(reads: &ReadLog, commits: &[Commit]) -> Vec<Figure> {
    let sessions: Vec<(String, u64)> =
        commits.iter().map(|(session, _, at)| (world::session_id(*session), *at)).collect();
    let mut latencies = reads.latencies(sessions.iter().map(|(session, at)| (session.as_str(), *at)));
    latencies.sort_unstable();
    vec![
        figure("read_p50_us", percentile_us(&latencies, 0.50)),
        figure("read_p99_us", percentile_us(&latencies, 0.99)),
    ]
}

/// Waits until all commits were accepted; how long each took.
async fn arrivals(channel: &BenchChannel, commits: &[Commit]) -> Result<Vec<u64>, BenchError> {
    let deadline = Instant::now() + ARRIVAL_DEADLINE;
    let mut latencies = Vec::with_capacity(commits.len());
    for (session, number, committed_at) in commits {
        let (session, message) = (world::session_id(*session), world::message_id(*number));
        let accepted_at = loop {
            if let Some(at) = channel.accepted_at(&session, &message) {
                break at;
            }
            if Instant::now() > deadline {
                return Err(BenchError::Failed(format!("{message} of {session} did not arrive")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        // A hint arrives before the writer's commit returns, so a message can be faster than that.
        latencies.push(accepted_at.saturating_sub(*committed_at));
    }
    Ok(latencies)
}

async fn noisy(bench: &Bench) -> Result<Figures, BenchError> {
    let (quiet, _) = latency(&Bench { baseline: false, ..bench.clone() }, 0, 0).await?;
    let (noisy, _) = latency(&Bench { baseline: false, ..bench.clone() }, 0, bench.messages).await?;
    let p99 = |figures: &[Figure]| {
        figures.iter().find(|figure| figure.name == "latency_p99_us").map_or(f64::NAN, |figure| figure.value)
    };
    let mut figures = noisy.clone();
    figures.push(figure("latency_p99_alone_us", p99(&quiet)));
    figures.push(figure("latency_p99_added_us", p99(&noisy) - p99(&quiet)));
    Ok((figures, Vec::new()))
}

async fn history(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let (without, _) = latency(&Bench { baseline: false, ..bench.clone() }, 0, 0).await?;
    let (with, _) = latency(&Bench { baseline: false, ..bench.clone() }, bench.messages, 0).await?;
    let value = |figures: &[Figure], name: &str| {
        figures.iter().find(|figure| figure.name == name).map_or(f64::NAN, |figure| figure.value)
    };
    let p50 = |figures: &[Figure]| value(figures, "latency_p50_us");
    let cpu = |figures: &[Figure]| value(figures, "cpu_per_message_us");
    Ok(vec![
        figure("latency_p50_without_us", p50(&without)),
        figure("latency_p50_with_us", p50(&with)),
        figure("latency_ratio", p50(&with) / p50(&without)),
        figure("cpu_without_us", cpu(&without)),
        figure("cpu_with_us", cpu(&with)),
        figure("cpu_ratio", cpu(&with) / cpu(&without)),
    ])
}

/// The first start on sessions that no relay has ever seen, and then a restart with one session in a hundred at work.
async fn boot(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let world = make_world(bench, &sessions_only(bench))?;
    world::age(world.path(), bench.sessions)?;
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
    let adopting = monotonic_ns();
    let relay = start(world.path(), &Arc::new(BenchChannel::default())).await?;
    relay.settle().await;
    let adopted = monotonic_ns();
    relay.shutdown(Duration::from_secs(10)).await;

    let messages = bench.messages.max(1);
    for session in (0..bench.sessions).step_by(BUSY_EVERY) {
        world::add_messages(world.path(), session, messages)?;
    }
    let expected = bench.sessions.div_ceil(BUSY_EVERY) * messages;
    let channel = Arc::new(BenchChannel::default());
    let started = monotonic_ns();
    let relay = start(world.path(), &channel).await?;
    let deadline = Instant::now() + ARRIVAL_DEADLINE;
    while channel.span().2 < expected {
        if Instant::now() > deadline {
            return Err(BenchError::Failed(format!("{} of {expected} arrived", channel.span().2)));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (first, last, _) = channel.span();
    relay.settle().await;
    let settled = monotonic_ns();
    relay.shutdown(Duration::from_secs(10)).await;
    Ok(vec![
        figure("first_start_ever_s", seconds(adopting, adopted)),
        figure("restart_first_delivery_s", seconds(started, first)),
        figure("restart_last_delivery_s", seconds(started, last)),
        figure("restart_settled_s", seconds(started, settled)),
    ])
}

/// Watches a `serve` process that has nothing to do.
fn idle(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let world = make_world(bench, &sessions_only(bench))?;
    // What was written within two seconds before it was read is looked at again by the next sweep: no session at rest.
    world::age(world.path(), bench.sessions)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", "--log-format", "json", "--data"])
        .arg(world.path())
        .stderr(Stdio::piped())
        .spawn()?;
    let measured = watch_idle(&mut child);
    let _ = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .map_err(std::io::Error::from)?;
    child.wait()?;
    measured
}

fn watch_idle(child: &mut std::process::Child) -> Result<Vec<Figure>, BenchError> {
    let output = child.stderr.take().ok_or_else(|| BenchError::Failed("serve has no log".to_owned()))?;
    let mut lines = BufReader::new(output).lines();
    let is_ready = |line: &str| line.contains("\"msg\":\"ready\"");
    if !lines.by_ref().map_while(Result::ok).any(|line| is_ready(&line)) {
        return Err(BenchError::Failed("serve ended before it was ready".to_owned()));
    }
    // The rest of the log is read, so that serve is never held up by it.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let mut before = process::cpu_seconds(&proc)?;
    // Boot is over when some seconds in a row cost next to nothing each.
    let mut quiet = 0;
    for _ in 0..180 {
        std::thread::sleep(Duration::from_secs(1));
        let now = process::cpu_seconds(&proc)?;
        let spent = now - std::mem::replace(&mut before, now);
        quiet = if spent < 0.05 { quiet + 1 } else { 0 };
        if quiet == QUIET_SECONDS {
            break;
        }
    }
    let started = Instant::now();
    std::thread::sleep(IDLE_WINDOW);
    let cpu = process::cpu_seconds(&proc)? - before;
    let share = cpu / started.elapsed().as_secs_f64();
    Ok(vec![
        figure("resident_mib", process::resident_mib(&proc)?),
        figure("cpu_percent_of_a_core", share * 100.0),
        figure("descriptors", process::descriptors(&proc)?),
        figure("threads", process::threads(&proc)?),
    ])
}
