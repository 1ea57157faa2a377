//! A host that runs in this process, with its log, its control socket and its server.

use super::place::{OPEN_PAUSE, OPEN_TRIES};
use super::{Failure, HostArgs};
use crate::channels::ConsoleOutput;
use crate::config::Config;
use crate::control::client::{ClientError, ControlClient};
use crate::control::http::server::{BoundServer, RunningServer};
use crate::control::socket::ControlSocket;
use crate::control::status::HttpAddress;
use crate::host::PreparedHost;
use crate::logging::{self, Logging};
use indicatif::ProgressBar;
use nanorelay_actors::clock::{SharedClock, SystemClock};
use nanorelay_actors::relay::{Relay, StartError};
use nanorelay_actors::runtime::AgentRuntime;
use slog::Logger;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A started relay.
pub struct RunningHost {
    /// The engine.
    pub relay: Relay,
    socket: ControlSocket,
    server: Option<RunningServer>,
    shutdown_deadline: Duration,
}

impl RunningHost {
    /// Starts the relay, with the runtime if there is one, then opens the socket. Must run inside an actix system.
    pub async fn start(
        data_dir: &Path,
        config: &Config,
        console: ConsoleOutput,
        runtime: Option<Arc<dyn AgentRuntime>>,
        logger: &Logger,
    ) -> Result<Self, Failure> {
        let relay = start_when_free(data_dir, config, console, runtime, logger).await?;
        match ControlSocket::open(data_dir, relay.clone(), logger.clone()) {
            Ok(socket) => {
                Ok(Self { relay, socket, server: None, shutdown_deadline: config.shutdown_deadline })
            }
            Err(error) => {
                relay.shutdown(config.shutdown_deadline).await;
                Err(Failure::CannotCreate("the control socket".to_owned(), error))
            }
        }
    }

    /// Serves the control plane over HTTP, too. Returns where.
    pub fn serve(&mut self, server: BoundServer) -> Result<SocketAddr, Failure> {
        let server = server.serve(self.relay.clone())?;
        let address = server.address();
        HttpAddress::note(&self.relay, address);
        self.server = Some(server);
        Ok(address)
    }

    /// Closes the socket and the server, lets sends in flight end, and stops the relay.
    pub async fn stop(self) {
        drop(self.socket);
        if let Some(server) = self.server {
            server.stop().await;
        }
        self.relay.shutdown(self.shutdown_deadline).await;
    }
}

/// Starts the relay. A command on a stopped host has the directory for a moment, and so has a host that ends: neither
/// listens on the socket. A host that does is one that runs.
async fn start_when_free(
    data_dir: &Path,
    config: &Config,
    console: ConsoleOutput,
    runtime: Option<Arc<dyn AgentRuntime>>,
    logger: &Logger,
) -> Result<Relay, Failure> {
    let mut tries = 0;
    loop {
        let clock: SharedClock = Arc::new(SystemClock);
        let PreparedHost { mut builder, web_chats } =
            crate::host::prepare(data_dir, config, console, clock, logger.clone())?;
        if let Some(runtime) = &runtime {
            builder = builder.runtime(Arc::clone(runtime));
        }
        let held = match builder.start().await {
            Err(held @ StartError::AlreadyRunning { .. }) => held,
            started => {
                let relay = started?;
                if let Some(chats) = web_chats {
                    chats.attach(&relay);
                }
                return Ok(relay);
            }
        };
        tries += 1;
        let listens = !matches!(ControlClient::connect(data_dir), Err(ClientError::NotRunning));
        if listens || tries == OPEN_TRIES {
            return Err(held.into());
        }
        if tries == 1 {
            slog::info!(logger, "waiting for the data directory"; "reason" => %held);
        }
        tokio::time::sleep(OPEN_PAUSE).await;
    }
}

/// Loads the configuration and starts the log, which is written out when the second part is dropped.
pub fn prepare(args: &HostArgs) -> Result<(Config, Logging), Failure> {
    let config = args.config_sources().load()?;
    let logging = logging::start(config.log);
    logging::log_panics(logging.logger.clone());
    Ok((config, logging))
}

/// The same for a command that shows its progress on a terminal: the log is written above that line.
pub fn prepare_beside(args: &HostArgs, line: ProgressBar) -> Result<(Config, Logging), Failure> {
    let config = args.config_sources().load()?;
    let logging = logging::start_beside(config.log, line);
    logging::log_panics(logging.logger.clone());
    Ok((config, logging))
}

/// Runs a future on a new actix system.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    actix::System::new().block_on(future)
}
