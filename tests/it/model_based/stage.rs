//! Plays a script with real files and the whole engine, and keeps everything that was seen.

use super::script::{Actor, Broken, Platform, Reply, Row, SESSIONS, Script, Step};
use crate::support::host::TestHost;
use crate::support::wait::{settled, within};
use nanorelay_actors::channel::adapter::Idempotency;
use nanorelay_actors::clock::{Clock, SharedClock, SystemClock};
use nanorelay_actors::model::error::{LimitScope, SendError};
use nanorelay_actors::model::ids::{ChannelType, SessionId};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{Relay, StoppedHost};
use nanorelay_actors::report::{DeliveryFilter, DeliveryRecord, DrainReport};
use nanorelay_actors::settings::OnAmbiguous;
use nanorelay_actors::supervise::exit_guard::ActorName;
use nanorelay_actors::testing::fault::{Fault, Operation};
use nanorelay_actors::testing::{Answer, Call, DataDir, MockChannel, RowSpec, SessionSpec, TestAgent};
use rustix::io::Errno;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// No answer counts as one that is lost after this time.
const SEND_TIMEOUT: Duration = Duration::from_millis(60);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(60);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
/// Before the last life the clock goes on by more than anything has to wait, and was ever set back.
const LAST_STEP_MS: i64 = 60_000;

/// A row that was written.
#[derive(Debug)]
pub struct Written {
    pub session: usize,
    pub id: String,
    pub seq: i64,
    pub row: Row,
    /// When, by the host's clock.
    pub at: Timestamp,
    /// How many steps of the clock came before it.
    pub clock_steps: usize,
    /// The task that it schedules or ends, the text that it tells.
    pub names: String,
}

/// A step of the clock, and how many calls had begun before.
#[derive(Debug, Clone, Copy)]
pub struct ClockStep {
    pub ms: i64,
    pub calls: usize,
}

/// How a host's life ended.
#[derive(Debug)]
pub struct LifeEnd {
    /// How many calls had begun.
    pub calls: usize,
    pub crashed: bool,
    /// What the ledger said then.
    pub ledger: Vec<DeliveryRecord>,
}

/// Everything that was seen.
pub struct Seen {
    pub written: Vec<Written>,
    pub clock_steps: Vec<ClockStep>,
    pub lives: Vec<LifeEnd>,
    pub calls: Vec<Call>,
    /// What the last drain left.
    pub report: DrainReport,
    pub agents: Vec<TestAgent>,
    pub peer: TestAgent,
    _data: DataDir,
}

/// The machine's clock, as somebody sets it.
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_us().div_euclid(1000))
    }

    fn now_us(&self) -> i64 {
        SystemClock.now_us() + self.0.load(Ordering::SeqCst) * 1000
    }
}

struct Stage {
    host: TestHost,
    slack: Arc<MockChannel>,
    clock: Arc<SetClock>,
    faults: Vec<Fault>,
    seen: Seen,
}

enum End {
    /// The script is over.
    Over,
    Restart,
    Crash,
}

