//! A relay made from a configuration: what `serve`, `drain` and the demo have in common, for an embedding
//! program too.

use crate::agents::docker;
use crate::channels::web::WebChats;
use crate::channels::{self, ChannelError, ConsoleOutput};
use crate::config::{Config, RuntimeConfig};
use nanorelay_actors::clock::SharedClock;
use nanorelay_actors::relay::{Relay, RelayBuilder};
use nanorelay_actors::runtime::AgentRuntime;
use nanorelay_actors::runtime::command::{self, CommandSettings};
use slog::Logger;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The command of the program that keeps one agent.
pub const KEEPER_COMMAND: &str = "agent-keeper";

/// The runtime that a configuration asks for; `None` when the agents are somebody else's. Agents are kept by this
/// program, which must be `nanorelay`; an embedding program calls [`command::runtime`] with a keeper of its own.
pub fn runtime(config: &Config) -> io::Result<Option<Arc<dyn AgentRuntime>>> {
    match &config.runtime {
        RuntimeConfig::None => Ok(None),
        RuntimeConfig::Command(settings) => {
            let keeper = (std::env::current_exe()?, vec![KEEPER_COMMAND.to_owned()]);
            let settings = CommandSettings { keeper, ..(**settings).clone() };
            Ok(Some(Arc::new(command::runtime(settings))))
        }
        RuntimeConfig::Docker(settings) => Ok(Some(Arc::new(docker::runtime((**settings).clone())))),
    }
}

/// What a configuration makes of a host that is not started yet.
pub struct PreparedHost {
    /// The relay's builder, with all settings and channels.
    pub builder: RelayBuilder,
    /// The chats of the browser, when a channel of kind `web` is configured.
    pub web_chats: Option<WebChats>,
}

/// A builder with the settings and all channels of the configuration; start it inside an actix system.
pub fn builder(
    data_dir: &Path,
    config: &Config,
    console: ConsoleOutput,
    clock: SharedClock,
    logger: Logger,
) -> Result<RelayBuilder, ChannelError> {
    prepare(data_dir, config, console, clock, logger).map(|prepared| prepared.builder)
}

/// The same, with what the control plane needs besides.
pub fn prepare(
    data_dir: &Path,
    config: &Config,
    console: ConsoleOutput,
    clock: SharedClock,
    logger: Logger,
) -> Result<PreparedHost, ChannelError> {
    let mut builder = Relay::builder(data_dir).settings(config.settings.clone());
    let built = channels::build(data_dir, config, console, &clock)?;
    for channel in built.channels {
        let settings = channel.entry.settings.clone();
        builder = match channel.entry.is_fallback() {
            true => builder.fallback_channel(channel.adapter, settings),
            false => builder.channel_with(&channel.entry.name, channel.adapter, settings),
        };
    }
    Ok(PreparedHost { builder: builder.clock(clock).logger(logger), web_chats: built.web_chats })
}
