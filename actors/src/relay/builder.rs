//! Starts a relay.

use super::extensions::Extensions;
use super::home::Home;
use super::{Relay, Shared, root};
use crate::channel::ChannelActor;
use crate::channel::account::ChannelAccounts;
use crate::channel::actor::{ActorChannel, Deliver, answer_within};
use crate::channel::adapter::{Channel, Idempotency};
use crate::clock::{SharedClock, SystemClock};
use crate::engine::Engine;
use crate::engine::directory::Directory;
use crate::engine::file_marks::FileMarks;
use crate::engine::holds::Holds;
use crate::engine::last_standing::LastStanding;
use crate::ledger::Ledger;
use crate::model::hold::Hold;
use crate::model::ids::{ChannelType, InvalidId, SessionId};
use crate::model::tenant::Tenants;
use crate::model::time::Timestamp;
use crate::registry::{LookAtSessions, RegistryActor};
use crate::runtime::{AgentHost, AgentRuntime, NoRuntime};
use crate::session::messages::LookReason;
use crate::settings::{ChannelSettings, OnAmbiguous, Settings};
use crate::store::central::{Central, CentralSnapshot};
use crate::store::error::StoreError;
use crate::store::host_lock::{HostLock, Locked};
use crate::store::ledger::{LedgerReader, LedgerTransaction, LedgerWriter, RestMark};
use crate::store::session_dir::{SessionFile, SessionsRoot};
use crate::supervise::activity::Activity;
use crate::supervise::blocking::Blocking;
use crate::supervise::exit_guard::ExitReporter;
use crate::sweep::SweepActor;
use crate::system_action::{ActionPolicy, AllowEveryAction, SystemActionHandler, SystemActions};
use crate::task_scheduler::{ArmAll, TaskSchedulerActor};
use actix::Recipient;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::watch;

