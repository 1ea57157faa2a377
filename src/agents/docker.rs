//! Agents in containers of an engine that speaks the Docker API on a Unix socket.

use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, HostConfig, HostConfigLogConfig, Mount,
    MountBindOptions, MountType, ResourcesUlimits,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use nanorelay_actors::model::roster::{RosterPolicy, RunEnd};
use nanorelay_actors::runtime::keeper::order::{AgentLimits, LogBounds};
use nanorelay_actors::runtime::launch::{AgentCommand, session_folder, session_variables};
use nanorelay_actors::runtime::{AgentHost, AgentLauncher, AgentSession, LaunchedRuntime, Run, RuntimeError};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinSet;

/// Names the host's data directory on each of its containers.
const INSTANCE_LABEL: &str = "nanorelay.instance";
/// Names the session.
const SESSION_LABEL: &str = "nanorelay.session";
/// Names the agent group.
const GROUP_LABEL: &str = "nanorelay.agent-group";
/// The longest that the engine may take for an answer, in seconds. Waiting for a container's end is asked again after it.
const ANSWER_SECONDS_MAX: u64 = 60;
/// Between two tries while the engine does not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Everything that can be chosen about agents in containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSettings {
    /// The engine's socket.
    pub socket: PathBuf,
    /// The image.
    pub image: String,
    /// What runs in it; without a command, what the image says.
    pub agent: AgentCommand,
    /// The network.
    pub network: String,
    /// `uid:gid`; `None` = the image's user.
    pub user: Option<String>,
    /// Where the session's folder is in the container.
    pub mount: PathBuf,
    /// The data directory as the engine knows it, when the host itself runs in a container.
    pub data_dir_of_engine: Option<PathBuf>,
    /// Processors, in billionths.
    pub nano_cpus: Option<i64>,
    /// What each agent may use.
    pub limits: AgentLimits,
    /// How much of an agent's output the engine keeps.
    pub log: LogBounds,
    /// How many agents run at a time, and how long one that fails stays away.
    pub roster: RosterPolicy,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
}

/// A runtime for one relay, which runs a container for each session that has work.
pub fn runtime(settings: DockerSettings) -> LaunchedRuntime {
    let (roster, stop_grace) = (settings.roster.clone(), settings.stop_grace);
    LaunchedRuntime::new(roster, stop_grace, Arc::new(DockerLauncher { settings, engine: OnceLock::new() }))
}

struct DockerLauncher {
    settings: DockerSettings,
    /// There is one from the start of the relay on.
    engine: OnceLock<Docker>,
}

#[async_trait]
impl AgentLauncher for DockerLauncher {
    /// Finds the engine, and removes the containers of a former host.
    async fn take_over(&self, host: &AgentHost) -> Result<Vec<AgentSession>, RuntimeError> {
        let socket = self.settings.socket.display().to_string();
        let problem = |error: Error| RuntimeError(format!("the container engine at {socket}: {error}"));
        let engine = Docker::connect_with_unix(&socket, ANSWER_SECONDS_MAX, bollard::API_DEFAULT_VERSION);
        let engine = engine.map_err(problem)?.negotiate_version().await.map_err(problem)?;
        let label = format!("{INSTANCE_LABEL}={}", instance(host.data_dir()));
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let left = engine.list_containers(Some(options)).await.map_err(problem)?;
        for id in left.iter().filter_map(|container| container.id.as_deref()) {
            remove(&engine, id).await.map_err(problem)?;
        }
        if !left.is_empty() {
            slog::info!(host.logger(), "containers of a former host were removed"; "count" => left.len());
        }
        // Whoever comes second finds the same engine.
        let _ = self.engine.set(engine);
        Ok(Vec::new())
    }

    async fn has_left(&self, _: &AgentHost, _: &AgentSession) -> bool {
        // All were removed.
        true
    }

    async fn run(&self, host: &AgentHost, session: &AgentSession, run: &mut Run) -> RunEnd {
        match self.keep(host, session, run).await {
            Ok(end) => end,
            Err(reason) => RunEnd::Failed(reason),
        }
    }
}

impl DockerLauncher {
    async fn keep(&self, host: &AgentHost, session: &AgentSession, run: &mut Run) -> Result<RunEnd, String> {
        let engine = self.engine.get().ok_or("the container engine is not known yet")?;
        let name = name_of(host.data_dir(), session);
        let words = |error: Error| format!("the container engine: {error}");
        // A container that failed is kept until here, with what it said.
        remove(engine, &name).await.map_err(words)?;
        let body = self.container(host, session)?;
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        engine.create_container(Some(options), body).await.map_err(words)?;
        if let Err(error) = engine.start_container(&name, None::<StartContainerOptions>).await {
            return Err(words(error));
        }
        run.started(None);
        let end = tend(engine, &name, run).await;
        if !matches!(end, RunEnd::Failed(_))
            && let Err(error) = remove(engine, &name).await
        {
            // It is removed before the next one is made, or by the next host.
            slog::warn!(host.logger(), "container not removed"; "container" => &name, "error" => %error);
        }
        Ok(end)
    }