/// Plays a script to its end.
pub fn play(script: &Script) -> Seen {
    let mut stage = Stage::build(script.platform);
    let mut steps = script.steps.iter();
    loop {
        // A life is a thread with a runtime of its own: at its end everything of it is gone.
        let (stage_inside, steps_inside) = (&mut stage, &mut steps);
        let end = std::thread::scope(|scope| {
            let life = scope.spawn(move || actix_rt::System::new().block_on(stage_inside.live(steps_inside)));
            life.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        stage.note_end(matches!(end, End::Crash));
        if matches!(end, End::Over) {
            stage.seen.calls = stage.slack.calls();
            return stage.seen;
        }
    }
}

impl Stage {
    fn build(platform: Platform) -> Self {
        let data = DataDir::new();
        data.allow_agent("ag", "ag-peer").chat("slack", "slack:SECRET");
        let peer = data.session(SessionSpec::new("ag-peer").id("sess-peer"));
        let agents = (0..SESSIONS)
            .map(|number| {
                let spec = SessionSpec::new("ag").id(&format!("sess-{number}"));
                data.session(spec.chat("slack", &format!("slack:C{number}")))
            })
            .collect();
        let clock = Arc::new(SetClock(AtomicI64::new(0)));
        let shared: SharedClock = clock.clone();
        let (idempotency, on_ambiguous) = match platform {
            Platform::KnowsKeys => (Idempotency::NativeKey, OnAmbiguous::Auto),
            Platform::Hold => (Idempotency::None, OnAmbiguous::Hold),
            Platform::Resend => (Idempotency::None, OnAmbiguous::Resend),
        };
        let slack = MockChannel::with(idempotency, Arc::clone(&shared));
        let mut host = TestHost::new(data.path());
        host.clock = shared;
        host.settings.limits.send_timeout = SEND_TIMEOUT;
        host.channel_settings.on_ambiguous = on_ambiguous;
        host.add_channel("slack", &slack);
        let seen = Seen {
            written: Vec::new(),
            clock_steps: Vec::new(),
            lives: Vec::new(),
            calls: Vec::new(),
            report: DrainReport::default(),
            agents,
            peer,
            _data: data,
        };
        Self { host, slack, clock, faults: Vec::new(), seen }
    }

    /// One life of a host. When this returns, whatever it was doing is broken off.
    async fn live<'a>(&mut self, steps: &mut impl Iterator<Item = &'a Step>) -> End {
        let relay = self.host.start().await;
        for step in steps {
            match step {
                Step::Write { session, rows } => self.write(*session, rows),
                Step::Settle => settled(&relay).await,
                Step::Die(actor) => {
                    relay.inject_panic(&name(*actor));
                }
                Step::Restart => {
                    within("the shutdown", relay.shutdown(SHUTDOWN_DEADLINE)).await;
                    return End::Restart;
                }
                Step::Crash { calls, turns } => {
                    self.wait_for_calls(&relay, *calls).await;
                    for _ in 0..*turns {
                        tokio::task::yield_now().await;
                    }
                    return End::Crash;
                }
                Step::SetClock { ms } => self.step_clock(*ms),
                Step::Break { session, what } => {
                    let fault = fault(self.seen.agents[*session].folder(), *what);
                    self.faults.push(fault);
                }
                Step::Mend => self.faults.clear(),
            }
        }
        settled(&relay).await;
        self.faults.clear();
        self.step_clock(LAST_STEP_MS);
        // What waits is due now; actors look at the clock when they start.
        within("the shutdown", relay.shutdown(SHUTDOWN_DEADLINE)).await;
        drop(relay);
        let relay = self.host.start().await;
        self.seen.report = relay.drain(DRAIN_DEADLINE).await;
        within("the shutdown", relay.shutdown(SHUTDOWN_DEADLINE)).await;
        End::Over
    }

    async fn wait_for_calls(&self, relay: &Relay, more: usize) {
        let count = self.slack.calls().len() + more;
        let called = async {
            tokio::select! {
                () = self.slack.wait_for(count) => {}
                () = relay.settle() => {}
            }
        };
        within("calls, or nothing to do", called).await;
    }

    fn step_clock(&mut self, ms: i64) {
        self.seen.clock_steps.push(ClockStep { ms, calls: self.slack.calls().len() });
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn write(&mut self, session: usize, rows: &[Row]) {
        let agent = self.seen.agents[session].clone();
        let at = self.clock.now();
        let first = self.seen.written.len();
        let mut specs = Vec::new();
        for row in rows {
            let id = format!("m-{}", self.seen.written.len());
            let names = match row {
                Row::Cancel => match self.latest_task(session) {
                    Some(task) => task,
                    None => continue,
                },
                _ => format!("names-{}", self.seen.written.len()),
            };
            if let Row::Message { replies, .. } = row {
                self.slack.on_message(&id, replies.iter().map(|reply| answer(*reply)));
            }
            specs.push(spec(session, &id, row, &names, at));
            let clock_steps = self.seen.clock_steps.len();
            let row = row.clone();
            self.seen.written.push(Written { session, id, seq: 0, row, at, clock_steps, names });
        }
        agent.rows(specs);
        let seqs = agent.messages_out();
        for written in &mut self.seen.written[first..] {
            let found = seqs.iter().find(|(id, _)| *id == written.id);
            written.seq = found.expect("the row was written").1;
        }
    }

    /// The last task of a session that is scheduled and not ended by a row before.
    fn latest_task(&self, session: usize) -> Option<String> {
        let mut live = Vec::new();
        for written in self.seen.written.iter().filter(|written| written.session == session) {
            match written.row {
                Row::Schedule => live.push(written.names.clone()),
                Row::Cancel => live.retain(|task| *task != written.names),
                _ => {}
            }
        }
        live.pop()
    }

    fn note_end(&mut self, crashed: bool) {
        let stopped = StoppedHost::open(self.host.data_dir()).expect("nothing of the host is left");
        let ledger = stopped.deliveries(&DeliveryFilter::default()).expect("the ledger can be read");
        self.seen.lives.push(LifeEnd { calls: self.slack.calls().len(), crashed, ledger });
    }
}

fn name(actor: Actor) -> ActorName {
    match actor {
        Actor::Registry => ActorName::Registry,
        Actor::Session(number) => {
            ActorName::Session(SessionId::new(&format!("sess-{number}")).expect("an id"))
        }
        Actor::Channel => ActorName::Channel(ChannelType::new("slack").expect("a name")),
        Actor::TaskScheduler => ActorName::TaskScheduler,
        Actor::Supervisor => ActorName::Sweep,
    }
}

fn fault(folder: &Path, what: Broken) -> Fault {
    let (file, operation) = match what {
        Broken::WriteInbox => ("inbound.db", Operation::Write),
        Broken::SyncInbox => ("inbound.db", Operation::Sync),
        Broken::ReadInbox => ("inbound.db", Operation::Read),
        Broken::ReadOutbox => ("outbound.db", Operation::Read),
        Broken::MakeJournals => ("", Operation::Create),
    };
    Fault::on(&folder.join(file), operation, Errno::IO)
}

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Slow { ms } => Answer::slow(Duration::from_millis(ms)),
        Reply::Limited { ms } => Answer::Fail(SendError::RateLimited {
            retry_after: Some(Duration::from_millis(ms)),
            // One message is limited: the others are not to wait for it.
            scope: LimitScope::Destination,
            reason: "slow down".to_owned(),
        }),
        Reply::Transient => Answer::transient("bad gateway"),
        Reply::Permanent => Answer::permanent("blocked"),
        Reply::LostAnswer => Answer::accept_then_drop(),
        Reply::LostRequest => Answer::ambiguous(),
        Reply::Hang => Answer::Hang,
        Reply::Panic => Answer::Panic("a bug in the adapter".to_owned()),
    }
}

