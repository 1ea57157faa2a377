//! The log: JSON lines or text, always on standard error, which is where results never are.

use crate::channels::plain_text::one_line;
use crate::config::{LogConfig, LogFormat, LogLevel};
use indicatif::ProgressBar;
use nanorelay_actors::clock::{Clock, SystemClock};
use slog::{Drain, FnValue, KV, Key, Level, Logger, OwnedKVList, PushFnValue, Record, Serializer, o};
use slog_async::AsyncGuard;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Records that wait for the writing thread. When there are more, some are dropped and that is logged: a stalled
/// reader of the log must not stall deliveries.
const QUEUE_CAPACITY: usize = 4096;

/// A logger, and the guard that writes out what is queued when it is dropped.
pub struct Logging {
    /// The root logger.
    pub logger: Logger,
    _guard: AsyncGuard,
}

/// Starts the thread that writes the log.
pub fn start(config: LogConfig) -> Logging {
    start_on(config, io::stderr())
}

/// The same, above a line of progress that a terminal shows.
pub fn start_beside(config: LogConfig, line: ProgressBar) -> Logging {
    start_on(config, Above { line })
}

fn start_on(config: LogConfig, output: impl Write + Send + 'static) -> Logging {
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let level = slog_level(config.level);
    let (drain, guard) = match json {
        true => on_a_thread(json_drain(output).filter_level(level).ignore_res()),
        false => on_a_thread(TextDrain::new(output).filter_level(level).ignore_res()),
    };
    Logging { logger: Logger::root(drain.ignore_res(), o!()), _guard: guard }
}

/// Standard error above a line of progress.
struct Above {
    line: ProgressBar,
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// From now on a panic anywhere is a log record, not a backtrace.
pub fn log_panics(logger: Logger) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string);
        slog::crit!(logger, "panic"; "reason" => panic.payload_as_str().unwrap_or("no reason given"),
            "location" => location, "thread" => thread.name().unwrap_or("unnamed"));
    }));
}

fn on_a_thread<D>(drain: D) -> (slog_async::Async, AsyncGuard)
where
    D: Drain<Ok = (), Err = slog::Never> + Send + 'static,
{
    slog_async::Async::new(drain)
        .chan_size(QUEUE_CAPACITY)
        .thread_name("nanorelay-log".into())
        .build_with_guard()
}

fn slog_level(level: LogLevel) -> Level {
    match level {
        LogLevel::Critical => Level::Critical,
        LogLevel::Error => Level::Error,
        LogLevel::Warning => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}

fn now() -> String {
    let ms = SystemClock.now().as_ms();
    let instant = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{instant:.3}")
}

/// `{"ts":…,"level":…,"msg":…, …}`, one write for each record.
fn json_drain<W: Write + Send + 'static>(output: W) -> impl Drain<Ok = (), Err = io::Error> + Send {
    slog_json::Json::new(BufWriter::new(output))
        .set_newlines(true)
        .set_flush(true)
        .add_key_value(o!("ts" => FnValue(|_| now())))
        .add_key_value(o!("level" => FnValue(|record| record.level().as_str())))
        .add_key_value(o!("msg" => PushFnValue(|record, serializer| serializer.emit(record.msg()))))
        .build()
}

/// `time LEVEL message key=value …`. Values may hold what an agent wrote: they are escaped.
struct TextDrain<W> {
    output: RefCell<W>,
}

impl<W: Write> TextDrain<W> {
    fn new(output: W) -> Self {
        Self { output: RefCell::new(output) }
    }
}

impl<W: Write> Drain for TextDrain<W> {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        let mut pairs = Pairs::default();
        values.serialize(record, &mut pairs)?;
        record.kv().serialize(record, &mut pairs)?;
        let mut line =
            format!("{} {:<8} {}", now(), record.level().as_str(), one_line(&record.msg().to_string()));
        // slog hands them over the last one first.
        for (key, value) in pairs.0.iter().rev() {
            let value = one_line(value);
            let quoted = value.is_empty() || value.contains([' ', '"', '=']);
            line.push_str(&if quoted { format!(" {key}={value:?}") } else { format!(" {key}={value}") });
        }
        line.push('\n');
        self.output.borrow_mut().write_all(line.as_bytes())
    }
}

#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl Serializer for Pairs {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged<D>(drain: impl FnOnce(Shared) -> D) -> String
    where
        D: Drain<Ok = (), Err = io::Error> + Send + 'static,
    {
        let shared = Shared::default();
        let logger = Logger::root(Mutex::new(drain(shared.clone())).ignore_res(), o!("session" => "s-1"));
        slog::info!(logger, "ready"; "first" => 1, "reason" => "a\x1b[2J b");
        let bytes = shared.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_record_is_one_line_with_time_level_and_message() {
        let line = logged(json_drain);
        assert!(line.starts_with("{\"ts\":\"20") && line.ends_with("}\n"), "{line}");
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&record["msg"], &record["level"]), (&"ready".into(), &"INFO".into()));
        assert_eq!((&record["session"], &record["first"]), (&"s-1".into(), &1.into()));
    }

    #[test]
    fn text_is_escaped_and_in_order() {
        let line = logged(TextDrain::new);
        let (_, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "INFO     ready first=1 reason=\"a\\\\u{1b}[2J b\" session=s-1\n");
    }
}
