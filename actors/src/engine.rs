//! What all actors of one relay share: settings, store, ledger, and each other's addresses.

pub mod active_sessions;
pub mod conditions;
pub(crate) mod control;
pub mod directory;
pub mod events;
pub mod failure_wakes;
pub mod file_marks;
pub mod hand_overs;
pub mod hints;
pub mod holds;
pub mod last_standing;
pub mod quotas;
pub mod statistics;
mod told;
pub mod warnings;

use crate::channel::account::ChannelAccounts;
use crate::clock::SharedClock;
use crate::engine::active_sessions::ActiveSessions;
use crate::engine::directory::Directory;
use crate::engine::events::Events;
use crate::engine::failure_wakes::FailureWakes;
use crate::engine::file_marks::FileMarks;
use crate::engine::hand_overs::HandOvers;
use crate::engine::hints::{Hint, Hints};
use crate::engine::holds::Holds;
use crate::engine::last_standing::LastStanding;
use crate::engine::quotas::{AttachmentQuota, TaskCounts};
use crate::engine::statistics::Statistics;
use crate::engine::warnings::{Warned, Warnings};
use crate::ledger::{Ledger, LedgerError};
use crate::limits::{
    ACTIVATIONS_MAX, DESCRIPTORS_PER_SESSION, OPEN_SESSIONS_MAX, OPEN_SESSIONS_SHARE,
    REST_MARKS_PER_RECORD_MAX,
};
use crate::model::error::ErrorClass;
use crate::model::history::History;
use crate::model::ids::{AgentGroupId, ChannelType, MessageId, SessionId};
use crate::model::series::SeriesDefaults;
use crate::model::staleness::AgentState;
use crate::model::tenant::Tenants;
use crate::model::time::Timestamp;
use crate::report::EventKind;
use crate::runtime::{AgentRuntime, AgentSession, AgentStatuses, Running};
use crate::settings::Settings;
use crate::store::central::{Central, CentralSnapshot, ContainerStatus};
use crate::store::error::StoreError;
use crate::store::host_lock::HostLock;
use crate::store::lease::SessionLeases;
use crate::store::ledger::{LedgerReader, LedgerTransaction, Outcome};
use crate::store::open::SpareConnections;
use crate::store::session_dir::SessionsRoot;
use crate::supervise::activity::Activity;
use crate::supervise::blocking::Blocking;
use crate::supervise::ends::Ends;
use crate::supervise::exit_guard::{ActorName, ExitGuard, ExitReporter};
use crate::system_action::{ActionPolicy, SystemActions};
use rustix::process::{Resource, getrlimit};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The pauses between tries to record an outcome; the last one repeats.
const RECORD_RETRY_PAUSES: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// The shared parts of one relay. Actors hold it behind an [`Arc`]; nothing here is global.
pub struct Engine {
    /// The folder that holds `v2.db` and `v2-sessions/`.
    pub data_dir: PathBuf,
    /// What the operator chose.
    pub settings: Settings,
    /// The zone in which recurrences are read, unless a tenant or a task says otherwise.
    pub timezone: jiff::tz::TimeZone,
    /// Tells the time.
    pub clock: SharedClock,
    /// Where the relay logs.
    pub logger: slog::Logger,
    /// Writes the ledger.
    pub ledger: Ledger,
    /// Reads the ledger; on blocking threads only.
    pub ledger_reader: LedgerReader,
    /// Reads and writes `v2.db`; on blocking threads only.
    pub central: Arc<Central>,
    /// Opens session folders.
    pub sessions_root: Arc<SessionsRoot>,
    /// Spare connections to session databases.
    pub connections: Arc<SpareConnections>,
    /// Runs what may wait for a disk or a lock.
    pub blocking: Blocking,
    /// Where the actors are.
    pub directory: Directory,
    /// Sessions that may have news.
    pub hints: Hints,
    /// The right to open a session for the first time, and to keep its databases open without need.
    pub permits: SessionPermits,
    /// What sessions' files were like at the last look.
    pub file_marks: FileMarks,
    /// Who owns which session.
    pub leases: SessionLeases,
    /// Counts the work going on.
    pub activity: Activity,
    /// How things stood when somebody asked last.
    pub last_standing: LastStanding,
    /// When the relay was started.
    pub started_at: Timestamp,
    /// Counts what happened.
    pub statistics: Statistics,
    /// What came of messages over the last hours.
    pub history: Mutex<History>,
    /// Tells what happens.
    pub events: Events,
    /// Bounds what one session has logged.
    pub warnings: Warnings,
    /// Bounds how often failures wake one session's agent.
    pub failure_wakes: FailureWakes,
    /// Bounds the attachments that one session sends at a time.
    pub attachments: AttachmentQuota,
    /// Messages that are being handed to another agent.
    pub hand_overs: HandOvers,
    /// Adds up the tasks of each agent group.
    pub tasks: TaskCounts,
    /// What holds sends back.
    pub holds: Holds,
    /// Who shares the channels.
    pub tenants: Tenants,
    /// The channel accounts and their adapters.
    pub channels: ChannelAccounts,
    /// Wakes and stops agents.
    pub runtime: Arc<dyn AgentRuntime>,
    /// What `v2.db` has still to be told of them.
    pub agent_statuses: AgentStatuses,
    /// What `v2.db` has still to be told of sessions that were active.
    pub active_sessions: ActiveSessions,
    /// Handlers of system actions beyond the task actions.
    pub actions: SystemActions,
    /// Says which of them a session may ask for.
    pub action_policy: Arc<dyn ActionPolicy>,
    /// Reports actors' ends.
    pub exits: ExitReporter,
    /// Ends that the supervisor has still to deal with.
    pub ends: Ends,
    /// Set when the relay is shutting down: nothing new is taken in.
    pub stopping: AtomicBool,
    /// The right to run on the data directory. It is kept for as long as anything of the relay lives, also when
    /// every handle to it was dropped.
    pub(crate) lock: Mutex<Option<HostLock>>,
    pub(crate) snapshot: RwLock<Arc<CentralSnapshot>>,
    pub(crate) incarnations: AtomicU64,
}

