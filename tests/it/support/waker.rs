//! An agent runtime that starts nothing, and counts how often it is asked to wake an agent.

use async_trait::async_trait;
use nanorelay_actors::runtime::{AgentRuntime, AgentSession, Running, RuntimeError};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A runtime whose agents do not run, unless a test says so.
#[derive(Default)]
pub struct Waker {
    woken: Mutex<Vec<String>>,
    is_running: AtomicBool,
}

impl Waker {
    /// One whose agents run.
    pub fn running() -> Self {
        Self { is_running: AtomicBool::new(true), ..Self::default() }
    }

    /// Says whether its agents run.
    pub fn set_running(&self, is_running: bool) {
        self.is_running.store(is_running, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub fn wakes(&self) -> usize {
        self.woken.lock().unwrap().len()
    }
}

#[async_trait]
impl AgentRuntime for Waker {
    async fn wake(&self, session: &AgentSession) -> Result<(), RuntimeError> {
        self.woken.lock().unwrap().push(session.session_id.to_string());
        Ok(())
    }

    async fn is_running(&self, _: &AgentSession) -> Running {
        if self.is_running.load(Ordering::SeqCst) { Running::Yes { since: None } } else { Running::No }
    }

    async fn stop(&self, _: &AgentSession, _: &str) -> Result<(), RuntimeError> {
        Ok(())
    }
}
