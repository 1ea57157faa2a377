//! SIGTERM and SIGINT: the first one asks for an orderly end, the second one ends at once. A write beyond the limit of
//! file sizes is an error of that write, not a signal that ends the program.

use super::Failure;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A signal that asks the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What service managers send.
    Terminate,
}

impl Signal {
    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        }
    }

    /// 128 and the signal's number, as shells count.
    pub fn exit_code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

/// Tells of SIGTERM, SIGINT and a terminal that goes away from a thread of its own, until `tell` says that nobody listens.
pub fn tell_on_a_thread(tell: impl Fn(Signal) -> bool + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupts, mut terminations, mut hang_ups) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let signal = tokio::select! {
                    _ = interrupts.recv() => Signal::Interrupt,
                    _ = terminations.recv() => Signal::Terminate,
                    _ = hang_ups.recv() => Signal::Terminate,
                };
                if !tell(signal) {
                    return;
                }
            }
        });
    });
    Ok(())
}

/// Listens from when it is made.
#[derive(Clone)]
pub struct Signals {
    first: watch::Receiver<Option<Signal>>,
}

impl Signals {
    /// Takes the signals over from now on. Must run on a thread of an actix system.
    pub fn listen() -> Result<Self, Failure> {
        let cannot = |error| Failure::Io("cannot listen for signals", error);
        let mut interrupts = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminations = signal(SignalKind::terminate()).map_err(cannot)?;
        // Once listened for, it has no effect of its own any more.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map_err(cannot)?);
        let (tell, first) = watch::channel(None);
        tokio::task::spawn_local(async move {
            loop {
                let signal = tokio::select! {
                    _ = interrupts.recv() => Signal::Interrupt,
                    _ = terminations.recv() => Signal::Terminate,
                };
                let already = tell.send_replace(Some(signal)).is_some();
                if already {
                    std::process::exit(i32::from(signal.exit_code()));
                }
            }
        });
        Ok(Self { first })
    }

    /// Waits for the first signal.
    pub async fn first(&self) -> Signal {
        let mut first = self.first.clone();
        match first.wait_for(Option::is_some).await.map(|signal| *signal) {
            Ok(Some(signal)) => signal,
            // The listening task only ends with the process.
            _ => std::future::pending().await,
        }
    }
}
