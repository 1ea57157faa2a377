//! Runs a relay on a data directory: start, drain, look, stop.

use nanorelay_actors::clock::{SharedClock, SystemClock};
use nanorelay_actors::relay::{Relay, RelayBuilder};
use nanorelay_actors::report::{DeliveryFilter, DeliveryRecord, DrainReport};
use nanorelay_actors::settings::{ChannelSettings, Settings};
use nanorelay_actors::testing::MockChannel;
pub use nanorelay_actors::testing::fast_settings;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for a slow machine; a run that has nothing left to do ends earlier.
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// A host that can be run again and again, each time with a new relay.
pub struct TestHost {
    data_dir: PathBuf,
    channels: BTreeMap<String, Arc<MockChannel>>,
    pub clock: SharedClock,
    pub settings: Settings,
    pub channel_settings: ChannelSettings,
    pub drain_deadline: Duration,
}

/// What one run left.
#[derive(Debug)]
pub struct Run {
    pub report: DrainReport,
    /// Every delivery that the ledger lists.
    pub records: Vec<DeliveryRecord>,
}

impl Run {
    /// The record of one message, when the ledger lists it.
    pub fn record(&self, session_id: &str, message_id: &str) -> Option<&DeliveryRecord> {
        self.records.iter().find(|record| record.session_id == session_id && record.message_id == message_id)
    }
}

impl TestHost {
    /// A host without channels, with the machine's clock and [`fast_settings`].
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            channels: BTreeMap::new(),
            clock: Arc::new(SystemClock),
            settings: fast_settings(),
            channel_settings: ChannelSettings::default(),
            drain_deadline: DRAIN_DEADLINE,
        }
    }

    /// Where it runs.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Adds a channel that accepts everything, and returns it to be told otherwise.
    pub fn channel(&mut self, channel_type: &str) -> Arc<MockChannel> {
        let channel = MockChannel::with_clock(Arc::clone(&self.clock));
        self.add_channel(channel_type, &channel);
        channel
    }

    /// Adds a channel.
    pub fn add_channel(&mut self, channel_type: &str, channel: &Arc<MockChannel>) {
        self.channels.insert(channel_type.to_owned(), Arc::clone(channel));
    }

    /// The channels, by type.
    pub fn channels(&self) -> &BTreeMap<String, Arc<MockChannel>> {
        &self.channels
    }

    /// Starts a relay that goes on until it is shut down.
    pub async fn start(&self) -> Relay {
        self.start_with(|builder| builder).await
    }

    /// The same, with more chosen than a host has fields for.
    pub async fn start_with(&self, choose: impl FnOnce(RelayBuilder) -> RelayBuilder) -> Relay {
        choose(self.builder()).start().await.expect("the relay starts")
    }

    /// A relay that is about to be started.
    pub fn builder(&self) -> RelayBuilder {
        let mut builder = Relay::builder(&self.data_dir)
            .settings(self.settings.clone())
            .clock(Arc::clone(&self.clock))
            .logger(slog::Logger::root(slog::Discard, slog::o!()));
        for (channel_type, channel) in &self.channels {
            builder = builder.channel_with(channel_type, channel.clone(), self.channel_settings.clone());
        }
        builder
    }

    /// Delivers what is due, and stops.
    pub async fn drain(&self) -> Run {
        let relay = self.start().await;
        let report = relay.drain(self.drain_deadline).await;
        let records = relay.deliveries(DeliveryFilter::default()).await.expect("the ledger can be read");
        relay.shutdown(SHUTDOWN_DEADLINE).await;
        Run { report, records }
    }
}

/// Runs `work` as a process of its own would run: at its end everything is gone, wherever it was.
pub fn in_a_process_that_is_killed<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let process = std::thread::spawn(move || actix_rt::System::new().block_on(work()));
    process.join().expect("the work is done");
}
