//! What the kernel says about a process.

use super::BenchError;
use std::path::Path;

/// Processor time used so far, in seconds. `proc` is the process's folder in `/proc`.
pub(super) fn cpu_seconds(proc: &Path) -> Result<f64, BenchError> {
    let stat = std::fs::read_to_string(proc.join("stat"))?;
    // The command in parentheses may hold spaces; utime and stime are the 12th and 13th fields after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64)
}

/// Processor time that this process has used so far, in nanoseconds.
pub(super) fn own_cpu_ns() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(used.tv_nsec).unwrap_or(0)
}

/// Memory in RAM, in MiB.
pub(super) fn resident_mib(proc: &Path) -> Result<f64, BenchError> {
    let status = std::fs::read_to_string(proc.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0);
    Ok(kibibytes / 1024.0)
}

/// Open file descriptors.
pub(super) fn descriptors(proc: &Path) -> Result<f64, BenchError> {
    Ok(std::fs::read_dir(proc.join("fd"))?.count() as f64)
}

/// Threads.
pub(super) fn threads(proc: &Path) -> Result<f64, BenchError> {
    Ok(std::fs::read_dir(proc.join("task"))?.count() as f64)
}
