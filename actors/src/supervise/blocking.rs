//! The one place that hands work to blocking threads, under one bound.

use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

/// Runs work that may wait for a disk or a lock.
#[derive(Debug, Clone)]
pub struct Blocking {
    permits: Arc<Semaphore>,
    /// On whose threads sections run: callers may come from other runtimes, or from none.
    runtime: Handle,
}

/// The work came to no end; what it had taken with it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SectionLost {
    /// It panicked.
    #[error("a blocking section panicked")]
    Panicked,
    /// The runtime on whose threads it was to run has ended.
    #[error("the relay's runtime has ended")]
    RuntimeEnded,
}

impl From<JoinError> for SectionLost {
    fn from(error: JoinError) -> Self {
        if error.is_panic() { Self::Panicked } else { Self::RuntimeEnded }
    }
}

impl Blocking {
    /// At most `sections_max` sections run at a time, on blocking threads of the runtime that calls this.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(sections_max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(sections_max.max(1))), runtime: Handle::current() }
    }

    /// Runs `section` on a blocking thread as soon as one is free.
    pub async fn run<T: Send + 'static>(
        &self,
        section: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SectionLost> {
        // The semaphore is never closed, so a permit is always granted in the end.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| SectionLost::RuntimeEnded)?;
        let section = move || {
            let _permit = permit;
            section()
        };
        Ok(spawn(&self.runtime, section).await?)
    }
}

/// Starts a section outside the bound: for the ledger, of which at most one writer and one syncer exist.
pub fn start_dedicated(runtime: &Handle, section: impl FnOnce() + Send + 'static) {
    spawn(runtime, section);
}

fn spawn<T: Send + 'static>(runtime: &Handle, section: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    runtime.spawn_blocking(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_panic_is_an_error_and_frees_its_place() {
        let blocking = Blocking::new(1);
        assert_eq!(blocking.run(|| panic!("injected")).await, Err::<(), _>(SectionLost::Panicked));
        assert_eq!(blocking.run(|| 7).await, Ok(7));
    }

    #[test]
    fn a_section_runs_for_callers_without_a_runtime_and_is_refused_after_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let blocking = runtime.block_on(async { Blocking::new(1) });
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(other.block_on(blocking.run(|| 7)), Ok(7));
        drop(runtime);
        assert_eq!(other.block_on(blocking.run(|| 7)), Err(SectionLost::RuntimeEnded));
    }
}
