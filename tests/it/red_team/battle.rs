//! What every attack needs: a victim session, a neighbour, canaries, and the questions at the end.

use crate::support::host::TestHost;
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::{DeliveryFilter, DeliveryRecord, DeliveryState};
use nanorelay_actors::testing::{DataDir, MockChannel, RowSpec, SessionSpec, TestAgent, database};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What must never be delivered.
pub const SECRET: &str = "the-canary-sings";
/// Far more than anything here takes on a slow machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// One attack's world.
pub struct Battle {
    pub data: DataDir,
    pub host: TestHost,
    pub slack: Arc<MockChannel>,
    /// The session whose agent attacks.
    pub victim: TestAgent,
    pub neighbour: TestAgent,
    /// A folder beside the data directory, as any other of the host's.
    pub outside: PathBuf,
    canaries: BTreeMap<PathBuf, Vec<u8>>,
}

impl Battle {
    pub fn new() -> Self {
        Self::with(|spec| spec)
    }

    /// Chooses what the victim is like.
    pub fn with(victim: impl FnOnce(SessionSpec) -> SessionSpec) -> Self {
        let data = DataDir::new();
        let spec = SessionSpec::new("ag-evil").id("sess-victim").chat("slack", "slack:EVIL");
        let victim = data.session(victim(spec));
        let neighbour =
            data.session(SessionSpec::new("ag-good").id("sess-neighbour").chat("slack", "slack:GOOD"));
        let mut host = TestHost::new(data.path());
        let slack = host.channel("slack");
        let outside = data.path().parent().expect("a folder above").join("outside");
        fs::create_dir(&outside).expect("a folder");
        let mut battle = Self { data, host, slack, victim, neighbour, outside, canaries: BTreeMap::new() };
        battle.plant_canaries();
        battle
    }

    fn plant_canaries(&mut self) {
        fs::write(self.outside.join("secret.txt"), SECRET).expect("a canary");
        fs::create_dir(self.outside.join("folder")).expect("a folder");
        fs::write(self.outside.join("folder/report.txt"), SECRET).expect("a canary");
        // Databases of the right form: the host could use them by mistake.
        for (name, template) in [("outbound.db", "outbound.db"), ("inbound.db", "inbound.db")] {
            fs::copy(self.neighbour.folder().join(template), self.outside.join(name)).expect("a copy");
        }
        database::open(&self.outside.join("outbound.db"))
            .execute(
                "INSERT INTO messages_out (id, seq, timestamp, kind, channel_type, platform_id, content)
                 VALUES ('canary', 1, '', 'chat', 'slack', 'slack:EVIL', ?1)",
                [format!("{{\"text\":\"{SECRET}\"}}")],
            )
            .expect("a row");
        self.canaries = read_all(&self.outside);
    }

