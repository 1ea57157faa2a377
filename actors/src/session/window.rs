//! How much of a session is in memory: a window at the head of each lane, and so much content over all lanes; the
//! rest waits in the ledger.

use crate::limits::{LANE_WINDOW, SESSION_WINDOW_BYTES_MAX};
use crate::model::ids::MessageId;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Lanes that are filled up again at a time after the content of all was too much.
const STARVED_LANES_AT_A_TIME: usize = 16;

/// The windows of one session.
#[derive(Debug, Default)]
pub(super) struct LaneWindows {
    lanes: HashMap<Arc<str>, LaneWindow>,
    /// Content of everything that is outstanding, in bytes.
    bytes: usize,
    /// Lanes that wait for others of the session to need less.
    starved: BTreeSet<Arc<str>>,
}

#[derive(Debug, Default)]
struct LaneWindow {
    /// Messages with the size of their content.
    outstanding: HashMap<MessageId, usize>,
    /// Whether the ledger holds more of this lane than the window.
    spilled: bool,
}

impl LaneWindows {
    /// Whether a message that is next in its lane may go out now; if not, it waits in the ledger. `bytes` is the size
    /// of its content.
    pub fn admit(&mut self, lane: &Arc<str>, message: &MessageId, bytes: usize) -> bool {
        let is_full = self.bytes >= SESSION_WINDOW_BYTES_MAX;
        let window = self.lanes.entry(Arc::clone(lane)).or_default();
        if window.spilled || is_full || window.outstanding.len() >= LANE_WINDOW {
            window.spilled = true;
            if is_full {
                self.starved.insert(Arc::clone(lane));
            }
            return false;
        }
        let is_new = window.outstanding.insert(message.clone(), bytes).is_none();
        self.bytes += if is_new { bytes } else { 0 };
        is_new
    }

    /// Of the first messages of a lane, as the ledger lists them with their sizes, those to hand out now.
    /// `complete` says that the list holds the whole lane, but for what is outstanding.
    pub fn refill(
        &mut self,
        lane: &Arc<str>,
        listed: &[(MessageId, usize)],
        complete: bool,
    ) -> HashSet<MessageId> {
        let window = self.lanes.entry(Arc::clone(lane)).or_default();
        let mut handed_out = HashSet::new();
        let mut all = complete;
        for (message, bytes) in listed {
            if window.outstanding.contains_key(message) {
                continue;
            }
            let is_full = self.bytes >= SESSION_WINDOW_BYTES_MAX;
            if is_full || window.outstanding.len() >= LANE_WINDOW {
                all = false;
                if is_full {
                    self.starved.insert(Arc::clone(lane));
                }
                break;
            }
            window.outstanding.insert(message.clone(), *bytes);
            self.bytes += bytes;
            handed_out.insert(message.clone());
        }
        window.spilled = !all;
        self.forget_if_empty(lane);
        handed_out
    }

    /// A message is settled. Returns whether the lane should be refilled.
    pub fn settled(&mut self, lane: &Arc<str>, message: &MessageId) -> bool {
        let Some(window) = self.lanes.get_mut(lane) else { return false };
        self.bytes -= window.outstanding.remove(message).unwrap_or(0);
        let wants_more = window.spilled && window.outstanding.len() <= LANE_WINDOW / 2;
        self.forget_if_empty(lane);
        if wants_more && !self.has_room() {
            self.starved.insert(Arc::clone(lane));
            return false;
        }
        wants_more
    }

    /// Some of the lanes that waited for others to need less and may be refilled now.
    pub fn take_starved(&mut self) -> Vec<Arc<str>> {
        let count = if self.has_room() { STARVED_LANES_AT_A_TIME } else { 0 };
        std::iter::from_fn(|| self.starved.pop_first()).take(count).collect()
    }

    /// The messages of a lane that are handed out and not settled.
    pub fn outstanding_in(&self, lane: &Arc<str>) -> HashSet<MessageId> {
        self.lanes.get(lane).map(|window| window.outstanding.keys().cloned().collect()).unwrap_or_default()
    }

