//! Agents that answer what is in their inboxes, by rules.

use super::agent::{InboundRow, RowSpec, TestAgent};
use super::data_dir::{DataDir, Era};
use crate::clock::{Clock, SystemClock};
use crate::model::time::Timestamp;
use crate::runtime::{AgentHost, AgentRuntime, AgentSession, Running, RuntimeError};
use async_trait::async_trait;
use rusqlite::OptionalExtension;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a scripted agent does with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reaction {
    /// Writes these rows and says that it has dealt with the message. A row without an id gets one that is derived from
    /// the message.
    Writes(Vec<RowSpec>),
    /// Says that it could not deal with it.
    Fails,
    /// Takes it and dies before it has dealt with it: its claim goes stale.
    Claims,
    /// Does not look at it.
    Ignores,
}

type Rule = Box<dyn Fn(&TestAgent, &InboundRow) -> Option<Reaction> + Send + Sync>;

/// The agents of all sessions of a data directory: give it to [`crate::relay::RelayBuilder::runtime`]. An agent runs for as long
/// as it takes to look at its inbox once, and writes its files exactly as a container does.
///
/// ```
/// use nanorelay_actors::inbox::InboxMessage;
/// use nanorelay_actors::model::ids::SessionId;
/// use nanorelay_actors::relay::Relay;
/// use nanorelay_actors::testing::{DataDir, MockChannel, ScriptedAgents, SessionSpec};
/// use std::time::Duration;
///
/// let data = DataDir::new();
/// let ada = data.session(SessionSpec::new("ag-ada").id("sess-ada").chat("slack", "slack:C1").stopped());
/// let slack = MockChannel::new();
/// let agents = ScriptedAgents::of(&data);
/// agents.answer("ping", "pong");
/// actix::System::new().block_on(async {
///     let relay = Relay::builder(data.path()).channel("slack", slack.clone()).runtime(agents.clone());
///     let relay = relay.start().await.unwrap();
///     let message = InboxMessage::new(r#"{"text":"ping"}"#).id("m-1");
///     relay.enqueue(SessionId::new("sess-ada").unwrap(), message).await.unwrap();
///     relay.drain(Duration::from_secs(10)).await;
///     relay.shutdown(Duration::from_secs(5)).await;
/// });
/// slack.assert_exactly_once(&["re-m-1-0"]);
/// assert_eq!(agents.wakes(ada.session_id()), 1);
/// ```
pub struct ScriptedAgents {
    data_dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// By session.
    wakes: BTreeMap<String, usize>,
    /// The relay that they work for.
    host: Option<AgentHost>,
}

impl ScriptedAgents {
    /// Agents that deal with every message and write nothing, until they are told otherwise.
    pub fn of(data: &DataDir) -> Arc<Self> {
        Arc::new(Self { data_dir: data.path().to_owned(), state: Mutex::default() })
    }

    /// Adds a rule: what an agent does with a message; `None` leaves it to the rules that were added later.
    pub fn rule(
        &self,
        rule: impl Fn(&TestAgent, &InboundRow) -> Option<Reaction> + Send + Sync + 'static,
    ) -> &Self {
        self.lock().rules.push(Box::new(rule));
        self
    }

    /// The same for messages whose content contains `text`.
    pub fn on_text(
        &self,
        text: &str,
        reaction: impl Fn(&TestAgent, &InboundRow) -> Reaction + Send + Sync + 'static,
    ) -> &Self {
        let text = text.to_owned();
        self.rule(move |agent, row| row.content.contains(&text).then(|| reaction(agent, row)))
    }

    /// Answers messages whose content contains `text` in the session's own chat.
    pub fn answer(&self, text: &str, answer: &str) -> &Self {
        let answer = answer.to_owned();
        self.on_text(text, move |agent, row| {
            Reaction::Writes(vec![agent.text_row(&answer).in_reply_to(&row.id)])
        })
    }

