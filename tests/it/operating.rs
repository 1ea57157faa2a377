//! What operators hold in their hands: how a host does, and what is in `packaging/`.

use crate::serve::configure;
use crate::support::program::{PATIENCE, nanorelay};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, SessionSpec};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(file)
}

fn text_of(file: &str) -> String {
    fs::read_to_string(packaging(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn a_running_host_says_how_it_does_and_a_stopped_one_is_told_apart() {
    let data = DataDir::new();
    configure(&data, &Sink::table("slack"));
    let agent = data.session(SessionSpec::new("ag").chat("matrix", "matrix:!1"));
    let stopped = nanorelay(&["status"]).data(data.path()).run().expect_code(69);
    assert!(stopped.stderr.contains("no host runs on"), "{stopped:?}");
    let mut host =
        nanorelay(&["serve"]).data(data.path()).env("NANORELAY__SERVER__LISTEN", "127.0.0.1:0").start();
    host.wait_for_log("ready");
    let id = agent.text("to nowhere");
    let begun = Instant::now();
    let status = loop {
        let status = nanorelay(&["status", "-o", "json"]).data(data.path()).run().expect_code(0).json();
        if status["counts"]["retrying"] == 1 {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "the message does not wait: {status}");
    };
    assert_eq!(status["process_id"], host.id());
    assert!(status["http_address"].as_str().is_some_and(|at| at.starts_with("127.0.0.1:")), "{status}");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["oldest_undelivered"]["message_id"], json!(id));
    assert_eq!(status["failing"][0]["channel"], "matrix");
    assert_eq!(status["busiest"][0]["session_id"], agent.session_id());
    assert_eq!(status["sessions"]["total"], 1);
    let table = nanorelay(&["status"]).data(data.path()).run().expect_code(0).stdout;
    assert!(table.contains("retrying 1") && table.contains(&format!("process {}", host.id())), "{table}");
    let metrics = nanorelay(&["metrics"]).data(data.path()).run().expect_code(0).stdout;
    for line in ["nanorelay_undelivered{state=\"retrying\"} 1", "nanorelay_sessions{state=\"active\"} 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    // There is no terminal here.
    let refused = nanorelay(&["top"]).data(data.path()).run().expect_code(2);
    assert!(refused.stderr.contains("top needs a terminal"), "{refused:?}");
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
}

#[test]
fn a_service_manager_hears_when_the_host_delivers_lives_and_ends() {
    let data = DataDir::new();
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = nanorelay(&["serve"])
        .data(data.path())
        .env("NOTIFY_SOCKET", &address)
        .env("WATCHDOG_USEC", "300000")
        .start();
    let hear = |word: &str| {
        let mut buffer = [0; 1024];
        loop {
            let length = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("no {word}: {error}"));
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == word) {
                return;
            }
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    host.signal(Signal::TERM);
    hear("STOPPING=1");
    host.finish().expect_code(0);
}

#[test]
fn manual_pages_and_completions_are_made_and_a_folder_that_cannot_be_made_has_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    nanorelay(&["man", "--dir"]).arg(&pages).run().expect_code(0);
    let page = fs::read_to_string(pages.join("nanorelay-deliveries-replay.1")).expect("a page");
    assert!(page.contains("EXIT STATUS"), "{page}");
    assert!(nanorelay(&["man"]).run().expect_code(0).stdout.contains(".SH NAME"));
    assert!(nanorelay(&["completions", "bash"]).run().expect_code(0).stdout.contains("complete -F"));
    fs::write(folder.path().join("file"), "").unwrap();
    let refused = nanorelay(&["man", "--dir"]).arg(folder.path().join("file/below")).run().expect_code(73);
    assert!(refused.stderr.contains("cannot create"), "{refused:?}");
}

/// The names in a text that look like metrics of ours, without what a histogram adds to them.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !is_of_name(c)).filter(|word| word.starts_with("nanorelay_"));
    words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn alert_rules_and_the_dashboard_ask_for_metrics_that_exist() {
    let listed = metrics_in(include_str!("../../docs/metrics.md"));
    for file in ["prometheus/alerts.yml", "prometheus/alerts.test.yml", "grafana/nanorelay.json"] {
        let asked = metrics_in(&text_of(file));
        assert!(asked.len() > 5, "{file}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&listed).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn every_alert_has_a_test_and_is_explained_to_the_operator() {
    let rules = text_of("prometheus/alerts.yml");
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    let tests = text_of("prometheus/alerts.test.yml");
    let guide = include_str!("../../docs/operating.md");
    for name in names {
        assert!(tests.contains(&format!("alertname: {name},")), "{name} is not tested on a sound host");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} is not tested on one in trouble");
        assert!(guide.contains(&format!("| `{name}` |")), "docs/operating.md does not explain {name}");
    }
}

/// The words of a JSON array that stands in a line of a Dockerfile.
fn words(dockerfile: &str, instruction: &str) -> Vec<String> {
    let line = dockerfile.lines().find(|line| line.starts_with(instruction)).expect(instruction);
    let array: Value = serde_json::from_str(&line[line.find('[').expect("an array")..]).expect("JSON");
    array.as_array().expect("an array").iter().map(|word| word.as_str().expect("text").to_owned()).collect()
}

#[test]
fn the_commands_of_the_unit_and_the_container_are_ones_that_the_program_has() {
    let unit = text_of("nanorelay.service");
    let start =
        unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/nanorelay ")).expect("ExecStart");
    let dockerfile = text_of("Dockerfile");
    assert_eq!(words(&dockerfile, "ENTRYPOINT"), ["nanorelay"]);
    let commands = [
        start.split(' ').map(str::to_owned).collect(),
        words(&dockerfile, "CMD"),
        words(&dockerfile, "HEALTHCHECK").split_off(1),
    ];
    for command in commands {
        // Help is printed only when everything before it is understood.
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = nanorelay(&words).run().expect_code(0);
        assert!(help.stdout.contains("Usage: nanorelay"), "{help:?}");
    }
}

#[test]
fn the_container_runs_without_rights_and_ends_in_order() {
    let dockerfile = text_of("Dockerfile");
    let last_stage = dockerfile.rsplit_once("\nFROM ").expect("stages").1;
    for line in ["USER 10001:10001", "STOPSIGNAL SIGTERM", "VOLUME /data", "HEALTHCHECK --interval=30s"] {
        assert!(last_stage.lines().any(|found| found.starts_with(line)), "{line}");
    }
    assert!(!last_stage.contains("rust:"), "the toolchain stays in the first stage");
    assert!(dockerfile.contains("--locked"), "the container is built from the locked dependencies");
}
