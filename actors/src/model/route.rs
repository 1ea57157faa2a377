//! Where a row of `messages_out` goes.

use super::content::Content;
use super::error::ErrorClass;
use super::ids::{AgentGroupId, ChannelType, PlatformId, SessionId, ThreadId};
use super::message::{Destination, Lane, OutboundRow};
use super::text::quoted;

/// The channel type of a message to another agent.
pub const AGENT_CHANNEL_TYPE: &str = "agent";

/// Where a row goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To a chat.
    Channel(Destination),
    /// To another agent, or to the agent itself.
    Agent {
        /// The agent group that receives it.
        target: AgentGroupId,
        /// A session of that group that the row names, as seed-era agents do. It need not exist.
        named_session: Option<SessionId>,
    },
    /// A system action; see [`super::action::SystemAction`].
    System,
    /// Nowhere: the row is dead.
    Undeliverable {
        /// The kind of fault.
        class: ErrorClass,
        /// The fault in words.
        reason: String,
    },
}

impl Route {
    /// The queue that a row with this route joins.
    pub fn lane(&self) -> Lane {
        match self {
            Route::Channel(destination) => Lane::Channel(destination.clone()),
            Route::Agent { target, .. } => Lane::Agent(target.clone()),
            Route::System => Lane::System,
            Route::Undeliverable { .. } => Lane::Nowhere,
        }
    }

    fn undeliverable(class: ErrorClass, reason: impl Into<String>) -> Self {
        Route::Undeliverable { class, reason: reason.into() }
    }
}

/// What one session's agent may do. Looked up before, so that routing itself needs no database.
pub trait Permissions {
    /// Whether the agent may write to that chat: its own, or one of its destinations.
    fn may_send(&self, channel_type: &ChannelType, platform_id: &PlatformId) -> bool;
    /// Whether the agent may write to agents of that group. It always may to its own.
    fn may_message(&self, target: &AgentGroupId) -> bool;
    /// Whether there is such an agent group.
    fn agent_exists(&self, target: &AgentGroupId) -> bool;
}

/// Decides where a row goes. Never guesses: a row that names no reachable target is undeliverable, with a
/// reason.
///
/// The content of a message must be readable, see [`Content::parse`]; that of a system action is judged when
/// it is applied.
pub fn route(row: &OutboundRow, permissions: &dyn Permissions) -> Route {
    let content = match &row.content {
        Ok(content) => content,
        Err(fault) => return Route::undeliverable(ErrorClass::Invalid, fault.to_string()),
    };
    match &*row.kind {
        "system" => return Route::System,
        "chat" | "chat-sdk" => {}
        unknown => {
            return Route::undeliverable(ErrorClass::Invalid, format!("unknown kind {}", quoted(unknown)));
        }
    }
    if let Err(error) = Content::parse(content) {
        return Route::undeliverable(ErrorClass::Invalid, error.to_string());
    }
    match named(&row.channel_type) {
        None => Route::undeliverable(ErrorClass::NoRoute, "the message names no channel_type"),
        Some(AGENT_CHANNEL_TYPE) => route_to_agent(row, permissions),
        Some(channel_type) => route_to_channel(row, channel_type, permissions),
    }
}

fn route_to_agent(row: &OutboundRow, permissions: &dyn Permissions) -> Route {
    let Some(name) = named(&row.platform_id) else {
        return Route::undeliverable(ErrorClass::NoRoute, "the message names no agent group in platform_id");
    };
    let Ok(target) = AgentGroupId::new(name) else {
        return Route::undeliverable(
            ErrorClass::NoRoute,
            format!("there is no agent group {}", quoted(name)),
        );
    };
    // Permission first: who may not write to a group does not learn whether it exists.
    if !permissions.may_message(&target) {
        let reason = format!("unauthorized: this agent may not write to agent group {}", quoted(name));
        return Route::undeliverable(ErrorClass::NotPermitted, reason);
    }
    if !permissions.agent_exists(&target) {
        return Route::undeliverable(
            ErrorClass::NoRoute,
            format!("there is no agent group {}", quoted(name)),
        );
    }
    let named_session = named(&row.thread_id).and_then(|id| SessionId::new(id).ok());
    Route::Agent { target, named_session }
}

