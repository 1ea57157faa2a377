//! An emulated container engine: the part of the Docker API that the runtime uses, on a Unix socket. A container is a
//! process of this machine that runs the container's command in the folder that is mounted.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The version of the API that is emulated.
const API_VERSION: &str = "1.44";
/// Between two looks whether a container's process has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// The engine. Its containers end with this value; its threads and its socket stay for as long as the process.
pub struct Engine {
    socket: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    containers: BTreeMap<String, Container>,
    /// Answers that stand in for the engine's, for the requests whose path holds a text.
    failures: Vec<(String, u16)>,
    /// All requests: method and path.
    requests: Vec<String>,
    /// The test is over: nothing is started any more.
    is_over: bool,
}

/// A container.
pub struct Container {
    /// What it was made of.
    pub body: Value,
    process: Option<Child>,
    exit_code: Option<i64>,
}

impl Engine {
    /// Starts an engine with a socket in this folder.
    pub fn start(folder: &Path) -> Self {
        let engine = Self { socket: folder.join("engine.sock"), shared: Arc::default() };
        let listener = UnixListener::bind(&engine.socket).expect("a socket");
        let serving = Arc::clone(&engine.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        engine
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Answers the next request whose method and path hold `text` with this status.
    pub fn fail_next(&self, text: &str, status: u16) {
        self.state().failures.push((text.to_owned(), status));
    }

    /// All requests so far whose method and path hold `text`.
    pub fn requests(&self, text: &str) -> Vec<String> {
        self.state().requests.iter().filter(|request| request.contains(text)).cloned().collect()
    }

    /// Makes a container that was started by somebody else; its process.
    pub fn add(&self, name: &str, labels: Value, command: &[&str]) -> u32 {
        let body = json!({ "Cmd": command, "Labels": labels, "Env": [], "HostConfig": { "Mounts": [] } });
        let mut state = self.state();
        let mut container = Container { body, process: None, exit_code: None };
        container.start();
        let process = container.process.as_ref().expect("a process").id();
        state.containers.insert(name.to_owned(), container);
        process
    }

    /// The bodies of all containers, by name.
    pub fn containers(&self) -> BTreeMap<String, Value> {
        let state = self.state();
        state.containers.iter().map(|(name, container)| (name.clone(), container.body.clone())).collect()
    }

    /// Kills the process of the first container that runs, as a lack of memory does.
    pub fn kill_one(&self) {
        let mut state = self.state();
        let running = state.containers.values_mut().find_map(|container| container.process.as_mut());
        running.expect("a container runs").kill().expect("it can be killed");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_over = true;
        state.containers.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, mut stream: UnixStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        while let Some((request, body)) = read_request(&mut reader) {
            let (status, answer) = self.answer(&request, &body);
            let text = if status == 204 { String::new() } else { answer.to_string() };
            let head = format!(
                "HTTP/1.1 {status} Emulated\r\nApi-Version: {API_VERSION}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n",
                text.len()
            );
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &str, body: &[u8]) -> (u16, Value) {
        {
            let mut state = self.state();
            if state.is_over {
                return (500, json!({ "message": "the engine ends" }));
            }
            state.requests.push(request.to_owned());
            if let Some(at) = state.failures.iter().position(|(text, _)| request.contains(text)) {
                let (_, status) = state.failures.remove(at);
                return (status, json!({ "message": "scripted" }));
            }
        }
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        // Without the version.
        let parts: Vec<&str> =
            path.split('/').filter(|part| !part.is_empty() && !part.starts_with("v1.")).collect();
        match (method, &parts[..]) {
            ("GET", ["version"]) => (200, json!({ "ApiVersion": API_VERSION, "MinAPIVersion": "1.24" })),
            ("GET", ["containers", "json"]) => (200, self.list(query)),
            ("POST", ["containers", "create"]) => self.create(query, body),
            ("POST", ["containers", name, "start"]) => self.with(name, |container| {
                container.start();
                (204, Value::Null)
            }),
            ("POST", ["containers", name, "kill"]) => self.kill(name, query),
            ("POST", ["containers", name, "wait"]) => self.wait(name),
            ("GET", ["containers", name, "json"]) => self.with(name, |container| {
                let is_running = container.process.is_some();
                let state = json!({ "Running": is_running, "ExitCode": container.exit_code.unwrap_or(0),
                    "OOMKilled": container.exit_code == Some(137) });
                (200, json!({ "Id": "id", "State": state }))
            }),
            ("DELETE", ["containers", name]) => self.remove(name),
            _ => (500, json!({ "message": format!("not emulated: {request}") })),
        }
    }

    fn with(&self, name: &str, act: impl FnOnce(&mut Container) -> (u16, Value)) -> (u16, Value) {
        let mut state = self.state();
        let answer = match state.containers.get_mut(name) {
            Some(container) => {
                container.look();
                act(container)
            }
            None => (404, json!({ "message": format!("No such container: {name}") })),
        };
        self.changed.notify_all();
        answer
    }

    fn list(&self, query: &str) -> Value {
        let state = self.state();
        let listed = state.containers.iter().filter(|(_, container)| {
            let labels = container.body["Labels"].as_object().expect("labels");
            // A filter is `{"label":["name=value"]}`, percent-encoded; a value is hexadecimal here.
            labels
                .iter()
                .any(|(name, value)| query.contains(&format!("{name}%3D{}", value.as_str().expect("text"))))
        });
        listed.map(|(name, container)| json!({ "Id": name, "Labels": container.body["Labels"] })).collect()
    }

    fn create(&self, query: &str, body: &[u8]) -> (u16, Value) {
        let name = query.split('&').find_map(|part| part.strip_prefix("name=")).expect("a name");
        let body: Value = serde_json::from_slice(body).expect("a body");
        let mut state = self.state();
        if state.containers.contains_key(name) {
            return (409, json!({ "message": "the name is in use" }));
        }
        state.containers.insert(name.to_owned(), Container { body, process: None, exit_code: None });
        (201, json!({ "Id": name, "Warnings": [] }))
    }

    fn kill(&self, name: &str, query: &str) -> (u16, Value) {
        self.with(name, |container| match &container.process {
            Some(process) => {
                let signal = if query.contains("SIGKILL") { Signal::KILL } else { Signal::TERM };
                let _ = kill_process(Pid::from_child(process), signal);
                (204, Value::Null)
            }
            None => (409, json!({ "message": "it is not running" })),
        })
    }

    fn wait(&self, name: &str) -> (u16, Value) {
        let mut state = self.state();
        loop {
            let Some(container) = state.containers.get_mut(name) else {
                return (404, json!({ "message": "No such container" }));
            };
            container.look();
            if container.process.is_none() {
                return (200, json!({ "StatusCode": container.exit_code.unwrap_or(0) }));
            }
            state = self.changed.wait_timeout(state, LOOK_PAUSE).unwrap().0;
        }
    }

    fn remove(&self, name: &str) -> (u16, Value) {
        let removed = self.state().containers.remove(name);
        self.changed.notify_all();
        match removed {
            Some(mut container) => {
                container.end();
                (204, Value::Null)
            }
            None => (404, json!({ "message": "No such container" })),
        }
    }
}

impl Container {
    fn start(&mut self) {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let command: Vec<String> = self.body["Cmd"].as_array().expect("a command").iter().map(text).collect();
        let mut process = Command::new(&command[0]);
        process
            .args(&command[1..])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for variable in self.body["Env"].as_array().expect("variables") {
            let (name, value) = variable.as_str().and_then(|text| text.split_once('=')).expect("a variable");
            process.env(name, value);
        }
        // There is no mount: the agent is told where the folder is outside.
        if let Some(folder) = self.body["HostConfig"]["Mounts"][0]["Source"].as_str() {
            process.env("NANORELAY_SESSION_DIR", folder).current_dir(folder);
        }
        self.process = Some(process.spawn().expect("a process"));
    }

    /// Takes note of the end of its process.
    fn look(&mut self) {
        let Some(process) = &mut self.process else { return };
        if let Ok(Some(status)) = process.try_wait() {
            let code = status.code().or_else(|| Some(128 + status.signal()?)).expect("a code");
            self.exit_code = Some(code.into());
            self.process = None;
        }
    }

    fn end(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end();
    }
}

/// Method and path, and the body; `None` when the client has gone.
fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let request = line.rsplit_once(' ')?.0.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        assert!(!header.starts_with("transfer-encoding:"), "bodies with a length are understood only");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((request, body))
}