/// Why a relay could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder is not a NanoClaw data directory: `v2.db` or `v2-sessions/` is missing.
    #[error("{} is not a NanoClaw data directory: {reason}", path.display())]
    NotADataDirectory {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Another host runs on it. Stop that one, or talk to it.
    #[error("another host runs on {}{}", path.display(), process.map_or_else(String::new, |id| format!(" (process {id})")))]
    AlreadyRunning {
        /// The folder.
        path: PathBuf,
        /// Its process id, when known.
        process: Option<u32>,
    },
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A database cannot be used. For a damaged or lost `nanorelay.db`: restore a copy, or see
    /// [`super::StoppedHost::rebuild_ledger`].
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The ledger could not be written.
    #[error("{0}")]
    Ledger(#[from] crate::ledger::LedgerError),
    /// There is no actix system here. Start inside one, or call [`RelayBuilder::start_on_thread`].
    #[error("there is no actix system on this thread: start inside one, or use start_on_thread")]
    NoActixSystem,
    /// The relay's own thread could not be made, or panicked while the relay started: a bug of an implementation that
    /// the builder was given, or of nanorelay.
    #[error("the relay's thread {0}")]
    Thread(String),
}

type Adapter = (Arc<dyn Channel>, ChannelSettings);

/// Chooses everything about a relay before it starts.
pub struct RelayBuilder {
    data_dir: PathBuf,
    settings: Settings,
    channels: Vec<(String, Adapter)>,
    channel_actors: Vec<(String, Recipient<Deliver>, ChannelSettings)>,
    fallback: Option<Adapter>,
    runtime: Option<Arc<dyn AgentRuntime>>,
    actions: SystemActions,
    action_policy: Option<Arc<dyn ActionPolicy>>,
    clock: SharedClock,
    logger: slog::Logger,
}

impl RelayBuilder {
    pub(super) fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            settings: Settings::default(),
            channels: Vec::new(),
            channel_actors: Vec::new(),
            fallback: None,
            runtime: None,
            actions: SystemActions::default(),
            action_policy: None,
            clock: Arc::new(SystemClock),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        }
    }

    /// Replaces all settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Delivers messages of `channel_type` by `adapter`, with the default settings.
    pub fn channel(self, channel_type: &str, adapter: Arc<dyn Channel>) -> Self {
        self.channel_with(channel_type, adapter, ChannelSettings::default())
    }

    /// The same with settings: limits, retries, what is done when it is unknown whether a message was sent.
    pub fn channel_with(
        mut self,
        channel_type: &str,
        adapter: Arc<dyn Channel>,
        settings: ChannelSettings,
    ) -> Self {
        self.channels.push((channel_type.to_owned(), (adapter, settings)));
        self
    }

    /// Delivers messages of `channel_type` by an actor, on whatever arbiter it lives, with the default settings. See
    /// [`ActorChannel`] for what follows from its end, a full mailbox, or a panic.
    pub fn channel_actor(self, channel_type: &str, actor: Recipient<Deliver>) -> Self {
        self.channel_actor_with(channel_type, actor, ChannelSettings::default())
    }

    /// The same with settings.
    pub fn channel_actor_with(
        mut self,
        channel_type: &str,
        actor: Recipient<Deliver>,
        settings: ChannelSettings,
    ) -> Self {
        self.channel_actors.push((channel_type.to_owned(), actor, settings));
        self
    }

    /// Delivers messages of all types without their own adapter. Without a fallback they wait, visibly.
    pub fn fallback_channel(mut self, adapter: Arc<dyn Channel>, settings: ChannelSettings) -> Self {
        self.fallback = Some((adapter, settings));
        self
    }

    /// Wakes and stops agents by `runtime`. Without one, agents are somebody else's.
    pub fn runtime(mut self, runtime: Arc<dyn AgentRuntime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Handles the system action `name` by `handler`.
    pub fn action(mut self, name: &str, handler: Arc<dyn SystemActionHandler>) -> Self {
        self.actions.register(name, handler);
        self
    }

    /// Asks `policy` before a handler of [`RelayBuilder::action`] runs. Without one every session may ask for every
    /// action that has a handler.
    pub fn action_policy(mut self, policy: Arc<dyn ActionPolicy>) -> Self {
        self.action_policy = Some(policy);
        self
    }

    /// Takes the time from `clock`.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Logs to `logger`. The relay sets no global logger.
    pub fn logger(mut self, logger: slog::Logger) -> Self {
        self.logger = logger;
        self
    }

    /// Starts all actors and looks at every session that does not rest. Runs inside an actix system, on whose arbiter the
    /// actors then live; elsewhere, see [`RelayBuilder::start_on_thread`].
    ///
    /// # Errors
    /// When the data directory, a database or a setting cannot be used. Nothing was started then.
    pub async fn start(mut self) -> Result<Relay, StartError> {
        let home = Home::here().ok_or(StartError::NoActixSystem)?;
        let lock = lock(&self.data_dir)?;
        let blocking = Blocking::new(self.settings.limits.blocking_max);
        let stores = open_stores(&blocking, self.data_dir.clone(), self.clock.now()).await?;
        let Stores { writer, reader, central, snapshot, sessions_root, in_turn, at_rest, holds } = stores;
        self.wrap_channel_actors();
        let channels = accounts(self.channels, self.fallback)?;
        channels.all().for_each(|account| account.restore(&holds));
        let tenants = Tenants::new(&self.settings.tenants)
            .map_err(|error| StartError::Setting(format!("tenant: {error}")))?;
        let timezone = jiff::tz::TimeZone::get(&self.settings.timezone).map_err(|error| {
            StartError::Setting(format!("time zone {:?}: {error}", self.settings.timezone))
        })?;
        let activity = Activity::default();
        let (exits, exit_receiver) = ExitReporter::new(activity.clone());
        let runtime = self.runtime.unwrap_or_else(|| Arc::new(NoRuntime::new(self.logger.clone())));
        let started_at = self.clock.now();
        let engine = Arc::new(Engine {
            data_dir: self.data_dir,
            ledger: Ledger::new(writer, self.settings.durability, self.logger.clone()),
            ledger_reader: reader,
            settings: self.settings,
            timezone,
            clock: self.clock,
            logger: self.logger,
            central: Arc::new(central),
            sessions_root: Arc::new(sessions_root),
            connections: Arc::default(),
            blocking,
            directory: Directory::default(),
            hints: Default::default(),
            permits: Default::default(),
            file_marks: FileMarks::new(at_rest.clone()),
            leases: Default::default(),
            activity,
            last_standing: LastStanding::default(),
            started_at,
            statistics: Default::default(),
            history: Default::default(),
            events: Default::default(),
            warnings: Default::default(),
            failure_wakes: Default::default(),
            attachments: Default::default(),
            hand_overs: Default::default(),
            tasks: Default::default(),
            holds: Holds::new(holds),
            tenants,
            channels,
            runtime,
            agent_statuses: Default::default(),
            active_sessions: Default::default(),
            actions: self.actions,
            action_policy: self.action_policy.unwrap_or_else(|| Arc::new(AllowEveryAction)),
            exits,
            ends: Default::default(),
            stopping: Default::default(),
            lock: Mutex::new(Some(lock)),
            snapshot: RwLock::new(Arc::new(snapshot)),
            incarnations: Default::default(),
        });
        begin_incarnation(&engine).await?;
        let attached = engine.runtime.attach(AgentHost::new(&engine)).await;
        attached.map_err(|error| StartError::Setting(format!("agents: {error}")))?;
        let root = launch(&engine, exit_receiver, in_turn, &at_rest);
        let pruning = actix_rt::spawn(crate::retention::run(Arc::clone(&engine)));
        let caring = actix_rt::spawn(crate::runtime::care::run(Arc::clone(&engine)));
        let (ended, home) = (watch::Sender::new(false), home);
        Ok(Relay {
            shared: Arc::new(Shared {
                engine,
                home,
                ended,
                root,
                pruning,
                caring,
                draining: Default::default(),
                extensions: Extensions::default(),
            }),
        })
    }

    /// After all settings are known: how long an actor may take depends on them.
    fn wrap_channel_actors(&mut self) {
        let limit = answer_within(&self.settings.limits);
        for (name, actor, settings) in self.channel_actors.drain(..) {
            let channel = Arc::new(ActorChannel::new(actor).answer_within(limit));
            self.channels.push((name, (channel, settings)));
        }
    }
}

