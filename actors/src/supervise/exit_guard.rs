//! Hears of an actor's end within microseconds, panic or not.

use super::activity::{Activity, ActivityToken};
use crate::model::ids::{ChannelType, SessionId};
use std::fmt;
use tokio::sync::mpsc;

/// Which actor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ActorName {
    /// The supervisor itself.
    Sweep,
    /// The registry.
    Registry,
    /// The task scheduler.
    TaskScheduler,
    /// The actor of one channel account.
    Channel(ChannelType),
    /// The actor of one session.
    Session(SessionId),
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActorName::Sweep => f.write_str("sweep"),
            ActorName::Registry => f.write_str("registry"),
            ActorName::TaskScheduler => f.write_str("task_scheduler"),
            ActorName::Channel(name) => write!(f, "channel/{name}"),
            ActorName::Session(id) => write!(f, "session/{id}"),
        }
    }
}

/// An actor's end.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Who ended.
    pub name: ActorName,
    /// Which of its lives ended.
    pub incarnation: u64,
    /// Whether by a panic.
    pub panicked: bool,
    /// Keeps the relay busy until somebody has dealt with the end.
    pub token: ActivityToken,
}

/// Where exits are reported.
#[derive(Debug, Clone)]
pub struct ExitReporter {
    exits: mpsc::UnboundedSender<Exit>,
    activity: Activity,
}

impl ExitReporter {
    /// A reporter and the receiving end for the supervisor. Unbounded: each living actor reports once.
    pub fn new(activity: Activity) -> (Self, mpsc::UnboundedReceiver<Exit>) {
        let (exits, receiver) = mpsc::unbounded_channel();
        (Self { exits, activity }, receiver)
    }

    /// The guard that an actor keeps as a field.
    pub fn guard(&self, name: ActorName, incarnation: u64) -> ExitGuard {
        ExitGuard { name, incarnation, reporter: self.clone() }
    }
}

/// A field of every actor; its drop is the actor's end.
#[derive(Debug)]
pub struct ExitGuard {
    name: ActorName,
    incarnation: u64,
    reporter: ExitReporter,
}

impl ExitGuard {
    /// Which life this is.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        // Must not panic: it runs while unwinding. A closed receiver means that the relay is gone.
        let _ = self.reporter.exits.send(Exit {
            name: self.name.clone(),
            incarnation: self.incarnation,
            panicked: std::thread::panicking(),
            token: self.reporter.activity.token(),
        });
    }
}
