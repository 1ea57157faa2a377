//! The program runs out of file descriptors.

use crate::serve::configure;
use crate::support::program::{PATIENCE, nanorelay};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, SessionSpec};
use rustix::process::{Resource, Rlimit};

#[test]
fn a_host_without_descriptors_goes_on_when_there_are_some_again() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..20)
        .map(|number| data.session(SessionSpec::new("ag").chat("slack", &format!("slack:C{number}"))))
        .collect();
    configure(&data, &format!("[delivery]\npoll_interval = \"50ms\"\n{}", Sink::table("*")));
    let sink = Sink::of(data.path());
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("ready");
    let mut ids: Vec<String> = agents.iter().map(|agent| agent.text("before")).collect();
    sink.wait_for(20);

    // As many as standard input, output and error: nothing more can be opened.
    let before = host.limit(Resource::Nofile, Rlimit { current: Some(3), maximum: Some(20_000) });
    ids.extend(agents.iter().map(|agent| agent.file("meanwhile", "a.txt", b"hello")));
    // Which of them depends on whether the databases are open still from before.
    let trouble = host.wait_for_log_of(&["session is in trouble", "attempt failed"]);
    assert!(trouble.to_string().contains("Too many open files"), "{trouble}");
    host.limit(Resource::Nofile, before);
    sink.wait_for(40);
    ids.extend(agents.iter().map(|agent| agent.text("afterwards")));
    sink.wait_for(60);
    assert!(sink.wait_until(PATIENCE, || agents.iter().all(|agent| agent.delivered().len() == 3)));
    host.signal(rustix::process::Signal::TERM);
    host.finish().expect_code(0);
    let mut found = sink.ids();
    found.sort();
    ids.sort();
    assert_eq!(found, ids, "each once");
}
