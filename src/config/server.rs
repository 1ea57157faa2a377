//! The section `[server]`: where the control plane is served.

use super::ConfigSources;
use super::units::count;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the control plane is served over HTTP, and who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The address; `None` = it is not served.
    pub listen: Option<SocketAddr>,
    /// Threads that serve it.
    pub workers: usize,
    /// The file of tokens.
    pub tokens_file: PathBuf,
    /// Whether metrics are told to everybody who can connect.
    pub open_metrics: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerSection {
    #[serde(deserialize_with = "listen")]
    listen: Option<SocketAddr>,
    #[serde(deserialize_with = "count::<_, _, 1, 64>")]
    workers: usize,
    tokens_file: PathBuf,
    open_metrics: bool,
}

impl ServerSection {
    pub fn settings(&self, sources: &ConfigSources) -> ServerConfig {
        ServerConfig {
            listen: self.listen,
            workers: self.workers,
            tokens_file: sources.resolve(&self.tokens_file),
            open_metrics: self.open_metrics,
        }
    }
}

/// `ADDRESS:PORT`, or `off`.
fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    let words = || {
        let example = "an address with a port, such as \"127.0.0.1:8420\" or \"[::1]:8420\", or \"off\"";
        de::Error::custom(format!("{text:?} is not {example}"))
    };
    text.parse().map(Some).map_err(|_| words())
}
