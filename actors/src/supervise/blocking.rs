//! The one place that hands work to blocking threads, under one bound.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Runs work that may wait for a disk or a lock.
///
/// A thread that has ended a section goes on with the next one that waits: under load no thread is woken for each.
#[derive(Clone)]
pub struct Blocking {
    queue: Arc<Mutex<Queue>>,
    sections_max: usize,
    /// On whose threads sections run: callers may come from other runtimes, or from none.
    runtime: Handle,
}

type Section = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Section>,
    /// Threads that work on it, or are about to.
    workers: usize,
}

impl std::fmt::Debug for Blocking {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Blocking").field("sections_max", &self.sections_max).finish_non_exhaustive()
    }
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

impl Blocking {
    /// At most `sections_max` sections run at a time, on blocking threads of the runtime that calls this.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(sections_max: usize) -> Self {
        Self { queue: Arc::default(), sections_max: sections_max.max(1), runtime: Handle::current() }
    }

    /// Runs `section` on a blocking thread as soon as one is free.
    pub async fn run<T: Send + 'static>(
        &self,
        section: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SectionLost> {
        let (reply, answer) = oneshot::channel();
        self.push(Box::new(move || {
            // Whoever asked may be gone.
            let _ = reply.send(catch_unwind(AssertUnwindSafe(section)));
        }));
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_panic)) => Err(SectionLost::Panicked),
            Err(_) => Err(SectionLost::RuntimeEnded),
        }
    }

    fn push(&self, section: Section) {
        let mut queue = lock(&self.queue);
        queue.waiting.push_back(section);
        if queue.workers >= self.sections_max {
            return;
        }
        queue.workers += 1;
        drop(queue);
        let turn = Turn { queue: Arc::clone(&self.queue), was_taken: false };
        start_dedicated(&self.runtime, move || turn.take());
    }
}

/// A thread's work on the queue. When the runtime has ended before it began, whoever waits hears of it.
struct Turn {
    queue: Arc<Mutex<Queue>>,
    was_taken: bool,
}

impl Turn {
    fn take(mut self) {
        self.was_taken = true;
        while let Some(section) = self.next() {
            section();
        }
    }

    fn next(&self) -> Option<Section> {
        let mut queue = lock(&self.queue);
        let next = queue.waiting.pop_front();
        if next.is_none() {
            queue.workers -= 1;
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.was_taken {
            return;
        }
        let mut queue = lock(&self.queue);
        queue.workers -= 1;
        let unheard = std::mem::take(&mut queue.waiting);
        drop(queue);
        // Without an answer, an asker hears that the runtime has ended.
        drop(unheard);
    }
}

/// Starts work on a blocking thread at once. Whoever calls this bounds how much of it there is: here, and in the ledger, which
/// has at most one writer and one syncer.
pub fn start_dedicated(runtime: &Handle, section: impl FnOnce() + Send + 'static) {
    // Nobody waits for it by this handle.
    drop(runtime.spawn_blocking(section));
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[actix_rt::test]
    async fn a_panic_is_an_error_and_frees_its_place() {
        let blocking = Blocking::new(1);
        assert_eq!(blocking.run(|| panic!("injected")).await, Err::<(), _>(SectionLost::Panicked));
        assert_eq!(blocking.run(|| 7).await, Ok(7));
    }

    #[actix_rt::test]
    async fn so_many_run_at_a_time_and_all_of_them_in_the_end() {
        let blocking = Blocking::new(3);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // The second time finds the threads of the first one gone.
        for _ in 0..2 {
            let sections: Vec<_> = (0..200)
                .map(|number| {
                    let (blocking, now, most) = (blocking.clone(), Arc::clone(&now), Arc::clone(&most));
                    let section = move || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        number
                    };
                    actix_rt::spawn(async move { blocking.run(section).await })
                })
                .collect();
            for (number, section) in sections.into_iter().enumerate() {
                assert_eq!(section.await.unwrap(), Ok(number));
            }
        }
        assert!(most.load(Ordering::SeqCst) <= 3);
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