/// Settles what a former incarnation left in mid-send.
async fn begin_incarnation(engine: &Arc<Engine>) -> Result<(), StartError> {
    let (inside, now) = (Arc::clone(engine), engine.now());
    let may_resend = move |channel_type: &str| {
        ChannelType::new(channel_type).is_ok_and(|name| inside.channels.serving(&name).may_resend())
    };
    let begin = move |ledger: &mut LedgerTransaction<'_>| {
        Ok((ledger.begin_incarnation(now, &may_resend)?, ledger.incarnation()?))
    };
    let (ambiguous, life) = engine.ledger.record_durably(begin).await?;
    engine.events.begin(life);
    if ambiguous > 0 {
        slog::warn!(engine.logger, "sends of a former host are ambiguous"; "count" => ambiguous);
    }
    Ok(())
}

fn launch(
    engine: &Arc<Engine>,
    exits: tokio::sync::mpsc::UnboundedReceiver<crate::supervise::exit_guard::Exit>,
    in_turn: Vec<SessionId>,
    at_rest: &[Resting],
) -> actix_rt::task::JoinHandle<()> {
    SweepActor::launch(engine, None);
    let root = actix_rt::spawn(root::run(Arc::clone(engine), exits));
    let scheduler = TaskSchedulerActor::launch(engine);
    let due = at_rest.iter().filter_map(|(session, mark)| Some((session.clone(), mark.due_at?))).collect();
    // A new actor's mailbox has room for a message.
    let _ = scheduler.try_send(ArmAll { due });
    for (session, mark) in at_rest.iter().filter(|(_, mark)| mark.tasks > 0) {
        if let Some(facts) = engine.snapshot().sessions.get(session) {
            engine.tasks.set(&facts.agent_group_id, session, mark.tasks);
        }
    }
    for account in engine.channels.all() {
        ChannelActor::launch(engine, account);
    }
    let registry = RegistryActor::launch(engine);
    let (sessions, token) = (Some(in_turn), engine.activity.token());
    let _ = registry.try_send(LookAtSessions { sessions, reason: LookReason::Hint, _token: token });
    root
}

struct Stores {
    writer: LedgerWriter,
    reader: LedgerReader,
    central: Central,
    snapshot: CentralSnapshot,
    sessions_root: SessionsRoot,
    /// The sessions that must be looked at, those first that are likely to have work.
    in_turn: Vec<SessionId>,
    /// The others.
    at_rest: Vec<Resting>,
    holds: Vec<Hold>,
}

