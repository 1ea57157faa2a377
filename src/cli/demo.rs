//! `nanorelay demo`: a host and three agents, each a process of its own, for half a minute at most. With `--forever` the host
//! goes on, and a fourth agent answers people on its chat page.

mod summary;

use super::running::{self, RunningHost};
use super::signals::{Signal, Signals};
use super::{Exit, Failure, print};
use crate::agents::demo_world::{self, DORA, DemoError, DemoSession, SESSIONS};
use crate::agents::{demo_agent, demo_chat};
use crate::channels::ConsoleOutput;
use crate::config::{
    ChannelEntry, ChannelKind, Config, ConfigSources, LogConfig, LogFormat, LogLevel, ServerConfig,
};
use crate::control::http::server::BoundServer;
use crate::logging;
use clap::Args;
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::report::{DeliveryFilter, DeliveryRecord, DrainReport};
use nanorelay_actors::settings::ChannelSettings;
use slog::Logger;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long the agents may take for their parts.
const AGENTS_DEADLINE: Duration = Duration::from_secs(12);
/// How long the rest may take to be delivered.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// A demo is watched: it looks around more often than a host needs to.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What `demo` is told.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Where to make the data directory, which is kept; without it a temporary one is used
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the host running afterwards, until SIGTERM or SIGINT
    #[arg(long)]
    forever: bool,
}

/// What one agent of the demo is told.
#[derive(Debug, Args)]
pub(super) struct DemoAgentArgs {
    /// The agent's session
    #[arg(long)]
    session: String,
    /// The session's folder
    #[arg(long)]
    folder: PathBuf,
}

/// Plays one agent.
pub(super) fn run_agent(args: &DemoAgentArgs) -> Result<Exit, Failure> {
    if args.session == DORA.session_id {
        return demo_chat::play(&args.folder).map(|()| Exit::Done).map_err(|error| in_words(&error.into()));
    }
    let known = SESSIONS.into_iter().find(|session| session.session_id == args.session);
    let session = known.ok_or_else(|| Failure::Usage(format!("there is no demo agent {}", args.session)))?;
    demo_agent::play(session, &args.folder).map_err(|error| in_words(&error.into()))?;
    Ok(Exit::Done)
}

fn in_words(error: &DemoError) -> Failure {
    Failure::Failed(format!("demo: {error}"))
}

/// Runs the demo and prints what happened; fails when something unexpected is left.
pub(super) fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let temporary = match &args.dir {
        Some(_) => None,
        None => Some(
            tempfile::tempdir().map_err(|error| Failure::Io("cannot make a temporary directory", error))?,
        ),
    };
    let data_dir = match (&args.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(dir)) => dir.path().to_owned(),
        (None, None) => return Err(Failure::Failed("there is no directory for the demo".to_owned())),
    };
    let now =
        jiff::Timestamp::from_millisecond(SystemClock.now().as_ms()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    demo_world::create(&data_dir, &format!("{now:.3}")).map_err(|error| in_words(&error))?;
    let ended = play(args, &data_dir);
    if let Some(temporary) = temporary.filter(|_| args.forever) {
        // The user was told where it is and may go on with it.
        let _ = temporary.keep();
    }
    ended
}

fn play(args: &DemoArgs, data_dir: &Path) -> Result<Exit, Failure> {
    let config = demo_config(data_dir)?;
    let logging = logging::start(config.log);
    logging::log_panics(logging.logger.clone());
    print(&format!("A data directory with three agents: {}\n\n", data_dir.display()))?;
    running::block_on(host(args, data_dir, &config, &logging.logger))
}

/// The defaults, with a console for every channel type but the browser's.
fn demo_config(data_dir: &Path) -> Result<Config, Failure> {
    let sources = ConfigSources { data_dir: Some(data_dir.to_owned()), ..ConfigSources::default() };
    let mut config = sources.load()?;
    config.settings.poll_interval = POLL_INTERVAL;
    config.log = LogConfig { level: LogLevel::Error, format: LogFormat::Auto };
    let channel =
        |name: &str, kind| ChannelEntry { name: name.to_owned(), settings: ChannelSettings::default(), kind };
    config.channels = vec![channel("*", ChannelKind::Console), channel(DORA.channel_type, ChannelKind::Web)];
    Ok(config)
}

