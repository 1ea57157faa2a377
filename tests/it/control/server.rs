//! The server of `nanorelay serve`.

use crate::serve::configure;
use crate::support::http::{ask, get, post};
use crate::support::program::{Invocation, PATIENCE, Program, nanorelay};
use nanorelay_actors::testing::{DataDir, SessionSpec};
use rustix::process::Signal;
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;

/// A host that serves on a free port, and its address.
pub struct Served {
    pub data: DataDir,
    pub program: Program,
    pub address: String,
}

impl Served {
    pub fn start() -> Self {
        Self::start_on(DataDir::new())
    }

    pub fn start_on(data: DataDir) -> Self {
        Self::start_with(data, |host| host)
    }

    /// The same with more chosen.
    pub fn start_with(data: DataDir, choose: impl FnOnce(Invocation) -> Invocation) -> Self {
        let host = nanorelay(&["serve"]).data(data.path()).env("NANORELAY__SERVER__LISTEN", "127.0.0.1:0");
        let mut program = choose(host).start();
        let listens = program.wait_for_log("control plane listens");
        let address = listens["address"].as_str().expect("an address").to_owned();
        Self { data, program, address }
    }

    pub fn stop(self) {
        self.program.signal(Signal::TERM);
        self.program.finish().expect_code(0);
    }
}

#[test]
fn a_host_without_tokens_serves_this_machine_and_says_who_asks() {
    let data = DataDir::new();
    data.session(SessionSpec::new("ag").id("sess-1").chat("slack", "slack:C1"));
    let host = Served::start_on(data);
    let me = get(&host.address, "/v1/me").expect(200);
    let everything = json!(["read", "operate", "admin"]);
    assert_eq!(
        me,
        json!({ "name": "local", "scopes": everything, "tenants": ["*"], "csrf_token": null, "auth": "local" })
    );
    let version = get(&host.address, "/v1/version").expect(200);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let paused = post(&host.address, "/v1/pauses", &json!({ "scope": "session", "name": ["sess-1"] }));
    paused.expect(200);
    let listed = nanorelay(&["pauses", "--json"]).data(host.data.path()).run().expect_code(0).json();
    assert_eq!(listed[0]["name"], json!(["sess-1"]), "the command line sees the same host");
    host.stop();
}

#[test]
fn pages_of_other_sites_and_other_names_of_this_machine_are_refused() {
    let host = Served::start();
    let with = |headers: &[(&str, &str)]| ask(&host.address, "GET", "/v1/me", headers, "").status;
    assert_eq!(with(&[]), 200);
    assert_eq!(with(&[("Host", "evil.example")]), 401, "a name that was made to lead here");
    assert_eq!(with(&[("Origin", "http://evil.example")]), 403);
    assert_eq!(with(&[("Sec-Fetch-Site", "cross-site")]), 403);
    host.stop();
}

#[test]
fn every_answer_has_security_headers_and_the_name_of_its_request() {
    let host = Served::start();
    for (path, status) in [("/v1/me", 200), ("/v1/nothing", 404), ("/nothing", 404)] {
        let answer = ask(&host.address, "GET", path, &[("X-Request-Id", "abc-1")], "");
        assert_eq!(answer.status, status);
        let header = |name: &str| answer.headers.get(name).map(String::as_str).unwrap_or_default();
        assert!(header("content-security-policy").contains("default-src 'self'"), "{answer:?}");
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-request-id"), "abc-1");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    host.stop();
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_the_key_and_nothing_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = DataDir::new();
    let ended = nanorelay(&["serve"]).data(data.path()).env("NANORELAY__SERVER__LISTEN", &address).run();
    let ended = ended.expect_code(73);
    assert!(ended.stderr.contains(&format!("server.listen: cannot listen on {address}")), "{ended:?}");
    assert!(!data.path().join("nanorelay.db").exists(), "nothing was started");
}

#[test]
fn without_tokens_it_does_not_listen_where_others_can_connect() {
    let data = DataDir::new();
    configure(&data, "");
    let ended = nanorelay(&["serve"]).data(data.path()).env("NANORELAY__SERVER__LISTEN", "0.0.0.0:0").run();
    let ended = ended.expect_code(78);
    assert!(ended.stderr.contains("nanorelay token create"), "{ended:?}");
}

#[test]
fn a_service_manager_is_told_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let data = DataDir::new();
    let socket = data.path().join("notify.sock");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let host = nanorelay(&["serve"]).data(data.path());
    let host = host.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000").start();
    assert_eq!(told(), "READY=1");
    assert_eq!([told(), told()], ["WATCHDOG=1", "WATCHDOG=1"]);
    host.signal(Signal::TERM);
    while told() != "STOPPING=1" {}
    host.finish().expect_code(0);
}
