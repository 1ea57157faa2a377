//! Agents in containers, against an emulated engine: see `support/engine.rs`. No real one took part.

use super::{SHUTDOWN_DEADLINE, World, agent, world};
use crate::support::engine::Engine;
use crate::support::wait::{shown, until};
use nanorelay::agents::docker::{self, DockerSettings};
use nanorelay_actors::model::roster::RosterPolicy;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::runtime::keeper::order::{AgentLimits, LogBounds};
use nanorelay_actors::runtime::launch::AgentCommand;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn settings(engine: &Engine, command: &[&str]) -> DockerSettings {
    DockerSettings {
        socket: engine.socket().to_owned(),
        image: "agents:1".to_owned(),
        agent: AgentCommand {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            ..AgentCommand::default()
        },
        network: "none".to_owned(),
        user: Some("1000:1000".to_owned()),
        mount: "/workspace".into(),
        data_dir_of_engine: None,
        nano_cpus: Some(1_500_000_000),
        limits: AgentLimits {
            memory_bytes: Some(1 << 30),
            cpu_seconds: Some(60),
            open_files: Some(512),
            processes: Some(64),
        },
        log: LogBounds { bytes_max: 4096, files: 3 },
        roster: RosterPolicy {
            agents_max: 4,
            agents_per_tenant_max: None,
            backoff_base: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
        },
        stop_grace: Duration::from_millis(100),
    }
}

fn echo(idle_exit: &str) -> [&str; 4] {
    [env!("CARGO_BIN_EXE_nanorelay"), "agent-echo", "--idle-exit", idle_exit]
}

fn engine(world: &World) -> Engine {
    Engine::start(world.data.path().parent().expect("a folder beside the data"))
}

async fn start(world: &World, settings: DockerSettings) -> Relay {
    world.host.start_with(|builder| builder.runtime(Arc::new(docker::runtime(settings)))).await
}

