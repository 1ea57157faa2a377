//! The way from a request to the relay. A handler gets the relay from an `Access` only, and only together with whose
//! sessions the caller may see: one of the caller's sessions, a list for the caller's tenants, or the whole host.

mod recognise;

use super::caller::{AuthKind, Caller, Scope};
use super::openapi::Description;
use super::problem::{Problem, ProblemKind};
use super::routes;
use super::shared::Shared;
use super::tokens::{TOKENS_FILE_NAME, TokenFile};
use actix_web::dev::Payload;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use nanorelay_actors::model::hold::HoldScope;
use nanorelay_actors::model::ids::{SessionId, TenantName};
use nanorelay_actors::model::tenant::TenantSet;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{HealthCheck, Relay};
use nanorelay_actors::report::{AuditEntry, AuditVia};
use serde::Serialize;
use serde_json::Value;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Recognises who asks; `None` for nobody that is known.
pub type Authorizer = Arc<dyn Fn(&HttpRequest) -> Option<Caller> + Send + Sync>;

/// How callers are recognised.
#[derive(Clone)]
pub enum Authority {
    /// By tokens of the data directory.
    Tokens,
    /// By tokens; while the data directory has no file of tokens, everybody who connects from this machine, and names it by
    /// a loopback name, may do everything.
    TokensOrLocal,
    /// By the application that embeds the host.
    Application(Authorizer),
}

/// The control plane of one relay, before it is mounted.
#[derive(Clone)]
pub struct ControlPlane {
    relay: Relay,
    authority: Authority,
    tokens_file: PathBuf,
    has_open_metrics: bool,
    has_dashboard: bool,
}

impl ControlPlane {
    /// For callers with a token of the relay's data directory.
    pub fn new(relay: Relay) -> Self {
        let tokens_file = relay.data_dir().join(TOKENS_FILE_NAME);
        let authority = Authority::Tokens;
        Self { relay, authority, tokens_file, has_open_metrics: false, has_dashboard: true }
    }

    /// Takes the tokens from another file.
    pub fn tokens_file(self, tokens_file: impl Into<PathBuf>) -> Self {
        Self { tokens_file: tokens_file.into(), ..self }
    }

    /// Whether `/metrics` needs no caller that is recognised.
    pub fn open_metrics(self, has_open_metrics: bool) -> Self {
        Self { has_open_metrics, ..self }
    }

    /// Leaves out the pages of the dashboard: only the API is served.
    pub fn without_dashboard(self) -> Self {
        Self { has_dashboard: false, ..self }
    }

    /// Recognises callers in another way.
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = authority;
        self
    }

    /// Asks the application who somebody is, for every request under `/v1` and for `/metrics`.
    pub fn authorized_by(
        self,
        authorizer: impl Fn(&HttpRequest) -> Option<Caller> + Send + Sync + 'static,
    ) -> Self {
        self.authority(Authority::Application(Arc::new(authorizer)))
    }

    /// What to pass to `configure` of an `App` or a `Scope`. All paths below it are taken.
    pub fn routes(self) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
        let plane = self.plane();
        move |config: &mut ServiceConfig| routes::mount(&plane, config)
    }

    /// Ends all streams of events of this relay. Call it before the server is stopped: a server waits for open connections.
    pub fn close_streams(&self) {
        self.relay.extension(Shared::default).close_streams();
    }

    /// Becomes true when streams of events are to end, for an application that has some of its own.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.relay.extension(Shared::default).closing()
    }

    fn plane(self) -> Arc<Plane> {
        Arc::new(Plane {
            shared: self.relay.extension(Shared::default),
            relay: self.relay,
            authority: self.authority,
            tokens: TokenFile::new(self.tokens_file),
            has_open_metrics: self.has_open_metrics,
            description: Description::new(),
            has_dashboard: self.has_dashboard,
        })
    }
}

/// What all requests share.
pub(super) struct Plane {
    /// Private: see [`Access`].
    relay: Relay,
    authority: Authority,
    tokens: TokenFile,
    has_open_metrics: bool,
    pub shared: Arc<Shared>,
    pub description: Description,
    pub has_dashboard: bool,
}

impl Plane {
    /// Each thing that must be right for the host to do its work; for everybody.
    pub async fn health(&self) -> Vec<HealthCheck> {
        self.relay.health().await
    }

    /// What the host counts, in the OpenMetrics text format.
    pub async fn open_metrics(&self, request: &HttpRequest) -> Result<String, Problem> {
        if !self.has_open_metrics && !self.recognise(request)?.tenants.is_all() {
            let words = "the metrics are those of all tenants";
            return Err(Problem::new(ProblemKind::AllTenantsRequired, words));
        }
        Ok(self.relay.open_metrics().await)
    }
}

/// What a handler needs its caller to be allowed.
pub(super) trait Level: 'static {
    const SCOPE: Scope;
}

