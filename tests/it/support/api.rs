//! The control plane in this process: requests without a network, answers as JSON.

use actix_web::App;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::HeaderMap;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web::scope;
use futures_util::future::LocalBoxFuture;
use nanorelay::control::http::{Caller, ControlPlane, Scope, caller};
use nanorelay_actors::relay::Relay;
use serde_json::Value;
use std::rc::Rc;

/// The header in which a test says who asks.
const CALLER: &str = "x-test-caller";

type Call = Box<dyn Fn(TestRequest) -> LocalBoxFuture<'static, ServiceResponse>>;

/// A control plane under the scope `/agents`, whose application believes what [`Api::caller`] says.
pub struct Api {
    call: Call,
    caller: String,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null when it is no JSON.
    pub body: Value,
    /// The same as text.
    pub text: String,
}

impl Answer {
    /// Fails unless it has this status; its body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:#?}");
        self.body
    }

    /// Fails unless it is this problem; its detail.
    #[track_caller]
    pub fn expect_problem(self, status: u16, name: &str) -> String {
        assert_eq!(self.headers.get("content-type").unwrap(), "application/problem+json", "{self:#?}");
        let body = self.expect(status);
        assert_eq!(body["type"], format!("urn:nanorelay:problem:{name}"), "{body:#}");
        assert_eq!(body["status"], status);
        body["detail"].as_str().expect("a detail").to_owned()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("plain text"))
    }
}

impl Api {
    /// Mounts the control plane of a relay; asks as an administrator of all tenants.
    pub async fn of(relay: &Relay) -> Self {
        let plane = ControlPlane::new(relay.clone()).authorized_by(|request| {
            let said = request.headers().get(CALLER)?.to_str().ok()?;
            let [name, level, tenants] = said.split('/').collect::<Vec<_>>()[..] else { return None };
            let tenants: Vec<String> = tenants.split(',').map(str::to_owned).collect();
            let tenants = caller::tenant_set(&tenants).ok()?;
            Some(Caller::of_application(name, Scope::from_name(level)?, tenants))
        });
        Self::mounted(plane).await
    }

    /// Mounts a control plane that recognises callers by its own rules.
    pub async fn mounted(plane: ControlPlane) -> Self {
        let app = init_service(App::new().service(scope("/agents").configure(plane.routes()))).await;
        let app = Rc::new(app);
        let call: Call = Box::new(move |request| {
            let app = Rc::clone(&app);
            Box::pin(async move { call_service(&*app, request.to_request()).await })
        });
        Self { call, caller: "root/admin/*".to_owned() }
    }

    /// From now on asks as `NAME/SCOPE/TENANT,TENANT`.
    pub fn caller(mut self, caller: &str) -> Self {
        self.caller = caller.to_owned();
        self
    }

    /// Asks for a path below the scope.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(path, TestRequest::get()).await
    }

    /// Sends JSON to a path below the scope.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(path, TestRequest::post().set_json(body)).await
    }

    /// Sends a request to a path below the scope.
    pub async fn send(&self, path: &str, request: TestRequest) -> Answer {
        let request = request.uri(&format!("/agents{path}")).insert_header((CALLER, self.caller.as_str()));
        let response = (self.call)(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = read_body(response).await;
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status, headers, body, text: String::from_utf8_lossy(&bytes).into_owned() }
    }
}
