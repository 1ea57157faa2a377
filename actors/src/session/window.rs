//! How much of a lane is in memory: a window at its head; the rest waits in the ledger.

use crate::limits::LANE_WINDOW;
use crate::model::ids::MessageId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The windows of one session.
#[derive(Debug, Default)]
pub(super) struct LaneWindows {
    lanes: HashMap<Arc<str>, LaneWindow>,
}

#[derive(Debug, Default)]
struct LaneWindow {
    outstanding: HashSet<MessageId>,
    /// Whether the ledger holds more of this lane than the window.
    spilled: bool,
}

impl LaneWindows {
    /// Whether a message that is next in its lane may go out now; if not, it waits in the ledger.
    pub fn admit(&mut self, lane: &Arc<str>, message: &MessageId) -> bool {
        let window = self.lanes.entry(Arc::clone(lane)).or_default();
        if window.spilled || window.outstanding.len() >= LANE_WINDOW {
            window.spilled = true;
            return false;
        }
        window.outstanding.insert(message.clone())
    }

    /// Of the first messages of a lane, as the ledger lists them, those to hand out now. `complete` says that
    /// the list holds the whole lane.
    pub fn refill(&mut self, lane: &Arc<str>, listed: &[MessageId], complete: bool) -> HashSet<MessageId> {
        let window = self.lanes.entry(Arc::clone(lane)).or_default();
        let mut handed_out = HashSet::new();
        let mut all = complete;
        for message in listed {
            if window.outstanding.contains(message) {
                continue;
            }
            if window.outstanding.len() >= LANE_WINDOW {
                all = false;
                break;
            }
            window.outstanding.insert(message.clone());
            handed_out.insert(message.clone());
        }
        window.spilled = !all;
        self.forget_if_empty(lane);
        handed_out
    }

    /// A message is settled. Returns whether the lane should be refilled.
    pub fn settled(&mut self, lane: &Arc<str>, message: &MessageId) -> bool {
        let Some(window) = self.lanes.get_mut(lane) else { return false };
        window.outstanding.remove(message);
        let refill = window.spilled && window.outstanding.len() <= LANE_WINDOW / 2;
        self.forget_if_empty(lane);
        refill
    }

    /// Forgets what was handed out in lanes that `lost` names; returns these lanes, which must be refilled.
    pub fn lose(&mut self, lost: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let lanes: Vec<_> = self.lanes.keys().filter(|lane| lost(lane)).cloned().collect();
        for lane in &lanes {
            self.lanes.insert(Arc::clone(lane), LaneWindow { spilled: true, ..LaneWindow::default() });
        }
        lanes
    }

    /// Messages handed out and not settled.
    pub fn outstanding(&self) -> usize {
        self.lanes.values().map(|window| window.outstanding.len()).sum()
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
        let out = (0..100).filter(|number| windows.admit(&lane, &id(*number))).count();
        assert_eq!(out, LANE_WINDOW);
        // Half of the window settles before a refill is asked for.
        let refills: Vec<_> = (0..LANE_WINDOW).map(|number| windows.settled(&lane, &id(number))).collect();
        assert_eq!(refills.iter().position(|refill| *refill), Some(LANE_WINDOW / 2 - 1));
        assert!(!windows.admit(&lane, &id(100)), "a later message never overtakes a spilled one");
        let listed: Vec<_> = (LANE_WINDOW..101).map(id).collect();
        let handed_out = windows.refill(&lane, &listed, true);
        assert_eq!(handed_out.len(), 101 - LANE_WINDOW);
        assert!(windows.admit(&lane, &id(101)), "nothing waits any more");
    }

    #[test]
    fn a_refill_hands_nothing_out_twice() {
        let lane: Arc<str> = Arc::from("lane");
        let mut windows = LaneWindows::default();
        assert!(windows.admit(&lane, &id(1)));
        assert_eq!(windows.refill(&lane, &[id(1), id(2)], true), HashSet::from([id(2)]));
        windows.settled(&lane, &id(1));
        windows.settled(&lane, &id(2));
        assert_eq!(windows.outstanding(), 0);
        assert!(windows.lanes.is_empty());
    }
}
