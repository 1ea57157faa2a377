//! The section `[runtime]`: who runs the agents.

use super::layers::Layers;
use super::units::{count, duration, optional_duration, optional_limit, optional_size, size};
use super::{ConfigError, ConfigSources, from_reference};
use crate::agents::docker::DockerSettings;
use nanorelay_actors::model::roster::RosterPolicy;
use nanorelay_actors::runtime::command::CommandSettings;
use nanorelay_actors::runtime::keeper::order::{AgentLimits, LogBounds};
use nanorelay_actors::runtime::launch::{AgentCommand, GroupCommand};
use rustix::process::{getgid, getuid};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Who runs the agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeConfig {
    /// Somebody else.
    None,
    /// The host, as processes of this machine. The keeper is this program's; see [`crate::host`].
    Command(Box<CommandSettings>),
    /// The host, as containers.
    Docker(Box<DockerSettings>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuntimeSection {
    kind: KindName,
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    pass_environment: Vec<String>,
    #[serde(deserialize_with = "count::<_, _, 1, 10_000>")]
    agents: usize,
    #[serde(deserialize_with = "optional_limit::<_, _, 1, 10_000>")]
    agents_per_tenant: Option<usize>,
    #[serde(deserialize_with = "duration::<_, SECOND, HOUR>")]
    pub start_grace: Duration,
    #[serde(deserialize_with = "optional_duration::<_, SECOND, { 30 * 24 * HOUR }>")]
    pub idle_stop: Option<Duration>,
    #[serde(deserialize_with = "duration::<_, 0, { HOUR / 6 }>")]
    stop_grace: Duration,
    #[serde(deserialize_with = "duration::<_, 10, HOUR>")]
    backoff_base: Duration,
    #[serde(deserialize_with = "duration::<_, 10, { 24 * HOUR }>")]
    backoff_max: Duration,
    limits: LimitKeys,
    log: LogKeys,
    groups: BTreeMap<String, GroupKeys>,
    docker: DockerKeys,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DockerKeys {
    image: String,
    socket: PathBuf,
    network: String,
    user: String,
    mount: PathBuf,
    data_dir: Option<PathBuf>,
    #[serde(deserialize_with = "optional_limit::<_, _, 10, 1_024_000>")]
    cpu_thousandths: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindName {
    None,
    Command,
    Docker,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitKeys {
    #[serde(deserialize_with = "optional_size::<_, { 64 * MIB }, { 1024 * GIB }>")]
    memory: Option<u64>,
    #[serde(deserialize_with = "optional_duration::<_, SECOND, { 30 * 24 * HOUR }>")]
    cpu_time: Option<Duration>,
    #[serde(deserialize_with = "optional_limit::<_, _, 1, 100_000>")]
    processes: Option<u64>,
    #[serde(deserialize_with = "optional_limit::<_, _, 64, 1_000_000>")]
    open_files: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogKeys {
    #[serde(deserialize_with = "size::<_, 4096, { 16 * GIB }>")]
    size: u64,
    #[serde(deserialize_with = "count::<_, _, 1, 100>")]
    files: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupKeys {
    command: Option<Vec<String>>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

/// Collects what is wrong with the section.
struct Checker<'a> {
    layers: &'a Layers,
    sources: &'a ConfigSources,
    errors: &'a mut Vec<ConfigError>,
}

impl RuntimeSection {
    /// Who runs the agents. What is wrong is added to `errors`.
    pub fn check(
        &self,
        layers: &Layers,
        sources: &ConfigSources,
        errors: &mut Vec<ConfigError>,
    ) -> RuntimeConfig {
        let mut checker = Checker { layers, sources, errors };
        let is_command = self.kind == KindName::Command;
        if is_command {
            checker.command(&["command"], &self.command);
        }
        if self.kind == KindName::Docker {
            checker.docker(&self.docker);
        }
        let environment = checker.environment(&["environment"], &self.environment);
        let mut groups = Vec::new();
        for (pattern, keys) in &self.groups {
            if let Some(command) = keys.command.as_ref().filter(|_| is_command) {
                checker.command(&["groups", pattern, "command"], command);
            }
            groups.push(GroupCommand {
                pattern: pattern.clone(),
                command: keys.command.clone(),
                environment: checker.environment(&["groups", pattern, "environment"], &keys.environment),
            });
        }
        if self.backoff_max < self.backoff_base {
            checker.wrong(&["backoff_max"], "is less than backoff_base".to_owned());
        }
        let agent = AgentCommand { command: self.command.clone(), environment, groups };
        match self.kind {
            KindName::None => RuntimeConfig::None,
            KindName::Command => RuntimeConfig::Command(Box::new(CommandSettings {
                agent,
                pass_environment: self.pass_environment.clone(),
                roster: self.roster(),
                stop_grace: self.stop_grace,
                limits: self.limits.limits(),
                log: self.log.bounds(),
                ..CommandSettings::new(Vec::new(), Default::default())
            })),
            KindName::Docker => RuntimeConfig::Docker(Box::new(self.docker(agent))),
        }
    }

    fn docker(&self, agent: AgentCommand) -> DockerSettings {
        let DockerKeys { image, socket, network, user, mount, data_dir, cpu_thousandths } = &self.docker;
        let own_user = || format!("{}:{}", getuid().as_raw(), getgid().as_raw());
        DockerSettings {
            socket: socket.clone(),
            image: image.clone(),
            agent,
            network: network.clone(),
            user: match user.as_str() {
                "host" => Some(own_user()),
                "image" => None,
                user => Some(user.to_owned()),
            },
            mount: mount.clone(),
            data_dir_of_engine: data_dir.clone(),
            nano_cpus: cpu_thousandths.map(|thousandths| thousandths * 1_000_000),
            limits: self.limits.limits(),
            log: self.log.bounds(),
            roster: self.roster(),
            stop_grace: self.stop_grace,
        }
    }

    fn roster(&self) -> RosterPolicy {
        RosterPolicy {
            agents_max: self.agents,
            agents_per_tenant_max: self.agents_per_tenant,
            backoff_base: self.backoff_base,
            backoff_max: self.backoff_max,
        }
    }
}

impl LimitKeys {
    fn limits(&self) -> AgentLimits {
        AgentLimits {
            memory_bytes: self.memory,
            cpu_seconds: self.cpu_time.map(|time| time.as_secs()),
            open_files: self.open_files,
            processes: self.processes,
        }
    }
}

impl LogKeys {
    fn bounds(&self) -> LogBounds {
        LogBounds { bytes_max: self.size, files: self.files }
    }
}

impl Checker<'_> {
    fn wrong(&mut self, key: &[&str], message: String) {
        let path: Vec<String> = ["runtime"].iter().chain(key).map(|part| (*part).to_owned()).collect();
        self.errors.push(ConfigError::at(self.layers.origin(&path), path.join("."), message));
    }

    fn docker(&mut self, keys: &DockerKeys) {
        if keys.image.is_empty() {
            self.wrong(&["docker", "image"], "is empty; give the image of the agents".to_owned());
        }
        let absolute = [
            ("socket", Some(&keys.socket)),
            ("mount", Some(&keys.mount)),
            ("data_dir", keys.data_dir.as_ref()),
        ];
        for (key, path) in absolute {
            if path.is_some_and(|path| !path.is_absolute()) {
                self.wrong(&["docker", key], "is not an absolute path".to_owned());
            }
        }
    }

    fn command(&mut self, key: &[&str], command: &[String]) {
        let Some(program) = command.first().filter(|program| !program.is_empty()) else {
            let message = "is empty; give the program and its arguments, as [\"/opt/agent/run\", \"--flag\"]";
            return self.wrong(key, message.to_owned());
        };
        if command.iter().any(|part| part.contains('\0')) {
            return self.wrong(key, "holds a NUL".to_owned());
        }
        let path = Path::new(program);
        if program.contains('/') && !path.is_absolute() {
            // It would be looked for in the folder of the session.
            let message =
                format!("{program:?} is neither an absolute path nor the name of a program in PATH");
            return self.wrong(key, message);
        }
        let sessions = self.sources.data_dir.as_ref().map(|dir| dir.join("v2-sessions"));
        if sessions.is_some_and(|sessions| path.starts_with(sessions)) {
            self.wrong(key, "lies in a folder that agents can write to".to_owned());
        }
    }

    /// The variables with `env:NAME` replaced by that variable's value.
    fn environment(
        &mut self,
        key: &[&str],
        variables: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut resolved = BTreeMap::new();
        for (name, value) in variables {
            let key = [key, &[name.as_str()]].concat();
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                self.wrong(&key, "is no name and value that an environment can hold".to_owned());
            } else if name.starts_with("NANORELAY_") {
                self.wrong(&key, "is set by nanorelay itself".to_owned());
            } else {
                match from_reference(value, self.sources) {
                    Ok(value) => drop(resolved.insert(name.clone(), value)),
                    Err(message) => self.wrong(&key, message),
                }
            }
        }
        resolved
    }
}
