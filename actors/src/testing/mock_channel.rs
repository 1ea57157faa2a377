//! A channel that records every call and answers as it is told.

mod actor;
mod answer;
mod assertions;
mod find;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Outcome};

use self::find::Finds;
use crate::channel::adapter::{Attachment, Channel, Delivery, Idempotency};
use crate::clock::{SharedClock, SystemClock};
use crate::model::error::{Receipt, SendError};
use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::message::Destination;
use crate::model::time::Timestamp;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, futures::Notified};

/// One call of [`Channel::send`], as the platform saw it.
#[derive(Debug, Clone)]
pub struct Call {
    /// 1 for the channel's first call. Its receipt is `plat-<number>`.
    pub number: usize,
    /// The session that wrote the message.
    pub session_id: SessionId,
    /// That session's agent group.
    pub agent_group_id: AgentGroupId,
    /// The message's id.
    pub message_id: MessageId,
    /// The message's seq.
    pub seq: i64,
    /// Where to.
    pub destination: Destination,
    /// The row's kind.
    pub kind: String,
    /// The row's content.
    pub content: String,
    /// The attachments, read to their end before the answer.
    pub files: Vec<ReceivedFile>,
    /// Which try this is, as the engine says.
    pub attempt: u32,
    /// The key that every try of this message has.
    pub idempotency_key: String,
    /// When the call began, by the channel's clock.
    pub started_at: Timestamp,
    /// When it was answered; none while it is open, and after a deadline, an abort or a panic.
    pub answered_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the platform showed a new message to its users.
    pub shown: bool,
    /// The call of the same lane that was still open when this one began. Never some with a correct engine.
    pub overlaps: Option<usize>,
}

/// An attachment as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFile {
    /// File name.
    pub name: String,
    /// Bytes read.
    pub size: u64,
    /// SHA-256 of the bytes, in hexadecimal.
    pub sha256: String,
}

/// A channel for tests: it records every call and answers as it is told, by default with a receipt.
///
/// An answer for a call is looked for in this order: [`MockChannel::on_message`], [`MockChannel::on_text`],
/// [`MockChannel::next`], [`MockChannel::script`].
///
/// ```
/// use nanorelay_actors::testing::{Answer, MockChannel};
///
/// let slack = MockChannel::new();
/// slack.next([Answer::rate_limited(None), Answer::transient("bad gateway")]);
/// slack.on_text("poison", [Answer::permanent("blocked")]);
/// // After the run:
/// slack.assert_exactly_once::<&str>(&[]);
/// slack.assert_lane_order();
/// ```
pub struct MockChannel {
    idempotency: Idempotency,
    clock: SharedClock,
    state: Mutex<State>,
    /// Told of each new call, answer and opened gate.
    changed: Notify,
}

type Script = Box<dyn FnMut(&Call) -> Answer + Send>;

struct State {
    calls: Vec<Call>,
    rules: Vec<Rule>,
    next: VecDeque<Answer>,
    script: Script,
    gate_open: bool,
    /// The last open call of each lane.
    open: HashMap<(SessionId, Destination), usize>,
    /// Idempotency keys of what was shown.
    keys_shown: HashSet<String>,
    finds: Finds,
}

struct Rule {
    matches: Box<dyn Fn(&Call) -> bool + Send>,
    answers: VecDeque<Answer>,
    /// When the answers are used up, the last one stays.
    repeats_last: bool,
}

impl Rule {
    fn answer(&mut self, call: &Call) -> Option<Answer> {
        if !(self.matches)(call) {
            return None;
        }
        if self.repeats_last && self.answers.len() == 1 {
            return self.answers.front().cloned();
        }
        self.answers.pop_front()
    }
}

impl MockChannel {
    /// A channel that does not know idempotency keys and reads the machine's clock.
    pub fn new() -> Arc<Self> {
        Self::with(Idempotency::None, Arc::new(SystemClock))
    }

    /// The same with a clock of the test's choice.
    pub fn with_clock(clock: SharedClock) -> Arc<Self> {
        Self::with(Idempotency::None, clock)
    }

