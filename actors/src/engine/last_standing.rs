//! The last answer to the question how things stand: it is given again for a while, so that readers in a loop cost the
//! host little.

use crate::report::Standing;
use std::time::{Duration, Instant};

/// An answer is given again for this many times as long as it took: a twentieth of one reader's time at most.
const REUSED_FOR: u32 = 20;
/// But never for longer.
const REUSED_MAX: Duration = Duration::from_secs(60);

/// The last answer.
#[derive(Debug, Default)]
pub struct LastStanding(tokio::sync::Mutex<Option<(Instant, Standing)>>);

impl LastStanding {
    /// The last answer while it is good, else a new one. Those who ask meanwhile wait for the same.
    pub async fn or_read<E>(&self, read: impl Future<Output = Result<Standing, E>>) -> Result<Standing, E> {
        let mut last = self.0.lock().await;
        let begun = Instant::now();
        if let Some((good_until, standing)) = &*last
            && begun < *good_until
        {
            return Ok(standing.clone());
        }
        let standing = read.await?;
        let good_for = (begun.elapsed() * REUSED_FOR).min(REUSED_MAX);
        *last = Some((Instant::now() + good_for, standing.clone()));
        Ok(standing)
    }
}
