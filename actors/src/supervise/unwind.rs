//! Turns the panic of a future into an answer, without a task of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The future panicked. What it had taken with it was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// Awaits `future`. After a panic it is not polled again, and dropped.
pub async fn catching<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // Whoever shares something with the future sees what a task that panicked would have left.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn a_panic_is_an_answer_whether_it_comes_at_once_or_later() {
        assert_eq!(catching(async { 7 }).await, Ok(7));
        assert_eq!(catching(async { panic!("injected") }).await, Err::<(), _>(Panicked));
        let later = catching(async {
            tokio::task::yield_now().await;
            panic!("injected")
        });
        assert_eq!(later.await, Err::<(), _>(Panicked));
    }
}
