//! One data directory whose hosts are killed, and the reckoning at the end.

use crate::serve::configure;
use crate::support::program::{PATIENCE, nanorelay};
use crate::support::receiver::{Receiver, Request};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, RowSpec, SessionSpec, TestAgent, database};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// About the size of a line that a jsonl channel writes, in bytes.
const LINE_BYTES: u64 = 250;
/// The longest that a host may run before it is killed at a random time, in ms.
const LIFE_MS_MAX: u64 = 150;

/// A lane that is to be killed while it sends has at least so many messages left.
const BACKLOG_MIN: usize = 300;

/// So many rounds of messages may be left when a host is killed.
const ROUNDS_LEFT_MAX: usize = 5;

/// What takes the messages.
pub enum Target {
    /// A jsonl channel with this configuration.
    File(String),
    /// A web server.
    Web(Receiver),
}

/// What is done with a message of which it is unknown whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAmbiguous {
    Hold,
    Resend,
    /// As the channel is able to.
    Auto,
}

/// Session and message id.
type Key = (String, String);

/// A message that a channel delivers.
struct Sent {
    /// The files that it declares, if any, are in this folder.
    has_file: bool,
}

/// A data directory under fire.
pub struct Trial {
    data: DataDir,
    target: Target,
    sink: Sink,
    on_ambiguous: OnAmbiguous,
    agents: Vec<TestAgent>,
    /// Messages to channels.
    sent: BTreeMap<Key, Sent>,
    /// Ids of tasks, with the session that they belong to.
    tasks: BTreeMap<String, usize>,
    /// Texts to the agent that everybody may write to.
    told: BTreeSet<String>,
    peer: TestAgent,
    /// Messages that were on their way when a host died, and with which attempt.
    in_flight: BTreeSet<(Key, u32)>,
    kills: usize,
    rows_of_round: usize,
    random: fastrand::Rng,
}

/// What came of a trial.
pub struct Found {
    kills: usize,
    messages: usize,
    duplicates: usize,
    ambiguous: usize,
    in_flight: usize,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { kills, messages, duplicates, ambiguous, in_flight } = self;
        let per_kill = |count: &usize| *count as f64 / (*kills).max(1) as f64;
        write!(
            f,
            "{kills} kills, {messages} messages, 0 lost, 0 out of order, {duplicates} duplicates ({:.3} a kill), \
             {ambiguous} held ({:.3} a kill), {:.2} sends in flight at a kill",
            per_kill(duplicates),
            per_kill(ambiguous),
            per_kill(in_flight),
        )
    }
}

