//! Figures and how they are printed.

use serde::Serialize;
use std::fmt::Write;

/// The figures of one measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which measurement.
    pub bench: &'static str,
    /// Its parameters.
    pub parameters: Vec<Figure>,
    /// What was measured on this host.
    pub figures: Vec<Figure>,
    /// The same on the polling algorithm.
    pub baseline: Vec<Figure>,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What it is, the unit last.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
}

/// A figure.
pub fn figure(name: &'static str, value: f64) -> Figure {
    Figure { name, value }
}

/// Percentiles of latencies in nanoseconds, as figures in microseconds.
pub fn percentiles(mut latencies_ns: Vec<u64>) -> Vec<Figure> {
    latencies_ns.sort_unstable();
    let at = |share: f64| percentile_us(&latencies_ns, share);
    vec![
        figure("latency_p50_us", at(0.50)),
        figure("latency_p90_us", at(0.90)),
        figure("latency_p99_us", at(0.99)),
        figure("latency_max_us", at(1.0)),
    ]
}

/// One percentile in microseconds of sorted times in nanoseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the slice")]
pub fn percentile_us(sorted_ns: &[u64], share: f64) -> f64 {
    let index = ((sorted_ns.len() as f64 * share) as usize).min(sorted_ns.len().saturating_sub(1));
    sorted_ns.get(index).map_or(f64::NAN, |ns| *ns as f64 / 1000.0)
}

impl Report {
    /// The report as one JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The report for a person; with a baseline, the ratio beside each figure that both have.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.bench);
        for Figure { name, value } in &self.parameters {
            let _ = writeln!(text, "  {name:<28} {value:>14.0}");
        }
        for Figure { name, value } in &self.figures {
            let _ = write!(text, "  {name:<28} {value:>14.2}");
            match self.baseline.iter().find(|baseline| baseline.name == *name) {
                Some(baseline) => {
                    let _ = writeln!(
                        text,
                        "   polling {:>14.2}   x {:.4}",
                        baseline.value,
                        value / baseline.value
                    );
                }
                None => text.push('\n'),
            }
        }
        text
    }
}