    /// How often the session's agent was woken.
    pub fn wakes(&self, session_id: &str) -> usize {
        self.lock().wakes.get(session_id).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deals with what is due; returns whether there was anything but what is to be ignored.
    fn look(&self, agent: &TestAgent) -> bool {
        let mut has_worked = false;
        let state = self.lock();
        let now = state.host.as_ref().map_or_else(|| SystemClock.now(), AgentHost::now);
        for row in agent.messages_in().iter().filter(|row| is_due(row, now) && !has_taken(agent, &row.id)) {
            let reaction = state.rules.iter().find_map(|rule| rule(agent, row));
            let reaction = reaction.unwrap_or(Reaction::Writes(Vec::new()));
            has_worked |= reaction != Reaction::Ignores;
            match reaction {
                Reaction::Writes(rows) => {
                    let named = rows.into_iter().enumerate().map(|(index, spec)| {
                        let id = spec.id.clone().unwrap_or_else(|| format!("re-{}-{index}", row.id));
                        spec.id(&id)
                    });
                    agent.rows(named.collect());
                    agent.ack(&row.id, "completed");
                }
                Reaction::Fails => agent.ack(&row.id, "failed"),
                Reaction::Claims => agent.ack(&row.id, "processing"),
                Reaction::Ignores => {}
            }
        }
        has_worked
    }
}

fn is_due(row: &InboundRow, now: Timestamp) -> bool {
    let is_pending = row.status.as_deref().is_none_or(|status| status == "pending");
    let due_at = row.process_after.as_deref().map(Timestamp::parse);
    is_pending && due_at.is_none_or(|due_at| due_at.is_ok_and(|due_at| due_at <= now))
}

/// Whether the agent has said before that it deals or has dealt with it.
fn has_taken(agent: &TestAgent, message_id: &str) -> bool {
    let status: Option<String> = agent
        .outbound()
        .query_row("SELECT status FROM processing_ack WHERE message_id = ?1", [message_id], |row| row.get(0))
        .optional()
        .expect("acknowledgements can be read");
    status.is_some_and(|status| status != "processing")
}

#[async_trait]
impl AgentRuntime for ScriptedAgents {
    async fn attach(&self, host: AgentHost) -> Result<(), RuntimeError> {
        self.lock().host = Some(host);
        Ok(())
    }

    async fn wake(&self, session: &AgentSession) -> Result<(), RuntimeError> {
        *self.lock().wakes.entry(session.session_id.to_string()).or_default() += 1;
        let data = DataDir::at(&self.data_dir, Era::Current);
        let has_worked = self.look(&data.agent(session.session_id.as_str()));
        let host = self.lock().host.clone();
        // The end of an agent that has ignored its work would wake the next one at once, and so on for ever.
        if let Some(host) = host.filter(|_| has_worked) {
            host.started(session);
            host.ended(session);
        }
        Ok(())
    }

    async fn is_running(&self, _: &AgentSession) -> Running {
        Running::No
    }

    async fn stop(&self, _: &AgentSession, _: &str) -> Result<(), RuntimeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::InboxMessage;
    use crate::model::ids::SessionId;
    use crate::relay::Relay;
    use crate::testing::{MockChannel, SessionSpec, fast_settings};
    use std::time::Duration;

    #[actix_rt::test]
    async fn agents_talk_to_each_other_and_to_their_chats_by_rules() {
        let data = DataDir::new();
        data.allow_agent("ag-ada", "ag-ben").allow_agent("ag-ben", "ag-ada");
        let session = |group: &str, id: &str, chat: &str| {
            data.session(SessionSpec::new(group).id(id).chat("slack", chat).stopped())
        };
        let (ada, ben) = (session("ag-ada", "sess-ada", "C1"), session("ag-ben", "sess-ben", "C2"));
        let agents = ScriptedAgents::of(&data);
        agents.on_text("ask Ben", |_, row| {
            Reaction::Writes(vec![RowSpec::text("agent", "ag-ben", "how is the build?").in_reply_to(&row.id)])
        });
        agents.answer("how is the build?", "Ada wants to know about the build");
        agents.on_text("impossible", |_, _| Reaction::Fails);
        let slack = MockChannel::new();
        let relay = Relay::builder(data.path())
            .settings(fast_settings())
            .channel("slack", slack.clone())
            .runtime(agents.clone())
            .start()
            .await
            .unwrap();
        let to_ada = SessionId::new("sess-ada").unwrap();
        for (id, text) in [("m-1", "ask Ben"), ("m-2", "impossible"), ("m-3", "thanks")] {
            let message = InboxMessage::new(format!("{{\"text\":\"{text}\"}}")).id(id);
            relay.enqueue(to_ada.clone(), message).await.unwrap();
        }
        let report = relay.drain(Duration::from_secs(30)).await;
        relay.shutdown(Duration::from_secs(5)).await;
        assert_eq!((report.delivered, report.routed, report.dead), (1, 1, 0));
        ada.assert_delivered("re-m-1-0");
        ben.assert_received_once("how is the build?");
        assert_eq!(slack.shown().len(), 1, "only Ben said something in a chat");
        assert!(agents.wakes("sess-ada") >= 1 && agents.wakes("sess-ben") >= 1);
        let status = |id: &str| ada.messages_in().into_iter().find(|row| row.id == id).unwrap().status;
        assert_eq!(status("m-2").as_deref(), Some("failed"));
        assert_eq!(status("m-3").as_deref(), Some("completed"));
    }
}
