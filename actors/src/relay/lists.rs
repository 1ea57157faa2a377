//! Long lists of a running host, page by page, limited to the tenants of whoever asks.

use super::{OperationError, QuestionList, QuestionRecord, Relay};
use crate::engine::Engine;
use crate::model::ids::{AgentGroupId, SessionId, TenantName};
use crate::model::tenant::TenantSet;
use crate::model::time::Timestamp;
use crate::report::{
    DeliveryCursor, DeliveryFilter, DeliveryRecord, LaneFilter, LaneRecord, Page, SessionOverview,
    SessionQuery, SessionState, TaskFilter, TaskList, holds_text,
};
use crate::runtime::AgentRecord;
use crate::session::messages::LookReason;
use crate::store::central::{ContainerStatus, SessionFacts, SessionStatus};
use crate::store::error::StoreError;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

impl Relay {
    /// The deliveries of these tenants that match, after a place in the list; the latest change first.
    pub async fn delivery_page(
        &self,
        filter: DeliveryFilter,
        tenants: TenantSet,
        after: Option<DeliveryCursor>,
        limit: usize,
    ) -> Result<Page<DeliveryRecord, DeliveryCursor>, OperationError> {
        self.read(move |engine| {
            let mut visible = Visible::new(engine, &tenants);
            engine.ledger_reader.delivery_page(&filter, &mut |session| visible.has(session), after, limit)
        })
        .await
    }

    /// The sessions of `v2.db` that match and belong to these tenants, by id, after one; at most `limit`.
    pub async fn session_page(
        &self,
        query: SessionQuery,
        tenants: TenantSet,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<SessionOverview, String>, OperationError> {
        let agents = self.agents_by_session().await;
        self.read(move |engine| {
            let quarantined = engine.ledger_reader.quarantined()?;
            let snapshot = engine.snapshot();
            let mut whose = Whose::new(engine);
            let is_after =
                |facts: &SessionFacts| after.as_deref().is_none_or(|after| facts.id.as_str() > after);
            // The first ones by id, and one more that says whether others follow.
            let mut first: BinaryHeap<&SessionId> = BinaryHeap::with_capacity(limit + 2);
            for facts in snapshot.sessions.values() {
                let is_wanted = is_after(facts)
                    && matches(&query, facts, &quarantined)
                    && (tenants.is_all() || tenants.contains(whose.tenant(&facts.agent_group_id)));
                if is_wanted {
                    first.push(&facts.id);
                    if first.len() > limit + 1 {
                        first.pop();
                    }
                }
            }
            let mut ids = first.into_sorted_vec();
            let has_more = ids.len() > limit;
            ids.truncate(limit);
            let next = ids.last().filter(|_| has_more).map(|id| id.to_string());
            let overview = |id: &&SessionId| {
                let facts = &snapshot.sessions[*id];
                let tenant = whose.tenant(&facts.agent_group_id).clone();
                overview(engine, facts, &tenant, quarantined.get(id.as_str()), agents.get(id.as_str()))
            };
            let items = ids.iter().map(overview).collect::<Result<_, _>>()?;
            Ok(Page { items, next })
        })
        .await
    }

    /// The lanes of these tenants' sessions that match, by session.
    pub async fn lanes_of(
        &self,
        filter: LaneFilter,
        tenants: TenantSet,
    ) -> Result<Vec<LaneRecord>, OperationError> {
        let mut lanes = self.lanes(filter).await?;
        self.read(move |engine| {
            let mut visible = Visible::new(engine, &tenants);
            lanes.retain(|lane| visible.has(&lane.session_id));
            Ok(lanes)
        })
        .await
    }

    /// The tasks of these tenants that match; see [`Relay::tasks`].
    pub async fn tasks_of(
        &self,
        filter: TaskFilter,
        tenants: &TenantSet,
    ) -> Result<TaskList, OperationError> {
        let is_theirs = |session: &str| {
            let tenant = SessionId::new(session).ok().and_then(|id| self.engine().tenant_of(&id));
            tenants.is_all() || tenant.is_some_and(|tenant| tenants.contains(&tenant))
        };
        // Nothing of others is read.
        if filter.session_id.as_deref().is_some_and(|session| !is_theirs(session)) {
            return Ok(TaskList::default());
        }
        let mut list = self.tasks(filter).await?;
        list.tasks.retain(|task| is_theirs(&task.session_id));
        list.unreadable.retain(|(session, _)| is_theirs(session));
        Ok(list)
    }

    /// The questions of these tenants' sessions that wait for an answer, the oldest first.
    pub async fn questions_of(&self, tenants: &TenantSet) -> Result<Vec<QuestionRecord>, OperationError> {
        let QuestionList { mut questions, .. } = self.questions().await?;
        questions.retain(|question| {
            let session = SessionId::new(&question.session_id).ok();
            let tenant = session.and_then(|session| self.engine().tenant_of(&session));
            tenants.is_all() || tenant.is_some_and(|tenant| tenants.contains(&tenant))
        });
        Ok(questions)
    }

    /// Looks at a session now, whatever its files tell.
    pub async fn rescan(&self, session: SessionId) {
        self.look(Some(vec![session]), LookReason::Sweep).await;
    }

    /// What is known of one session; `None` when `v2.db` does not have it.
    pub async fn session_overview(
        &self,
        session: SessionId,
    ) -> Result<Option<SessionOverview>, OperationError> {
        if !self.engine().snapshot().sessions.contains_key(&session) {
            // Somebody may have made it just now.
            self.refresh_central().await?;
        }
        let agents = self.agents_by_session().await;
        self.read(move |engine| {
            let quarantined = engine.ledger_reader.quarantined()?;
            let snapshot = engine.snapshot();
            let Some(facts) = snapshot.sessions.get(&session) else { return Ok(None) };
            let tenant = engine.tenants.of(&facts.agent_group_id).name.clone();
            let (reason, agent) = (quarantined.get(session.as_str()), agents.get(session.as_str()));
            overview(engine, facts, &tenant, reason, agent).map(Some)
        })
        .await
    }

    async fn agents_by_session(&self) -> HashMap<String, AgentRecord> {
        self.agents().await.into_iter().map(|agent| (agent.session_id.clone(), agent)).collect()
    }
}

fn matches(query: &SessionQuery, facts: &SessionFacts, quarantined: &BTreeMap<String, String>) -> bool {
    let SessionQuery { agent_group_id, state, text } = query;
    let is_in_state = match state {
        None => true,
        Some(SessionState::Active) => facts.status == SessionStatus::Active,
        Some(SessionState::Closed) => facts.status == SessionStatus::Closed,
        Some(SessionState::Quarantined) => quarantined.contains_key(facts.id.as_str()),
        Some(SessionState::Running) => facts.container_status != ContainerStatus::Stopped,
    };
    is_in_state
        && agent_group_id.as_deref().is_none_or(|group| facts.agent_group_id.as_str() == group)
        && text.as_deref().is_none_or(|text| {
            let chat = facts.own_chat.as_ref();
            holds_text(facts.id.as_str(), text)
                || holds_text(facts.agent_group_id.as_str(), text)
                || chat.is_some_and(|(channel, platform)| {
                    holds_text(channel.as_str(), text) || holds_text(platform.as_str(), text)
                })
        })
}

fn overview(
    engine: &Engine,
    facts: &SessionFacts,
    tenant: &TenantName,
    quarantine_reason: Option<&String>,
    agent: Option<&AgentRecord>,
) -> Result<SessionOverview, StoreError> {
    let status = match facts.status {
        SessionStatus::Active => "active",
        SessionStatus::Closed => "closed",
    };
    Ok(SessionOverview {
        session_id: facts.id.to_string(),
        agent_group_id: facts.agent_group_id.to_string(),
        tenant: tenant.to_string(),
        status: status.to_owned(),
        container_status: facts.container_status.as_str().to_owned(),
        last_active: facts.last_active.map(Timestamp::to_iso),
        waiting: engine.ledger_reader.backlog(&facts.id)?,
        quarantine_reason: quarantine_reason.cloned(),
        channel_type: facts.own_chat.as_ref().map(|(channel, _)| channel.to_string()),
        platform_id: facts.own_chat.as_ref().map(|(_, platform)| platform.to_string()),
        thread_id: facts.thread_id.as_ref().map(ToString::to_string),
        agent: agent.cloned(),
    })
}

/// Whose agent groups are, each asked for once: a list may have as many sessions as the host.
struct Whose<'a> {
    engine: &'a Engine,
    known: HashMap<AgentGroupId, TenantName>,
}

