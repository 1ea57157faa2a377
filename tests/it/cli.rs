//! `nanorelay drain` and `nanorelay config` as processes: output, exit codes, precedence.

use crate::serve::configure;
use crate::support::program::{Finished, PATIENCE, nanorelay};
use crate::support::receiver::{Receiver, Reply};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, SessionSpec};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::time::Instant;

/// Enough sessions to show that order and count hold; a build for release has time for a thousand.
const SESSIONS: usize = if cfg!(debug_assertions) { 300 } else { 1000 };
const MESSAGES: usize = 10;
/// More than a lane's window, many times.
const BACKLOG: i32 = 250;
const REPORT_KEYS: [&str; 8] =
    ["delivered", "applied", "routed", "dead", "retrying", "held", "ambiguous", "scheduled"];

fn drain(data: &DataDir, code: i32) -> Value {
    let ended = nanorelay(&["drain", "--json"]).data(data.path()).run().expect_code(code);
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
    let report = ended.json();
    let keys: Vec<&String> = report.as_object().expect("an object").keys().collect();
    assert_eq!(keys, REPORT_KEYS);
    report
}

fn report(counts: &[(&str, u64)]) -> Value {
    let mut report: serde_json::Map<String, Value> =
        REPORT_KEYS.iter().map(|key| ((*key).to_owned(), json!(0))).collect();
    for (key, count) in counts {
        report[*key] = json!(count);
    }
    Value::Object(report)
}

#[test]
fn many_sessions_are_drained_once_and_in_order() {
    let data = DataDir::new();
    configure(&data, &format!("[delivery]\ndurability = \"process\"\n{}fsync = false\n", Sink::table("*")));
    let agents: Vec<_> = (0..SESSIONS)
        .map(|n| data.session(SessionSpec::new("ag").chat("slack", &format!("slack:C{n}"))))
        .collect();
    for agent in &agents {
        agent.rows((0..MESSAGES).map(|n| agent.text_row(&n.to_string())).collect());
    }
    let all = (SESSIONS * MESSAGES) as u64;
    assert_eq!(drain(&data, 0), report(&[("delivered", all)]));
    let seqs = Sink::of(data.path()).seqs();
    assert_eq!(seqs.len(), SESSIONS);
    for agent in &agents {
        let expected: Vec<i64> = agent.messages_out().into_iter().map(|(_, seq)| seq).collect();
        assert_eq!(seqs[agent.session_id()], expected, "{}", agent.session_id());
        assert_eq!(agent.delivered().len(), MESSAGES);
    }
    assert_eq!(drain(&data, 0), report(&[]), "nothing is left for a second run");
    assert_eq!(Sink::of(data.path()).ids().len() as u64, all);
}

#[test]
fn a_long_backlog_with_attachments_is_delivered_and_nothing_of_it_counts_as_dead() {
    let data = DataDir::new();
    configure(&data, &format!("[delivery]\ndurability = \"process\"\n{}fsync = false\n", Sink::table("*")));
    for n in 0..8 {
        let agent = data.session(SessionSpec::new("ag").chat("slack", &format!("slack:C{n}")));
        let row = |n: i32| {
            let mut row = agent.text_row("").file("a.txt", n.to_string());
            row.content = json!({ "text": "see", "files": ["a.txt"] }).to_string();
            row
        };
        agent.rows((0..BACKLOG).map(row).collect());
    }
    assert_eq!(drain(&data, 0), report(&[("delivered", 8 * BACKLOG as u64)]));
}

