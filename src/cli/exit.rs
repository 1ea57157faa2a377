//! How commands end.

use super::signals::Signal;
use crate::channels::ChannelError;
use crate::config::ConfigErrors;
use crate::control::http::server::ServerError;
use nanorelay_actors::relay::{OperationError, StartError};
use nanorelay_actors::store::error::StoreError;
use std::io;

/// Every exit code and what it means. The manual and the reference are made from this table.
pub(super) const CODES: [(u8, &str); 13] = [
    (0, "done"),
    (1, "failed; standard error says why"),
    (2, "wrong usage"),
    (
        3,
        "nothing matched what was asked for; drain: something due is left; doctor: something should be looked at",
    ),
    (4, "partly done: some sessions could not be read, standard error or the report names them"),
    (69, "the host cannot be reached: it does not run and the command needs it, or it does not answer"),
    (INTERNAL_ERROR, "internal error, which is a bug"),
    (73, "a file, a folder or a socket cannot be created"),
    (75, "not now: another host runs on the data directory, or a database is locked; try again later"),
    (77, "not permitted: this user may not read or write what is needed"),
    (78, "wrong configuration"),
    (130, "broken off by SIGINT"),
    (143, "broken off by SIGTERM"),
];

/// The code of a panic.
pub(super) const INTERNAL_ERROR: u8 = 70;

/// How a command that worked ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Everything was done.
    Done,
    /// Something that was due is left, nothing matched, or an agent could not be started.
    LeftOver,
    /// A part of what was asked for could not be done; it was named.
    Partly,
    /// Broken off.
    Signal(Signal),
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::LeftOver => 3,
            Exit::Partly => 4,
            Exit::Signal(signal) => signal.exit_code(),
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("the configuration is wrong\n{0}")]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    #[error("cannot create {0}: {1}")]
    CannotCreate(String, io::Error),
    /// The reader of standard output has gone: nobody is left to be told.
    #[error("standard output is closed")]
    OutputClosed,
}

impl Failure {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 69,
            Failure::CannotCreate(..) | Failure::Server(ServerError::Listen { .. }) => 73,
            Failure::Start(StartError::AlreadyRunning { .. } | StartError::Store(StoreError::Busy(_))) => 75,
            Failure::Operation(error) if error.is_temporary() => 75,
            Failure::Start(StartError::Store(error)) if is_denied(error) => 77,
            Failure::Io(_, error) if error.kind() == io::ErrorKind::PermissionDenied => 77,
            Failure::Config(_)
            | Failure::Server(ServerError::NoTokens { .. })
            | Failure::Channel(ChannelError::Webhook { .. }) => 78,
            _ => 1,
        }
    }
}

fn is_denied(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_code_that_the_table_explains() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let store = |error| Failure::Start(StartError::Store(error));
        let ends = [
            (Exit::Done.code(), 0),
            (Exit::LeftOver.code(), 3),
            (Exit::Partly.code(), 4),
            (Exit::Signal(Signal::Interrupt).code(), 130),
            (Exit::Signal(Signal::Terminate).code(), 143),
            (Failure::Failed(String::new()).exit_code(), 1),
            (Failure::Usage(String::new()).exit_code(), 2),
            (Failure::Unreachable(String::new()).exit_code(), 69),
            (INTERNAL_ERROR, 70),
            (Failure::CannotCreate(String::new(), denied()).exit_code(), 73),
            (store(StoreError::Busy(String::new())).exit_code(), 75),
            (Failure::Operation(OperationError::Busy(String::new())).exit_code(), 75),
            (store(StoreError::Io { context: String::new(), source: denied() }).exit_code(), 77),
            (Failure::Io("", denied()).exit_code(), 77),
            (Failure::Io("", io::Error::other("disk")).exit_code(), 1),
            (Failure::Config(ConfigErrors(Vec::new())).exit_code(), 78),
        ];
        for (code, expected) in ends {
            assert_eq!(code, expected);
        }
        let mut explained: Vec<u8> = ends.map(|(code, _)| code).to_vec();
        explained.sort_unstable();
        explained.dedup();
        assert_eq!(explained, CODES.map(|(code, _)| code));
    }
}
