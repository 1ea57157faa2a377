//! The nanorelay program as a library: configuration, channels, command line.
//!
//! The engine is the package `nanorelay-actors`; this one gives it channels, a configuration file, a command
//! line and a local socket.
//!
//! The program's configuration and channels can be used in an application of your own:
//!
//! ```
//! use nanorelay::channels::ConsoleOutput;
//! use nanorelay::config::ConfigSources;
//! use nanorelay_actors::clock::SystemClock;
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! /// Delivers what is due in a data directory, as its `nanorelay.toml` says; returns how many messages went out.
//! async fn deliver(data_dir: &Path, logger: slog::Logger) -> Result<u64, Box<dyn std::error::Error>> {
//!     let config = ConfigSources { data_dir: Some(data_dir.to_owned()), ..ConfigSources::default() }.load()?;
//!     let clock = Arc::new(SystemClock);
//!     let relay =
//!         nanorelay::host::builder(data_dir, &config, ConsoleOutput::Stdout, clock, logger)?.start().await?;
//!     let report = relay.drain(std::time::Duration::from_secs(60)).await;
//!     relay.shutdown(config.shutdown_deadline).await;
//!     Ok(report.delivered)
//! }
//!
//! # let data = nanorelay_actors::testing::DataDir::new();
//! # let session = nanorelay_actors::testing::SessionSpec::new("ag-main").chat("slack", "slack:C1");
//! # data.session(session).text("hello");
//! # let data_dir = data.path();
//! std::fs::write(data_dir.join("nanorelay.toml"), "[channels.\"*\"]\nkind = \"console\"\n")?;
//! let logger = slog::Logger::root(slog::Discard, slog::o!());
//! let delivered = actix::System::new().block_on(deliver(data_dir, logger))?;
//! assert_eq!(delivered, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod agents;
pub mod bench;
pub mod channels;
pub mod cli;
pub mod config;
pub mod control;
pub mod host;
pub mod logging;

/// The Rust code in the documentation, compiled with the tests.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/custom-actions.md")]
    struct CustomActions;
    #[doc = include_str!("../docs/embedding.md")]
    struct Embedding;
    #[doc = include_str!("../docs/testing.md")]
    struct Testing;
    #[doc = include_str!("../docs/messages-for-agents.md")]
    struct MessagesForAgents;
    #[doc = include_str!("../docs/runtimes.md")]
    struct Runtimes;
    #[doc = include_str!("../docs/api.md")]
    struct Api;
}