    /// Chooses everything. With [`Idempotency::NativeKey`] a repeated message is accepted and not shown again.
    pub fn with(idempotency: Idempotency, clock: SharedClock) -> Arc<Self> {
        let state = State {
            calls: Vec::new(),
            rules: Vec::new(),
            next: VecDeque::new(),
            script: Box::new(|_| Answer::Accept),
            gate_open: false,
            open: HashMap::new(),
            keys_shown: HashSet::new(),
            finds: Finds::default(),
        };
        Arc::new(Self { idempotency, clock, state: Mutex::new(state), changed: Notify::new() })
    }

    /// Answers for the next calls, whatever they carry.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) -> &Self {
        self.lock().next.extend(answers);
        self
    }

    /// Answers for the tries of one message, one each.
    pub fn on_message(&self, message_id: &str, answers: impl IntoIterator<Item = Answer>) -> &Self {
        let message_id = message_id.to_owned();
        self.add_rule(true, false, move |call| call.message_id.as_str() == message_id, answers)
    }

    /// Answers for calls whose content contains `text`, one each.
    pub fn on_text(&self, text: &str, answers: impl IntoIterator<Item = Answer>) -> &Self {
        let text = text.to_owned();
        self.add_rule(false, false, move |call| call.content.contains(&text), answers)
    }

    /// The same answer for every call whose content contains `text`.
    pub fn always_on_text(&self, text: &str, answer: Answer) -> &Self {
        let text = text.to_owned();
        self.add_rule(false, true, move |call| call.content.contains(&text), [answer])
    }

    /// Decides on all calls for which nothing else was said.
    pub fn script(&self, script: impl FnMut(&Call) -> Answer + Send + 'static) -> &Self {
        self.lock().script = Box::new(script);
        self
    }

    /// A platform that comes and goes: for calls for which nothing else was said, `up` of them are accepted, then `down`
    /// get `answer`, and so on.
    ///
    /// # Panics
    /// When both are 0.
    pub fn flap(&self, up: usize, down: usize, answer: Answer) -> &Self {
        assert!(up + down > 0, "a platform is up or down");
        let mut number = 0;
        self.script(move |_| {
            let is_up = number % (up + down) < up;
            number += 1;
            if is_up { Answer::Accept } else { answer.clone() }
        })
    }

    fn add_rule(
        &self,
        first: bool,
        repeats_last: bool,
        matches: impl Fn(&Call) -> bool + Send + 'static,
        answers: impl IntoIterator<Item = Answer>,
    ) -> &Self {
        let rule = Rule { matches: Box::new(matches), answers: answers.into_iter().collect(), repeats_last };
        let mut state = self.lock();
        let at = if first { 0 } else { state.rules.len() };
        state.rules.insert(at, rule);
        drop(state);
        self
    }

    /// Lets go of every call that waits at [`Answer::gate`], and of later ones.
    pub fn open_gate(&self) {
        self.lock().gate_open = true;
        self.changed.notify_waiters();
    }

    /// Holds later calls at [`Answer::gate`] again.
    pub fn close_gate(&self) {
        self.lock().gate_open = false;
    }

    /// All calls so far, in the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The calls that made the platform show a message, in the order in which they began.
    pub fn shown(&self) -> Vec<Call> {
        self.lock().calls.iter().filter(|call| call.shown).cloned().collect()
    }

    /// Waits until `count` calls have begun.
    pub async fn wait_for(&self, count: usize) {
        self.wait_until(|calls| calls.len() >= count).await;
    }

    /// Waits until `count` messages were shown.
    pub async fn wait_for_shown(&self, count: usize) {
        self.wait_until(|calls| calls.iter().filter(|call| call.shown).count() >= count).await;
    }

    /// Waits until a condition on all calls holds. It is looked at whenever a call begins or ends.
    pub async fn wait_until(&self, condition: impl Fn(&[Call]) -> bool) {
        self.wait_for_state(|state| condition(&state.calls)).await;
    }

    async fn wait_for_state(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let changed: Notified<'_> = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change between the two is missed.
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the call and finds its answer.
    fn begin(&self, delivery: &Delivery) -> (usize, Answer) {
        let files = delivery.attachments.iter().map(receive).collect();
        let mut guard = self.lock();
        let state = &mut *guard;
        let number = state.calls.len() + 1;
        let lane = (delivery.session_id.clone(), delivery.destination.clone());
        let overlaps = state.open.insert(lane, number);
        let call = Call {
            number,
            session_id: delivery.session_id.clone(),
            agent_group_id: delivery.agent_group_id.clone(),
            message_id: delivery.message_id.clone(),
            seq: delivery.seq,
            destination: delivery.destination.clone(),
            kind: delivery.kind.to_string(),
            content: delivery.content.to_string(),
            files,
            attempt: delivery.attempt,
            idempotency_key: delivery.idempotency_key.to_string(),
            started_at: self.clock.now(),
            answered_at: None,
            outcome: Outcome::Open,
            shown: false,
            overlaps,
        };
        let answer = state
            .rules
            .iter_mut()
            .find_map(|rule| rule.answer(&call))
            .or_else(|| state.next.pop_front())
            .unwrap_or_else(|| (state.script)(&call));
        state.calls.push(call);
        drop(guard);
        self.changed.notify_waiters();
        (number, answer)
    }

    /// The platform takes the message; users see it unless they have it already.
    fn show(&self, number: usize) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let call = &mut state.calls[number - 1];
        let is_new = state.keys_shown.insert(call.idempotency_key.clone());
        call.shown = is_new || self.idempotency != Idempotency::NativeKey;
    }

    fn end(&self, number: usize, outcome: Outcome) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let call = &mut state.calls[number - 1];
        if call.outcome == Outcome::Open {
            call.answered_at = outcome.is_answer().then(|| self.clock.now());
            call.outcome = outcome;
            let lane = (call.session_id.clone(), call.destination.clone());
            if state.open.get(&lane) == Some(&number) {
                state.open.remove(&lane);
            }
        }
        drop(guard);
        self.changed.notify_waiters();
    }

    async fn answer(&self, number: usize, mut answer: Answer) -> Result<Receipt, SendError> {
        loop {
            match answer {
                Answer::Accept => answer = Answer::AcceptAs(format!("plat-{number}")),
                Answer::AcceptAs(id) => {
                    self.show(number);
                    return Ok(Receipt { platform_message_id: Some(id), limit: None });
                }
                Answer::AcceptAndLimit(limit) => {
                    self.show(number);
                    return Ok(Receipt {
                        platform_message_id: Some(format!("plat-{number}")),
                        limit: Some(limit),
                    });
                }
                Answer::AcceptThenFail(error) => {
                    self.show(number);
                    return Err(error);
                }
                Answer::Fail(error) => return Err(error),
                Answer::Hang => std::future::pending().await,
                Answer::Panic(words) => panic!("{words}"),
                Answer::After(time, then) => {
                    tokio::time::sleep(time).await;
                    answer = *then;
                }
                Answer::Gate(then) => {
                    self.wait_for_state(|state| state.gate_open).await;
                    answer = *then;
                }
            }
        }
    }
}