fn route_to_channel(row: &OutboundRow, channel_type: &str, permissions: &dyn Permissions) -> Route {
    let Some(platform_id) = named(&row.platform_id) else {
        return Route::undeliverable(ErrorClass::NoRoute, "the message names no platform_id");
    };
    let ids = ChannelType::new(channel_type).and_then(|channel_type| {
        let platform_id = PlatformId::new(platform_id)?;
        let thread_id = named(&row.thread_id).map(ThreadId::new).transpose()?;
        Ok(Destination { channel_type, platform_id, thread_id })
    });
    let destination = match ids {
        Ok(destination) => destination,
        Err(fault) => return Route::undeliverable(ErrorClass::NoRoute, fault.to_string()),
    };
    if !permissions.may_send(&destination.channel_type, &destination.platform_id) {
        let reason = format!(
            "unauthorized: this agent may not write to {} on {}",
            quoted(platform_id),
            quoted(channel_type)
        );
        return Route::undeliverable(ErrorClass::NotPermitted, reason);
    }
    Route::Channel(destination)
}

/// A routing column that holds something. Some tools write the empty text for none.
fn named(column: &Option<String>) -> Option<&str> {
    column.as_deref().filter(|text| !text.is_empty())
}

/// The sessions of a target group that a message between agents may go to, best first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentCandidates {
    /// The session that the row replied to came from.
    pub reply_source: Option<SessionId>,
    /// The session that the row names; see [`Route::Agent`].
    pub named: Option<SessionId>,
    /// The session of that group that last wrote to this one.
    pub last_peer: Option<SessionId>,
    /// The group's newest active session.
    pub newest_active: Option<SessionId>,
}

/// Chooses the session that a message between agents goes to; `None` = the target group has none, make one.
///
/// `is_valid` tells whether a session is active and belongs to the target group: every candidate but the last
/// comes from what an agent wrote, or from the past.
pub fn choose_agent_session(
    candidates: AgentCandidates,
    is_valid: impl Fn(&SessionId) -> bool,
) -> Option<SessionId> {
    let AgentCandidates { reply_source, named, last_peer, newest_active } = candidates;
    [reply_source, named, last_peer, newest_active].into_iter().flatten().find(|session| is_valid(session))
}

#[cfg(test)]
mod tests {
    use super::super::ids::MessageId;
    use super::super::message::RowFault;
    use super::*;

    /// May write to discord:1 and to ag-helper, and to the group ag-ghost that no longer exists.
    struct SomePermissions;

    impl Permissions for SomePermissions {
        fn may_send(&self, channel_type: &ChannelType, platform_id: &PlatformId) -> bool {
            channel_type.as_str() == "discord" && platform_id.as_str() == "discord:1"
        }
        fn may_message(&self, target: &AgentGroupId) -> bool {
            ["ag-main", "ag-helper", "ag-ghost"].contains(&target.as_str())
        }
        fn agent_exists(&self, target: &AgentGroupId) -> bool {
            target.as_str() != "ag-ghost"
        }
    }

