//! Identifiers as types, so that a session id can never stand where a message id belongs.
//!
//! Ids that become path components are checked when they are made: a value of such a type can be joined to a
//! folder without leaving it. All other ids are opaque text, limited in length.

use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// The longest id that becomes a path component, in bytes. Linux allows 255.
pub const PATH_COMPONENT_BYTES_MAX: usize = 200;
/// The longest opaque id, in bytes.
pub const OPAQUE_ID_BYTES_MAX: usize = 1024;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text is empty.
    #[error("id is empty")]
    Empty,
    /// The text is longer than the limit, in bytes.
    #[error("id has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Length found.
        bytes: usize,
        /// Length allowed.
        limit: usize,
    },
    /// The text is `.` or `..`, or holds a separator, a NUL or another control character.
    #[error("id {0:?} is not a plain file name")]
    NotAFileName(String),
}

fn check_opaque(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > OPAQUE_ID_BYTES_MAX {
        return Err(InvalidId::TooLong { bytes: text.len(), limit: OPAQUE_ID_BYTES_MAX });
    }
    Ok(())
}

fn check_path_component(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > PATH_COMPONENT_BYTES_MAX {
        return Err(InvalidId::TooLong { bytes: text.len(), limit: PATH_COMPONENT_BYTES_MAX });
    }
    let forbidden = |c: char| c == '/' || c == '\\' || c.is_control();
    if text == "." || text == ".." || text.contains(forbidden) {
        return Err(InvalidId::NotAFileName(text.chars().take(64).collect()));
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes an id of it.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A session's id; also the name of its folder.
    SessionId,
    check_path_component
);
id!(
    /// An agent group's id; also the name of the folder that holds its sessions.
    AgentGroupId,
    check_path_component
);
id!(
    /// A name that is safe as one component of a path: an attachment's file name, a message's outbox folder.
    PathComponent,
    check_path_component
);
id!(
    /// The id of a row in `messages_out` or `messages_in`. The agent chooses it: it is no path, see
    /// [`MessageId::path_component`].
    MessageId,
    check_opaque
);
id!(
    /// A kind of chat platform, `slack` or `discord`; it selects the channel account that delivers.
    ChannelType,
    check_opaque
);
id!(
    /// A chat on a platform, for example `slack:C0OPS`.
    PlatformId,
    check_opaque
);
id!(
    /// A thread within a chat.
    ThreadId,
    check_opaque
);
id!(
    /// A tenant: a name from the configuration, or an agent group's id.
    TenantName,
    check_opaque
);

/// A group that no tenant has claimed is a tenant of its own.
impl From<&AgentGroupId> for TenantName {
    fn from(group: &AgentGroupId) -> Self {
        Self(Arc::clone(&group.0))
    }
}

impl MessageId {
    /// The name of this message's folder in `outbox/` and `inbox/`.
    ///
    /// Fails when the id is not a plain file name; such a message can have no attachments.
    pub fn path_component(&self) -> Result<PathComponent, InvalidId> {
        PathComponent::new(self.as_str())
    }
}

/// A short id that is always the same for the same parts, however long or odd these are. It is a plain file name when
/// `prefix` is one.
pub fn derived_id(prefix: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    format!("{prefix}-{}", &format!("{:x}", hash.finalize())[..24])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str) {
        assert!(SessionId::new(text).is_err(), "{text:?} must not become a path");
        assert!(PathComponent::new(text).is_err(), "{text:?} must not become a path");
    }

    #[test]
    fn path_ids_never_leave_their_folder() {
        for text in ["", ".", "..", "a/b", "/", "../x", "a\\b", "a\0b", "a\nb", &"x".repeat(201)] {
            refused(text);
        }
        for text in ["sess-1", ".hidden", "ünï pic.bin", "a..b", "...", &"x".repeat(200)] {
            assert!(PathComponent::new(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn message_ids_are_any_text_but_only_plain_ones_name_a_folder() {
        let id = MessageId::new("../../etc").unwrap();
        assert!(id.path_component().is_err());
        assert!(MessageId::new("").is_err());
        assert!(MessageId::new(&"x".repeat(1025)).is_err());
    }
}
