//! Hands messages out: to channels, to the task scheduler's queue, to other agents; and takes note when they are
//! settled.

use super::SessionActor;
use super::agent_lane::{AgentItem, HandedOver, hand_over};
use super::judge::{Judged, Verdict};
use super::read::{ReadReport, RefillReport};
use crate::channel::Enqueue;
use crate::channel::queue::QueuedDelivery;
use crate::model::error::ErrorClass;
use crate::model::ids::{ChannelType, MessageId};
use crate::model::message::Lane;
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
use crate::store::ledger::{Admitted, Effect};
use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Pause before messages are offered again to a channel that is down or full.
const CHANNEL_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The key of the lane of system actions.
pub(super) fn system_lane_key() -> Arc<str> {
    Arc::from(Lane::System.key())
}

/// Messages on their way out, by account.
type Outgoing = HashMap<ChannelType, Vec<QueuedDelivery>>;

impl SessionActor {
    /// Hands out what a read has found.
    pub(super) fn hand_out_new(&mut self, report: ReadReport, ctx: &mut Context<Self>) {
        let mut outgoing = Outgoing::new();
        let (mut dead, mut merged) = (report.unusable, 0);
        for _ in 0..report.unusable {
            self.engine().note_dead(&self.context.session, None, ErrorClass::Invalid);
        }
        let mut has_scheduled = false;
        for (judged, admitted) in report.rows {
            let lane_key: Arc<str> = Arc::from(judged.lane.key());
            match admitted {
                Admitted::New => {}
                Admitted::Known(DeliveryState::Queued | DeliveryState::Retrying | DeliveryState::Sending) => {
                    // The cursor was behind; what the ledger says about the message counts.
                    self.todo.survey = true;
                    continue;
                }
                Admitted::Known(_) => continue,
                Admitted::Merged { cancelled } => {
                    self.engine().statistics.count_effect(Effect::Merged);
                    merged += 1;
                    if cancelled {
                        self.engine().note_dead(&self.context.session, None, ErrorClass::Cancelled);
                        dead += 1;
                    }
                    continue;
                }
                Admitted::BelowLowWater => {
                    let reason = "its seq is one that was pruned from the ledger";
                    let class = ErrorClass::Forgotten;
                    self.engine().given_up(&self.context.session, &judged.row.id, class, reason);
                    dead += 1;
                    continue;
                }
            }
            if let Verdict::Dead { class, reason } = &judged.verdict {
                self.engine().given_up(&self.context.session, &judged.row.id, *class, reason);
                dead += 1;
                continue;
            }
            self.backlog += 1;
            if let Some(due) = judged.due {
                self.next_scheduled = Some(self.next_scheduled.map_or(due, |earliest| earliest.min(due)));
                has_scheduled = true;
                continue;
            }
            if self.windows.admit(&lane_key, &judged.row.id, judged.content_bytes()) {
                self.hand_out(judged, lane_key, None, &mut outgoing, ctx);
            }
        }
        self.note_projections(dead + merged, ctx);
        if has_scheduled {
            self.arm();
        }
        self.send_out(outgoing, ctx);
    }

    /// Hands out what a refill has found.
    pub(super) fn hand_out_refill(&mut self, report: RefillReport, ctx: &mut Context<Self>) {
        let RefillReport { lane, mut listed, complete, dead } = report;
        // These were settled behind the reader's back.
        listed.retain(|(judged, _)| !self.settled_meanwhile.contains(&judged.row.id));
        self.backlog = self.backlog.saturating_sub(dead.len() as u64);
        for (message, class) in &dead {
            self.windows.settled(&lane, message);
            self.engine().note_dead(&self.context.session, Some(message), *class);
        }
        self.note_projections(dead.len(), ctx);
        let sizes: Vec<(MessageId, usize)> =
            listed.iter().map(|(judged, _)| (judged.row.id.clone(), judged.content_bytes())).collect();
        let chosen = self.windows.refill(&lane, &sizes, complete);
        self.todo.refill.extend(self.windows.take_starved());
        if !complete && !dead.is_empty() {
            // The dead took the place of others on this page.
            self.todo.refill.insert(Arc::clone(&lane));
        }
        let mut outgoing = Outgoing::new();
        for (judged, not_before) in listed {
            if chosen.contains(&judged.row.id) {
                self.hand_out(judged, Arc::clone(&lane), not_before, &mut outgoing, ctx);
            }
        }
        self.send_out(outgoing, ctx);
    }

    fn hand_out(
        &mut self,
        judged: Judged,
        lane_key: Arc<str>,
        not_before: Option<Timestamp>,
        outgoing: &mut Outgoing,
        ctx: &mut Context<Self>,
    ) {
        let Judged { row, verdict, files, .. } = judged;
        let content = row.content.clone().unwrap_or_else(|_| Arc::from(""));
        match verdict {
            Verdict::System => self.actions.push(row),
            Verdict::Channel(destination) => {
                let account = self.engine().channels.serving(&destination.channel_type).name.clone();
                outgoing.entry(account).or_default().push(QueuedDelivery {
                    session_id: self.context.session.clone(),
                    agent_group_id: self.context.group.clone(),
                    message_id: row.id,
                    seq: row.seq,
                    lane_key,
                    destination,
                    kind: row.kind,
                    content,
                    files,
                    not_before,
                });
            }
            Verdict::Agent(target) => {
                let first_due = self.engine().now();
                let in_reply_to = row.in_reply_to;
                let item = AgentItem {
                    message_id: row.id,
                    target,
                    in_reply_to,
                    content,
                    files,
                    not_before,
                    first_due,
                };
                self.agent_lanes.entry(Arc::clone(&lane_key)).or_default().queue.push_back(item);
                self.run_agent_lane(lane_key, ctx);
            }
            // Dead rows are dealt with before they are handed out.
            Verdict::Dead { .. } => {}
        }
    }