    /// Forgets what was handed out in lanes that `lost` names; returns these lanes, which must be refilled.
    pub fn lose(&mut self, lost: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let lanes: Vec<_> = self.lanes.keys().filter(|lane| lost(lane)).cloned().collect();
        for lane in &lanes {
            let window = LaneWindow { spilled: true, ..LaneWindow::default() };
            let former = self.lanes.insert(Arc::clone(lane), window).unwrap_or_default();
            self.bytes -= former.outstanding.values().sum::<usize>();
        }
        lanes
    }

    /// Messages handed out and not settled.
    pub fn outstanding(&self) -> usize {
        self.lanes.values().map(|window| window.outstanding.len()).sum()
    }

    /// Whether more would only wait in memory.
    pub fn is_half_full(&self) -> bool {
        self.outstanding() > LANE_WINDOW / 2
    }

    /// Filled up only when half is free: each filling reads a page of the lane.
    fn has_room(&self) -> bool {
        self.bytes <= SESSION_WINDOW_BYTES_MAX / 2
    }

    fn forget_if_empty(&mut self, lane: &Arc<str>) {
        if self.lanes.get(lane).is_some_and(|window| window.outstanding.is_empty() && !window.spilled) {
            self.lanes.remove(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> MessageId {
        MessageId::new(&format!("m{number}")).unwrap()
    }

    #[test]
    fn what_does_not_fit_waits_and_comes_back_in_order() {
        let lane: Arc<str> = Arc::from("lane");
        let mut windows = LaneWindows::default();
        let last = LANE_WINDOW + 36;
        let out = (0..last).filter(|number| windows.admit(&lane, &id(*number), 1)).count();
        assert_eq!(out, LANE_WINDOW);
        // Half of the window settles before a refill is asked for.
        let refills: Vec<_> = (0..LANE_WINDOW).map(|number| windows.settled(&lane, &id(number))).collect();
        assert_eq!(refills.iter().position(|refill| *refill), Some(LANE_WINDOW / 2 - 1));
        assert!(!windows.admit(&lane, &id(last), 1), "a later message never overtakes a spilled one");
        let listed: Vec<_> = (LANE_WINDOW..=last).map(|number| (id(number), 1)).collect();
        let handed_out = windows.refill(&lane, &listed, true);
        assert_eq!(handed_out.len(), last + 1 - LANE_WINDOW);
        assert!(windows.admit(&lane, &id(last + 1), 1), "nothing waits any more");
    }

    #[test]
    fn a_refill_hands_nothing_out_twice() {
        let lane: Arc<str> = Arc::from("lane");
        let mut windows = LaneWindows::default();
        assert!(windows.admit(&lane, &id(1), 1));
        assert_eq!(windows.refill(&lane, &[(id(1), 1), (id(2), 1)], true), HashSet::from([id(2)]));
        windows.settled(&lane, &id(1));
        windows.settled(&lane, &id(2));
        assert_eq!(windows.outstanding(), 0);
        assert!(windows.lanes.is_empty());
    }

    #[test]
    fn a_session_with_large_messages_holds_few_and_all_lanes_get_their_turn() {
        let large = SESSION_WINDOW_BYTES_MAX / 2;
        let mut windows = LaneWindows::default();
        let lanes: Vec<Arc<str>> = (0..4).map(|number| Arc::from(format!("lane-{number}"))).collect();
        let admitted: Vec<bool> = lanes.iter().map(|lane| windows.admit(lane, &id(0), large)).collect();
        assert_eq!(admitted, [true, true, false, false]);
        assert!(windows.take_starved().is_empty(), "nothing is free yet");
        assert!(!windows.settled(&lanes[0], &id(0)), "this lane has no more");
        assert_eq!(windows.take_starved(), [Arc::clone(&lanes[2]), Arc::clone(&lanes[3])]);
        assert_eq!(windows.refill(&lanes[2], &[(id(0), large)], true).len(), 1);
        assert!(windows.refill(&lanes[3], &[(id(0), large)], true).is_empty());
        windows.settled(&lanes[1], &id(0));
        assert_eq!(windows.take_starved(), [Arc::clone(&lanes[3])]);
        windows.lose(|_| true);
        assert_eq!((windows.bytes, windows.outstanding()), (0, 0));
    }
}