#[test]
fn the_report_counts_every_kind_of_end() {
    let data = DataDir::new();
    data.allow_agent("ag", "ag-peer");
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    data.session(SessionSpec::new("ag-peer"));
    configure(&data, &Sink::table("slack"));
    agent.text("hello");
    agent.to_agent("ag-peer", "please look");
    agent.system(&json!({
        "action": "schedule_task", "taskId": "t-1", "prompt": "p", "script": null,
        "processAfter": "2090-01-01T00:00:00Z", "recurrence": null,
    }));
    agent.row(agent.text_row("later").deliver_after("2090-01-01T00:00:00Z"));
    let mut poison = agent.text_row("");
    poison.content = "not json".to_owned();
    agent.row(poison);
    let expected = [("delivered", 1), ("applied", 1), ("routed", 1), ("dead", 1), ("scheduled", 1)];
    assert_eq!(drain(&data, 0), report(&expected), "what is dead or not due does not count as left");
    assert_eq!(drain(&data, 0), report(&[("scheduled", 1)]));
}

#[test]
fn a_missing_channel_is_visible_and_not_waited_for() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("matrix", "matrix:!1"));
    configure(&data, &Sink::table("slack"));
    let id = agent.text("to nowhere");
    let started = Instant::now();
    assert_eq!(drain(&data, 3), report(&[("retrying", 1)]));
    assert!(started.elapsed() < PATIENCE / 2, "it waited for a channel that is not there");
    assert_eq!(drain(&data, 3), report(&[("retrying", 1)]));
    // A fallback takes it, when its time has come.
    configure(&data, &format!("{}{}", Sink::table("*"), "[retry.unavailable]\nbase = \"10ms\"\n"));
    nanorelay(&["drain", "--json"]).data(data.path()).run();
    assert_eq!(Sink::of(data.path()).ids(), [id]);
}

#[test]
fn what_is_retried_later_or_ambiguous_is_left() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    let other = data.session(SessionSpec::new("ag").chat("discord", "discord:1"));
    let limited = Receiver::start(|_, _| Reply::status(429).header("retry-after", "3600"));
    let silent = Receiver::start(|_, _| Reply::status(200).after(PATIENCE));
    let silent_table = format!("{}timeout = \"200ms\"\non_ambiguous = \"hold\"\n", silent.table("discord"));
    configure(&data, &format!("{}{silent_table}", limited.table("slack")));
    agent.text("later");
    other.text("who knows");
    let started = Instant::now();
    assert_eq!(drain(&data, 3), report(&[("retrying", 1), ("ambiguous", 1)]));
    assert!(started.elapsed() < PATIENCE / 2, "a retry after the deadline is not waited for");
    assert_eq!((limited.count(), silent.count()), (1, 1));
}

#[test]
fn a_session_that_cannot_be_read_is_left_and_the_others_are_not() {
    let data = DataDir::new();
    let damaged = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    let sound = data.session(SessionSpec::new("ag").chat("slack", "slack:C2"));
    configure(&data, &Sink::table("*"));
    fs::write(damaged.folder().join("outbound.db"), "not a database, not at all, not even a little").unwrap();
    sound.text("all is well here");
    assert_eq!(drain(&data, 3), report(&[("delivered", 1), ("held", 1)]));
}

#[test]
fn a_short_retry_is_waited_for() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    let flapping = Receiver::start(|number, _| Reply::status(if number < 2 { 503 } else { 200 }));
    configure(&data, &format!("[retry.transient]\nbase = \"50ms\"\n{}", flapping.table("slack")));
    agent.text("third time lucky");
    assert_eq!(drain(&data, 0), report(&[("delivered", 1)]));
    assert_eq!(flapping.count(), 3);
}

#[test]
fn the_deadline_bounds_a_hanging_send() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    let silent = Receiver::start(|_, _| Reply::status(200).after(PATIENCE));
    configure(&data, &format!("[shutdown]\ndeadline = \"100ms\"\n{}", silent.table("slack")));
    agent.text("hangs");
    let ended = nanorelay(&["drain", "--json", "--deadline", "300ms"]).data(data.path()).run().expect_code(3);
    assert_eq!(ended.json(), report(&[("retrying", 1)]));
}