    fn container(&self, host: &AgentHost, session: &AgentSession) -> Result<ContainerCreateBody, String> {
        let settings = &self.settings;
        let data_dir = settings.data_dir_of_engine.as_deref().unwrap_or(host.data_dir());
        let folder = session_folder(data_dir, session).map_err(|error| error.to_string())?;
        let (command, mut environment) = settings.agent.of_group(&session.agent_group_id);
        environment.extend(session_variables(session, &settings.mount)?);
        let labels = HashMap::from([
            (INSTANCE_LABEL.to_owned(), instance(host.data_dir())),
            (SESSION_LABEL.to_owned(), session.session_id.to_string()),
            (GROUP_LABEL.to_owned(), session.agent_group_id.to_string()),
        ]);
        Ok(ContainerCreateBody {
            image: Some(settings.image.clone()),
            cmd: (!command.is_empty()).then_some(command),
            env: Some(environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
            user: settings.user.clone(),
            working_dir: Some(settings.mount.display().to_string()),
            labels: Some(labels),
            host_config: Some(self.host_config(&folder)),
            ..ContainerCreateBody::default()
        })
    }

    fn host_config(&self, folder: &Path) -> HostConfig {
        let DockerSettings { limits, log, mount, nano_cpus, network, .. } = &self.settings;
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let ulimit = |name: &str, value: u64| ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(signed(value)),
            hard: Some(signed(value)),
        };
        let ulimits = [("cpu", limits.cpu_seconds), ("nofile", limits.open_files)];
        HostConfig {
            // The session's folder and nothing else. One that is missing is an error, not made anew as root.
            mounts: Some(vec![Mount {
                typ: Some(MountType::BIND),
                source: Some(folder.display().to_string()),
                target: Some(mount.display().to_string()),
                bind_options: Some(MountBindOptions {
                    create_mountpoint: Some(false),
                    ..MountBindOptions::default()
                }),
                ..Mount::default()
            }]),
            memory: limits.memory_bytes.map(signed),
            // Memory and swap together: no swap on top.
            memory_swap: limits.memory_bytes.map(signed),
            nano_cpus: *nano_cpus,
            pids_limit: limits.processes.map(signed),
            ulimits: Some(ulimits.iter().filter_map(|(name, value)| Some(ulimit(name, (*value)?))).collect()),
            network_mode: Some(network.clone()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            // Reaps what an agent leaves, and passes SIGTERM on.
            init: Some(true),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), log.bytes_max.to_string()),
                    ("max-file".to_owned(), log.files.to_string()),
                ])),
            }),
            ..HostConfig::default()
        }
    }
}

/// The mark of a data directory on its containers.
fn instance(data_dir: &Path) -> String {
    let path = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    short_hash(path.as_os_str().as_encoded_bytes())
}

/// A session's container has one name: the engine refuses a second one.
fn name_of(data_dir: &Path, session: &AgentSession) -> String {
    let id = format!("{}/{}", session.agent_group_id, session.session_id);
    format!("nanorelay-{}-{}", instance(data_dir), short_hash(id.as_bytes()))
}

fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn status_of(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Ends a container by force and removes it. One that is not there is no error.
async fn remove(engine: &Docker, name: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match engine.remove_container(name, Some(options)).await {
        Err(error) if matches!(status_of(&error), Some(404)) => Ok(()),
        removed => removed,
    }
}

/// Waits until a container has ended, and stops it when that is asked for.
async fn tend(engine: &Docker, name: &str, run: &mut Run) -> RunEnd {
    let mut is_stopping = false;
    // Dropped, and with it aborted, when the container has ended.
    let mut stops = JoinSet::new();
    loop {
        tokio::select! {
            ended = wait(engine, name) => match ended {
                Some(_) if is_stopping => return RunEnd::Stopped,
                Some(Ended::Exited { code: 0 }) => return RunEnd::Well,
                Some(Ended::Exited { code }) => return RunEnd::Failed(format!("exit code {code}")),
                Some(Ended::OutOfMemory) => return RunEnd::Failed("it ran out of memory".to_owned()),
                Some(Ended::Removed) => return RunEnd::Failed("its container was removed".to_owned()),
                None => {}
            },
            grace = run.stop_asked() => {
                is_stopping = true;
                stops.spawn(stop(engine.clone(), name.to_owned(), grace));
            }
        }
    }
}

/// How a container has ended.
enum Ended {
    Exited { code: i64 },
    OutOfMemory,
    Removed,
}

/// Waits for a container's end; `None` when the engine gave up, or could not be asked for a while.
async fn wait(engine: &Docker, name: &str) -> Option<Ended> {
    // Whatever comes, the state is asked for: it tells more, and an answer may be that of a connection that broke.
    let _ = engine.wait_container(name, None::<WaitContainerOptions>).boxed().next().await;
    match engine.inspect_container(name, None::<InspectContainerOptions>).await {
        Ok(found) if is_running(&found) => {}
        Ok(found) => return Some(end_of(&found.state.unwrap_or_default())),
        Err(error) if status_of(&error) == Some(404) => return Some(Ended::Removed),
        Err(_) => {}
    }
    tokio::time::sleep(RETRY_PAUSE).await;
    None
}

fn is_running(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().is_some_and(|state| state.running.unwrap_or_default())
}

fn end_of(state: &ContainerState) -> Ended {
    match state.oom_killed {
        Some(true) => Ended::OutOfMemory,
        _ => Ended::Exited { code: state.exit_code.unwrap_or_default() },
    }
}

/// Asks a container to end, and ends it by force after a time. Goes on until the engine has taken both.
async fn stop(engine: Docker, name: String, grace: Duration) {
    signal(&engine, &name, "SIGTERM").await;
    tokio::time::sleep(grace).await;
    signal(&engine, &name, "SIGKILL").await;
}

async fn signal(engine: &Docker, name: &str, signal: &str) {
    loop {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match engine.kill_container(name, Some(options)).await {
            Ok(()) => return,
            // It is not there, or does not run.
            Err(error) if matches!(status_of(&error), Some(404 | 409)) => return,
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}
