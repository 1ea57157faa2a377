//! Lanes: which wait for their first message, and how to let them go on.

use super::{OperationError, Relay, StoppedHost};
use crate::channel::unblock::AskAgain;
use crate::clock::{Clock, SystemClock};
use crate::model::ids::SessionId;
use crate::model::lane_name;
use crate::model::message::Lane;
use crate::report::{LaneFilter, LaneRecord};
use crate::session::messages::LookReason;
use crate::store::ledger::Parked;

impl Relay {
    /// The lanes that match, by session.
    pub async fn lanes(&self, filter: LaneFilter) -> Result<Vec<LaneRecord>, OperationError> {
        self.read(move |engine| {
            engine.ledger_reader.lanes(&filter, engine.now(), &|name| engine.postpones_retries(name))
        })
        .await
    }

    /// Parks the message that holds up a lane, so that the ones behind it go on: it is `held` until it is replayed.
    /// `lane` is [`LaneRecord::lane`]. Returns whether something held it up.
    pub async fn unblock_lane(&self, session: SessionId, lane: &str) -> Result<bool, OperationError> {
        let lane_key = channel_lane_key(lane)?;
        let (id, key, now) = (session.clone(), lane_key.clone(), self.engine().now());
        let parked = self.engine().ledger.record_durably(move |ledger| ledger.park_head(&id, &key, now));
        let Some(until) = held_until(parked.await?)? else { return Ok(false) };
        let engine = self.engine();
        let account =
            Lane::channel_type_of(&lane_key).map(|name| engine.channels.serving(&name).name.clone());
        if let Some(channel) = account.and_then(|name| engine.directory.channel(&name)) {
            // An actor that has just died asks the ledger for everything when it is back.
            let _ = channel.send(AskAgain { until, _token: engine.activity.token() }).await;
        }
        self.look(Some(vec![session]), LookReason::Reload).await;
        Ok(true)
    }
}

impl StoppedHost {
    /// The lanes that match, by session, as they were when the host ended.
    pub fn lanes(&self, filter: &LaneFilter) -> Result<Vec<LaneRecord>, OperationError> {
        self.read(|reader| reader.lanes(filter, SystemClock.now(), &|_| false))
    }

    /// Parks the message that holds up a lane. Returns whether something held it up.
    pub fn unblock_lane(&self, session: &SessionId, lane: &str) -> Result<bool, OperationError> {
        let (lane_key, now) = (channel_lane_key(lane)?, SystemClock.now());
        let parked = self.write(|ledger| ledger.park_head(session, &lane_key, now).map(Some))?;
        Ok(held_until(parked.unwrap_or(Parked::NotBlocked))?.is_some())
    }
}

fn channel_lane_key(lane: &str) -> Result<String, OperationError> {
    lane_name::key_of(lane).filter(|key| Lane::channel_type_of(key).is_some()).ok_or_else(|| {
        OperationError::Invalid(format!("{lane:?} is no lane to a channel, as `lanes list` names them"))
    })
}

fn held_until(parked: Parked) -> Result<Option<crate::model::time::Timestamp>, OperationError> {
    match parked {
        Parked::Held(_, until) => Ok(Some(until)),
        Parked::NotBlocked => Ok(None),
        Parked::Sending(message) => {
            Err(OperationError::Busy(format!("message {message} is being sent at this moment: try again")))
        }
    }
}