    fn send_out(&mut self, outgoing: Outgoing, ctx: &mut Context<Self>) {
        for (account, items) in outgoing {
            let channel = self.engine().directory.channel(&account);
            let known = self.channels.get(&account);
            let is_new = known.is_some() && known != channel.as_ref();
            if is_new {
                // What the former actor had must come first.
                self.channel_lost(&account);
            }
            let sent = channel.as_ref().is_some_and(|channel| {
                let message = Enqueue { items, _token: self.engine().activity.token() };
                !is_new && channel.try_send(message).is_ok()
            });
            match channel {
                Some(channel) => self.channels.insert(account.clone(), channel),
                None => self.channels.remove(&account),
            };
            if !sent && !is_new {
                // At once, or a later message would overtake these.
                let lanes = self.lose_lanes(&account);
                let token = self.engine().activity.token();
                ctx.run_later(CHANNEL_RETRY_PAUSE, move |actor, ctx| {
                    actor.todo.refill.extend(lanes);
                    actor.pump(ctx);
                    drop(token);
                });
            }
        }
    }

    /// A channel no longer has what it was handed: it is handed in again from the ledger.
    pub(super) fn channel_lost(&mut self, account: &ChannelType) {
        let lanes = self.lose_lanes(account);
        self.todo.refill.extend(lanes);
    }

    fn lose_lanes(&mut self, account: &ChannelType) -> Vec<Arc<str>> {
        let engine = Arc::clone(self.engine());
        self.windows.lose(|lane_key| {
            Lane::channel_type_of(lane_key)
                .is_some_and(|channel_type| engine.channels.serving(&channel_type).name == *account)
        })
    }

    /// A message is settled: there is room in its lane.
    pub(super) fn message_settled(&mut self, lane_key: &Arc<str>, message: &MessageId) {
        self.backlog = self.backlog.saturating_sub(1);
        if self.step_is_running {
            self.settled_meanwhile.insert(message.clone());
        }
        if self.windows.settled(lane_key, message) {
            self.todo.refill.insert(Arc::clone(lane_key));
        }
        self.todo.refill.extend(self.windows.take_starved());
    }

    fn run_agent_lane(&mut self, lane_key: Arc<str>, ctx: &mut Context<Self>) {
        let now = self.engine().now();
        let is_stopping = self.engine().is_stopping();
        let Some(lane) = self.agent_lanes.get_mut(&lane_key) else { return };
        if lane.is_running || is_stopping {
            return;
        }
        let Some(first) = lane.queue.front().cloned() else {
            self.agent_lanes.remove(&lane_key);
            return;
        };
        lane.is_running = true;
        if let Some(at) = first.not_before.filter(|at| *at > now) {
            lane.waits = Some(ctx.run_later(at.since(now), move |actor, ctx| {
                if let Some(lane) = actor.agent_lanes.get_mut(&lane_key) {
                    lane.is_running = false;
                    lane.waits = None;
                }
                actor.run_agent_lane(lane_key, ctx);
            }));
            return;
        }
        let token = self.engine().activity.token();
        let handed_over = hand_over(self.context.clone(), first.clone());
        let ended = handed_over.into_actor(self).map(move |result, actor: &mut Self, ctx| {
            actor.agent_message_ended(&lane_key, &first.message_id, result, ctx);
            actor.run_agent_lane(lane_key, ctx);
            actor.pump(ctx);
            drop(token);
        });
        ctx.spawn(ended);
    }

    /// An operator may have changed what lanes wait for: the ledger is asked again.
    pub(super) fn wake_agent_lanes(&mut self, ctx: &mut Context<Self>) {
        let mut woken = Vec::new();
        for (lane_key, lane) in &mut self.agent_lanes {
            if let Some(timer) = lane.waits.take() {
                ctx.cancel_future(timer);
                lane.is_running = false;
                if let Some(first) = lane.queue.front_mut() {
                    first.not_before = None;
                }
                woken.push(Arc::clone(lane_key));
            }
        }
        for lane_key in woken {
            self.run_agent_lane(lane_key, ctx);
        }
    }

    fn agent_message_ended(
        &mut self,
        lane_key: &Arc<str>,
        message: &MessageId,
        result: HandedOver,
        ctx: &mut Context<Self>,
    ) {
        let Some(lane) = self.agent_lanes.get_mut(lane_key) else { return };
        lane.is_running = false;
        match result {
            HandedOver::Settled => {
                lane.queue.pop_front();
                self.message_settled(lane_key, message);
                self.note_projections(1, ctx);
            }
            HandedOver::Gone => {
                lane.queue.pop_front();
                self.message_settled(lane_key, message);
            }
            HandedOver::Postponed(at) => {
                lane.queue.pop_front();
                self.message_settled(lane_key, message);
                self.postponed(at);
            }
            HandedOver::RetryAt(at) => {
                if let Some(first) = lane.queue.front_mut() {
                    first.not_before = Some(at);
                }
            }
        }
    }
}

impl Lane {
    /// The channel type in a lane's key, when it is a channel's lane.
    pub(crate) fn channel_type_of(lane_key: &str) -> Option<ChannelType> {
        let mut parts = lane_key.split(crate::model::message::KEY_SEPARATOR);
        (parts.next() == Some("channel"))
            .then(|| parts.next().and_then(|name| ChannelType::new(name).ok()))?
    }
}
