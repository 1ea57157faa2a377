//! The one place that hands work to blocking threads, under one bound.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// Runs work that may wait for a disk or a lock.
#[derive(Debug, Clone)]
pub struct Blocking {
    permits: Arc<Semaphore>,
}

/// The work panicked; what it had taken with it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a blocking section panicked")]
pub struct BlockingPanicked;

impl Blocking {
    /// At most `sections_max` sections run at a time.
    pub fn new(sections_max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(sections_max.max(1))) }
    }

    /// Runs `section` on a blocking thread as soon as one is free.
    pub async fn run<T: Send + 'static>(
        &self,
        section: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingPanicked> {
        // The semaphore is never closed, so a permit is always granted in the end.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| BlockingPanicked)?;
        spawn(move || {
            let _permit = permit;
            section()
        })
        .await
        .map_err(|_| BlockingPanicked)
    }

    /// Starts a section outside the bound: for the ledger, of which at most one writer and one syncer exist.
    pub fn start_dedicated(section: impl FnOnce() + Send + 'static) {
        spawn(section);
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the bounded place")]
fn spawn<T: Send + 'static>(section: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_panic_is_an_error_and_frees_its_place() {
        let blocking = Blocking::new(1);
        assert_eq!(blocking.run(|| panic!("injected")).await, Err::<(), _>(BlockingPanicked));
        assert_eq!(blocking.run(|| 7).await, Ok(7));
    }
}
