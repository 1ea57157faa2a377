//! The server of `nanorelay serve`. An application that embeds the host has one of its own.

use super::access::{Authority, ControlPlane};
use crate::config::ServerConfig;
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use nanorelay_actors::relay::Relay;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

/// Connections that are served at the same time by one worker; more of them wait.
const CONNECTIONS_MAX: usize = 1024;
/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may stay open without a request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long requests that are being answered may take to end when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the control plane cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or is none of this machine.
    #[error("server.listen: cannot listen on {address}: {source}")]
    Listen {
        /// What was configured.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Others could reach it and do everything.
    #[error(
        "server.listen: {address} can be reached from other machines, but there is no token in {}: make one with \
         `nanorelay token create`, or listen on 127.0.0.1", tokens_file.display()
    )]
    NoTokens {
        /// What was configured.
        address: SocketAddr,
        /// Where tokens are looked for.
        tokens_file: PathBuf,
    },
}

/// An address that is taken, and not served yet.
pub struct BoundServer {
    listener: TcpListener,
    address: SocketAddr,
    authority: Authority,
    config: ServerConfig,
}

impl BoundServer {
    /// Takes the address. Do it before the host starts: a mistake is then known at once.
    pub fn bind(config: &ServerConfig) -> Result<Option<Self>, ServerError> {
        let Some(address) = config.listen else { return Ok(None) };
        let tokens_file = config.tokens_file.clone();
        let is_local = address.ip().to_canonical().is_loopback();
        if !is_local && !tokens_file.exists() {
            return Err(ServerError::NoTokens { address, tokens_file });
        }
        let cannot = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(cannot)?;
        let bound = listener.local_addr().map_err(cannot)?;
        let authority = if is_local { Authority::TokensOrLocal } else { Authority::Tokens };
        Ok(Some(Self { listener, address: bound, authority, config: config.clone() }))
    }

    /// The address, with the port that was found when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a relay until it is stopped. Must run inside an actix system.
    pub fn serve(self, relay: Relay) -> Result<RunningServer, ServerError> {
        let Self { listener, address, authority, config } = self;
        let plane = ControlPlane::new(relay)
            .authority(authority)
            .tokens_file(config.tokens_file)
            .open_metrics(config.open_metrics);
        let routes = plane.clone().routes();
        let server = HttpServer::new(move || App::new().configure(routes.clone()))
            .workers(config.workers)
            .max_connections(CONNECTIONS_MAX)
            .client_request_timeout(HEAD_TIMEOUT)
            .keep_alive(KEEP_ALIVE)
            .shutdown_timeout(STOP_TIMEOUT.as_secs())
            .disable_signals()
            .listen(listener)
            .map_err(|source| ServerError::Listen { address, source })?
            .run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(RunningServer { plane, handle, address })
    }
}

/// A server that answers.
pub struct RunningServer {
    plane: ControlPlane,
    handle: ServerHandle,
    address: SocketAddr,
}

impl RunningServer {
    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends streams of events at once, and lets requests that are being answered end.
    pub async fn stop(self) {
        self.plane.close_streams();
        self.handle.stop(true).await;
    }
}
