//! A relay made from a configuration: what `serve`, `drain` and the demo have in common, for an embedding
//! program too.

use crate::channels::{self, ChannelError, ConsoleOutput};
use crate::config::Config;
use nanorelay_actors::clock::SharedClock;
use nanorelay_actors::relay::{Relay, RelayBuilder};
use slog::Logger;
use std::path::Path;

/// A builder with the settings and all channels of the configuration; start it inside an actix system.
pub fn builder(
    data_dir: &Path,
    config: &Config,
    console: ConsoleOutput,
    clock: SharedClock,
    logger: Logger,
) -> Result<RelayBuilder, ChannelError> {
    let mut builder = Relay::builder(data_dir).settings(config.settings.clone());
    for channel in channels::build(&config.channels, console, &clock)? {
        let settings = channel.entry.settings.clone();
        builder = match channel.entry.is_fallback() {
            true => builder.fallback_channel(channel.adapter, settings),
            false => builder.channel(&channel.entry.name, channel.adapter, settings),
        };
    }
    Ok(builder.clock(clock).logger(logger))
}