#[async_trait]
impl Channel for MockChannel {
    fn idempotency(&self) -> Idempotency {
        self.idempotency
    }

    async fn find(&self, delivery: &Delivery) -> Result<Option<Receipt>, SendError> {
        self.find_shown(delivery)
    }

    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let (number, answer) = self.begin(delivery);
        let unanswered = Unanswered { channel: self, number };
        let result = self.answer(number, answer).await;
        self.end(
            number,
            match &result {
                Ok(receipt) => Outcome::Accepted(receipt.clone()),
                Err(error) => Outcome::Failed(error.clone()),
            },
        );
        drop(unanswered);
        result
    }
}

/// Records that a call was given up by its caller, or panicked.
struct Unanswered<'a> {
    channel: &'a MockChannel,
    number: usize,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.channel
            .end(self.number, if std::thread::panicking() { Outcome::Panicked } else { Outcome::Abandoned });
    }
}

impl fmt::Debug for MockChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockChannel").field("calls", &self.lock().calls).finish_non_exhaustive()
    }
}

fn receive(attachment: &Attachment) -> ReceivedFile {
    let mut hash = Sha256::new();
    let mut reader = attachment.reader();
    let size = io::copy(&mut reader.by_ref(), &mut hash).expect("an attachment can be read");
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ReceivedFile { name: attachment.name().to_owned(), size, sha256 }
}
