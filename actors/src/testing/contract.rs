//! What every channel adapter must keep, checked against yours.
//!
//! ```
//! use nanorelay_actors::testing::{MockChannel, contract::Contract};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // In a test of your own: your adapter, against a test account or a server that you steer.
//! let report = Contract::of(MockChannel::new()).destination("slack", "slack:C1").check().await;
//! println!("{report}");
//! report.assert_kept();
//! # }
//! ```
//!
//! Without a [`Platform`], the suite sees only what the adapter answers. With one it also sees what users see, and lets
//! requests meet troubles. A case that cannot be checked is reported as skipped, with the reason.

mod cases;
mod report;
mod sample;
#[cfg(test)]
mod tests;

pub use report::{CaseReport, Report, Verdict};

use super::mock_channel::ReceivedFile;
use crate::channel::adapter::{Channel, Delivery};
use crate::model::error::{Receipt, SendError};
use crate::model::ids::{ChannelType, PlatformId};
use crate::model::message::Destination;
use async_trait::async_trait;
use sample::Samples;
use std::sync::Arc;
use std::time::Duration;

/// How long one call of an adapter may take, unless [`Contract::answer_within`] says otherwise.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A trouble that requests can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The platform asks to wait for this long, as HTTP 429 with `Retry-After` does.
    RateLimited(Duration),
    /// The platform has a fault of its own, as HTTP 500.
    ServerFault,
    /// The platform will never take this message, as HTTP 400.
    Refused,
    /// The destination is gone for good, as HTTP 410.
    DestinationGone,
    /// The credentials are refused, as HTTP 401.
    Unauthorized,
    /// The platform takes the message, and its answer is lost.
    LostAnswer,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RateLimited(Duration::from_secs(7)),
        Self::ServerFault,
        Self::Refused,
        Self::DestinationGone,
        Self::Unauthorized,
        Self::LostAnswer,
    ];
}

/// The other side of an adapter, as a test sees it. Every method may say that it cannot.
#[async_trait]
pub trait Platform: Send + Sync + 'static {
    /// How many messages with this text users see; `None` when that cannot be known.
    async fn times_shown(&self, text: &str) -> Option<usize> {
        let _ = text;
        None
    }

    /// The files that came with the message of this text; `None` when that cannot be known.
    async fn files_shown(&self, text: &str) -> Option<Vec<ReceivedFile>> {
        let _ = text;
        None
    }

    /// Lets the next request, and only that, meet a trouble. `false` = it cannot.
    async fn provoke(&self, trouble: Trouble) -> bool {
        let _ = trouble;
        false
    }
}

/// A platform of which nothing is known.
struct Unseen;

impl Platform for Unseen {}

/// An adapter and what its contract is checked with.
pub struct Contract {
    channel: Arc<dyn Channel>,
    platform: Arc<dyn Platform>,
    destination: Destination,
    answer_within: Duration,
}

impl Contract {
    /// The contract of this adapter.
    pub fn of(channel: Arc<dyn Channel>) -> Self {
        let destination = Destination {
            channel_type: ChannelType::new("contract").expect("a name"),
            platform_id: PlatformId::new("contract:1").expect("a name"),
            thread_id: None,
        };
        Self { channel, platform: Arc::new(Unseen), destination, answer_within: ANSWER_WITHIN }
    }

    /// A chat that the adapter may send to: a real one's name for a real platform.
    ///
    /// # Panics
    /// When the names are no ids.
    #[track_caller]
    pub fn destination(mut self, channel_type: &str, platform_id: &str) -> Self {
        self.destination.channel_type = ChannelType::new(channel_type).expect("a channel type");
        self.destination.platform_id = PlatformId::new(platform_id).expect("a platform id");
        self
    }

    /// The adapter's other side.
    pub fn platform(mut self, platform: Arc<dyn Platform>) -> Self {
        self.platform = platform;
        self
    }

    /// The longest that one call may take; 20 s by default. The engine gives up after `limits.send_timeout`.
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }

    /// Checks all cases, one after the other. Each sends messages.
    pub async fn check(self) -> Report {
        let samples = Samples::new(self.destination.clone());
        let bench = Bench { contract: self, samples };
        cases::check_all(&bench).await
    }
}

/// What the cases work with.
struct Bench {
    contract: Contract,
    samples: Samples,
}

/// Why a case did not end well.
enum Stop {
    Broken(String),
    Skipped(String),
}

type Checked = Result<(), Stop>;

/// How one call of the adapter ended.
type Answer = Result<Receipt, SendError>;

impl Bench {
    /// One send, which must be answered in time and without a panic.
    async fn send(&self, delivery: &Delivery) -> Result<Answer, Stop> {
        let (channel, delivery) = (Arc::clone(&self.contract.channel), delivery.clone());
        self.call("send", async move { channel.send(&delivery).await }).await
    }

    /// One question for a message, under the same conditions.
    async fn find(&self, delivery: &Delivery) -> Result<Result<Option<Receipt>, SendError>, Stop> {
        let (channel, delivery) = (Arc::clone(&self.contract.channel), delivery.clone());
        self.call("find", async move { channel.find(&delivery).await }).await
    }

    async fn call<T: Send + 'static>(
        &self,
        name: &str,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stop> {
        let limit = self.contract.answer_within;
        // A task of its own, so that a panic is a finding.
        let mut task = tokio::spawn(call);
        match tokio::time::timeout(limit, &mut task).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Stop::Broken(format!("{name} panicked"))),
            Err(_) => {
                task.abort();
                Err(Stop::Broken(format!("{name} gave no answer within {} s", limit.as_secs_f64())))
            }
        }
    }

    /// One send that must be accepted.
    async fn accepted(&self, delivery: &Delivery) -> Result<Receipt, Stop> {
        self.send(delivery)
            .await?
            .map_err(|error| Stop::Broken(format!("a plain message was not taken: {error:?}")))
    }

    /// Users must see the text so often, where that can be seen.
    async fn must_show(&self, text: &str, times: usize) -> Checked {
        match self.contract.platform.times_shown(text).await {
            Some(shown) if shown != times => {
                Err(Stop::Broken(format!("{text:?} is shown {shown} times, expected {times}")))
            }
            _ => Ok(()),
        }
    }
}
