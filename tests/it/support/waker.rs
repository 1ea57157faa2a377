//! An agent runtime whose agents do not run, and that counts how often it is asked to wake one.

use async_trait::async_trait;
use nanorelay_actors::runtime::{AgentRuntime, AgentSession, Running, RuntimeError};
use std::sync::Mutex;

/// See the module.
#[derive(Default)]
pub struct Waker {
    woken: Mutex<Vec<String>>,
}

impl Waker {
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
        Running::No
    }

    async fn stop(&self, _: &AgentSession, _: &str) -> Result<(), RuntimeError> {
        Ok(())
    }
}
