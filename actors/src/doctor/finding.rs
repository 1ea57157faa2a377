//! What is found, and how it is named.

use serde::Serialize;
use std::fmt;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it must be.
    Ok,
    /// Works, but somebody should look at it.
    Warning,
    /// Does not work.
    Error,
}

macro_rules! finding_ids {
    ($($(#[$meaning:meta])* $variant:ident = $name:literal,)*) => {
        /// What a finding is about. The names stay the same; `docs/troubleshooting.md` explains each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum FindingId {
            $($(#[$meaning])* #[serde(rename = $name)] $variant,)*
        }

        impl FindingId {
            /// All of them.
            pub const ALL: &'static [FindingId] = &[$(FindingId::$variant),*];

            /// The name, as in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(FindingId::$variant => $name),* }
            }
        }
    };
}

finding_ids! {
    /// `v2.db` as a whole.
    CentralDatabase = "central-database",
    /// A row of `v2.db`.
    CentralRow = "central-row",
    /// The configuration.
    Configuration = "configuration",
    /// No channel is configured.
    NoChannel = "no-channel",
    /// The host of the directory.
    Host = "host",
    /// The host's socket.
    Socket = "socket",
    /// Room on the disk.
    FreeSpace = "free-space",
    /// The mount is read-only.
    ReadOnly = "read-only",
    /// Whether commits are heard of.
    FileEvents = "file-events",
    /// How many folders can be watched.
    InotifyWatches = "inotify-watches",
    /// How many programs can watch.
    InotifyInstances = "inotify-instances",
    /// How many files can be open.
    OpenFiles = "open-files",
    /// The zones that tasks are planned in.
    TimeZones = "time-zones",
    /// Who asks.
    User = "user",
    /// What this user may not write.
    NotWritable = "not-writable",
    /// What others may read.
    PrivateFile = "private-file",
    /// `v2-sessions/`.
    SessionsFolder = "sessions-folder",
    /// All sessions.
    Sessions = "sessions",
    /// Sessions that are polled.
    SessionsPolled = "sessions-polled",
    /// Somebody holds a lock.
    SessionLocked = "session-locked",
    /// An agent was killed in mid-commit.
    SessionHotJournal = "session-hot-journal",
    /// A session's file is in WAL mode.
    SessionWal = "session-wal",
    /// Something stands where a file must be.
    SessionRefused = "session-refused",
    /// A session's file is damaged.
    SessionDamaged = "session-damaged",
    /// A session's file has other tables.
    SessionSchema = "session-schema",
    /// A session's file cannot be opened.
    SessionUnreadable = "session-unreadable",
    /// The host has noted that it cannot serve a session.
    SessionQuarantined = "session-quarantined",
    /// A session folder of which `v2.db` does not know.
    FolderWithoutRow = "folder-without-row",
    /// `nanorelay.db`.
    Ledger = "ledger",
    /// `nanorelay.db` cannot be used.
    LedgerUnreadable = "ledger-unreadable",
    /// `nanorelay.db` is large.
    LedgerSize = "ledger-size",
    /// Messages were given up.
    DeadMessages = "dead-messages",
    /// Messages of which nobody knows whether they were sent.
    AmbiguousMessages = "ambiguous-messages",
    /// Messages that are kept back.
    HeldMessages = "held-messages",
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, for programs.
    pub id: FindingId,
    /// What was looked at.
    pub subject: String,
    /// How bad it is.
    pub level: Level,
    /// What it is like.
    pub finding: String,
    /// How to mend it; none when nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that is as it must be.
    pub fn ok(id: FindingId, subject: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { id, subject: subject.into(), level: Level::Ok, finding: finding.into(), remedy: None }
    }

    /// Something that somebody should look at.
    pub fn warning(
        id: FindingId,
        subject: impl Into<String>,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warning, remedy: Some(remedy.into()), ..Self::ok(id, subject, finding) }
    }

    /// Something that does not work.
    pub fn error(
        id: FindingId,
        subject: impl Into<String>,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Error, ..Self::warning(id, subject, finding, remedy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_explains_every_finding_and_no_other() {
        let document = include_str!("../../../docs/troubleshooting.md");
        let headings = document.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
        let explained: BTreeSet<&str> = headings.collect();
        let known: BTreeSet<&str> = FindingId::ALL.iter().map(|id| id.as_str()).collect();
        assert_eq!(known, explained);
    }
}
