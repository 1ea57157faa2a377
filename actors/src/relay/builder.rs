//! Starts a relay.

use super::{Relay, Shared, root};
use crate::channel::ChannelActor;
use crate::channel::account::ChannelAccounts;
use crate::channel::adapter::Channel;
use crate::clock::{SharedClock, SystemClock};
use crate::engine::Engine;
use crate::engine::directory::Directory;
use crate::engine::holds::Holds;
use crate::ledger::Ledger;
use crate::model::hold::Hold;
use crate::model::ids::{ChannelType, InvalidId};
use crate::model::tenant::Tenants;
use crate::model::time::Timestamp;
use crate::registry::{LookAtSessions, RegistryActor};
use crate::runtime::{AgentRuntime, NoRuntime};
use crate::session::messages::LookReason;
use crate::settings::{ChannelSettings, Settings};
use crate::store::central::{Central, CentralSnapshot};
use crate::store::error::StoreError;
use crate::store::host_lock::{HostLock, Locked};
use crate::store::ledger::{LedgerReader, LedgerWriter};
use crate::store::session_dir::SessionsRoot;
use crate::supervise::activity::Activity;
use crate::supervise::blocking::Blocking;
use crate::supervise::exit_guard::ExitReporter;
use crate::sweep::SweepActor;
use crate::system_action::{ActionPolicy, AllowEveryAction, SystemActionHandler, SystemActions};
use crate::task_scheduler::TaskSchedulerActor;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

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
    /// A database cannot be used. For a damaged `nanorelay.db`: restore it, or move it away only if messages may
    /// be sent again.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The ledger could not be written.
    #[error("{0}")]
    Ledger(#[from] crate::ledger::LedgerError),
}

type Adapter = (Arc<dyn Channel>, ChannelSettings);

/// Chooses everything about a relay before it starts.
pub struct RelayBuilder {
    data_dir: PathBuf,
    settings: Settings,
    channels: Vec<(String, Adapter)>,
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

    /// Delivers messages of `channel_type` by `adapter`.
    pub fn channel(
        mut self,
        channel_type: &str,
        adapter: Arc<dyn Channel>,
        settings: ChannelSettings,
    ) -> Self {
        self.channels.push((channel_type.to_owned(), (adapter, settings)));
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

    /// Starts all actors and looks at every session. Must run inside an actix System.
    pub async fn start(self) -> Result<Relay, StartError> {
        let lock = lock(&self.data_dir)?;
        let blocking = Blocking::new(self.settings.limits.blocking_max);
        let stores = open_stores(&blocking, self.data_dir.clone(), self.clock.now()).await?;
        let Stores { writer, reader, central, snapshot, sessions_root, with_work, holds } = stores;
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
        let engine = Arc::new(Engine {
            data_dir: self.data_dir,
            ledger: Ledger::new(writer, self.settings.durability),
            ledger_reader: reader,
            settings: self.settings,
            timezone,
            clock: self.clock,
            logger: self.logger,
            central: Arc::new(central),
            sessions_root: Arc::new(sessions_root),
            blocking,
            directory: Directory::default(),
            hints: Default::default(),
            leases: Default::default(),
            activity,
            statistics: Default::default(),
            warnings: Default::default(),
            attachments: Default::default(),
            tasks: Default::default(),
            holds: Holds::new(holds),
            tenants,
            channels,
            runtime,
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
        let root = launch(&engine, exit_receiver, with_work);
        Ok(Relay { shared: Arc::new(Shared { engine, root }) })
    }
}

/// Settles what a former incarnation left in mid-send.
async fn begin_incarnation(engine: &Arc<Engine>) -> Result<(), StartError> {
    let (inside, now) = (Arc::clone(engine), engine.now());
    let may_resend = move |channel_type: &str| {
        ChannelType::new(channel_type).is_ok_and(|name| inside.channels.serving(&name).may_resend())
    };
    let ambiguous =
        engine.ledger.record_durably(move |ledger| ledger.begin_incarnation(now, &may_resend)).await?;
    if ambiguous > 0 {
        slog::warn!(engine.logger, "sends of a former host are ambiguous"; "count" => ambiguous);
    }
    Ok(())
}

fn launch(
    engine: &Arc<Engine>,
    exits: tokio::sync::mpsc::UnboundedReceiver<crate::supervise::exit_guard::Exit>,
    with_work: Vec<crate::model::ids::SessionId>,
) -> actix_rt::task::JoinHandle<()> {
    SweepActor::launch(engine, None);
    let root = actix_rt::spawn(root::run(Arc::clone(engine), exits));
    TaskSchedulerActor::launch(engine);
    for account in engine.channels.all() {
        ChannelActor::launch(engine, account);
    }
    let registry = RegistryActor::launch(engine);
    // Sessions that are known to have work come first.
    for sessions in [Some(with_work), None] {
        let token = engine.activity.token();
        // A new actor's mailbox has room for two messages.
        let _ = registry.try_send(LookAtSessions { sessions, reason: LookReason::Hint, _token: token });
    }
    root
}

struct Stores {
    writer: LedgerWriter,
    reader: LedgerReader,
    central: Central,
    snapshot: CentralSnapshot,
    sessions_root: SessionsRoot,
    with_work: Vec<crate::model::ids::SessionId>,
    holds: Vec<Hold>,
}

async fn open_stores(blocking: &Blocking, data_dir: PathBuf, now: Timestamp) -> Result<Stores, StartError> {
    let opened = blocking.run(move || {
        let central = Central::open(&data_dir)?;
        let snapshot = central.load_snapshot()?;
        let sessions_root = SessionsRoot::open(&data_dir)?;
        let writer = LedgerWriter::open(&data_dir)?;
        let reader = LedgerReader::open(&data_dir)?;
        let with_work = reader.sessions_with_work()?;
        let holds = reader.holds(now)?;
        Ok::<_, StoreError>(Stores { writer, reader, central, snapshot, sessions_root, with_work, holds })
    });
    match opened.await {
        Ok(stores) => Ok(stores?),
        Err(error) => Err(StartError::Setting(error.to_string())),
    }
}

fn accounts(
    channels: Vec<(String, Adapter)>,
    fallback: Option<Adapter>,
) -> Result<ChannelAccounts, StartError> {
    let invalid = |error: InvalidId| StartError::Setting(format!("channel type: {error}"));
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
