//! `nanorelay bench`.

use super::output::OutputArgs;
use super::running::block_on;
use super::{Exit, Failure, print};
use crate::bench::writer::{self, WriterSpec};
use crate::bench::{self, Bench, BenchKind};
use clap::Args;
use std::path::PathBuf;

/// What `bench` is told.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Which measurement
    kind: BenchKind,
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sessions: usize,
    /// Messages in each session (throughput, boot, net), of history (history), or in the backlog (noisy)
    #[arg(long, value_name = "N", default_value_t = 10)]
    messages: usize,
    /// Commits per second (latency, noisy, history, soak, net)
    #[arg(long, value_name = "N", default_value_t = 200)]
    rate: u32,
    /// How long commits go on
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u32,
    /// Measure the polling algorithm on the same files too (latency, throughput)
    #[arg(long)]
    baseline: bool,
    #[command(flatten)]
    output: OutputArgs,
    /// Where to make the data, on the disk to be measured; removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// What the writer's process is told.
#[derive(Debug, Args)]
pub(super) struct BenchWriterArgs {
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    sessions: usize,
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    count: usize,
    #[arg(long)]
    first_number: usize,
    #[arg(long)]
    varies_journals: bool,
}

/// Measures and prints.
pub(super) fn run(args: &BenchArgs) -> Result<Exit, Failure> {
    let bench = Bench {
        kind: args.kind,
        sessions: args.sessions.max(1),
        messages: args.messages,
        rate: args.rate.max(1),
        seconds: args.seconds,
        baseline: args.baseline,
        folder: args.folder.clone(),
    };
    let report = block_on(bench::run(&bench)).map_err(|error| Failure::Failed(format!("bench: {error}")))?;
    let text = if args.output.is_json() { format!("{}\n", report.json()) } else { report.text() };
    print(&text)?;
    Ok(Exit::Done)
}

/// Plays the agents of a measurement.
pub(super) fn run_writer(args: &BenchWriterArgs) -> Result<Exit, Failure> {
    let spec = WriterSpec {
        sessions: args.sessions.max(1),
        rate: args.rate,
        count: args.count,
        first_number: args.first_number,
        varies_journals: args.varies_journals,
    };
    writer::run(&args.data, &spec).map_err(|error| Failure::Failed(format!("bench writer: {error}")))?;
    Ok(Exit::Done)
}
