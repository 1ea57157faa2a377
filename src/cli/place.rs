//! The host of a data directory for commands that work on a running and on a stopped one.

use super::{Exit, Failure};
use crate::config::ConfigSources;
use crate::control::client::{ClientError, ControlClient};
use crate::control::socket::local_user;
use clap::Args;
use nanorelay_actors::limits::Limits;
use nanorelay_actors::relay::{StartError, StoppedHost};
use nanorelay_actors::report::{AuditEntry, AuditVia};
use serde::Serialize;
use serde_json::json;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A host that starts or ends holds the directory for a moment without answering, and so does another command.
pub(super) const OPEN_TRIES: u32 = 50;
pub(super) const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// Where the host is.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// The folder that holds v2.db and v2-sessions/
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// Where the host is, and why something is changed there.
#[derive(Debug, Args)]
pub(super) struct ChangePlaceArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl ChangePlaceArgs {
    /// Why; empty when nobody says.
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }

    /// The host, which notes the reason of what is changed.
    pub fn open(&self) -> Result<Host, Failure> {
        Ok(Host::open(&self.place.data)?.because(self.reason.clone()))
    }
}

/// The host of a data directory, or its place when it does not run.
pub(super) enum Host {
    Running(ControlClient),
    Stopped(Stopped),
}

/// A host that does not run.
pub(super) struct Stopped {
    host: StoppedHost,
    why: Option<String>,
}

impl Deref for Stopped {
    type Target = StoppedHost;

    fn deref(&self) -> &StoppedHost {
        &self.host
    }
}

impl Stopped {
    /// Makes a change that the audit lists.
    pub fn noted<T: Serialize>(
        &self,
        action: &str,
        target: impl Into<String>,
        change: impl FnOnce(&StoppedHost) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let who = local_user(rustix::process::getuid().as_raw());
        let entry = AuditEntry {
            reason: self.why.clone(),
            ..AuditEntry::new(who, AuditVia::Command, action, target)
        };
        let after = |value: &T| Some(json!({ "changed": value }));
        self.host.audited(entry, || change(&self.host), after)
    }
}

impl Host {
    /// The same, which notes why something is changed.
    pub fn because(self, why: Option<String>) -> Self {
        match self {
            Self::Running(client) => Self::Running(client.because(why)),
            Self::Stopped(Stopped { host, .. }) => Self::Stopped(Stopped { host, why }),
        }
    }

    pub fn open(data_dir: &Path) -> Result<Self, Failure> {
        let mut holder = String::new();
        for _ in 0..OPEN_TRIES {
            match ControlClient::connect(data_dir) {
                Ok(client) => return Ok(Self::Running(client)),
                Err(ClientError::NotRunning) => {}
                Err(error) => return Err(unreachable(error)),
            }
            match StoppedHost::open(data_dir) {
                Ok(host) => return Ok(Self::Stopped(Stopped { host, why: None })),
                Err(error @ StartError::AlreadyRunning { .. }) => holder = error.to_string(),
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(OPEN_PAUSE);
        }
        Err(Failure::Unreachable(format!("{holder}, but it does not answer on its socket")))
    }
}

/// What the configuration in a data directory says of sizes: for what is written without a running host.
pub(super) fn limits(data_dir: &Path) -> Result<Limits, Failure> {
    let sources = ConfigSources {
        data_dir: Some(data_dir.to_owned()),
        file: None,
        environment: std::env::vars_os().collect(),
        flags: Vec::new(),
    };
    Ok(sources.load()?.settings.limits)
}

/// A running host's failure to answer, or its refusal.
pub(super) fn unreachable(error: ClientError) -> Failure {
    match error {
        ClientError::Refused(message) => Failure::Failed(message),
        error => Failure::Unreachable(error.to_string()),
    }
}

/// How a command ends that looked for something.
pub(super) fn matched(count: u64) -> Exit {
    if count == 0 { Exit::LeftOver } else { Exit::Done }
}
