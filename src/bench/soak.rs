//! A steady rate for a long time: whether memory, descriptors and latency stay as they are.

use super::BenchError;
use super::channel::BenchChannel;
use super::measure::{Bench, Commit, make_world, sessions_only, start, writer_process};
use super::process;
use super::report::{Figure, figure, percentile_us};
use super::world;
use super::writer::WriterSpec;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// Commits that are matched before the caller looks at the clock again.
const COMMITS_AT_A_TIME: usize = 1000;
/// How long one measurement is.
const MINUTE: Duration = Duration::from_secs(60);
/// How long one message may take.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(60);
/// The host has taken its memory and opened its files by then.
const WARM_UP_MINUTES: usize = 2;

/// One minute.
struct Minute {
    messages: usize,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    resident_mib: f64,
    descriptors: f64,
}

/// Prints a line for each minute to standard error, and returns what the first and the last minutes were like.
pub(super) async fn soak(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let writer = WriterSpec {
        sessions: bench.sessions,
        rate: bench.rate,
        count: bench.rate as usize * bench.seconds as usize,
        first_number: 0,
        varies_journals: false,
    };
    let world = make_world(bench, &sessions_only(bench))?;
    let channel = Arc::new(BenchChannel::default());
    let relay = start(world.path(), &channel).await?;
    relay.settle().await;
    let (commits, failed) = write_beside(world.path(), writer);
    let mut minutes = Vec::new();
    let mut goes_on = true;
    while goes_on {
        let minute_ends = tokio::time::Instant::now() + MINUTE;
        let mut latencies = Vec::new();
        while goes_on && tokio::time::Instant::now() < minute_ends {
            tokio::time::sleep(Duration::from_millis(250)).await;
            goes_on = collect(&channel, &commits, &mut latencies).await?;
        }
        if let Some(minute) = Minute::of(latencies)? {
            minute.print(minutes.len() + 1);
            minutes.push(minute);
        }
    }
    failed.recv().map_err(|_| BenchError::Failed("the writer's thread ended".to_owned()))??;
    let swept = relay.statistics().sweep_found.event_missed;
    relay.shutdown(Duration::from_secs(10)).await;
    if channel.surplus() > 0 {
        return Err(BenchError::Failed(format!("{} messages came twice", channel.surplus())));
    }
    Ok(figures(&minutes, swept))
}

/// Runs the writer's process; its commits come one by one, then how it ended.
pub(super) fn write_beside(
    data_dir: &Path,
    spec: WriterSpec,
) -> (Receiver<Commit>, Receiver<Result<(), BenchError>>) {
    let data_dir: PathBuf = data_dir.to_owned();
    let (tell, commits) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    std::thread::spawn(move || {
        // Whoever listens has given up when they are gone.
        let result = writer_process(&data_dir, &spec, |commit| {
            let _ = tell.send(commit);
        });
        drop(tell);
        let _ = end.send(result);
    });
    (commits, ended)
}

/// Matches commits that are known by now with their acceptance, and forgets both. Says whether more will come.
pub(super) async fn collect(
    channel: &BenchChannel,
    commits: &Receiver<Commit>,
    latencies: &mut Vec<u64>,
) -> Result<bool, BenchError> {
    for _ in 0..COMMITS_AT_A_TIME {
        let (session, number, committed_at) = match commits.try_recv() {
            Ok(commit) => commit,
            Err(TryRecvError::Empty) => return Ok(true),
            Err(TryRecvError::Disconnected) => return Ok(false),
        };
        let (session, message) = (world::session_id(session), world::message_id(number));
        let deadline = Instant::now() + ARRIVAL_DEADLINE;
        let accepted_at = loop {
            if let Some(at) = channel.take(&session, &message) {
                break at;
            }
            if Instant::now() > deadline {
                return Err(BenchError::Failed(format!("{message} of {session} did not arrive")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        latencies.push(accepted_at.saturating_sub(committed_at));
    }
    Ok(true)
}

impl Minute {
    fn of(mut latencies: Vec<u64>) -> Result<Option<Self>, BenchError> {
        if latencies.is_empty() {
            return Ok(None);
        }
        latencies.sort_unstable();
        let own = Path::new("/proc/self");
        Ok(Some(Self {
            messages: latencies.len(),
            p50_us: percentile_us(&latencies, 0.50),
            p99_us: percentile_us(&latencies, 0.99),
            max_us: percentile_us(&latencies, 1.0),
            resident_mib: process::resident_mib(own)?,
            descriptors: process::descriptors(own)?,
        }))
    }

    fn print(&self, number: usize) {
        eprintln!(
            "minute {number:>3}: {} messages, p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs, {:.1} MiB, {} descriptors",
            self.messages, self.p50_us, self.p99_us, self.max_us, self.resident_mib, self.descriptors
        );
    }
}

/// The first minutes after the host is warm beside the last ones.
fn figures(minutes: &[Minute], swept: u64) -> Vec<Figure> {
    let warm = minutes.get(WARM_UP_MINUTES..).filter(|warm| warm.len() > 1).unwrap_or(minutes);
    let (early, late) = warm.split_at(warm.len() / 2);
    let median = |minutes: &[Minute], of: fn(&Minute) -> f64| {
        let mut values: Vec<f64> = minutes.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let most = |of: fn(&Minute) -> f64| minutes.iter().map(of).fold(0.0, f64::max);
    vec![
        figure("minutes", minutes.len() as f64),
        figure("delivered", minutes.iter().map(|minute| minute.messages).sum::<usize>() as f64),
        figure("latency_p50_first_half_us", median(early, |minute| minute.p50_us)),
        figure("latency_p50_second_half_us", median(late, |minute| minute.p50_us)),
        figure("latency_p99_first_half_us", median(early, |minute| minute.p99_us)),
        figure("latency_p99_second_half_us", median(late, |minute| minute.p99_us)),
        figure("latency_p99_worst_minute_us", most(|minute| minute.p99_us)),
        figure("latency_max_us", most(|minute| minute.max_us)),
        figure("resident_first_half_mib", median(early, |minute| minute.resident_mib)),
        figure("resident_second_half_mib", median(late, |minute| minute.resident_mib)),
        figure("descriptors_most", most(|minute| minute.descriptors)),
        figure("found_by_sweeps_only", swept as f64),
    ]
}