impl Trial {
    /// A directory with so many sessions and nothing to deliver yet.
    pub fn new(target: Target, on_ambiguous: OnAmbiguous, sessions: usize) -> Self {
        let data = DataDir::new();
        let table = match &target {
            Target::File(table) => table.clone(),
            Target::Web(receiver) => receiver.table("*"),
        };
        let policy = match on_ambiguous {
            OnAmbiguous::Hold => "hold",
            OnAmbiguous::Resend => "resend",
            OnAmbiguous::Auto => "auto",
        };
        // What is told between agents has a budget, which is not what dies here.
        let limits = "[limits]\nagent_messages_per_minute = 1000000\n[log]\nlevel = \"warning\"\n";
        configure(&data, &format!("{limits}{table}on_ambiguous = \"{policy}\"\n"));
        data.allow_agent("ag", "ag-peer");
        let peer = data.session(SessionSpec::new("ag-peer"));
        let agents = (0..sessions)
            .map(|n| data.session(SessionSpec::new("ag").chat("slack", &format!("slack:C{n}"))))
            .collect();
        let seed = std::env::var("NANORELAY_KILL_SEED")
            .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
        println!("seed {seed}");
        let sink = Sink::of(data.path());
        Self {
            data,
            target,
            sink,
            on_ambiguous,
            agents,
            sent: BTreeMap::new(),
            tasks: BTreeMap::new(),
            told: BTreeSet::new(),
            peer,
            in_flight: BTreeSet::new(),
            kills: 0,
            rows_of_round: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// How many hosts have been killed.
    pub fn kills(&self) -> usize {
        self.kills
    }

    /// Each agent writes some texts, and now and then something else. Nobody writes while much is left to do: the
    /// last host must be able to finish.
    pub fn write_round(&mut self) {
        // What was on its way may wait for an operator.
        let done = self.taken_count() + self.in_flight.len();
        if self.sent.len() > done + ROUNDS_LEFT_MAX * self.rows_of_round {
            return;
        }
        self.rows_of_round = 0;
        for index in 0..self.agents.len() {
            let texts = self.random.usize(1..4);
            let mut kinds = vec![Kind::Text; texts];
            for kind in [Kind::File, Kind::Task, Kind::Tell] {
                if self.random.u8(..) < 50 {
                    kinds.insert(self.random.usize(..=kinds.len()), kind);
                }
            }
            self.write(index, &kinds);
        }
    }

    /// Each agent writes every kind of row.
    pub fn write_all_kinds(&mut self) {
        for index in 0..self.agents.len() {
            self.write(index, &[Kind::Text, Kind::File, Kind::Task, Kind::Tell, Kind::Text, Kind::Text]);
        }
    }

    fn write(&mut self, index: usize, kinds: &[Kind]) {
        let agent = &self.agents[index];
        let rows: Vec<RowSpec> = kinds.iter().map(|kind| self.row(agent, *kind)).collect();
        let texts: Vec<String> = rows.iter().map(|row| row.content.clone()).collect();
        for ((id, kind), content) in agent.rows(rows).into_iter().zip(kinds).zip(texts) {
            let content: Value = serde_json::from_str(&content).expect("JSON");
            match kind {
                Kind::Text | Kind::File => {
                    let key = (agent.session_id().to_owned(), id);
                    self.sent.insert(key, Sent { has_file: *kind == Kind::File });
                    self.rows_of_round += 1;
                }
                Kind::Task => {
                    self.tasks.insert(content["taskId"].as_str().expect("an id").to_owned(), index);
                }
                Kind::Tell => {
                    self.told.insert(content["text"].as_str().expect("a text").to_owned());
                }
            }
        }
    }

    fn row(&self, agent: &TestAgent, kind: Kind) -> RowSpec {
        let mark = format!("mark-{:016x}", fastrand::u64(..));
        match kind {
            Kind::Text => agent.text_row(&mark),
            Kind::File => {
                let mut row = agent.text_row("").file("a.txt", mark.clone());
                row.content = json!({ "text": mark, "files": ["a.txt"] }).to_string();
                row
            }
            Kind::Tell => RowSpec::text("agent", "ag-peer", &mark),
            Kind::Task => {
                let action = json!({
                    "action": "schedule_task", "taskId": mark, "prompt": "p", "script": null,
                    "processAfter": "2090-01-01T00:00:00Z", "recurrence": null,
                });
                RowSpec::new("system", action.to_string())
            }
        }
    }

    /// Starts a host and kills it: some time after its start, or when the target has taken some messages.
    pub fn kill_one(&mut self) {
        let command = if self.random.bool() { "serve" } else { "drain" };
        let mut host = nanorelay(&[command]).data(self.data.path()).start();
        if self.random.u8(..) < 100 {
            if host.ends_within(Duration::from_millis(self.random.u64(..LIFE_MS_MAX))) {
                return;
            }
        } else {
            let more = self.random.usize(1..=self.rows_of_round.max(1));
            match &self.target {
                Target::Web(receiver) => {
                    receiver.has_within(receiver.count() + more, PATIENCE);
                }
                Target::File(_) => {
                    let size = self.sink.size() + more as u64 * LINE_BYTES;
                    self.sink.wait_until(Duration::from_secs(5), || self.sink.size() >= size);
                }
            }
        }
        // A host that has ended by itself meanwhile is no kill.
        if host.kill().was_killed() {
            self.note_kill();
        }
    }

    /// Starts a host on a backlog and kills it some time after its first send, whatever it is doing then.
    pub fn kill_while_sending(&mut self) {
        let taken = self.taken_count();
        while self.sent.len() < taken + BACKLOG_MIN {
            for index in 0..self.agents.len() {
                self.write(index, &[Kind::Text; 50]);
            }
        }
        let mut host = nanorelay(&["serve"]).data(self.data.path()).start();
        let is_sending = match &self.target {
            Target::Web(receiver) => receiver.has_within(taken + 1, PATIENCE),
            Target::File(_) => self.sink.wait_until(PATIENCE, || self.taken_count() > taken),
        };
        assert!(is_sending, "a host that sends nothing: {:#?}", host.kill());
        host.ends_within(Duration::from_micros(self.random.u64(..LIFE_MS_MAX * 1000)));
        assert!(host.kill().was_killed(), "a host that serves does not end by itself");
        self.note_kill();
    }

    /// Takes down what was on its way when a host died.
    pub fn note_kill(&mut self) {
        self.kills += 1;
        if let Target::Web(receiver) = &self.target {
            receiver.wait_until_unconnected();
        }
        let ledger = self.data.path().join("nanorelay.db");
        if !ledger.exists() {
            return;
        }
        let connection = database::open(&ledger);
        let Ok(mut statement) = connection
            .prepare("SELECT session_id, message_id, attempts FROM deliveries WHERE state = 'sending'")
        else {
            // It died before the tables were made.
            return;
        };
        let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)));
        // A host that died before it had looked at these leaves them as they were: they count once.
        self.in_flight.extend(rows.expect("rows").map(|row| row.expect("a row")));
    }

    /// Session, message and seq of everything that the target has taken, in order.
    fn taken(&self) -> Vec<(Key, i64)> {
        let mut keys = BTreeSet::new();
        let mut is_new = |request: &Request| {
            // A receiver that knows keys again passes over those that it has seen.
            self.on_ambiguous != OnAmbiguous::Auto || keys.insert(request.webhook_id().to_owned())
        };
        let deliveries: Vec<Value> = match &self.target {
            Target::File(_) => self.sink.deliveries(),
            Target::Web(receiver) => {
                receiver.requests().iter().filter(|request| is_new(request)).map(Request::json).collect()
            }
        };
        let text = |delivery: &Value, key: &str| delivery[key].as_str().expect("a text").to_owned();
        deliveries
            .iter()
            .map(|delivery| {
                let key = (text(delivery, "session_id"), text(delivery, "id"));
                (key, delivery["seq"].as_i64().expect("a seq"))
            })
            .collect()
    }

    /// How much of it there is.
    fn taken_count(&self) -> usize {
        match &self.target {
            Target::File(_) => self.sink.count(),
            Target::Web(receiver) => receiver.count(),
        }
    }

    fn drain(&self) -> Value {
        let drain = nanorelay(&["drain", "--json"]).data(self.data.path()).run();
        let report = drain.json();
        let left = report["ambiguous"].as_u64().expect("a count") > 0;
        let dead = self.list("dead");
        assert!(dead.is_empty(), "{dead:#?}");
        for key in ["retrying", "held", "scheduled", "dead"] {
            assert_eq!(report[key], 0, "{drain:#?}");
        }
        drain.expect_code(if left { 3 } else { 0 });
        report
    }

    fn list(&self, state: &str) -> Vec<Value> {
        let list = nanorelay(&["deliveries", "list", "--json", "--state", state]);
        list.data(self.data.path()).run().json().as_array().expect("an array").clone()
    }

    fn ambiguous(&self) -> BTreeSet<Key> {
        let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
        let rows = self.list("ambiguous");
        rows.iter().map(|row| (text(row, "session_id"), text(row, "message_id"))).collect()
    }

    /// Lets a host finish, and holds everything against what was promised.
    #[track_caller]
    pub fn check(&self) -> Found {
        self.drain();
        let ambiguous = self.ambiguous();
        self.check_attachments(&ambiguous);
        let taken = self.taken();
        self.check_order(&taken);
        let duplicates = self.check_counts(&taken, &ambiguous);
        self.check_tasks();
        if self.on_ambiguous == OnAmbiguous::Hold {
            self.replay_what_did_not_arrive(&taken, &ambiguous);
        } else {
            assert!(ambiguous.is_empty(), "{ambiguous:?}");
        }
        let allowed = if self.on_ambiguous == OnAmbiguous::Resend { self.in_flight.len() } else { 0 };
        assert!(duplicates <= allowed, "{duplicates} of {}", self.in_flight.len());
        Found {
            kills: self.kills,
            messages: self.sent.len(),
            duplicates,
            ambiguous: ambiguous.len(),
            in_flight: self.in_flight.len(),
        }
    }

    /// Returns how many were sent once too often.
    fn check_counts(&self, taken: &[(Key, i64)], ambiguous: &BTreeSet<Key>) -> usize {
        let mut counts: BTreeMap<&Key, usize> = BTreeMap::new();
        for (key, _) in taken {
            assert!(self.sent.contains_key(key), "{key:?} was never written");
            *counts.entry(key).or_default() += 1;
        }
        let in_flight: BTreeSet<&Key> = self.in_flight.iter().map(|(key, _)| key).collect();
        for key in self.sent.keys() {
            assert!(counts.contains_key(key) || ambiguous.contains(key), "{key:?} is lost");
        }
        for (key, count) in &counts {
            assert!(*count == 1 || in_flight.contains(key), "{key:?} was not on its way, yet {count} times");
        }
        for key in ambiguous {
            assert!(in_flight.contains(key), "{key:?} was not on its way, yet it is ambiguous");
        }
        counts.values().map(|count| count - 1).sum()
    }

    /// Each session has one chat here, which is one lane.
    fn check_order(&self, taken: &[(Key, i64)]) {
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for ((session, id), seq) in taken {
            let before = last.insert(session, *seq).unwrap_or(0);
            let is_repeat = before == *seq && self.on_ambiguous != OnAmbiguous::Hold;
            assert!(before < *seq || is_repeat, "{session} {id}: {seq} came after {before}");
        }
    }

    /// An attachment stays until its message is known to have arrived.
    fn check_attachments(&self, ambiguous: &BTreeSet<Key>) {
        let with_file = self.sent.iter().filter(|(_, sent)| sent.has_file);
        for (key, _) in with_file {
            let agent = self.agents.iter().find(|agent| agent.session_id() == key.0).expect("an agent");
            let is_there = agent.outbox().join(&key.1).join("a.txt").exists();
            assert_eq!(is_there, ambiguous.contains(key), "{key:?}");
        }
    }

    /// System actions and messages to agents have one effect each.
    fn check_tasks(&self) {
        for (task, index) in &self.tasks {
            let rows = self.agents[*index].messages_in();
            let count = rows.iter().filter(|row| row.kind == "task" && row.id == *task).count();
            assert_eq!(count, 1, "task {task}");
        }
        let rows = self.peer.messages_in();
        for text in &self.told {
            assert_eq!(rows.iter().filter(|row| row.content.contains(text)).count(), 1, "{text}");
        }
        assert_eq!(rows.len(), self.told.len());
    }

    /// What an operator does who has asked the platform.
    fn replay_what_did_not_arrive(&self, taken: &[(Key, i64)], ambiguous: &BTreeSet<Key>) {
        let arrived: BTreeSet<&Key> = taken.iter().map(|(key, _)| key).collect();
        let missing: Vec<&Key> = ambiguous.iter().filter(|key| !arrived.contains(key)).collect();
        for (session, id) in &missing {
            let replay = nanorelay(&["deliveries", "replay", session, id, "--json"]);
            let replayed = replay.data(self.data.path()).run().expect_code(0);
            assert_eq!(replayed.stdout, "{\"replayed\":1}\n");
        }
        assert_eq!(self.drain()["delivered"], missing.len());
        let now: Vec<Key> = self.taken().into_iter().map(|(key, _)| key).collect();
        let once: BTreeSet<&Key> = now.iter().collect();
        assert_eq!((now.len(), once.len()), (self.sent.len(), self.sent.len()), "each arrived once");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    File,
    Task,
    Tell,
}
