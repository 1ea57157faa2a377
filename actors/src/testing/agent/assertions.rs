//! Assertions over what an agent finds in its own files. A failed one tells what is there instead.

use super::TestAgent;

impl TestAgent {
    /// The agent was told that its message was delivered.
    ///
    /// # Panics
    /// When it was not, or was told that it failed; the message lists what it was told.
    #[track_caller]
    pub fn assert_delivered(&self, message_id: &str) {
        self.assert_told(message_id, "delivered");
    }

    /// The agent was told that its message failed.
    ///
    /// # Panics
    /// When it was not.
    #[track_caller]
    pub fn assert_failed(&self, message_id: &str) {
        self.assert_told(message_id, "failed");
    }

    #[track_caller]
    fn assert_told(&self, message_id: &str, expected: &str) {
        let told = self.delivered();
        let row = told.iter().find(|row| row.message_out_id == message_id);
        let status = row.map(|row| row.status.as_deref().unwrap_or("delivered"));
        let session = self.session_id();
        assert_eq!(status, Some(expected), "{message_id} of {session}; it was told {told:#?}");
    }

    /// One message in the agent's inbox has this text in its content, and only one.
    ///
    /// # Panics
    /// When there is none, or more; the message lists the inbox.
    #[track_caller]
    pub fn assert_received_once(&self, text: &str) {
        let rows = self.messages_in();
        let count = rows.iter().filter(|row| row.content.contains(text)).count();
        assert_eq!(count, 1, "{} received {text:?} {count} times; its inbox: {rows:#?}", self.session_id());
    }
}