fn spec(session: usize, id: &str, row: &Row, names: &str, at: Timestamp) -> RowSpec {
    let chat = format!("slack:C{session}");
    let to_thread = |content: String, thread: usize| {
        RowSpec::new("chat", content).to("slack", &chat, Some(&format!("t{thread}")))
    };
    let spec = match row {
        Row::Message { thread, file: false, .. } => to_thread(json!({ "text": names }).to_string(), *thread),
        Row::Message { thread, file: true, .. } => {
            let content = json!({ "text": names, "files": ["a.txt"] });
            to_thread(content.to_string(), *thread).file("a.txt", names)
        }
        Row::Later { thread, ms } => {
            let due = at.plus(Duration::from_millis(*ms));
            to_thread(json!({ "text": names }).to_string(), *thread).deliver_after(&due.to_iso())
        }
        Row::Edit { thread } => {
            let content = json!({ "operation": "edit", "messageId": "plat-old", "text": names });
            to_thread(content.to_string(), *thread)
        }
        Row::Broken => to_thread("{\"text\":".to_owned(), 0),
        Row::Forbidden => RowSpec::text("slack", "slack:SECRET", names),
        Row::Schedule => system(&json!({
            "action": "schedule_task", "taskId": names, "prompt": "p", "script": null,
            "processAfter": "2090-01-01T00:00:00Z", "recurrence": null,
        })),
        Row::Cancel => system(&json!({ "action": "cancel_task", "taskId": names })),
        Row::Tell => RowSpec::text("agent", "ag-peer", names),
    };
    spec.id(id)
}

fn system(action: &serde_json::Value) -> RowSpec {
    RowSpec::new("system", action.to_string())
}