async fn open_stores(blocking: &Blocking, data_dir: PathBuf, now: Timestamp) -> Result<Stores, StartError> {
    let opened = blocking.run(move || {
        let central = Central::open(&data_dir)?;
        let snapshot = central.load_snapshot()?;
        let sessions_root = SessionsRoot::open(&data_dir)?;
        let writer = LedgerWriter::open(&data_dir)?;
        let reader = LedgerReader::open(&data_dir)?;
        let (in_turn, at_rest) = who_needs_a_look(&snapshot, &sessions_root, &reader)?;
        let holds = reader.holds(now)?;
        Ok::<_, StoreError>(Stores {
            writer,
            reader,
            central,
            snapshot,
            sessions_root,
            in_turn,
            at_rest,
            holds,
        })
    });
    match opened.await {
        Ok(stores) => Ok(stores?),
        Err(error) => Err(StartError::Setting(error.to_string())),
    }
}

/// A session at rest.
type Resting = (SessionId, RestMark);

/// The sessions that must be looked at, and those that rest: nothing waits for them in the ledger, and their files are
/// as a former host left them. Sessions that are known to have work come first, then those whose agents wrote last.
fn who_needs_a_look(
    snapshot: &CentralSnapshot,
    root: &SessionsRoot,
    reader: &LedgerReader,
) -> Result<(Vec<SessionId>, Vec<Resting>), StoreError> {
    let with_work: HashSet<SessionId> = reader.sessions_with_work()?.into_iter().collect();
    let marks = reader.rest_marks()?;
    let (mut in_turn, mut at_rest) = (Vec::new(), Vec::new());
    let mut glances = root.glances();
    for facts in snapshot.sessions.values() {
        glances.turn_to(&facts.agent_group_id, &facts.id);
        let outbound = glances.at(SessionFile::Outbound);
        let has_work = with_work.contains(&facts.id);
        let is_as_it_was = |mark: &&RestMark| {
            !has_work && mark.outbound == outbound && mark.inbound == glances.at(SessionFile::Inbound)
        };
        match marks.get(&facts.id).filter(is_as_it_was) {
            Some(mark) => at_rest.push((facts.id.clone(), *mark)),
            None => {
                let written = outbound.map(|identity| identity.modified_ns);
                in_turn.push((Reverse((has_work, written)), facts.id.clone()));
            }
        }
    }
    in_turn.sort();
    Ok((in_turn.into_iter().map(|(_, session)| session).collect(), at_rest))
}

fn accounts(
    channels: Vec<(String, Adapter)>,
    fallback: Option<Adapter>,
) -> Result<ChannelAccounts, StartError> {
    let invalid = |error: InvalidId| StartError::Setting(format!("channel type: {error}"));
    for (name, (adapter, settings)) in channels
        .iter()
        .map(|(name, both)| (name.as_str(), both))
        .chain(fallback.iter().map(|both| ("*", both)))
    {
        let can_ask = adapter.idempotency() == Idempotency::Reconcile;
        if settings.on_ambiguous == OnAmbiguous::Reconcile && !can_ask {
            let reason = "on_ambiguous = \"reconcile\" needs a channel that can be asked what it has";
            return Err(StartError::Setting(format!("channel {name:?}: {reason}")));
        }
    }
    let mut own = HashMap::new();
    for (name, adapter) in channels {
        own.insert(ChannelType::new(&name).map_err(invalid)?, adapter);
    }
    ChannelAccounts::new(own, fallback).map_err(invalid)
}

/// Takes the lock of a data directory, after a look whether it is one.
pub(super) fn lock(data_dir: &Path) -> Result<HostLock, StartError> {
    let not_one =
        |reason: &str| StartError::NotADataDirectory { path: data_dir.to_owned(), reason: reason.to_owned() };
    if !data_dir.join("v2.db").is_file() {
        return Err(not_one("there is no v2.db in it"));
    }
    if !data_dir.join("v2-sessions").is_dir() {
        return Err(not_one("there is no folder v2-sessions in it"));
    }
    match HostLock::acquire(data_dir)? {
        Locked::Acquired(lock) => Ok(lock),
        Locked::HeldBy(process) => Err(StartError::AlreadyRunning { path: data_dir.to_owned(), process }),
    }
}
