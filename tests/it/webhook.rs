//! The webhook channel end to end: the program against a web server.

use crate::serve::configure;
use crate::support::program::nanorelay;
use crate::support::receiver::{Receiver, Reply, Request, SECRET};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use serde_json::Value;
use sha2::Sha256;
use std::time::Duration;

fn world() -> (DataDir, TestAgent) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    (data, agent)
}

fn drain(data: &DataDir, code: i32) -> Value {
    nanorelay(&["drain", "--json"]).data(data.path()).run().expect_code(code).json()
}

/// The check that a receiver makes, written from the specification.
#[track_caller]
fn verify(request: &Request) {
    let key = BASE64.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let timestamp = &request.headers["webhook-timestamp"];
    mac.update(format!("{}.{timestamp}.{}", request.webhook_id(), request.body).as_bytes());
    let expected = format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()));
    assert_eq!(request.headers["webhook-signature"], expected);
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
    assert!((0..300).contains(&age), "a receiver refuses an old timestamp: {age} s");
}

#[test]
fn requests_are_signed_and_the_receivers_id_is_kept() {
    let (data, agent) = world();
    let receiver = Receiver::start(|number, _| Reply::status(201).body(&format!("{{\"id\":\"m{number}\"}}")));
    configure(&data, &receiver.table("slack"));
    let text = agent.text("Grüße");
    let file = agent.file("see", "a.txt", b"abc");
    assert_eq!(drain(&data, 0)["delivered"], 2);
    let requests = receiver.requests();
    requests.iter().for_each(verify);
    assert_eq!(requests[0].json()["id"], text.as_str());
    assert_eq!(requests[0].json()["content"]["text"], "Grüße");
    assert_eq!(requests[1].json()["files"][0]["data"], BASE64.encode("abc"));
    assert_ne!(requests[0].webhook_id(), requests[1].webhook_id());
    let platform_ids: Vec<_> =
        agent.delivered().into_iter().map(|row| (row.message_out_id, row.platform_message_id)).collect();
    assert!(platform_ids.contains(&(text, Some("m0".to_owned()))), "{platform_ids:?}");
    assert!(platform_ids.contains(&(file, Some("m1".to_owned()))), "{platform_ids:?}");
}

#[test]
fn retry_after_is_obeyed_and_the_id_stays_the_same() {
    let (data, agent) = world();
    let receiver = Receiver::start(|number, _| match number {
        0 => Reply::status(429).header("retry-after", "1"),
        _ => Reply::status(200),
    });
    configure(&data, &format!("[retry.rate_limited]\nbase = \"10ms\"\n{}", receiver.table("slack")));
    agent.text("first");
    agent.text("second");
    assert_eq!(drain(&data, 0)["delivered"], 2);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1), "sent before the receiver allowed it");
    assert_eq!(requests[0].webhook_id(), requests[1].webhook_id());
    assert_eq!((&requests[0].json()["attempt"], &requests[1].json()["attempt"]), (&1.into(), &2.into()));
    assert_eq!(requests[2].json()["content"]["text"], "second", "a retry is not overtaken");
    requests.iter().for_each(verify);
}

#[test]
fn retry_after_is_obeyed_by_other_chats_and_after_a_restart() {
    let (data, agent) = world();
    let other = data.session(SessionSpec::new("ag").chat("slack", "slack:C2"));
    let receiver = Receiver::start(|_, _| Reply::status(429).header("retry-after", "3600"));
    configure(&data, &receiver.table("slack"));
    agent.text("limited");
    assert_eq!(drain(&data, 3)["retrying"], 1);
    assert_eq!(receiver.count(), 1);
    // Each drain is another process: the limit covers the account, whoever asks.
    other.text("another chat");
    for _ in 0..2 {
        assert_eq!(drain(&data, 3)["retrying"], 2);
        assert_eq!(receiver.count(), 1, "sent before the receiver allowed it");
    }
}

#[test]
fn a_destination_that_is_gone_is_not_called_again() {
    let (data, agent) = world();
    let other = data.session(SessionSpec::new("ag").chat("slack", "slack:C2"));
    let receiver = Receiver::start(|_, request| {
        Reply::status(if request.body.contains("slack:C1") { 410 } else { 200 })
    });
    configure(&data, &receiver.table("slack"));
    for text in ["one", "two", "three"] {
        agent.text(text);
    }
    other.text("another chat");
    let report = drain(&data, 0);
    assert_eq!((&report["dead"], &report["delivered"]), (&3.into(), &1.into()));
    assert_eq!(receiver.count(), 2, "the chat is called once");
    let list = nanorelay(&["deliveries", "list", "--state", "dead", "--json"]).data(data.path()).run();
    for row in list.expect_code(0).json().as_array().unwrap() {
        assert_eq!(row["error_class"], "destination_gone", "{row}");
    }
    let notices = agent.messages_in().into_iter().filter(|row| row.content.contains("delivery_failed"));
    assert_eq!(notices.count(), 3, "the agent is told");
}

#[test]
fn an_error_of_the_server_is_tried_again_and_one_of_the_request_is_not() {
    let (data, agent) = world();
    let receiver = Receiver::start(|number, _| Reply::status([500, 200, 400][number]));
    configure(&data, &format!("[retry.transient]\nbase = \"10ms\"\n{}", receiver.table("slack")));
    agent.text("first");
    agent.text("second");
    let report = drain(&data, 0);
    assert_eq!((&report["delivered"], &report["dead"]), (&1.into(), &1.into()));
    assert_eq!(receiver.count(), 3);
}

#[test]
fn loopback_is_refused_unless_it_is_allowed() {
    let (data, agent) = world();
    let receiver = Receiver::accepting();
    agent.text("secret plans");
    let table = receiver.table("slack").replace("allow_private = true\n", "");
    configure(&data, &table);
    let refused = nanorelay(&["drain", "--json"]).data(data.path()).run().expect_code(78);
    assert!(refused.stderr.contains("allow_private"), "{refused:?}");
    assert_eq!(receiver.count(), 0);
}

#[test]
fn a_server_that_is_down_is_tried_again() {
    let (data, agent) = world();
    let receiver = Receiver::accepting();
    let table = receiver.table("slack");
    drop(receiver);
    // Nobody listens on the port any more, at least not with this certainty of being called.
    configure(&data, &table);
    agent.text("hello?");
    let ended = nanorelay(&["drain", "--json", "--deadline", "1s"]).data(data.path()).run().expect_code(3);
    assert_eq!(ended.json()["retrying"], 1);
}
