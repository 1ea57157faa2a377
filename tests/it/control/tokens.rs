//! Tokens and logins: who is let in by the program, and for what.

use super::server::Served;
use crate::support::http::{HttpAnswer, ask};
use crate::support::program::nanorelay;
use nanorelay_actors::testing::{DataDir, SessionSpec};
use serde_json::{Value, json};

/// A data directory with two tenants.
fn world() -> DataDir {
    let data = DataDir::new();
    for name in ["a", "b"] {
        let spec = SessionSpec::new(&format!("ag-{name}")).id(&format!("sess-{name}"));
        data.session(spec.chat("slack", &format!("slack:{name}")));
    }
    data
}

/// Makes a token; its text and its id.
fn create(data: &DataDir, arguments: &[&str]) -> (String, String) {
    let all = [&["token", "create", "--json"], arguments].concat();
    let made = nanorelay(&all).data(data.path()).run().expect_code(0).json();
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("token"), text("id"))
}

fn with_token(host: &Served, method: &str, path: &str, token: &str, body: &str) -> HttpAnswer {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    ask(&host.address, method, path, &headers, body)
}

/// A login: its cookie and its CSRF token.
fn log_in(host: &Served, token: &str) -> (String, String) {
    let body = json!({ "token": token }).to_string();
    let answer = ask(&host.address, "POST", "/v1/login", &[("Content-Type", "application/json")], &body);
    let cookie = answer.headers.get("set-cookie").expect("a cookie").clone();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let me = answer.expect(200);
    assert_eq!(me["auth"], "cookie");
    let value = cookie.split(';').next().expect("a value").to_owned();
    (value, me["csrf_token"].as_str().expect("a CSRF token").to_owned())
}

#[test]
fn a_token_lets_its_bearer_do_what_its_scope_and_tenants_say_until_it_is_revoked() {
    let data = world();
    let (reader, _) = create(&data, &["--name", "reader", "--scope", "read"]);
    let (operator, id) = create(&data, &["--name", "ann", "--scope", "operate", "--tenant", "ag-a"]);
    let host = Served::start_on(data);
    let without = ask(&host.address, "GET", "/v1/me", &[], "");
    assert_eq!(without.headers["www-authenticate"], "Bearer realm=\"nanorelay\"");
    without.expect(401);
    let me = with_token(&host, "GET", "/v1/me", &operator, "").expect(200);
    assert_eq!(
        (&me["name"], &me["scopes"], &me["tenants"], &me["auth"]),
        (&json!("ann"), &json!(["read", "operate"]), &json!(["ag-a"]), &json!("token"))
    );
    let pause = |session: &str| json!({ "scope": "session", "name": [session], "reason": "why" }).to_string();
    with_token(&host, "POST", "/v1/pauses", &reader, &pause("sess-a")).expect(403);
    with_token(&host, "POST", "/v1/pauses", &operator, &pause("sess-a")).expect(200);
    with_token(&host, "POST", "/v1/pauses", &operator, &pause("sess-b")).expect(404);
    let listed = nanorelay(&["token", "list"]).data(host.data.path()).run().expect_code(0).stdout;
    assert!(listed.contains("ann") && listed.contains("ag-a") && !listed.contains(&operator), "{listed}");

    let revoked = nanorelay(&["token", "revoke", &id]).data(host.data.path()).run().expect_code(0);
    assert_eq!(revoked.stdout, "revoked ann\n");
    with_token(&host, "GET", "/v1/me", &operator, "").expect(401);
    with_token(&host, "GET", "/v1/me", &reader, "").expect(200);
    nanorelay(&["token", "revoke", &id]).data(host.data.path()).run().expect_code(3);
    host.stop();
}

#[test]
fn the_first_token_of_a_running_host_ends_the_rights_of_everybody_else_for_good() {
    let host = Served::start_on(world());
    ask(&host.address, "GET", "/v1/me", &[], "").expect(200);
    let (token, id) = create(&host.data, &["--name", "ann", "--scope", "admin"]);
    ask(&host.address, "GET", "/v1/me", &[], "").expect(401);
    with_token(&host, "GET", "/v1/me", &token, "").expect(200);
    nanorelay(&["token", "revoke", &id]).data(host.data.path()).run().expect_code(0);
    ask(&host.address, "GET", "/v1/me", &[], "").expect(401);
    host.stop();
}

