//! One thread that does the blocking writes of a channel, batch by batch.
//!
//! A writer that is shared by many lanes needs one order anyway; a thread of its own gives it that order, keeps
//! slow disks and full pipes away from the actors, and lets all sends of a batch share one sync.

use std::io;
use tokio::sync::{mpsc, oneshot};

/// Jobs waiting for the thread before further senders wait.
const QUEUE_CAPACITY: usize = 1024;
/// Jobs done in one batch.
const BATCH_MAX: usize = 256;

struct Job<T, R> {
    item: T,
    answer: oneshot::Sender<R>,
}

/// Hands items to a thread and waits for its answers.
pub(super) struct Appender<T, R> {
    jobs: mpsc::Sender<Job<T, R>>,
}

impl<T: Send + 'static, R: Send + 'static> Appender<T, R> {
    /// Starts the thread. `work` answers a batch, one answer for each item and in the same order. The thread ends
    /// when this handle is dropped.
    pub fn start(
        thread_name: &str,
        mut work: impl FnMut(Vec<T>) -> Vec<R> + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job<T, R>>(QUEUE_CAPACITY);
        let run = move || {
            while let Some(first) = queue.blocking_recv() {
                let mut batch = vec![first];
                while batch.len() < BATCH_MAX
                    && let Ok(job) = queue.try_recv()
                {
                    batch.push(job);
                }
                // Nobody waits for these any more: their deadline is over.
                batch.retain(|job| !job.answer.is_closed());
                let (items, answers): (Vec<T>, Vec<_>) =
                    batch.into_iter().map(|job| (job.item, job.answer)).unzip();
                for (answer, result) in answers.into_iter().zip(work(items)) {
                    // The sender may have given up meanwhile.
                    let _ = answer.send(result);
                }
            }
        };
        std::thread::Builder::new().name(thread_name.to_owned()).spawn(run)?;
        Ok(Self { jobs })
    }

    /// Waits for the answer; `None` when the thread has died before it answered.
    pub async fn submit(&self, item: T) -> Option<R> {
        let (answer, result) = oneshot::channel();
        self.jobs.send(Job { item, answer }).await.ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc as std_mpsc;

    #[tokio::test]
    async fn jobs_that_arrive_together_are_one_batch() {
        let (open, gate) = std_mpsc::channel::<()>();
        let appender = Appender::start("test", move |items: Vec<u32>| {
            gate.recv().unwrap();
            let size = items.len();
            items.into_iter().map(|item| (item, size)).collect()
        })
        .unwrap();
        let all = async { tokio::join!(appender.submit(1), appender.submit(2), appender.submit(3)) };
        let opener = async {
            for _ in 0..3 {
                open.send(()).unwrap();
            }
        };
        let ((first, second, third), ()) = tokio::join!(all, opener);
        let answered: Vec<u32> = [first, second, third].into_iter().map(|answer| answer.unwrap().0).collect();
        assert_eq!(answered, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_dead_thread_answers_none() {
        let appender = Appender::start("test", |_: Vec<u32>| -> Vec<u32> { Vec::new() }).unwrap();
        assert_eq!(appender.submit(1).await, None);
    }
}
