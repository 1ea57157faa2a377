//! Platforms that hang, hang up, slow down in every way that HTTP has, and come and go.

use crate::serve::configure;
use crate::support::program::{PATIENCE, nanorelay};
use crate::support::receiver::{Receiver, Reply, Request};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Retries come at once, unless the platform says otherwise.
const FAST: &str = "[retry.rate_limited]\nbase = \"10ms\"\n[retry.transient]\nbase = \"10ms\"\n";
/// Far longer than any request may take here.
const NEVER: Duration = Duration::from_secs(300);

/// The same, and nothing is given up.
fn patient() -> String {
    FAST.replace("[retry.transient]\n", "[retry.transient]\nattempts = \"unlimited\"\nmax = \"50ms\"\n")
}

fn session(data: &DataDir, channel_type: &str, number: usize) -> TestAgent {
    data.session(SessionSpec::new("ag").chat(channel_type, &format!("{channel_type}:C{number}")))
}

fn drain(data: &DataDir, code: i32) -> Value {
    nanorelay(&["drain", "--json"]).data(data.path()).run().expect_code(code).json()
}

/// What the receiver's users have seen: a message that it knows again is not shown again.
fn shown(requests: &[Request]) -> Vec<Value> {
    let mut known = BTreeSet::new();
    let new = requests.iter().filter(|request| known.insert(request.webhook_id().to_owned()));
    new.map(Request::json).collect()
}

/// A platform that answers 429 with this header once; returns the time until the next request came.
fn waited_after_429(header: Option<&str>) -> Duration {
    let data = DataDir::new();
    let agent = session(&data, "slack", 0);
    let header = header.map(str::to_owned);
    let receiver = Receiver::start(move |number, _| match (number, &header) {
        (0, Some(text)) => Reply::status(429).header("retry-after", text),
        (0, None) => Reply::status(429),
        _ => Reply::status(200),
    });
    configure(&data, &format!("{FAST}{}", receiver.table("slack")));
    agent.rows(vec![agent.text_row("limited"), agent.text_row("behind it")]);
    assert_eq!(drain(&data, 0)["delivered"], 2);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].webhook_id(), requests[1].webhook_id(), "a retry is not overtaken");
    requests[1].at - requests[0].at
}

#[test]
fn a_hint_in_seconds_or_as_a_date_is_kept() {
    assert!(waited_after_429(Some("1")) >= Duration::from_secs(1));
    assert!(waited_after_429(Some(" 1 ")) >= Duration::from_secs(1));
    // A date has whole seconds.
    let date = |ahead_s: i64, form: &str| {
        let now = jiff::Timestamp::now();
        let at = now + jiff::SignedDuration::from_secs(ahead_s);
        at.to_zoned(jiff::tz::TimeZone::UTC).strftime(form).to_string()
    };
    for form in ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"] {
        let text = date(3, form);
        assert!(waited_after_429(Some(&text)) >= Duration::from_secs(1), "{text}");
    }
}

#[test]
fn without_a_usable_hint_a_limited_message_is_tried_again_by_the_schedule() {
    for header in [None, Some("0"), Some("-5"), Some("soon"), Some(""), Some("Sun, 06 Nov 1994 08:49:37 GMT")]
    {
        println!("{header:?}");
        // Never at once: the schedule's base is 10 ms, and no delay is shorter than a tenth of it.
        assert!(waited_after_429(header) >= Duration::from_millis(1), "{header:?}");
    }
}

#[test]
fn an_absurd_hint_kills_its_message_and_holds_the_channel_until_an_operator_resumes_it() {
    let data = DataDir::new();
    let agent = session(&data, "slack", 0);
    let receiver = Receiver::start(|number, _| match number {
        0 => Reply::status(429).header("retry-after", "99999999999999999999999"),
        _ => Reply::status(200),
    });
    configure(&data, &format!("{FAST}{}", receiver.table("slack")));
    agent.text("limited");
    assert_eq!(drain(&data, 0)["dead"], 1);
    assert_eq!(receiver.count(), 1);
    nanorelay(&["deliveries", "replay", "--all"]).data(data.path()).run().expect_code(0);
    nanorelay(&["pauses"]).data(data.path()).run().expect_code(0);
    // A hint is never shortened by ourselves.
    nanorelay(&["resume", "channel", "slack", "--platform"]).data(data.path()).run().expect_code(0);
    assert_eq!(drain(&data, 0)["delivered"], 1);
}