/// What only so many sessions may do at a time.
#[derive(Debug)]
pub struct SessionPermits {
    /// See [`ACTIVATIONS_MAX`].
    pub activation: Arc<Semaphore>,
    /// Sessions whose databases may stay open between two sections of work. See [`OPEN_SESSIONS_MAX`].
    pub open_sessions: Arc<Semaphore>,
    /// One session is made at a time: two calls may be about the same one.
    pub creation: Arc<tokio::sync::Mutex<()>>,
}

impl Default for SessionPermits {
    fn default() -> Self {
        Self {
            activation: Arc::new(Semaphore::new(ACTIVATIONS_MAX)),
            open_sessions: Arc::new(Semaphore::new(open_sessions_max(getrlimit(Resource::Nofile).current))),
            creation: Arc::default(),
        }
    }
}

/// How many sessions may keep their databases open in a process that may have so many descriptors; `None`: without a
/// limit. A host that needs more of them than it has cannot open the next session.
fn open_sessions_max(descriptors: Option<u64>) -> usize {
    let most = descriptors.map_or(u64::MAX, |limit| limit / OPEN_SESSIONS_SHARE / DESCRIPTORS_PER_SESSION);
    usize::try_from(most).unwrap_or(usize::MAX).clamp(1, OPEN_SESSIONS_MAX)
}

impl Engine {
    /// The current instant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How tasks of a group are planned that say nothing about it.
    pub fn series_defaults(&self, group: &AgentGroupId) -> SeriesDefaults {
        let zone = self.tenants.of(group).timezone.clone().unwrap_or_else(|| self.timezone.clone());
        SeriesDefaults { zone, missed: self.settings.missed_runs }
    }

    /// The last known content of `v2.db`.
    pub fn snapshot(&self) -> Arc<CentralSnapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the known content of `v2.db`.
    pub fn set_snapshot(&self, snapshot: CentralSnapshot) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// Whether messages of that type can be sent without somebody's doing.
    pub fn may_send_to(&self, channel_type: &ChannelType) -> bool {
        let now = self.now();
        let account = &self.channels.serving(channel_type).name;
        let is_paused = [account, channel_type]
            .into_iter()
            .any(|name| self.holds.channel_blocked(name, now).is_some_and(|blocked| blocked.until.is_none()));
        self.channels.has_adapter_for(channel_type) && !is_paused
    }

    /// Whether an agent runs: what the runtime knows, else what `v2.db` says.
    ///
    /// Somebody may start agents and not write it there: that one is stopped is not believed of an agent that showed
    /// a sign of life a moment ago.
    pub async fn agent_state(&self, agent: &AgentSession, heartbeat: Option<Timestamp>) -> AgentState {
        match self.runtime.is_running(agent).await {
            Running::Yes { since } => AgentState::Running { since },
            Running::No => AgentState::Stopped,
            Running::Unknown => {
                let snapshot = self.snapshot();
                match snapshot.sessions.get(&agent.session_id).map(|session| session.container_status) {
                    Some(ContainerStatus::Stopped) if self.is_silent(heartbeat) => AgentState::Stopped,
                    Some(ContainerStatus::Stopped | ContainerStatus::Running | ContainerStatus::Idle)
                    | None => AgentState::Unknown,
                }
            }
        }
    }

    /// Whether an agent of which the runtime knows nothing has shown no sign of life of late.
    pub fn is_silent(&self, heartbeat: Option<Timestamp>) -> bool {
        heartbeat.is_none_or(|heartbeat| self.now().since(heartbeat) > self.settings.claim_stale_after)
    }