    /// A path in the victim's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.victim.folder().join(name)
    }

    /// Writes a text with a file of the victim that it owns itself.
    pub fn message_with_file(&self, id: &str, name: &str) -> String {
        let content = format!("{{\"text\":\"see file\",\"files\":[\"{name}\"]}}");
        self.victim.row(RowSpec { content, ..self.victim.text_row("") }.id(id).file(name, *b"mine"))
    }

    /// Makes the outbox folder of a message that is not written yet.
    pub fn message_with_file_folder(&self, id: &str) -> String {
        let folder = self.path("outbox").join(id);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("report.txt"), "mine").expect("a file");
        id.to_owned()
    }

    /// Writes that message.
    pub fn write_row_of(&self, id: &str) {
        let content = "{\"text\":\"see file\",\"files\":[\"report.txt\"]}".to_owned();
        self.victim.row(RowSpec { content, ..self.victim.text_row("") }.id(id));
    }

    pub async fn start(&self) -> Relay {
        self.host.start().await
    }

    /// A message of the neighbour that is written now arrives.
    pub async fn neighbour_is_served(&self) {
        let id = self.neighbour.text("how are you");
        self.is_shown(&id).await;
    }

    pub async fn is_shown(&self, id: &str) {
        let shown = self
            .slack
            .wait_until(|calls| calls.iter().any(|call| call.shown && call.message_id.as_str() == id));
        within(&format!("{id} is delivered"), shown).await;
    }

    /// The victim is quarantined, with a reason that contains `words`.
    pub async fn is_quarantined(&self, relay: &Relay, words: &str) {
        within("the relay settles", relay.settle()).await;
        let quarantined = relay.quarantined().await.expect("the ledger can be read");
        let reason = quarantined.get(self.victim.session_id()).map(String::as_str).unwrap_or("none");
        assert!(reason.contains(words), "quarantined because of {reason:?}, not {words:?}");
        assert!(!quarantined.contains_key(self.neighbour.session_id()));
    }

    /// The same after another look at the victim: something was changed while the host ran.
    pub async fn is_quarantined_soon(&self, relay: &Relay, words: &str) {
        self.look(relay).await;
        self.is_quarantined(relay, words).await;
    }

    /// Has the host look at the victim now.
    pub async fn look(&self, relay: &Relay) {
        relay.release(self.victim_id()).await.expect("the ledger can be written");
        within("the relay settles", relay.settle()).await;
    }

    fn victim_id(&self) -> SessionId {
        SessionId::new(self.victim.session_id()).expect("an id")
    }

    /// Nothing keeps the victim from being served.
    pub async fn is_not_quarantined(&self, relay: &Relay) {
        within("the relay settles", relay.settle()).await;
        let quarantined = relay.quarantined().await.expect("the ledger can be read");
        assert_eq!(quarantined.get(self.victim.session_id()), None);
    }

    /// The victim's message is dead, with a reason that contains `words`.
    pub async fn is_dead(&self, relay: &Relay, id: &str, words: &str) {
        within("the relay settles", relay.settle()).await;
        let record = self.record(relay, id).await.unwrap_or_else(|| panic!("{id:.64} is not listed"));
        let error = record.error.unwrap_or_default();
        assert_eq!(record.state, DeliveryState::Dead, "{id:.64}: {error}");
        assert!(error.contains(words), "{id:.64} is dead because of {error:?}, not {words:?}");
    }

    pub async fn record(&self, relay: &Relay, id: &str) -> Option<DeliveryRecord> {
        let filter = DeliveryFilter {
            session_id: Some(self.victim.session_id().to_owned()),
            message_id: Some(id.to_owned()),
            ..DeliveryFilter::default()
        };
        relay.deliveries(filter).await.expect("the ledger can be read").pop()
    }

    pub async fn release(&self, relay: &Relay) {
        let was_quarantined = relay.release(self.victim_id()).await.expect("the ledger can be written");
        assert!(was_quarantined);
    }

    /// The neighbour is served, the host ends in time, and nothing outside was touched or told.
    pub async fn end(self, relay: Relay) {
        drop(self.end_and_keep(relay).await);
    }

    /// The same; the data directory stays.
    pub async fn end_and_keep(self, relay: Relay) -> DataDir {
        self.neighbour_is_served().await;
        within("the shutdown", relay.shutdown(SHUTDOWN_DEADLINE)).await;
        self.assert_canaries();
        self.data
    }

    pub fn assert_canaries(&self) {
        let now = read_all(&self.outside);
        let all = self.canaries.keys().chain(now.keys());
        let changed: Vec<&PathBuf> = all.filter(|path| now.get(*path) != self.canaries.get(*path)).collect();
        assert!(changed.is_empty(), "what is outside was changed: {changed:?}");
        let secrets: Vec<String> = self.canaries.values().map(|bytes| sha256(bytes)).collect();
        for call in self.slack.calls() {
            assert!(!call.content.contains(SECRET), "{} tells the secret", call.message_id);
            for file in &call.files {
                assert!(!secrets.contains(&file.sha256), "{} sends {}", call.message_id, file.name);
            }
        }
        assert_eq!(self.slack.calls().iter().filter(|call| call.message_id.as_str() == "canary").count(), 0);
    }
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// All files below a folder with their bytes; folders and links with none.
pub fn read_all(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(read_all(&path));
            found.insert(path, Vec::new());
        } else {
            let bytes = if path.is_symlink() { Vec::new() } else { fs::read(&path).expect("a file") };
            found.insert(path, bytes);
        }
    }
    found
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