impl<'a> Whose<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self { engine, known: HashMap::new() }
    }

    fn tenant(&mut self, group: &AgentGroupId) -> &TenantName {
        // Looked for before a name is copied: there are few groups and many sessions.
        if !self.known.contains_key(group) {
            self.known.insert(group.clone(), self.engine.tenants.of(group).name.clone());
        }
        &self.known[group]
    }
}

/// Which sessions some tenants may see, each asked for once.
pub(super) struct Visible<'a> {
    engine: &'a Engine,
    tenants: &'a TenantSet,
    known: HashMap<String, bool>,
}

impl<'a> Visible<'a> {
    pub fn new(engine: &'a Engine, tenants: &'a TenantSet) -> Self {
        Self { engine, tenants, known: HashMap::new() }
    }

    /// Whether a session is one of theirs. One that `v2.db` does not have any more belongs to the group that the ledger
    /// has noted.
    pub fn has(&mut self, session: &str) -> bool {
        if self.tenants.is_all() {
            return true;
        }
        if let Some(known) = self.known.get(session) {
            return *known;
        }
        let tenant = SessionId::new(session).ok().and_then(|id| {
            self.engine.tenant_of(&id).or_else(|| {
                let group = self.engine.ledger_reader.agent_group_of(&id).ok()??;
                Some(self.engine.tenants.of(&group).name.clone())
            })
        });
        let is_theirs = tenant.is_some_and(|tenant| self.tenants.contains(&tenant));
        self.known.insert(session.to_owned(), is_theirs);
        is_theirs
    }
}
