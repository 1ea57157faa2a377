//! The configuration: defaults, file, environment and command line, checked and turned into settings.
//!
//! Every default stands in `config/default.toml`, which is compiled in; the types here have none. Precedence:
//! command line > environment > file > defaults. An unknown key is an error that names the key and its line.

mod channels;
mod effective;
mod layers;
mod runtime;
mod sections;
mod server;
pub mod units;

pub use channels::{ChannelEntry, ChannelKind, WebhookConfig};
pub use layers::Origin;
pub use runtime::RuntimeConfig;
pub use sections::{LogConfig, LogFormat, LogLevel};
pub use server::ServerConfig;

use crate::channels::web::WebChatSettings;
use layers::Layers;
use nanorelay_actors::settings::Settings;
use sections::Sections;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The documented default configuration.
pub const DEFAULT_TOML: &str = include_str!("config/default.toml");
/// The file that is looked for in the data directory.
pub const FILE_NAME: &str = "nanorelay.toml";
/// The largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// More errors than this are not looked for.
const ERRORS_MAX: usize = 100;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The engine's part.
    pub settings: Settings,
    /// The channels, in the order of their names.
    pub channels: Vec<ChannelEntry>,
    /// Who runs the agents.
    pub runtime: RuntimeConfig,
    /// Where the control plane is served.
    pub server: ServerConfig,
    /// What is kept of the chats in the browser.
    pub web_chat: WebChatSettings,
    /// Logging.
    pub log: LogConfig,
    /// How long sends in flight may take to end at shutdown.
    pub shutdown_deadline: Duration,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// All values in force with their origins, secrets hidden, as TOML.
    pub effective: String,
}

/// What is wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the wrong value stands.
    pub origin: Origin,
    /// The key's path, `delivery.watch`; empty when the problem is not one of a key.
    pub key: String,
    /// In words.
    pub message: String,
}

impl ConfigError {
    fn at(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.message),
            key => write!(f, "{}: {key}: {}", self.origin, self.message),
        }
    }
}

/// Everything that is wrong with a configuration, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a configuration comes from. Not printable: the environment may hold secrets.
#[derive(Clone, Default)]
pub struct ConfigSources {
    /// The data directory: may hold [`FILE_NAME`], and relative paths start there.
    pub data_dir: Option<PathBuf>,
    /// A file given by the user; it must exist.
    pub file: Option<PathBuf>,
    /// The environment's variables; those without the prefix only serve `env:NAME` references.
    pub environment: Vec<(OsString, OsString)>,
    /// Options of the command line: the option's name, the key's path, the value.
    pub flags: Vec<(String, Vec<&'static str>, String)>,
}

impl ConfigSources {
    /// Reads, merges and checks. All errors that can be found are returned together.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        let fatal = |error| ConfigErrors(vec![error]);
        let defaults = DEFAULT_TOML
            .parse()
            .map_err(|error: toml::de::Error| fatal(ConfigError::at(Origin::Default, "", error.message())))?;
        let mut layers = Layers::new(defaults);
        let mut errors = Vec::new();
        let file = self.file_to_read();
        if let Some(file) = &file {
            let text = read_file(file)
                .map_err(|message| fatal(ConfigError::at(Origin::WholeFile(file.clone()), "", message)))?;
            errors.extend(layers.add_file(file, &text));
        }
        errors.extend(layers.add_environment(&self.environment));
        for (flag, path, value) in &self.flags {
            layers.add_flag(flag, path, value);
        }
        let effective = effective::print(&layers);
        let channels = channels::read(&mut layers, self, &mut errors);
        layers.reset(&["channels".to_owned()]);
        let sections: Option<Sections> = typed(&mut layers, &[], &mut errors);
        let runtime = sections.as_ref().map(|sections| sections.runtime.check(&layers, self, &mut errors));
        match sections.zip(runtime) {
            Some((sections, runtime)) if errors.is_empty() => Ok(Config {
                settings: sections.settings(),
                channels,
                runtime,
                server: sections.server.settings(self),
                web_chat: sections.web_chat.settings(),
                log: sections.log,
                shutdown_deadline: sections.shutdown.deadline,
                file,
                effective,
            }),
            _ => Err(ConfigErrors(errors)),
        }
    }