#[test]
fn a_platform_that_comes_and_goes_gets_each_message_once_and_in_order() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..6).map(|number| session(&data, "slack", number)).collect();
    let receiver = Receiver::start(|number, _| match number % 7 {
        0 => Reply::status(500),
        1 => Reply::hang_up(),
        2 => Reply::status(429),
        3 => Reply::status(503).header("retry-after", "0"),
        _ => Reply::status(200),
    });
    // Most requests fail: a breaker that opens for long would make it a long test.
    let breaker = "breaker = { failures = 5, open_min = \"10ms\", open_max = \"50ms\" }\n";
    configure(&data, &format!("{}{}{breaker}", patient(), receiver.table("slack")));
    let mut written = BTreeMap::new();
    for agent in &agents {
        let ids = agent.rows((0..8).map(|_| agent.text_row("hello")).collect());
        written.insert(agent.session_id().to_owned(), ids);
    }
    assert_eq!(drain(&data, 0)["delivered"], 48);
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in shown(&receiver.requests()) {
        let text = |key: &str| message[key].as_str().expect("a text").to_owned();
        seen.entry(text("session_id")).or_default().push(text("id"));
    }
    assert_eq!(seen, written);
}

/// A platform that takes a message and hangs up before it answers.
fn hang_up_once(on_ambiguous: &str) -> (DataDir, TestAgent, Receiver) {
    let data = DataDir::new();
    let agent = session(&data, "slack", 0);
    let receiver =
        Receiver::start(|number, _| if number == 0 { Reply::hang_up() } else { Reply::status(200) });
    let table = receiver.table("slack");
    configure(&data, &format!("{FAST}{table}on_ambiguous = \"{on_ambiguous}\"\n"));
    agent.rows(vec![agent.text_row("taken"), agent.text_row("behind it")]);
    (data, agent, receiver)
}

#[test]
fn what_was_taken_before_the_connection_broke_is_held_and_stops_nobody() {
    let (data, agent, receiver) = hang_up_once("hold");
    let report = drain(&data, 3);
    assert_eq!((&report["delivered"], &report["ambiguous"]), (&1.into(), &1.into()));
    assert_eq!(receiver.count(), 2, "nothing is sent twice");
    assert_eq!(agent.delivered().len(), 1);
    assert_eq!(drain(&data, 3)["ambiguous"], 1, "it stays visible");
    assert_eq!(receiver.count(), 2);
}

#[test]
fn what_was_taken_before_the_connection_broke_is_recognised_when_it_is_sent_again() {
    let (data, _agent, receiver) = hang_up_once("auto");
    assert_eq!(drain(&data, 0)["delivered"], 2);
    let requests = receiver.requests();
    assert_eq!((requests.len(), shown(&requests).len()), (3, 2));
}

#[test]
fn a_platform_that_hangs_delays_no_other_and_gets_its_messages_when_it_is_back() {
    let data = DataDir::new();
    let stuck = session(&data, "slack", 0);
    let others: Vec<_> = (0..3).map(|number| session(&data, "discord", number)).collect();
    let hangs = Arc::new(AtomicBool::new(true));
    let inside = Arc::clone(&hangs);
    let receiver = Receiver::start(move |_, _| {
        let reply = Reply::status(200);
        if inside.load(Ordering::SeqCst) { reply.after(NEVER) } else { reply }
    });
    let table = receiver.table("slack");
    let table = format!("{table}timeout = \"200ms\"\n{}", Sink::table("discord"));
    configure(&data, &format!("{}{table}", patient()));
    let sink = Sink::of(data.path());
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("ready");
    let first = stuck.text("into the void");
    receiver.wait_for(1);
    let elsewhere: BTreeSet<String> = others.iter().map(|agent| agent.text("elsewhere")).collect();
    sink.wait_for(3);
    let second = stuck.text("behind it");
    // It is asked again and again meanwhile.
    receiver.wait_for(3);
    hangs.store(false, Ordering::SeqCst);
    assert!(sink.wait_until(PATIENCE, || stuck.delivered().len() == 2));
    host.signal(rustix::process::Signal::TERM);
    host.finish().expect_code(0);
    assert_eq!(sink.ids().into_iter().collect::<BTreeSet<_>>(), elsewhere);
    let ids: Vec<Value> = receiver.requests().iter().map(|request| request.json()["id"].clone()).collect();
    let (last, before) = ids.split_last().expect("requests");
    assert!(before.iter().all(|id| *id == first.as_str()), "it is not overtaken: {ids:?}");
    assert_eq!(*last, second.as_str());
}
