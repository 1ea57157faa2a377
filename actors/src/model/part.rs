//! A part of a message that is too long for its platform.

/// A part that the platform has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentPart {
    /// How far the message has come with it, in the adapter's own unit (bytes of the text, numbers of parts): where the
    /// next part begins. At most `i64::MAX`.
    pub end: u64,
    /// The platform's id of this part, when it gives one.
    pub platform_message_id: Option<String>,
}