    /// A guard for a new life of an actor.
    pub fn guard(&self, name: ActorName) -> ExitGuard {
        self.exits.guard(name, self.incarnations.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Whether the relay is shutting down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Records an outcome, for as long as it takes: what was sent is never sent again because of a full disk.
    pub async fn record_outcome(&self, session: &SessionId, message: &MessageId, outcome: Outcome) {
        let operation = || {
            let (session, message, outcome) = (session.clone(), message.clone(), outcome.clone());
            let now = self.now();
            move |ledger: &mut LedgerTransaction<'_>| {
                ledger.finish(&session, &message, &outcome, now).map(drop)
            }
        };
        let complaint = "outcome not recorded yet";
        if matches!(outcome, Outcome::Done { .. }) {
            // One statement, of which nothing stays when it fails: it needs no savepoint.
            let record = || self.ledger.record_outcome_and_more(operation());
            self.until_done(session, message, complaint, record).await;
        } else {
            self.record_until_done(session, message, complaint, operation).await;
        }
    }

    /// Records what must be recorded about a message, for as long as it takes. `complaint` is logged after each failed try.
    pub async fn record_until_done<T, F>(
        &self,
        session: &SessionId,
        message: &MessageId,
        complaint: &'static str,
        operation: impl Fn() -> F,
    ) -> T
    where
        T: Send + 'static,
        F: FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.until_done(session, message, complaint, || self.ledger.record_outcome(operation())).await
    }

    async fn until_done<T, R>(
        &self,
        session: &SessionId,
        message: &MessageId,
        complaint: &'static str,
        record: impl Fn() -> R,
    ) -> T
    where
        R: Future<Output = Result<T, LedgerError>>,
    {
        let mut tries = 0;
        loop {
            let error = match record().await {
                Ok(value) => {
                    crash_point!("outcome_recorded");
                    return value;
                }
                Err(error) => error,
            };
            slog::error!(self.logger, "{}", complaint; "session" => %session, "msg_id" => %message,
                "error" => %error);
            tokio::time::sleep(RECORD_RETRY_PAUSES[tries]).await;
            tries = (tries + 1).min(RECORD_RETRY_PAUSES.len() - 1);
        }
    }

    /// Whether one more warning about a session is logged. Ask before every warning that an agent can cause as often
    /// as it likes.
    pub fn may_warn(&self, session: &SessionId) -> bool {
        match self.warnings.take(session, self.now()) {
            Warned::LeaveOut => false,
            Warned::Log { left_out } => {
                if left_out > 0 {
                    slog::warn!(self.logger, "warnings left out"; "session" => %session, "count" => left_out);
                }
                true
            }
        }
    }

    /// Counts and logs that a message is dead.
    pub fn given_up(&self, session: &SessionId, message: &MessageId, class: ErrorClass, reason: &str) {
        self.note_dead(session, Some(message), class);
        if self.may_warn(session) {
            slog::warn!(self.logger, "given up"; "session" => %session, "msg_id" => %message,
                "class" => class.as_str(), "error" => reason);
        }
    }

    /// Records that a session cannot be served and why, or that it can be again. In the background: the ledger
    /// may take its time.
    pub fn record_quarantine(
        self: &Arc<Self>,
        session: &SessionId,
        group: &AgentGroupId,
        reason: Option<String>,
    ) {
        let kind = if reason.is_some() { EventKind::Quarantined } else { EventKind::Released };
        self.note_session(kind, session, reason.as_deref());
        let (engine, session, group) = (Arc::clone(self), session.clone(), group.clone());
        let token = self.activity.token();
        actix_rt::spawn(async move {
            let now = engine.now();
            let inside = session.clone();
            let recorded = engine
                .ledger
                .record(move |ledger| ledger.set_quarantine(&inside, &group, reason.as_deref(), now));
            if let Err(error) = recorded.await {
                slog::error!(engine.logger, "quarantine not recorded"; "session" => %session,
                    "error" => %error);
            }
            drop(token);
        });
    }

    /// Says that a session may have news. Cheap, never blocks, safe from any thread.
    pub fn hint(&self, session: &SessionId) {
        self.hints.add(session.clone(), Hint { heard_at: self.now(), token: self.activity.token() });
    }

    /// Lets the ledger know which sessions rest, for the next start. What is not kept costs that start a look.
    pub async fn save_rest_marks(&self) {
        loop {
            let marks = self.file_marks.take_unsaved(REST_MARKS_PER_RECORD_MAX);
            let is_last = marks.len() < REST_MARKS_PER_RECORD_MAX;
            if !marks.is_empty()
                && let Err(error) = self.ledger.record(move |ledger| ledger.save_rest_marks(&marks)).await
            {
                slog::error!(self.logger, "sessions at rest are not recorded"; "error" => %error);
                return;
            }
            if is_last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_keep_files_open_as_the_process_may_have_descriptors() {
        let descriptors = [None, Some(65_536), Some(1024), Some(256), Some(20), Some(0)];
        assert_eq!(descriptors.map(open_sessions_max), [OPEN_SESSIONS_MAX, OPEN_SESSIONS_MAX, 64, 25, 2, 1]);
    }
}
