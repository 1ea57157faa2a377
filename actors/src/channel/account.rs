//! Channel accounts: an adapter with its settings, and what must outlive the actor that drives it.

use super::adapter::{Channel, Delivery, Idempotency};
use crate::model::error::{Receipt, SendError};
use crate::model::ids::{ChannelType, PlatformId};
use crate::model::message::{DeliveryKey, Destination};
use crate::model::time::Timestamp;
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
    gone: Mutex<HashMap<(ChannelType, PlatformId), Timestamp>>,
    limited: Mutex<Limited>,
}

/// What the platform asked to wait for.
#[derive(Default)]
struct Limited {
    account: Option<Timestamp>,
    chats: HashMap<(ChannelType, PlatformId), Timestamp>,
}

/// The mark of a send in progress; it stays until the outcome is recorded, also when the actor dies.
pub struct InFlight {
    account: Arc<ChannelAccount>,
    key: DeliveryKey,
}

impl ChannelAccount {
    fn new(name: ChannelType, adapter: Arc<dyn Channel>, settings: ChannelSettings) -> Arc<Self> {
        Arc::new(Self {
            name,
            adapter,
            settings,
            in_flight: Mutex::default(),
            gone: Mutex::default(),
            limited: Mutex::default(),
        })
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

    /// Nothing is sent before `until`: the account is limited, or its credentials are refused.
    pub fn block(&self, until: Timestamp) {
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        limited.account = limited.account.max(Some(until));
    }

    /// Nothing is sent to one chat before `until`.
    pub fn block_chat(&self, channel_type: ChannelType, platform_id: PlatformId, until: Timestamp) {
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        let chat = limited.chats.entry((channel_type, platform_id)).or_insert(until);
        *chat = until.max(*chat);
    }

    /// Until when nothing may be sent; forgets what is over.
    pub fn blocked_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        limited.chats.retain(|_, until| *until > now);
        limited.account = limited.account.filter(|until| *until > now);
        limited.account
    }

    /// Until when nothing may be sent to a chat.
    pub fn chat_blocked_until(&self, destination: &Destination) -> Option<Timestamp> {
        let limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        if limited.chats.is_empty() {
            return None;
        }
        limited.chats.get(&(destination.channel_type.clone(), destination.platform_id.clone())).copied()
    }

    /// Notes that the platform said a destination is gone, until `until`.
    pub fn set_gone(&self, channel_type: ChannelType, platform_id: PlatformId, until: Timestamp) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.insert((channel_type, platform_id), until);
    }

    /// Whether the platform said a while ago that a destination is gone.
    pub fn is_gone(&self, channel_type: &ChannelType, platform_id: &PlatformId, now: Timestamp) -> bool {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|_, until| *until > now);
        gone.contains_key(&(channel_type.clone(), platform_id.clone()))
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
                ChannelSettings::default(),
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