async fn host(args: &DemoArgs, data_dir: &Path, config: &Config, logger: &Logger) -> Result<Exit, Failure> {
    let signals = Signals::listen()?;
    let server = bind(&config.server, args.forever)?;
    let dashboard = format!("http://{}/", server.address());
    let mut host = RunningHost::start(data_dir, config, ConsoleOutput::Stdout, None, logger).await?;
    host.serve(server)?;
    print(&format!("The dashboard: {dashboard}\n\n"))?;
    let outcome = tokio::select! {
        outcome = deliver(&host, data_dir) => outcome,
        signal = signals.first() => Ok(Outcome::Broken(signal)),
    };
    let told = match outcome {
        Ok(Outcome::Broken(signal)) => Ok(Exit::Signal(signal)),
        Ok(Outcome::Settled { report, records, problems }) => {
            tell(args, data_dir, &report, &records, problems)
        }
        Err(failure) => Err(failure),
    };
    if args.forever && matches!(told, Ok(Exit::Done)) {
        let dora = start_agent(DORA, data_dir)?;
        print(&format!(
            "Chat with {}:  {dashboard}#/chat/{}\nThe dashboard:   {dashboard}\nThe host goes on. End it with Ctrl-C.\n",
            DORA.name, DORA.session_id
        ))?;
        signals.first().await;
        // Killed and gone before the host looks for what its agents have left.
        drop(dora);
    }
    host.stop().await;
    told
}

/// An address for the dashboard. A host that goes on has the one that is documented, unless somebody has it.
fn bind(configured: &ServerConfig, is_usual: bool) -> Result<BoundServer, Failure> {
    let any = ServerConfig { listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..configured.clone() };
    let usual = is_usual.then(|| BoundServer::bind(configured).ok().flatten()).flatten();
    let bound = usual.map_or_else(|| BoundServer::bind(&any), |server| Ok(Some(server)))?;
    bound.ok_or_else(|| Failure::Failed("demo: there is no address for the dashboard".to_owned()))
}

/// How the delivering part ended.
enum Outcome {
    Settled { report: DrainReport, records: Vec<DeliveryRecord>, problems: Vec<String> },
    Broken(Signal),
}

/// Lets the agents play while the host delivers, then waits until everything is settled.
async fn deliver(host: &RunningHost, data_dir: &Path) -> Result<Outcome, Failure> {
    let mut agents = Vec::new();
    for session in SESSIONS {
        agents.push((session, start_agent(session, data_dir)?));
    }
    let mut problems = Vec::new();
    let all_end = async {
        for (session, mut agent) in agents {
            problems.extend(problem_of(session, agent.wait().await));
        }
    };
    if tokio::time::timeout(AGENTS_DEADLINE, all_end).await.is_err() {
        problems.push("an agent did not end in time".to_owned());
    }
    let report = host.relay.drain(DRAIN_DEADLINE).await;
    let records = host.relay.deliveries(DeliveryFilter::default()).await?;
    Ok(Outcome::Settled { report, records, problems })
}

fn start_agent(session: DemoSession, data_dir: &Path) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::Io("cannot find this program", error))?;
    Command::new(program)
        .arg("demo-agent")
        .args(["--session", session.session_id])
        .arg("--folder")
        .arg(session.folder(data_dir))
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::Io("cannot start a demo agent", error))
}

fn problem_of(session: DemoSession, ended: std::io::Result<ExitStatus>) -> Option<String> {
    match ended {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("agent {} ended with {status}", session.name)),
        Err(error) => Some(format!("agent {} cannot be waited for: {error}", session.name)),
    }
}

fn tell(
    args: &DemoArgs,
    data_dir: &Path,
    report: &DrainReport,
    records: &[DeliveryRecord],
    mut problems: Vec<String>,
) -> Result<Exit, Failure> {
    let kept = args.dir.is_some() || args.forever;
    let stored = summary::Stored::read(data_dir).map_err(|error| in_words(&error))?;
    problems.extend(summary::problems(report, records, &stored));
    print(&summary::text(records, &stored, kept.then_some(data_dir)))?;
    match problems.is_empty() {
        true => Ok(Exit::Done),
        false => Err(Failure::Failed(format!("the demo did not end as expected\n{}", problems.join("\n")))),
    }
}
