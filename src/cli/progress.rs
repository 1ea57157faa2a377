//! Progress of long work, on standard error and on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How often a line is drawn anew whose work tells nothing.
const TICK: Duration = Duration::from_millis(200);

/// A bar for work of which it is known how much there is. Nothing is drawn before the first part is done.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `what` stands before the bar.
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        bar.set_style(style("{msg} {wide_bar} {pos}/{len}, {eta} left"));
        Self { bar }
    }

    /// So many of so many are done.
    pub fn done(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    /// The bar goes away: what came of it stands on standard output.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line for work whose end is not known. Log records are written above it.
pub(super) fn line() -> ProgressBar {
    let line = ProgressBar::new_spinner();
    line.set_style(style("{spinner} {msg} ({elapsed})"));
    line
}

/// Draws the line also while nothing happens.
pub(super) fn keep_drawing(line: &ProgressBar) {
    if !line.is_hidden() {
        line.enable_steady_tick(TICK);
    }
}

fn style(template: &str) -> ProgressStyle {
    // Both templates are ours, and tried by the test below.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_where_there_is_no_terminal() {
        // Tests have none.
        let progress = Progress::new("sessions");
        progress.done(3, 10);
        assert!(progress.bar.is_hidden());
        assert_eq!((progress.bar.position(), progress.bar.length()), (3, Some(10)));
        assert!(line().is_hidden());
    }

    #[test]
    fn the_templates_are_understood() {
        for template in ["{msg} {wide_bar} {pos}/{len}, {eta} left", "{spinner} {msg} ({elapsed})"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
