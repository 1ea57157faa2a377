//! `nanorelay serve`.

use super::running::{self, RunningHost};
use super::service_manager::ServiceManager;
use super::signals::Signals;
use super::{Exit, Failure, HostArgs};
use crate::channels::ConsoleOutput;
use crate::config::{Config, units};
use crate::control::http::server::BoundServer;
use crate::host;
use slog::Logger;

/// Delivers until SIGTERM or SIGINT.
pub(super) fn run(args: &HostArgs) -> Result<Exit, Failure> {
    let (config, logging) = running::prepare(args)?;
    running::block_on(serve(args, &config, &logging.logger))
}

async fn serve(args: &HostArgs, config: &Config, logger: &Logger) -> Result<Exit, Failure> {
    let signals = Signals::listen()?;
    let server = BoundServer::bind(&config.server)?;
    let runtime = host::runtime(config).map_err(|error| Failure::Io("cannot find this program", error))?;
    let started = tokio::select! {
        started = RunningHost::start(&args.data, config, ConsoleOutput::Stdout, runtime, logger) => started,
        signal = signals.first() => return Ok(Exit::Signal(signal)),
    };
    let mut running = started?;
    if let Some(server) = server {
        let address = match running.serve(server) {
            Ok(address) => address,
            Err(failure) => {
                running.stop().await;
                return Err(failure);
            }
        };
        slog::info!(logger, "control plane listens"; "address" => %address);
    }
    slog::info!(logger, "ready"; "version" => env!("CARGO_PKG_VERSION"), "data" => %args.data.display(),
        "config" => config.file.as_ref().map(|file| file.display().to_string()),
        "channels" => config.channels.len());
    if config.channels.is_empty() {
        slog::warn!(logger, "no channel is configured, messages wait until there is one");
    }
    let manager = ServiceManager::new(logger.clone());
    manager.ready();
    let signal = signals.first().await;
    manager.stopping();
    slog::info!(logger, "stopping"; "signal" => signal.name(),
        "deadline" => units::show_duration(config.shutdown_deadline));
    running.stop().await;
    slog::info!(logger, "stopped");
    Ok(Exit::Done)
}