    fn row(kind: &str, channel_type: &str, platform_id: &str, thread_id: &str) -> OutboundRow {
        let column = |text: &str| (text != "NULL").then(|| text.to_owned());
        OutboundRow {
            id: MessageId::new("msg-1").unwrap(),
            seq: 1,
            in_reply_to: None,
            deliver_after: None,
            kind: kind.into(),
            channel_type: column(channel_type),
            platform_id: column(platform_id),
            thread_id: column(thread_id),
            content: Ok(r#"{"text":"hi"}"#.into()),
        }
    }

    #[track_caller]
    fn undeliverable(row: &OutboundRow, class: ErrorClass, reason: &str) {
        let expected = Route::Undeliverable { class, reason: reason.to_owned() };
        assert_eq!(route(row, &SomePermissions), expected);
    }

    fn session(id: &str) -> SessionId {
        SessionId::new(id).unwrap()
    }

    #[test]
    fn a_chat_row_goes_to_its_chat_and_thread() {
        for kind in ["chat", "chat-sdk"] {
            let Route::Channel(destination) =
                route(&row(kind, "discord", "discord:1", "thread-1"), &SomePermissions)
            else {
                panic!("not a channel")
            };
            assert_eq!(destination.platform_id.as_str(), "discord:1");
            assert_eq!(destination.thread_id, Some(ThreadId::new("thread-1").unwrap()));
        }
        for no_thread in ["NULL", ""] {
            let found = route(&row("chat", "discord", "discord:1", no_thread), &SomePermissions);
            assert!(matches!(found, Route::Channel(Destination { thread_id: None, .. })), "{found:?}");
        }
    }

    #[test]
    fn a_system_row_is_an_action_whatever_its_columns() {
        assert_eq!(route(&row("system", "NULL", "NULL", "NULL"), &SomePermissions), Route::System);
        let mut bad_json = row("system", "discord", "discord:2", "NULL");
        bad_json.content = Ok("{".into());
        assert_eq!(route(&bad_json, &SomePermissions), Route::System);
    }

    #[test]
    fn an_agent_row_goes_to_the_group_and_may_name_a_session() {
        let found = route(&row("chat", "agent", "ag-helper", "sess-2"), &SomePermissions);
        let target = AgentGroupId::new("ag-helper").unwrap();
        assert_eq!(found, Route::Agent { target: target.clone(), named_session: Some(session("sess-2")) });
        assert_eq!(found.lane(), Lane::Agent(target.clone()));
        let unsafe_name = route(&row("chat", "agent", "ag-helper", "../x"), &SomePermissions);
        assert_eq!(unsafe_name, Route::Agent { target, named_session: None });
    }

    #[test]
    fn a_row_without_a_target_has_no_route() {
        use ErrorClass::NoRoute;
        undeliverable(
            &row("chat", "NULL", "discord:1", "NULL"),
            NoRoute,
            "the message names no channel_type",
        );
        undeliverable(&row("chat", "", "discord:1", "NULL"), NoRoute, "the message names no channel_type");
        undeliverable(&row("chat", "discord", "NULL", "NULL"), NoRoute, "the message names no platform_id");
        undeliverable(
            &row("chat", "agent", "NULL", "NULL"),
            NoRoute,
            "the message names no agent group in platform_id",
        );
        undeliverable(
            &row("chat", "agent", "ag-ghost", "NULL"),
            NoRoute,
            "there is no agent group \"ag-ghost\"",
        );
        undeliverable(&row("chat", "agent", "../x", "NULL"), NoRoute, "there is no agent group \"../x\"");
        let long = row("chat", "discord", &"x".repeat(2000), "NULL");
        undeliverable(&long, NoRoute, "id has 2000 bytes, the limit is 1024");
    }

    #[test]
    fn an_unauthorized_target_is_refused() {
        undeliverable(
            &row("chat", "slack", "slack:C0OPS", "NULL"),
            ErrorClass::NotPermitted,
            "unauthorized: this agent may not write to \"slack:C0OPS\" on \"slack\"",
        );
        undeliverable(
            &row("chat", "agent", "ag-stranger", "NULL"),
            ErrorClass::NotPermitted,
            "unauthorized: this agent may not write to agent group \"ag-stranger\"",
        );
    }

    #[test]
    fn a_row_that_cannot_be_understood_is_invalid() {
        undeliverable(
            &row("telepathy", "discord", "discord:1", "NULL"),
            ErrorClass::Invalid,
            "unknown kind \"telepathy\"",
        );
        let mut bad = row("chat", "discord", "discord:1", "NULL");
        bad.content = Ok("[]".into());
        undeliverable(&bad, ErrorClass::Invalid, "content must be a JSON object, found an array");
        bad.content = Err(RowFault::NotText { column: "content" });
        undeliverable(&bad, ErrorClass::Invalid, "column content is not text");
        assert_eq!(route(&bad, &SomePermissions).lane(), Lane::Nowhere);
    }

    #[test]
    fn a_reply_goes_back_to_the_originating_session_not_the_newest() {
        let all = AgentCandidates {
            reply_source: Some(session("origin")),
            named: Some(session("named")),
            last_peer: Some(session("peer")),
            newest_active: Some(session("newest")),
        };
        let choose = |closed: &[&str]| {
            let is_valid = |id: &SessionId| !closed.contains(&id.as_str());
            choose_agent_session(all.clone(), is_valid).map(|id| id.to_string())
        };
        assert_eq!(choose(&[]).as_deref(), Some("origin"));
        // A closed session, or one of another group, is passed over.
        assert_eq!(choose(&["origin"]).as_deref(), Some("named"));
        assert_eq!(choose(&["origin", "named"]).as_deref(), Some("peer"));
        assert_eq!(choose(&["origin", "named", "peer"]).as_deref(), Some("newest"));
        assert_eq!(choose(&["origin", "named", "peer", "newest"]), None);
        assert_eq!(choose_agent_session(AgentCandidates::default(), |_| true), None);
    }
}
