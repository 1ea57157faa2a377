//! Changes that come by the socket are noted like those over HTTP: who, what, why.

use super::super::protocol::{Request, Response, WHY};
use async_trait::async_trait;
use nanorelay_actors::relay::{AuditId, OperationError, Relay};
use nanorelay_actors::report::{AuditEnd, AuditEntry, AuditFilter, AuditRecord, AuditVia, TaskVerb};
use serde_json::{Map, Value, json};
use std::future::Future;
use tokio::net::UnixStream;

/// A host that notes changes.
#[async_trait(?Send)]
pub trait AuditTarget: 'static {
    /// Notes that a change is about to be made; `None` when the host notes nothing.
    async fn begin_audit(&self, entry: AuditEntry) -> Result<Option<AuditId>, OperationError>;
    /// Notes how it ended.
    async fn end_audit(&self, id: AuditId, end: AuditEnd) -> Result<(), OperationError>;
    /// The changes that match, the newest first.
    async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, OperationError>;
}

#[async_trait(?Send)]
impl AuditTarget for Relay {
    async fn begin_audit(&self, entry: AuditEntry) -> Result<Option<AuditId>, OperationError> {
        Relay::begin_audit(self, entry).await.map(Some)
    }

    async fn end_audit(&self, id: AuditId, end: AuditEnd) -> Result<(), OperationError> {
        Relay::end_audit(self, id, end).await
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, OperationError> {
        Relay::audit(self, filter).await
    }
}

/// What is noted of a request; nothing of one that changes nothing.
pub(super) fn entry_of(request: &Request, who: &str, why: Option<String>) -> Option<AuditEntry> {
    let (action, target) = change_of(request)?;
    let own_reason = match request {
        Request::Pause { reason, .. } => Some(reason.clone()).filter(|reason| !reason.is_empty()),
        _ => None,
    };
    Some(AuditEntry { reason: why.or(own_reason), ..AuditEntry::new(who, AuditVia::Socket, action, target) })
}

/// What a request does, and to what.
fn change_of(request: &Request) -> Option<(&'static str, String)> {
    let scope = |kind: &dyn std::fmt::Display, name: &[String]| format!("{kind} {}", name.join(" "));
    Some(match request {
        Request::Replay { keys } => {
            let keys = keys.iter().map(|key| format!("{}/{}", key.session_id, key.message_id));
            ("delivery.replay", keys.collect::<Vec<_>>().join(" "))
        }
        Request::ReplayAll { filter, .. } => ("delivery.replay", json!(filter).to_string()),
        Request::Resolve { key, .. } => {
            ("delivery.resolve", format!("{}/{}", key.session_id, key.message_id))
        }
        Request::Cancel { key, .. } => ("delivery.cancel", format!("{}/{}", key.session_id, key.message_id)),
        Request::CancelAll { filter, .. } => ("delivery.cancel", json!(filter).to_string()),
        Request::Snooze { key, .. } => ("delivery.snooze", format!("{}/{}", key.session_id, key.message_id)),
        Request::Unblock { session_id, lane } => ("lane.unblock", format!("{session_id} {lane}")),
        Request::Release { session_id } => ("session.release", session_id.clone()),
        Request::Pause { scope: kind, name, .. } => ("pause", scope(kind, name)),
        Request::Resume { scope: kind, name, .. } => ("resume", scope(kind, name)),
        Request::Send { head } => ("session.message", head.session_id.clone()),
        Request::CreateSession { agent_group_id, .. } => ("session.create", agent_group_id.clone()),
        Request::Answer { answer } => ("question.answer", answer.question_id.clone()),
        Request::ChangeTask { session_id, task_id, verb } => {
            let action = match verb {
                TaskVerb::Pause => "task.pause",
                TaskVerb::Resume => "task.resume",
                TaskVerb::Cancel => "task.cancel",
                TaskVerb::RunNow => "task.run-now",
            };
            (action, format!("{session_id}/{task_id}"))
        }
        Request::List { .. }
        | Request::Replayable { .. }
        | Request::Cancellable { .. }
        | Request::Show { .. }
        | Request::Sessions { .. }
        | Request::Lanes { .. }
        | Request::Agents
        | Request::Holds
        | Request::Metrics
        | Request::Questions
        | Request::Tasks { .. }
        | Request::TaskRuns { .. }
        | Request::Audit { .. }
        | Request::Host
        | Request::Status => return None,
    })
}

/// How a change ended, by what was answered.
pub(super) fn end_of(answered: &Result<Vec<Response>, String>) -> AuditEnd {
    match answered {
        Ok(responses) => {
            let count = responses.iter().find_map(|response| match response {
                Response::End { count } => Some(*count),
                _ => None,
            });
            AuditEnd::Done { after: count.map(|count| json!({ "changed": count })) }
        }
        Err(reason) => AuditEnd::Failed(reason.clone()),
    }
}

/// Reads a request, and why it is made.
pub(super) fn parse(line: &[u8]) -> Result<(Request, Option<String>), String> {
    let words = |problem: serde_json::Error| format!("the request is not understood: {problem}");
    let mut members: Map<String, Value> = serde_json::from_slice(line).map_err(words)?;
    let why = members.remove(WHY).and_then(|why| why.as_str().map(str::to_owned));
    let request = serde_json::from_value(Value::Object(members)).map_err(words)?;
    Ok((request, why.filter(|why| !why.is_empty())))
}

/// Who is at the other end of a connection: only the user who runs the host, and root, can connect.
pub(super) fn peer(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(credentials) => local_user(credentials.uid()),
        Err(_) => "local user".to_owned(),
    }
}

/// How the audit calls a user of this machine.
pub fn local_user(user_id: u32) -> String {
    format!("local user {user_id}")
}

/// Answers a request, and notes before and after that what it changes.
pub(super) async fn noted(
    target: &impl AuditTarget,
    entry: Option<AuditEntry>,
    answering: impl Future<Output = Result<Vec<Response>, String>>,
) -> Result<Vec<Response>, String> {
    let words = |problem: OperationError| problem.to_string();
    let id = match entry {
        Some(entry) => target.begin_audit(entry).await.map_err(words)?,
        None => None,
    };
    let answered = answering.await;
    if let Some(id) = id {
        target.end_audit(id, end_of(&answered)).await.map_err(words)?;
    }
    answered
}

/// Lists changes.
pub(super) async fn list(target: &impl AuditTarget, filter: AuditFilter) -> Result<Vec<Response>, String> {
    let records = target.audit(filter).await.map_err(|problem| problem.to_string())?;
    let end = Response::End { count: records.len() as u64 };
    Ok(records.into_iter().map(|record| Response::Audited(Box::new(record))).chain([end]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_beside_its_members_why_it_is_made() {
        let (request, why) = parse(br#"{"command":"release","session_id":"s-1","why":"moved"}"#).unwrap();
        let entry = entry_of(&request, "local user 1000", why).unwrap();
        assert_eq!((entry.action.as_str(), entry.target.as_str()), ("session.release", "s-1"));
        assert_eq!((entry.who.as_str(), entry.reason.as_deref()), ("local user 1000", Some("moved")));
        let (request, why) = parse(br#"{"command":"agents"}"#).unwrap();
        assert_eq!(entry_of(&request, "x", why), None);
        let unknown = br#"{"command":"release","session_id":"s-1","x":1}"#;
        for wrong in [&b"[]"[..], b"{}", unknown, b"x"] {
            assert!(parse(wrong).is_err_and(|words| words.starts_with("the request is not understood")));
        }
    }
}
