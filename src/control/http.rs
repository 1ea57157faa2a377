//! The control plane over HTTP: an API under `/v1`, health, metrics, and the pages of the dashboard.
//!
//! `nanorelay serve` serves it by itself. An application mounts it in its own actix-web server, under any scope:
//!
//! ```
//! use actix_web::{App, web};
//! use nanorelay::control::http::RelayRoutes;
//! use nanorelay_actors::relay::Relay;
//!
//! # fn mount(relay: Relay) {
//! let factory = move || App::new().service(web::scope("/agents").configure(relay.routes()));
//! # let _ = factory;
//! # }
//! ```
//!
//! Nothing is global: what is kept beside a relay (logins, answers for repeats, failed logins) is kept with that relay, so
//! that all workers of a server share it, and two relays of one process share nothing.

mod about;
pub mod access;
mod audit;
pub mod caller;
mod chat;
mod dashboard;
mod deliveries;
mod entrance;
mod events;
mod failures;
mod headers;
mod health;
mod history;
mod host;
mod idempotency;
mod input;
mod lanes;
mod login;
mod logins;
mod me;
mod messages;
mod openapi;
mod page;
mod parties;
mod pauses;
pub mod problem;
mod query;
mod questions;
mod routes;
mod selection;
pub mod server;
mod session_lists;
mod sessions;
mod shared;
mod tasks;
pub mod tokens;

pub use access::{Authority, ControlPlane};
pub use caller::{AuthKind, Caller, Scope};
pub use openapi::document;

use actix_web::web::ServiceConfig;
use nanorelay_actors::relay::Relay;

/// Mounts the control plane of a relay in an actix-web application.
pub trait RelayRoutes {
    /// What to pass to `configure` of an `App` or a `Scope`. Callers need a token of the data directory, made by
    /// `nanorelay token create`; for other rules, see [`ControlPlane`].
    ///
    /// All paths below the scope are taken: mount it under a scope of its own.
    fn routes(&self) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static;
}

impl RelayRoutes for Relay {
    fn routes(&self) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
        ControlPlane::new(self.clone()).routes()
    }
}
