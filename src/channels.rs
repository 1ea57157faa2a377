//! The channels that come with the program: console, jsonl, webhook and web.

pub mod console;
pub mod jsonl;
pub mod web;
pub mod webhook;

mod appender;
mod payload;
pub mod plain_text;

use crate::config::{ChannelEntry, ChannelKind, Config};
use nanorelay_actors::channel::adapter::Channel;
use nanorelay_actors::clock::SharedClock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a configured channel cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The file of a jsonl channel cannot be opened.
    #[error("channel {name}: cannot open {path}: {source}")]
    File {
        /// The channel's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The webhook's URL or TLS set-up is refused.
    #[error("channel {name}: {reason}")]
    Webhook {
        /// The channel's name.
        name: String,
        /// In words.
        reason: String,
    },
    /// The file with the chats of the browser cannot be used.
    #[error("channel {name}: {source}")]
    WebChats {
        /// The channel's name.
        name: String,
        /// The error.
        source: web::ChatsError,
    },
    /// A thread could not be started.
    #[error("channel {name}: cannot start its thread: {source}")]
    Thread {
        /// The channel's name.
        name: String,
        /// The error.
        source: io::Error,
    },
}

/// Where console channels write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleOutput {
    /// Standard output.
    Stdout,
    /// Standard error: standard output holds something else.
    Stderr,
}

/// A configured channel and its adapter.
#[derive(Clone)]
pub struct BuiltChannel {
    /// What was configured.
    pub entry: ChannelEntry,
    /// What sends.
    pub adapter: Arc<dyn Channel>,
}

/// All configured channels.
pub struct BuiltChannels {
    /// Each with its adapter.
    pub channels: Vec<BuiltChannel>,
    /// The chats of the browser, when a channel writes into them.
    pub web_chats: Option<web::WebChats>,
}

/// Makes the adapter of each configured channel. All console channels share one writer, all web channels one file.
pub fn build(
    data_dir: &Path,
    config: &Config,
    console: ConsoleOutput,
    clock: &SharedClock,
) -> Result<BuiltChannels, ChannelError> {
    let mut shared_console: Option<Arc<console::ConsoleChannel>> = None;
    let mut web_chats: Option<web::WebChats> = None;
    let mut channels = Vec::with_capacity(config.channels.len());
    for entry in &config.channels {
        let name = || entry.name.clone();
        let adapter: Arc<dyn Channel> = match &entry.kind {
            ChannelKind::Console => {
                let channel = match &shared_console {
                    Some(channel) => Arc::clone(channel),
                    None => Arc::new(
                        console::ConsoleChannel::on(console)
                            .map_err(|source| ChannelError::Thread { name: name(), source })?,
                    ),
                };
                shared_console = Some(Arc::clone(&channel));
                channel
            }
            ChannelKind::Jsonl { path, fsync } => Arc::new(
                jsonl::JsonlChannel::open(path, *fsync, Arc::clone(clock))
                    .map_err(|source| ChannelError::File { name: name(), path: path.clone(), source })?,
            ),
            ChannelKind::Webhook(webhook) => Arc::new(
                webhook::WebhookChannel::new(webhook, Arc::clone(clock))
                    .map_err(|problem| ChannelError::Webhook { name: name(), reason: problem.to_string() })?,
            ),
            ChannelKind::Web => {
                let chats = match web_chats.take() {
                    Some(chats) => chats,
                    None => web::WebChats::open(data_dir, &config.web_chat, Arc::clone(clock))
                        .map_err(|source| ChannelError::WebChats { name: name(), source })?,
                };
                web_chats.insert(chats).channel(&entry.name)
            }
        };
        channels.push(BuiltChannel { entry: entry.clone(), adapter });
    }
    Ok(BuiltChannels { channels, web_chats })
}