#[test]
fn a_login_is_a_cookie_that_changes_nothing_without_its_csrf_token_and_ends_with_its_token() {
    let data = world();
    let (token, id) = create(&data, &["--name", "ann", "--scope", "operate"]);
    let host = Served::start_on(data);
    let (cookie, csrf) = log_in(&host, &token);
    let send = |method: &str, path: &str, more: &[(&str, &str)], body: &str| {
        let headers = [&[("Cookie", cookie.as_str()), ("Content-Type", "application/json")], more].concat();
        ask(&host.address, method, path, &headers, body)
    };
    let me = send("GET", "/v1/me", &[], "").expect(200);
    assert_eq!(me["csrf_token"], csrf.as_str());
    let body = json!({ "scope": "session", "name": ["sess-a"] }).to_string();
    let problem = |answer: HttpAnswer| answer.expect(403)["type"].as_str().unwrap_or_default().to_owned();
    assert_eq!(problem(send("POST", "/v1/pauses", &[], &body)), "urn:nanorelay:problem:csrf-token");
    let wrong = [("X-CSRF-Token", "x")];
    assert_eq!(problem(send("POST", "/v1/pauses", &wrong, &body)), "urn:nanorelay:problem:csrf-token");
    let right = ("X-CSRF-Token", csrf.as_str());
    for other in [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-site")] {
        let answer = send("POST", "/v1/pauses", &[right, other], &body);
        assert_eq!(problem(answer), "urn:nanorelay:problem:cross-site");
    }
    send("POST", "/v1/pauses", &[right], &body).expect(200);

    let (other_cookie, other_csrf) = log_in(&host, &token);
    let out = [("Cookie", other_cookie.as_str()), ("X-CSRF-Token", other_csrf.as_str())];
    let answer = ask(&host.address, "POST", "/v1/logout", &out, "");
    assert!(answer.headers["set-cookie"].contains("Max-Age=0"));
    answer.expect(204);
    ask(&host.address, "GET", "/v1/me", &[("Cookie", &other_cookie)], "").expect(401);
    send("GET", "/v1/me", &[], "").expect(200);

    nanorelay(&["token", "revoke", &id]).data(host.data.path()).run().expect_code(0);
    send("GET", "/v1/me", &[], "").expect(401);
    host.stop();
}

#[test]
fn wrong_tokens_are_told_to_wait_and_a_good_one_is_let_in_all_the_same() {
    let data = world();
    let (token, _) = create(&data, &["--name", "ann", "--scope", "read"]);
    let host = Served::start_on(data);
    let wrong = format!("{}x", &token[..token.len() - 1]);
    for _ in 0..10 {
        with_token(&host, "GET", "/v1/me", &wrong, "").expect(401);
    }
    let told = with_token(&host, "GET", "/v1/me", &wrong, "");
    let wait: u64 = told.headers["retry-after"].parse().expect("seconds");
    assert!((1..=60).contains(&wait));
    told.expect(429);
    let body = json!({ "token": wrong }).to_string();
    ask(&host.address, "POST", "/v1/login", &[("Content-Type", "application/json")], &body).expect(429);
    with_token(&host, "GET", "/v1/me", &token, "").expect(200);
    host.stop();
}

#[test]
fn a_damaged_file_of_tokens_lets_nobody_in() {
    let data = world();
    let (token, _) = create(&data, &["--name", "ann", "--scope", "read"]);
    let host = Served::start_on(data);
    std::fs::write(host.data.path().join("nanorelay-tokens.json"), "{").unwrap();
    with_token(&host, "GET", "/v1/me", &token, "").expect(503);
    ask(&host.address, "GET", "/v1/me", &[], "").expect(401);
    host.stop();
}

#[test]
fn metrics_need_a_token_for_all_tenants_unless_they_are_open() {
    let data = world();
    let (all, _) = create(&data, &["--name", "prometheus", "--scope", "read"]);
    let (some, _) = create(&data, &["--name", "ann", "--scope", "admin", "--tenant", "ag-a"]);
    let host = Served::start_on(data);
    ask(&host.address, "GET", "/metrics", &[], "").expect(401);
    with_token(&host, "GET", "/metrics", &some, "").expect(403);
    let told = with_token(&host, "GET", "/metrics", &all, "");
    assert!(told.headers["content-type"].starts_with("application/openmetrics-text"));
    let text = String::from_utf8(told.body).unwrap();
    assert!(text.contains("nanorelay_") && text.ends_with("# EOF\n"), "{text}");
    let Served { data, program, .. } = host;
    program.kill();
    let open = Served::start_with(data, |host| host.env("NANORELAY__SERVER__OPEN_METRICS", "true"));
    assert_eq!(ask(&open.address, "GET", "/metrics", &[], "").status, 200);
    open.stop();
}

#[test]
fn a_token_that_cannot_be_is_refused_and_says_why() {
    let data = world();
    let refused = |arguments: &[&str], words: &str| {
        let all = [&["token", "create", "--name", "n", "--scope", "read"], arguments].concat();
        let ended = nanorelay(&all).data(data.path()).run().expect_code(2);
        assert!(ended.stderr.contains(words), "{ended:?}");
    };
    refused(&["--expires", "soon"], "soon");
    refused(&["--tenant", ""], "tenant");
    create(&data, &["--name", "n", "--scope", "read", "--expires", "30d"]);
    refused(&[], "already");
    let listed: Value = nanorelay(&["token", "list", "--json"]).data(data.path()).run().json();
    assert!(listed[0]["expires_at"].is_string() && listed[0].get("secret_sha256").is_none(), "{listed}");
}