/// See [`Scope::Read`].
pub(super) struct Read;
/// See [`Scope::Operate`].
pub(super) struct Operate;
/// See [`Scope::Admin`].
pub(super) struct Admin;

impl Level for Read {
    const SCOPE: Scope = Scope::Read;
}

impl Level for Operate {
    const SCOPE: Scope = Scope::Operate;
}

impl Level for Admin {
    const SCOPE: Scope = Scope::Admin;
}

/// A caller with at least the scope of `L`. Every handler below `/v1` takes one.
pub(super) struct Access<L> {
    plane: Arc<Plane>,
    caller: Caller,
    level: PhantomData<L>,
}

impl<L: Level> FromRequest for Access<L> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

impl<L: Level> Access<L> {
    fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let plane = request.app_data::<Data<Plane>>().map(|data| Arc::clone(data));
        let caller = request.extensions().get::<Caller>().cloned();
        let (Some(plane), Some(caller)) = (plane, caller) else {
            return Err(Problem::new(ProblemKind::Internal, "the request has not passed the entrance"));
        };
        if caller.scope < L::SCOPE {
            let scope = L::SCOPE.as_str();
            let words =
                format!("this needs the scope {scope}, {} has {}", caller.name, caller.scope.as_str());
            return Err(Problem::new(ProblemKind::MissingScope, words).with("required_scope", scope));
        }
        Ok(Self { plane, caller, level: PhantomData })
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// When the relay was started.
    pub fn started_at(&self) -> Timestamp {
        self.plane.relay.started_at()
    }

    /// What is kept beside the relay.
    pub fn shared(&self) -> &Shared {
        &self.plane.shared
    }

    /// The relay, for a list: with the tenants whose records the caller may see.
    pub fn lists(&self) -> (&Relay, &TenantSet) {
        (&self.plane.relay, &self.caller.tenants)
    }

    /// The relay, for what belongs to the whole host: only for callers of all tenants.
    pub fn host(&self) -> Result<&Relay, Problem> {
        if self.caller.tenants.is_all() {
            return Ok(&self.plane.relay);
        }
        let words = format!("{} may only see some tenants", self.caller.name);
        Err(Problem::new(ProblemKind::AllTenantsRequired, words))
    }

    /// The relay, for one session of a tenant of the caller. Another's is not found, like one that does not exist.
    pub async fn session(&self, id: &str) -> Result<OwnSession<'_>, Problem> {
        let missing = || Problem::not_found("session");
        let id = SessionId::new(id).map_err(|_| missing())?;
        let tenant = self.plane.relay.session_tenant(&id).await?.ok_or_else(missing)?;
        if !self.caller.tenants.contains(&tenant) {
            return Err(missing());
        }
        Ok(OwnSession { relay: &self.plane.relay, id, tenant })
    }

    /// The relay, for what holds a scope back. A channel and a chat belong to the whole host.
    pub async fn scope(&self, scope: &HoldScope) -> Result<(&Relay, Option<TenantName>), Problem> {
        match scope {
            HoldScope::Tenant(tenant) if self.caller.tenants.contains(tenant) => {
                Ok((&self.plane.relay, Some(tenant.clone())))
            }
            HoldScope::Tenant(_) => Err(Problem::not_found("tenant")),
            HoldScope::Session(session) | HoldScope::Lane(session, _) => {
                let session = self.session(session.as_str()).await?;
                Ok((session.relay, Some(session.tenant)))
            }
            HoldScope::Channel(_) | HoldScope::Destination(..) => Ok((self.host()?, None)),
        }
    }

    /// Makes a change that the audit lists, whatever comes of it.
    pub async fn change<T: Serialize>(
        &self,
        change: Change<'_>,
        made: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let via = match self.caller.auth {
            AuthKind::Application => AuditVia::Application,
            AuthKind::Local | AuthKind::Token | AuthKind::Cookie => AuditVia::Http,
        };
        let entry = AuditEntry {
            tenant: change.tenant.map(ToString::to_string),
            reason: change.reason.map(str::to_owned).filter(|reason| !reason.is_empty()),
            before: change.before,
            ..AuditEntry::new(&self.caller.name, via, change.action, change.target)
        };
        self.plane.relay.audited(entry, made, |value| serde_json::to_value(value).ok()).await
    }
}

/// A change as the audit lists it.
pub(super) struct Change<'a> {
    /// What is done, such as `delivery.replay`.
    pub action: &'static str,
    /// To what.
    pub target: String,
    /// Whose that is.
    pub tenant: Option<&'a TenantName>,
    /// Why, as the caller says.
    pub reason: Option<&'a str>,
    /// What is there before, short.
    pub before: Option<Value>,
}

/// A session that the caller may see.
pub(super) struct OwnSession<'a> {
    relay: &'a Relay,
    id: SessionId,
    tenant: TenantName,
}

impl<'a> OwnSession<'a> {
    /// The relay, for this session.
    pub fn relay(&self) -> &'a Relay {
        self.relay
    }

    /// The session.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Its tenant.
    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }
}
