//! Who changed what, and why.

use crate::limits::{AUDIT_DETAIL_BYTES_MAX, AUDIT_TEXT_BYTES_MAX};
use crate::model::text::bounded;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// By which way a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditVia {
    /// A request over HTTP.
    Http,
    /// The local socket of a running host.
    Socket,
    /// A command on the data directory of a stopped host.
    Command,
    /// The application that embeds the host.
    Application,
}

impl AuditVia {
    /// All ways.
    pub const ALL: [AuditVia; 4] =
        [AuditVia::Http, AuditVia::Socket, AuditVia::Command, AuditVia::Application];

    /// The way as text, as in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditVia::Http => "http",
            AuditVia::Socket => "socket",
            AuditVia::Command => "command",
            AuditVia::Application => "application",
        }
    }
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It has begun; nothing is known of its end. When the host has died meanwhile, it may have happened or not.
    Begun,
    /// It was made.
    Done,
    /// It was refused or has failed; `error` says why.
    Failed,
}

impl AuditOutcome {
    /// All outcomes.
    pub const ALL: [AuditOutcome; 3] = [AuditOutcome::Begun, AuditOutcome::Done, AuditOutcome::Failed];

    /// The outcome as text, as in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditOutcome::Begun => "begun",
            AuditOutcome::Done => "done",
            AuditOutcome::Failed => "failed",
        }
    }
}

/// A change that is about to be made. Texts that are too long are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Who makes it: a token's name, `local`, a user of the machine, a name that the application gives.
    pub who: String,
    /// By which way.
    pub via: AuditVia,
    /// What is done, such as `pause` or `delivery.replay`.
    pub action: String,
    /// To what.
    pub target: String,
    /// The tenant to which that belongs; none when it is the host's.
    pub tenant: Option<String>,
    /// Why, in the words of who makes it.
    pub reason: Option<String>,
    /// What was there before, short.
    pub before: Option<Value>,
}

impl AuditEntry {
    /// A change without a tenant, a reason and a state before.
    pub fn new(who: impl Into<String>, via: AuditVia, action: &str, target: impl Into<String>) -> Self {
        Self {
            who: who.into(),
            via,
            action: action.to_owned(),
            target: target.into(),
            tenant: None,
            reason: None,
            before: None,
        }
    }

    /// The same with every text within its bounds.
    pub(crate) fn bounded(self) -> Self {
        let text = |text: String| bounded(text, AUDIT_TEXT_BYTES_MAX);
        Self {
            who: text(self.who),
            via: self.via,
            action: text(self.action),
            target: text(self.target),
            tenant: self.tenant.map(text),
            reason: self.reason.map(text),
            before: self.before.map(short_detail),
        }
    }
}

/// How a change ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditEnd {
    /// It was made.
    Done {
        /// What is there after it, short.
        after: Option<Value>,
    },
    /// It was not made, with the reason.
    Failed(String),
}

impl AuditEnd {
    /// The same with every text within its bounds.
    pub(crate) fn bounded(self) -> Self {
        match self {
            AuditEnd::Done { after } => AuditEnd::Done { after: after.map(short_detail) },
            AuditEnd::Failed(error) => AuditEnd::Failed(bounded(error, AUDIT_TEXT_BYTES_MAX)),
        }
    }
}

/// `detail`, or how long it was when it is too long to be kept.
fn short_detail(detail: Value) -> Value {
    let bytes = detail.to_string().len();
    if bytes > AUDIT_DETAIL_BYTES_MAX { serde_json::json!({ "left_out_bytes": bytes }) } else { detail }
}

/// One change as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Its number; later changes have higher ones.
    pub id: i64,
    /// When it began; RFC 3339 UTC.
    pub at: String,
    /// Who made it.
    pub who: String,
    /// By which way.
    pub via: AuditVia,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// The tenant to which that belongs; none when it is the host's.
    pub tenant: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What was there before, short.
    pub before: Option<Value>,
    /// What was there after it, short.
    pub after: Option<Value>,
    /// What became of it.
    pub outcome: AuditOutcome,
    /// Why it was not made.
    pub error: Option<String>,
}

/// Which changes to list, the newest first. Empty = all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// Only those of this one.
    pub who: Option<String>,
    /// Only those of this kind.
    pub action: Option<String>,
    /// Only those that began at or after this instant, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Only those with a lower number, for the next page.
    pub before_id: Option<i64>,
    /// At most so many.
    pub limit: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let entry = AuditEntry {
            reason: Some("r".repeat(AUDIT_TEXT_BYTES_MAX + 1)),
            before: Some(json!("x".repeat(AUDIT_DETAIL_BYTES_MAX))),
            ..AuditEntry::new("who", AuditVia::Http, "pause", "t".repeat(AUDIT_TEXT_BYTES_MAX + 1))
        }
        .bounded();
        assert_eq!(entry.reason.map(|text| text.len()), Some(AUDIT_TEXT_BYTES_MAX));
        assert_eq!(entry.target.len(), AUDIT_TEXT_BYTES_MAX);
        assert_eq!(entry.before, Some(json!({ "left_out_bytes": AUDIT_DETAIL_BYTES_MAX + 2 })));
    }
}