#[actix::test]
async fn a_container_sees_the_sessions_folder_and_nothing_else() {
    let world = world();
    let engine = engine(&world);
    world.session.receive("in-1", "hello");
    let mut settings = settings(&engine, &echo("1h"));
    settings.agent.environment.insert("KEY".to_owned(), "value".to_owned());
    let relay = start(&world, settings).await;
    shown(&world.host.channels()["slack"], 1).await;
    let containers = engine.containers();
    assert_eq!(containers.len(), 1);
    let body = containers.values().next().unwrap();
    assert_eq!((&body["Image"], &body["User"]), (&json!("agents:1"), &json!("1000:1000")));
    let environment = body["Env"].as_array().unwrap();
    for variable in
        ["NANORELAY_SESSION_DIR=/workspace", "NANORELAY_INBOUND_DB=/workspace/inbound.db", "KEY=value"]
    {
        assert!(environment.contains(&json!(variable)), "{environment:?}");
    }
    assert_eq!(environment.len(), 9, "nothing of the host's environment: {environment:?}");
    let host = &body["HostConfig"];
    let mounts = host["Mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!(mounts[0]["Source"], world.session.folder().display().to_string());
    assert_eq!((&mounts[0]["Target"], &mounts[0]["Type"]), (&json!("/workspace"), &json!("bind")));
    for (key, value) in [
        ("Memory", json!(1 << 30)),
        ("MemorySwap", json!(1 << 30)),
        ("NanoCpus", json!(1_500_000_000)),
        ("PidsLimit", json!(64)),
        ("NetworkMode", json!("none")),
        ("CapDrop", json!(["ALL"])),
        ("SecurityOpt", json!(["no-new-privileges"])),
        ("Init", json!(true)),
    ] {
        assert_eq!(host[key], value, "{key}");
    }
    assert_eq!(host["LogConfig"]["Config"], json!({ "max-size": "4096", "max-file": "3" }));
    assert_eq!(body["Labels"]["nanorelay.session"], "sess-a");
    until("v2.db says that it runs", || world.container_status() == "running").await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(world.container_status(), "stopped");
    assert!(engine.containers().is_empty(), "a container that was stopped is removed");
    assert_eq!(engine.requests("signal=SIGTERM").len(), 1);
}

#[actix::test]
async fn a_container_that_leaves_is_removed_and_the_next_message_makes_another() {
    let world = world();
    let engine = engine(&world);
    let relay = start(&world, settings(&engine, &echo("200ms"))).await;
    for (count, id) in ["in-1", "in-2"].into_iter().enumerate() {
        world.session.receive(id, "hello");
        shown(&world.host.channels()["slack"], count + 1).await;
        until("it is removed", || engine.containers().is_empty()).await;
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    world.host.channels()["slack"].assert_exactly_once(&["re-in-1", "re-in-2"]);
}

#[actix::test]
async fn a_container_that_does_not_end_is_killed() {
    let world = world();
    let engine = engine(&world);
    world.session.receive("in-1", "hello");
    let script = ["/bin/sh", "-c", "trap '' TERM; echo > deaf; while :; do sleep 1; done"];
    let relay = start(&world, settings(&engine, &script)).await;
    let deaf = world.session.folder().join("deaf");
    until("it does not hear SIGTERM any more", || deaf.exists()).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert!(engine.containers().is_empty());
    assert_eq!(engine.requests("signal=SIGKILL").len(), 1);
}

#[actix::test]
async fn containers_of_a_former_host_are_removed_and_those_of_others_are_left() {
    let world = world();
    let engine = engine(&world);
    world.session.receive("in-1", "hello");
    let first = start(&world, settings(&engine, &echo("1h"))).await;
    shown(&world.host.channels()["slack"], 1).await;
    let labels = engine.containers().into_values().next().unwrap()["Labels"].clone();
    first.shutdown(SHUTDOWN_DEADLINE).await;
    // As a killed host leaves them.
    engine.add("left", labels, &["sleep", "600"]);
    engine.add("strangers", json!({ "nanorelay.instance": "another" }), &["sleep", "600"]);
    let second = start(&world, settings(&engine, &echo("1h"))).await;
    assert_eq!(engine.containers().into_keys().collect::<Vec<_>>(), ["strangers"]);
    second.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix::test]
async fn a_container_that_fails_is_kept_for_its_log_and_listed_with_the_reason() {
    let world = world();
    let engine = engine(&world);
    world.session.receive("in-1", "hello");
    let relay = start(&world, settings(&engine, &["/bin/sh", "-c", "exit 7"])).await;
    let failed = agent(&relay, |agent| agent.failures >= 3).await;
    assert_eq!(failed.reason.as_deref(), Some("exit code 7"));
    until("there is one container of the session", || engine.containers().len() == 1).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix::test]
async fn an_engine_that_fails_delays_an_agent_and_loses_nothing() {
    let world = world();
    let engine = engine(&world);
    for failing in ["POST /v1.44/containers/create", "/start", "/wait", "GET /v1.44/containers/nanorelay"] {
        engine.fail_next(failing, 500);
    }
    world.session.receive("in-1", "hello");
    let relay = start(&world, settings(&engine, &echo("1h"))).await;
    shown(&world.host.channels()["slack"], 1).await;
    // A lack of memory, and a message for the one that comes after it.
    engine.kill_one();
    world.session.receive("in-2", "hello");
    shown(&world.host.channels()["slack"], 2).await;
    engine.fail_next("/kill", 500);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert!(engine.containers().is_empty());
    world.host.channels()["slack"].assert_exactly_once(&["re-in-1", "re-in-2"]);
}

#[test]
fn no_container_outlives_the_engine_of_its_test() {
    let world = world();
    let engine = engine(&world);
    let process = engine.add("left", json!({}), &["sleep", "600"]);
    let place = format!("/proc/{process}");
    assert!(Path::new(&place).exists());
    drop(engine);
    assert!(!Path::new(&place).exists());
}

#[actix::test]
async fn without_an_engine_the_relay_does_not_start_and_says_why() {
    let world = world();
    let engine = engine(&world);
    let mut settings = settings(&engine, &echo("1h"));
    settings.socket = Path::new("/nowhere/engine.sock").to_owned();
    let builder = world.host.builder().runtime(Arc::new(docker::runtime(settings)));
    let error = builder.start().await.expect_err("there is no engine").to_string();
    assert!(error.starts_with("agents: the container engine at /nowhere/engine.sock: "), "{error}");
    assert_eq!(engine.requests("").len(), 0);
    assert_eq!(engine.containers().into_values().collect::<Vec<Value>>(), [] as [Value; 0]);
}
