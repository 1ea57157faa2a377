//! Channel accounts: an adapter with its settings, and what must outlive the actor that drives it.

use super::adapter::{Channel, Delivery, Idempotency};
use super::gate::Gate;
use crate::model::breaker::BreakerSettings;
use crate::model::error::{Receipt, SendError};
use crate::model::hold::{Hold, HoldCause, HoldScope};
use crate::model::ids::ChannelType;
use crate::model::message::DeliveryKey;
use crate::settings::{ChannelSettings, OnAmbiguous};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Name of the account that serves channel types without their own.
pub const FALLBACK_ACCOUNT: &str = "*";
/// Name of the account that stands in when there is no adapter at all.
const MISSING_ACCOUNT: &str = "(none)";

/// One account of one platform.
pub struct ChannelAccount {
    /// The channel type it serves, or [`FALLBACK_ACCOUNT`].
    pub name: ChannelType,
    /// What sends.
    pub adapter: Arc<dyn Channel>,
    /// What the operator chose.
    pub settings: ChannelSettings,
    in_flight: Mutex<HashMap<DeliveryKey, Vec<oneshot::Sender<()>>>>,
    pub(super) gate: Gate,
}

/// The mark of a send in progress; it stays until the outcome is recorded, also when the actor dies.
pub struct InFlight {
    account: Arc<ChannelAccount>,
    key: DeliveryKey,
}

impl ChannelAccount {
    pub(super) fn new(name: ChannelType, adapter: Arc<dyn Channel>, settings: ChannelSettings) -> Arc<Self> {
        let gate = Gate::new(&settings);
        Arc::new(Self { name, adapter, settings, in_flight: Mutex::default(), gate })
    }

    /// Whether a message of which it is unknown whether it was sent is sent again.
    pub fn may_resend(&self) -> bool {
        match self.settings.on_ambiguous {
            OnAmbiguous::Auto => self.adapter.idempotency() != Idempotency::None,
            OnAmbiguous::Resend | OnAmbiguous::Reconcile => true,
            OnAmbiguous::Hold => false,
        }
    }

    /// Whether the platform is asked before such a message is sent again.
    pub fn reconciles(&self) -> bool {
        match self.settings.on_ambiguous {
            OnAmbiguous::Auto => self.adapter.idempotency() == Idempotency::Reconcile,
            OnAmbiguous::Reconcile => true,
            OnAmbiguous::Resend | OnAmbiguous::Hold => false,
        }
    }

    /// Marks a send as in progress; `Err` gives a way to wait for the one that is in progress already.
    pub fn start_send(self: &Arc<Self>, key: &DeliveryKey) -> Result<InFlight, oneshot::Receiver<()>> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = in_flight.get_mut(key) {
            let (done, wait) = oneshot::channel();
            waiting.push(done);
            return Err(wait);
        }
        in_flight.insert(key.clone(), Vec::new());
        Ok(InFlight { account: Arc::clone(self), key: key.clone() })
    }

    /// Takes up what an earlier life of the host has learned.
    pub(crate) fn restore(&self, holds: &[Hold]) {
        let scope = HoldScope::Channel(self.name.clone());
        let mut suspended = holds.iter().filter(|hold| hold.cause == HoldCause::Unauthorized);
        if let Some(until) = suspended.find(|hold| hold.scope == scope).and_then(|hold| hold.until) {
            self.gate.suspend(until);
        }
    }

    /// Closes the breakers of the account and of its chats: an operator knows that it works again.
    pub fn reset_breakers(&self) {
        self.gate.reset_breakers();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut in_flight = self.account.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        for waiting in in_flight.remove(&self.key).unwrap_or_default() {
            let _ = waiting.send(());
        }
    }
}

/// The accounts of one relay.
pub struct ChannelAccounts {
    own: HashMap<ChannelType, Arc<ChannelAccount>>,
    has_fallback: bool,
    fallback: Arc<ChannelAccount>,
}

impl ChannelAccounts {
    /// Accounts by channel type, and the fallback for all other types. Without a fallback, messages to other
    /// types wait as `retrying` with class `unavailable`.
    pub fn new(
        own: HashMap<ChannelType, (Arc<dyn Channel>, ChannelSettings)>,
        fallback: Option<(Arc<dyn Channel>, ChannelSettings)>,
    ) -> Result<Self, crate::model::ids::InvalidId> {
        let own = own
            .into_iter()
            .map(|(name, (adapter, settings))| (name.clone(), ChannelAccount::new(name, adapter, settings)))
            .collect();
        let has_fallback = fallback.is_some();
        let fallback = match fallback {
            Some((adapter, settings)) => {
                ChannelAccount::new(ChannelType::new(FALLBACK_ACCOUNT)?, adapter, settings)
            }
            None => ChannelAccount::new(
                ChannelType::new(MISSING_ACCOUNT)?,
                Arc::new(MissingAdapter),
                // Nobody is spared by it.
                ChannelSettings {
                    breaker: BreakerSettings { failures: 0, ..BreakerSettings::default() },
                    ..ChannelSettings::default()
                },
            ),
        };
        Ok(Self { own, has_fallback, fallback })
    }

    /// The account that serves a channel type.
    pub fn serving(&self, channel_type: &ChannelType) -> &Arc<ChannelAccount> {
        self.own.get(channel_type).unwrap_or(&self.fallback)
    }

    /// Whether messages of that type can be sent at all.
    pub fn has_adapter_for(&self, channel_type: &ChannelType) -> bool {
        self.has_fallback || self.own.contains_key(channel_type)
    }

    /// Every account.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ChannelAccount>> {
        self.own.values().chain(std::iter::once(&self.fallback))
    }

    /// The account of that name.
    pub fn named(&self, name: &ChannelType) -> Option<&Arc<ChannelAccount>> {
        self.all().find(|account| account.name == *name)
    }
}

/// Stands in where no adapter is configured: nothing is lost, everything is visible.
struct MissingAdapter;

#[async_trait]
impl Channel for MissingAdapter {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let channel_type = &delivery.destination.channel_type;
        Err(SendError::Unavailable { reason: format!("no channel is configured for {channel_type:?}") })
    }
}
