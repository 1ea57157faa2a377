//! Counts the work that is going on, so that `drain` and tests can wait until none is left.
//!
//! Whoever has something to do holds a token; handing work on means taking the next token before dropping
//! one's own. A token is dropped by unwinding too, so a panic cannot leave the count wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// The count of tokens of one relay.
#[derive(Debug, Clone, Default)]
pub struct Activity {
    counter: Arc<Counter>,
}

#[derive(Debug, Default)]
struct Counter {
    tokens: AtomicUsize,
    /// Tokens ever taken.
    taken: AtomicUsize,
    idle: Notify,
}

/// Says that something is still to be done.
#[derive(Debug)]
pub struct ActivityToken {
    counter: Arc<Counter>,
}

impl Activity {
    /// Takes a token.
    pub fn token(&self) -> ActivityToken {
        self.counter.take()
    }

    /// How many tokens were ever taken. When it stays the same between two looks, and nobody holds a token, nothing
    /// has happened in between.
    pub fn tokens_taken(&self) -> usize {
        self.counter.taken.load(Ordering::Acquire)
    }

    /// Whether nobody holds a token.
    pub fn is_idle(&self) -> bool {
        self.counter.tokens.load(Ordering::Acquire) == 0
    }

    /// Waits until nobody holds a token.
    pub async fn idle(&self) {
        loop {
            let notified = self.counter.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.is_idle() {
                return;
            }
            notified.await;
        }
    }
}

impl Counter {
    fn take(self: &Arc<Self>) -> ActivityToken {
        self.tokens.fetch_add(1, Ordering::AcqRel);
        self.taken.fetch_add(1, Ordering::AcqRel);
        ActivityToken { counter: Arc::clone(self) }
    }
}

impl Clone for ActivityToken {
    fn clone(&self) -> Self {
        self.counter.take()
    }
}

impl Drop for ActivityToken {
    fn drop(&mut self) {
        if self.counter.tokens.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.counter.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn idle_waits_for_the_last_token() {
        let activity = Activity::default();
        let first = activity.token();
        let second = first.clone();
        let waiting = tokio::spawn({
            let activity = activity.clone();
            async move { activity.idle().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
        activity.idle().await;
    }
}