#[test]
fn a_drain_that_is_broken_off_reports_nothing() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    let silent = Receiver::start(|_, _| Reply::status(200).after(PATIENCE));
    configure(&data, &format!("[shutdown]\ndeadline = \"100ms\"\n{}", silent.table("slack")));
    agent.text("hangs");
    let draining = nanorelay(&["drain", "--json"]).data(data.path()).start();
    silent.wait_for(1);
    draining.signal(Signal::TERM);
    let ended = draining.finish().expect_code(143);
    assert_eq!(ended.stdout, "");
    assert!(!data.path().join("nanorelay.sock").exists());
}

#[test]
fn the_summary_is_for_people_and_a_console_keeps_out_of_the_json() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    configure(&data, "[channels.\"*\"]\nkind = \"console\"\n");
    agent.text("read me");
    let ended = nanorelay(&["drain", "--json"]).data(data.path()).run().expect_code(0);
    assert_eq!(ended.json(), report(&[("delivered", 1)]));
    assert!(ended.stderr.contains("read me"));
    agent.text("and me");
    let ended = nanorelay(&["drain"]).data(data.path()).run().expect_code(0);
    assert!(ended.stdout.contains("and me"));
    assert!(ended.stdout.contains("delivered 1, applied 0, routed 0, dead 0\n"), "{ended:?}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let data = DataDir::new();
    configure(&data, "[log]\nlevel = \"error\"\nformat = \"text\"\n");
    let says_ready = |variable: Option<&str>, flag: Option<&str>| {
        // The warning about missing channels is written from level "warning" on.
        let mut drain = nanorelay(&["drain"]).data(data.path());
        if let Some(level) = variable {
            drain = drain.env("NANORELAY__LOG__LEVEL", level);
        }
        if let Some(level) = flag {
            drain = drain.arg("--log-level").arg(level);
        }
        drain.run().expect_code(3).stderr.contains("attempt failed")
    };
    data.session(SessionSpec::new("ag").chat("slack", "slack:C1")).text("no channel");
    assert!(!says_ready(None, None), "the file's level holds");
    nanorelay(&["deliveries", "list"]).data(data.path()).run().expect_code(0);
    for (variable, flag, expected) in [
        (Some("warning"), None, true),
        (Some("warning"), Some("error"), false),
        (Some("error"), Some("warning"), true),
    ] {
        data.session(SessionSpec::new("ag").chat("slack", "slack:C1")).text("no channel");
        assert_eq!(says_ready(variable, flag), expected, "{variable:?} {flag:?}");
    }
    // The format of the file still holds: the log is no JSON.
    let ended = nanorelay(&["drain", "--log-level", "info"]).data(data.path()).run();
    assert!(!ended.stderr.starts_with('{'), "{ended:?}");
}

#[test]
fn a_file_given_by_name_takes_the_place_of_the_one_in_the_directory() {
    let data = DataDir::new();
    configure(&data, "[log]\nlevel = \"nonsense\"\n");
    let other = data.path().join("other.toml");
    fs::write(&other, "[log]\nlevel = \"debug\"\n").unwrap();
    let print = |place: crate::support::program::Invocation| place.run().expect_code(0).stdout;
    let printed =
        print(nanorelay(&["config", "print", "--effective", "--config"]).arg(&other).data(data.path()));
    assert!(printed.contains("level = \"debug\""), "{printed}");
    let missing = nanorelay(&["config", "check", "--config", "/does/not/exist"]).run().expect_code(78);
    assert!(missing.stderr.contains("/does/not/exist"), "{missing:?}");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let data = DataDir::new();
    configure(&data, "# a comment\n[delivery]\nwach = \"poll\"\n");
    for command in [&["config", "check"][..], &["serve"], &["drain", "--json"]] {
        let refused = nanorelay(command).data(data.path()).run().expect_code(78);
        assert!(refused.stderr.contains("nanorelay.toml, line 3: delivery.wach: unknown key"), "{refused:?}");
        assert_eq!(refused.stdout, "");
    }
    fs::remove_file(data.path().join("nanorelay.toml")).unwrap();
    let refused = nanorelay(&["serve"])
        .data(data.path())
        .env("NANORELAY__DELIVERY__WACH", "poll")
        .run()
        .expect_code(78);
    assert!(refused.stderr.contains("NANORELAY__DELIVERY__WACH"), "{refused:?}");
    assert!(!data.path().join("nanorelay.db").exists(), "nothing was started");
}