    fn file_to_read(&self) -> Option<PathBuf> {
        let in_data_dir =
            || self.data_dir.as_ref().map(|dir| dir.join(FILE_NAME)).filter(|file| file.exists());
        self.file.clone().or_else(in_data_dir)
    }

    /// A path from the configuration; a relative one starts at the data directory.
    fn resolve(&self, path: &Path) -> PathBuf {
        match &self.data_dir {
            Some(dir) => dir.join(path),
            None => path.to_owned(),
        }
    }
}

/// `env:NAME` stands for that variable's value.
fn from_reference(value: &str, sources: &ConfigSources) -> Result<String, String> {
    let Some(name) = value.strip_prefix("env:") else { return Ok(value.to_owned()) };
    let found = sources.environment.iter().find(|(key, _)| key == name);
    let (_, value) = found.ok_or_else(|| format!("environment variable {name} is not set"))?;
    value.to_str().map(str::to_owned).ok_or_else(|| format!("environment variable {name} is not UTF-8"))
}

fn read_file(file: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read the configuration file: {error}");
    let bytes = std::fs::metadata(file).map_err(cannot)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("the configuration file has {bytes} bytes, the limit is {FILE_BYTES_MAX}"));
    }
    std::fs::read_to_string(file).map_err(cannot)
}

/// Reads the table at `prefix` as a `T`. A wrong key is reported and put back to its default, then the next
/// error is looked for; `None` when the table cannot be read at all.
fn typed<T: DeserializeOwned>(
    layers: &mut Layers,
    prefix: &[String],
    errors: &mut Vec<ConfigError>,
) -> Option<T> {
    typed_part(layers, prefix, |_| true, errors)
}

/// The same for those keys of the table that are `wanted`.
fn typed_part<T: DeserializeOwned>(
    layers: &mut Layers,
    prefix: &[String],
    wanted: impl Fn(&str) -> bool,
    errors: &mut Vec<ConfigError>,
) -> Option<T> {
    let mut value = None;
    // A required key that was wrong is missing once it is reset; that is no second error.
    let mut reset: Vec<Vec<String>> = Vec::new();
    for _ in 0..ERRORS_MAX {
        let mut table = match prefix {
            [] => layers.merged().clone(),
            _ => layers::value_at(layers.merged(), prefix)?.as_table()?.clone(),
        };
        table.retain(|key, _| wanted(key));
        let problem = match serde_path_to_error::deserialize(table) {
            Ok(found) => {
                value = Some(found);
                break;
            }
            Err(problem) => problem,
        };
        let mut path = prefix.to_vec();
        path.extend(problem.path().iter().filter_map(|segment| match segment {
            serde_path_to_error::Segment::Map { key } => Some(key.clone()),
            _ => None,
        }));
        if let Some(key) = missing_key(problem.inner().message())
            && reset.contains(&[&path[..], &[key.to_owned()]].concat())
        {
            break;
        }
        let origin = layers.origin(&path);
        errors.push(ConfigError::at(origin, path.join("."), plain_words(problem.inner().message())));
        if path.len() == prefix.len() {
            break;
        }
        layers.reset(&path);
        reset.push(path);
    }
    value
}

/// The key that a deserializer says is missing.
fn missing_key(message: &str) -> Option<&str> {
    message.trim().strip_prefix("missing field `")?.strip_suffix('`')
}

/// A deserializer's words in those of the user.
fn plain_words(message: &str) -> String {
    message
        .trim()
        .replacen("unknown field", "unknown key", 1)
        .replacen("missing field", "missing key", 1)
        .replacen("unknown variant", "unknown value", 1)
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
