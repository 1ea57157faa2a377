//! Whether file events tell of every commit: agents in all journal modes that keep their databases open, sweeps that look
//! for what went unheard, and a count of that.

use super::BenchError;
use super::channel::BenchChannel;
use super::measure::{Bench, make_world, sessions_only};
use super::report::{Figure, figure, percentile_us};
use super::soak::{collect, write_beside};
use super::world;
use super::writer::WriterSpec;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::settings::Settings;
use std::sync::Arc;
use std::time::Duration;

/// Often enough to find what went unheard before the next commit of the same session covers it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How often the arrivals are matched with the commits.
const COLLECT_INTERVAL: Duration = Duration::from_millis(250);

/// Commits `messages` rows in each session, one in each commit.
pub(super) async fn net(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let writer = WriterSpec {
        sessions: bench.sessions,
        rate: bench.rate,
        count: bench.sessions * bench.messages,
        first_number: 0,
        varies_journals: true,
    };
    let world = make_world(bench, &sessions_only(bench))?;
    let channel = Arc::new(BenchChannel::default());
    let settings = Settings { sweep_interval: SWEEP_INTERVAL, ..Settings::default() };
    let builder = Relay::builder(world.path()).settings(settings);
    let builder = builder.channel(world::CHANNEL_TYPE, channel.clone());
    let relay = builder.start().await?;
    relay.settle().await;
    let (commits, failed) = write_beside(world.path(), writer);
    let mut latencies = Vec::with_capacity(writer.count);
    while collect(&channel, &commits, &mut latencies).await? {
        tokio::time::sleep(COLLECT_INTERVAL).await;
    }
    failed.recv().map_err(|_| BenchError::Failed("the writer's thread ended".to_owned()))??;
    // What the last commits were not heard of, this finds.
    let sweeps = || async { relay.sweep_snapshot().await.map_or(0, |sweep| sweep.sweeps) };
    let last = sweeps().await + 2;
    while sweeps().await < last {
        tokio::time::sleep(COLLECT_INTERVAL).await;
    }
    let (found, sweeps) = (relay.statistics().sweep_found.event_missed, last);
    relay.shutdown(Duration::from_secs(10)).await;
    if channel.surplus() > 0 {
        return Err(BenchError::Failed(format!("{} messages came twice", channel.surplus())));
    }
    latencies.sort_unstable();
    Ok(vec![
        figure("delivered", latencies.len() as f64),
        figure("sweeps", sweeps as f64),
        figure("found_by_sweeps_only", found as f64),
        figure("latency_p50_us", percentile_us(&latencies, 0.50)),
        figure("latency_p99_us", percentile_us(&latencies, 0.99)),
        figure("latency_max_us", percentile_us(&latencies, 1.0)),
    ])
}
