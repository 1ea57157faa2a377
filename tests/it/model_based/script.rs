//! What happens in one trial. A script says who does what in which order; threads decide the rest.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Sessions with a chat; one more receives what they tell each other's agents.
pub const SESSIONS: usize = 3;
/// Threads of each session's chat, which are its lanes.
pub const THREADS: usize = 2;

/// A whole trial.
#[derive(Clone, Serialize, Deserialize)]
pub struct Script {
    pub platform: Platform,
    pub steps: Vec<Step>,
}

/// What is done with a message of which nobody knows whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Platform {
    /// The platform knows a repeated message again, which is therefore sent again.
    KnowsKeys,
    /// It does not, and the operator wants nothing twice.
    Hold,
    /// It does not, and the operator wants nothing delayed.
    Resend,
}

/// One thing that happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Step {
    /// An agent commits rows in one transaction.
    Write { session: usize, rows: Vec<Row> },
    /// Nothing happens until the host has nothing to do.
    Settle,
    /// An actor panics.
    Die(Actor),
    /// The host is shut down and started again.
    Restart,
    /// The host is gone, in mid-work: when the platform was called so many times more, or has nothing to do, and
    /// then so many turns of its thread later.
    Crash { calls: usize, turns: usize },
    /// The machine's clock is set.
    SetClock { ms: i64 },
    /// An operation on a file of a session fails from now on, with an error of the disk.
    Break { session: usize, what: Broken },
    /// Everything that was broken is well again.
    Mend,
}

/// What a disk does not do any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Broken {
    WriteInbox,
    SyncInbox,
    ReadInbox,
    ReadOutbox,
    MakeJournals,
}

/// An actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    Registry,
    Session(usize),
    Channel,
    TaskScheduler,
    Supervisor,
}

/// One row of `messages_out`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Row {
    /// A message to a thread of the session's chat. The platform gives these answers to its tries, and accepts it
    /// after them.
    Message { thread: usize, file: bool, replies: Vec<Reply> },
    /// A message that is due so long after it is written.
    Later { thread: usize, ms: u64 },
    /// The edit of something that was said before.
    Edit { thread: usize },
    /// A row that nobody can understand.
    Broken,
    /// A message to a chat that the agent may not write to.
    Forbidden,
    /// A task for the agent itself.
    Schedule,
    /// The end of the session's latest task; nothing when it has none.
    Cancel,
    /// A message to the agent that everybody may write to.
    Tell,
}

/// The answer to one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Accepted after a while.
    Slow { ms: u64 },
    /// Refused for now, with the time to wait.
    Limited { ms: u64 },
    /// Refused for now.
    Transient,
    /// Refused for good.
    Permanent,
    /// Accepted, and the answer is lost.
    LostAnswer,
    /// Lost on its way to the platform, as far as anybody can tell.
    LostRequest,
    /// No answer.
    Hang,
    /// The adapter panics.
    Panic,
}

/// As it is read again by serde, with a line for each step.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{{\"platform\":{},\"steps\":[", json(&self.platform))?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}{}", json(step), if index + 1 < self.steps.len() { "," } else { "" })?;
        }
        write!(f, "]}}")
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

/// Scripts of all kinds, the short ones first.
pub fn any_script() -> impl Strategy<Value = Script> {
    let platform = prop_oneof![Just(Platform::Hold), Just(Platform::Resend), Just(Platform::KnowsKeys)];
    (platform, prop::collection::vec(any_step(), 1..14))
        .prop_map(|(platform, steps)| Script { platform, steps })
}

fn any_step() -> impl Strategy<Value = Step> {
    let rows = prop::collection::vec(any_row(), 1..6);
    prop_oneof![
        8 => (0..SESSIONS, rows).prop_map(|(session, rows)| Step::Write { session, rows }),
        1 => Just(Step::Settle),
        3 => any_actor().prop_map(Step::Die),
        1 => Just(Step::Restart),
        3 => (0..8_usize, 0..300_usize).prop_map(|(calls, turns)| Step::Crash { calls, turns }),
        1 => (-2_000..2_000_i64).prop_map(|ms| Step::SetClock { ms }),
        1 => (0..SESSIONS, any_broken()).prop_map(|(session, what)| Step::Break { session, what }),
        1 => Just(Step::Mend),
    ]
}

fn any_actor() -> impl Strategy<Value = Actor> {
    prop_oneof![
        Just(Actor::Registry),
        (0..SESSIONS).prop_map(Actor::Session),
        Just(Actor::Channel),
        Just(Actor::TaskScheduler),
        Just(Actor::Supervisor),
    ]
}

fn any_broken() -> impl Strategy<Value = Broken> {
    prop_oneof![
        Just(Broken::WriteInbox),
        Just(Broken::SyncInbox),
        Just(Broken::ReadInbox),
        Just(Broken::ReadOutbox),
        Just(Broken::MakeJournals),
    ]
}

fn any_row() -> impl Strategy<Value = Row> {
    let replies = prop_oneof![
        3 => Just(Vec::new()),
        3 => prop::collection::vec(any_reply(), 1..4),
    ];
    prop_oneof![
        8 => (0..THREADS, prop::bool::weighted(0.2), replies)
            .prop_map(|(thread, file, replies)| Row::Message { thread, file, replies }),
        1 => (0..THREADS, 0..300_u64).prop_map(|(thread, ms)| Row::Later { thread, ms }),
        1 => (0..THREADS).prop_map(|thread| Row::Edit { thread }),
        1 => Just(Row::Broken),
        1 => Just(Row::Forbidden),
        2 => Just(Row::Schedule),
        1 => Just(Row::Cancel),
        2 => Just(Row::Tell),
    ]
}

fn any_reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        3 => (0..10_u64).prop_map(|ms| Reply::Slow { ms }),
        2 => (0..60_u64).prop_map(|ms| Reply::Limited { ms }),
        3 => Just(Reply::Transient),
        1 => Just(Reply::Permanent),
        1 => Just(Reply::LostAnswer),
        1 => Just(Reply::LostRequest),
        1 => Just(Reply::Hang),
        1 => Just(Reply::Panic),
    ]
}