#[test]
fn the_printed_defaults_are_a_valid_configuration_of_defaults() {
    let printed = nanorelay(&["config", "print"]).run().expect_code(0).stdout;
    let data = DataDir::new();
    let effective = || {
        let print = nanorelay(&["config", "print", "--effective"]).data(data.path());
        let text = print.run().expect_code(0).stdout;
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
        table
    };
    let defaults = effective();
    configure(&data, &printed);
    assert_eq!(effective(), defaults);
    let checked = nanorelay(&["config", "check"]).data(data.path()).run().expect_code(0);
    assert!(checked.stdout.starts_with("ok: ") && checked.stdout.contains("nanorelay.toml"), "{checked:?}");
}

#[test]
fn secrets_are_not_printed() {
    let data = DataDir::new();
    let receiver = Receiver::accepting();
    configure(&data, &receiver.table("slack"));
    let print = nanorelay(&["config", "print", "--effective"]).data(data.path()).run().expect_code(0);
    assert!(print.stdout.contains("channels") && !print.stdout.contains("whsec_"), "{print:?}");
    configure(&data, &receiver.table("slack").replace("whsec_", "wsec_"));
    let refused = nanorelay(&["config", "check"]).data(data.path()).run().expect_code(78);
    assert!(!refused.stderr.contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "{refused:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let data = DataDir::new();
    let (reading, writing) = std::io::pipe().unwrap();
    drop(reading);
    for command in [&["config", "print"][..], &["drain", "--json"], &["--help"]] {
        let mut invocation = nanorelay(command).stdout(writing.try_clone().unwrap());
        if command[0] == "drain" {
            invocation = invocation.data(data.path());
        }
        let ended = invocation.run();
        assert!(!ended.stderr.contains("panic") && !ended.stderr.contains("internal error"), "{ended:?}");
        assert!(ended.code().is_some_and(|code| code <= 1), "{ended:?}");
    }
}

#[test]
fn wrong_usage_is_told_apart() {
    for arguments in [&["serve"][..], &["drain", "--deadline", "soon", "--data", "x"], &["deliver"], &[]] {
        let refused = nanorelay(arguments).run().expect_code(2);
        assert_eq!(refused.stdout, "");
    }
    let version = nanorelay(&["--version"]).run().expect_code(0).stdout;
    assert_eq!(version, format!("nanorelay {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_doctor_names_what_is_wrong_and_how_to_mend_it() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    let doctor = |code| nanorelay(&["doctor", "--json"]).data(data.path()).run().expect_code(code);
    let finding = |finished: &Finished, subject: &str| {
        let findings = finished.json();
        let mut findings = findings.as_array().expect("an array").iter();
        findings.find(|finding| finding["subject"] == subject).cloned().unwrap_or_default()
    };
    let without_channel = doctor(3);
    assert_eq!(finding(&without_channel, "configuration")["level"], "warning");
    configure(&data, &Sink::table("*"));
    let sound = doctor(0);
    assert_eq!(finding(&sound, "host")["finding"], "does not run");
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("ready");
    std::fs::remove_file(agent.folder().join("outbound.db")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", agent.folder().join("outbound.db")).unwrap();
    let broken = doctor(1);
    let session = finding(&broken, &format!("session {}", agent.session_id()));
    assert_eq!(
        (session["level"].as_str(), session["remedy"].is_string()),
        (Some("error"), true),
        "{session}"
    );
    drop(host);
    let text = nanorelay(&["doctor"]).data(data.path()).run().expect_code(1);
    assert!(text.stdout.contains("error   session") && text.stdout.contains("\n        -> "), "{text:?}");
}
