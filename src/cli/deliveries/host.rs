//! The commands on deliveries, on a running and on a stopped host.

use super::super::Failure;
use super::super::place::{Host, unreachable};
use crate::control::protocol::MessageKey;
use crate::control::socket::delivery_key;
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{OperationError, StoppedHost};
use nanorelay_actors::report::{
    DeliveryDetails, DeliveryFilter, DeliveryRecord, Intervention, ReplayRate, Resolution,
};
use serde_json::json;

impl Host {
    pub fn list(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, Failure> {
        match self {
            Self::Running(client) => client.deliveries(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.deliveries(filter)?),
        }
    }

    pub fn replay(&self, key: MessageKey) -> Result<u64, Failure> {
        let checked = checked(&key)?;
        match self {
            Self::Running(client) => client.replay(key).map_err(unreachable),
            Self::Stopped(host) => host.noted("delivery.replay", target(&checked), |host| {
                Ok(host.replay(std::slice::from_ref(&checked))? as u64)
            }),
        }
    }

    pub fn replay_all(&self, filter: &DeliveryFilter, rate: Option<ReplayRate>) -> Result<u64, Failure> {
        match self {
            Self::Running(client) => client.replay_all(filter, rate).map_err(unreachable),
            Self::Stopped(host) => host.noted("delivery.replay", json!(filter).to_string(), |host| {
                Ok(host.replay_all(filter, rate)? as u64)
            }),
        }
    }

    pub fn replayable(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, Failure> {
        match self {
            Self::Running(client) => client.replayable(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.replayable(filter)?),
        }
    }

    pub fn show(&self, key: MessageKey) -> Result<Option<DeliveryDetails>, Failure> {
        let checked = checked(&key)?;
        match self {
            Self::Running(client) => client.delivery(key).map_err(unreachable),
            Self::Stopped(host) => Ok(host.delivery(&checked)?),
        }
    }

    pub fn cancel(&self, key: MessageKey, reason: &str) -> Result<bool, Failure> {
        let checked = checked(&key)?;
        match self {
            Self::Running(client) => client.cancel(key, reason).map_err(unreachable),
            Self::Stopped(host) => host
                .noted("delivery.cancel", target(&checked), |host| is_done(host.cancel(&checked, reason)?)),
        }
    }

    pub fn cancel_all(&self, filter: &DeliveryFilter, reason: &str) -> Result<u64, Failure> {
        match self {
            Self::Running(client) => client.cancel_all(filter, reason).map_err(unreachable),
            Self::Stopped(host) => host.noted("delivery.cancel", json!(filter).to_string(), |host| {
                Ok(host.cancel_all(filter, reason)? as u64)
            }),
        }
    }

    pub fn cancellable(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, Failure> {
        match self {
            Self::Running(client) => client.cancellable(filter).map_err(unreachable),
            Self::Stopped(host) => Ok(host.cancellable(filter)?),
        }
    }

    pub fn snooze(&self, key: MessageKey, until: Timestamp) -> Result<bool, Failure> {
        let checked = checked(&key)?;
        match self {
            Self::Running(client) => client.snooze(key, until).map_err(unreachable),
            Self::Stopped(host) => {
                host.noted("delivery.snooze", target(&checked), |host| is_done(host.snooze(&checked, until)?))
            }
        }
    }

    pub fn resolve(&self, key: MessageKey, resolution: Resolution) -> Result<bool, Failure> {
        let checked = checked(&key)?;
        match self {
            Self::Running(client) => client.resolve(key, resolution).map_err(unreachable),
            Self::Stopped(host) => {
                let change = |host: &StoppedHost| Ok(host.resolve(&checked, &resolution)?);
                host.noted("delivery.resolve", target(&checked), change)
            }
        }
    }
}

/// A message as the audit names it.
fn target(key: &DeliveryKey) -> String {
    format!("{}/{}", key.session_id, key.message_id)
}

/// Whether it is done; a refusal is a failure.
fn is_done(intervention: Intervention) -> Result<bool, Failure> {
    match intervention.refusal() {
        Some(reason) => Err(OperationError::Conflict(reason).into()),
        None => Ok(intervention == Intervention::Done),
    }
}

fn checked(key: &MessageKey) -> Result<DeliveryKey, Failure> {
    delivery_key(key).map_err(|problem| Failure::Usage(problem.to_string()))
}
