//! Database files as an agent may leave them: arbitrary bytes as databases and journals, opened, read and written
//! as the host does. Nothing may panic or hang, and nothing beside the session folder may change.
//!
//! The first byte of the input says which files it fills; the rest is split among them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nanorelay_actors::model::ids::{AgentGroupId, MessageId, SessionId};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::store::inbound::{self, ProjectedStatus, Projection, TaskQuery};
use nanorelay_actors::store::lease::SessionLeases;
use nanorelay_actors::store::open::SpareConnections;
use nanorelay_actors::store::outbound::{self, Cursor};
use nanorelay_actors::store::session_dir::SessionsRoot;
use nanorelay_actors::store::session_store::{
    Adds, SessionPlace, SessionSetup, SessionStore, create_session_files,
};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

const CONTENT_BYTES_MAX: u64 = 64 * 1024;
const FILES: [&str; 4] = ["outbound.db", "inbound.db", "outbound.db-journal", "inbound.db-journal"];

struct World {
    _temporary: tempfile::TempDir,
    root: Arc<SessionsRoot>,
    /// What one input leaves in them is used for the next one, as it is from session to session.
    connections: Arc<SpareConnections>,
    folder: PathBuf,
    /// Never to be touched.
    canary: PathBuf,
    /// What both databases hold before the agent comes.
    originals: [Vec<u8>; 2],
}

thread_local! {
    static WORLD: OnceCell<World> = const { OnceCell::new() };
}

fn ids() -> (AgentGroupId, SessionId) {
    (AgentGroupId::new("ag").expect("an id"), SessionId::new("s").expect("an id"))
}

fn world() -> World {
    let temporary = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    fs::create_dir(temporary.path().join("v2-sessions")).expect("a folder");
    let canary = temporary.path().join("canary");
    fs::write(&canary, b"canary").expect("a file");
    let root = Arc::new(SessionsRoot::open(temporary.path()).expect("the root"));
    let (group, session) = ids();
    let directory = Arc::new(root.create_session(&group, &session).expect("a session"));
    create_session_files(&directory, &SessionSetup::default()).expect("two databases");
    let folder = temporary.path().join("v2-sessions/ag/s");
    let originals = [FILES[0], FILES[1]].map(|name| fs::read(folder.join(name)).expect("a database"));
    World { _temporary: temporary, root, connections: Arc::default(), folder, canary, originals }
}

fn plant(world: &World, input: &[u8]) {
    let Some((which, mut rest)) = input.split_first() else { return };
    for (name, original) in FILES.iter().zip(&world.originals) {
        fs::write(world.folder.join(name), original).expect("a database");
    }
    for name in &FILES[2..] {
        let _ = fs::remove_file(world.folder.join(name));
    }
    let mut left = (which & 0b1111).count_ones() as usize;
    for (bit, name) in FILES.iter().enumerate() {
        if which & (1 << bit) == 0 {
            continue;
        }
        let part = rest.len() / left;
        let bytes = &rest[..part];
        // Databases may be patches of good ones: those get much further than noise.
        let is_patch = bit < 2 && which & 0b1_0000 != 0;
        let content = if is_patch { patched(&world.originals[bit], bytes) } else { bytes.to_vec() };
        fs::write(world.folder.join(name), content).expect("a file");
        rest = &rest[part..];
        left -= 1;
    }
}

/// Each three bytes of `patch` are a place and a value.
fn patched(original: &[u8], patch: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for change in patch.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}

fn use_as_the_host_does(
    root: &Arc<SessionsRoot>,
    connections: &Arc<SpareConnections>,
    leases: &SessionLeases,
) {
    let (group, session) = ids();
    let Some(lease) = leases.try_acquire(&session) else { return };
    let place = SessionPlace { root: Arc::clone(root), connections: Arc::clone(connections), group, session };
    let mut store = SessionStore::new(place, lease);
    let now = Timestamp::from_ms(1_776_000_000_000);
    let mut seen = vec![MessageId::new("m-1").expect("an id")];
    for _ in 0..2 {
        if let Ok(outbox) = store.outbound() {
            if let Ok(batch) = outbound::read_after(outbox, Cursor::default(), 64, CONTENT_BYTES_MAX) {
                seen.extend(batch.rows.into_iter().map(|row| row.id));
            }
            let _ = outbound::read_by_ids(outbox, &seen, CONTENT_BYTES_MAX);
            let _ = outbound::ids_in_order(outbox, Cursor::default(), 64);
            let _ = outbound::acks(outbox, &seen);
            let _ = outbound::claims(outbox, 64);
            let _ = outbound::container_state(outbox);
        }
        let _ = store.roll_back_outbound();
    }
    if let Ok(inbox) = store.inbound() {
        let _ = inbound::live_ids(inbox, i64::MIN, 64);
        let _ = inbound::completed_recurring(inbox, 64);
        let _ = inbound::due_work(inbox, &HashSet::new(), now);
        let _ = inbound::live_tasks(inbox, &TaskQuery::default());
        let _ = inbound::next_due(inbox, now);
        let _ = inbound::is_quiet(inbox);
        let _ = inbound::delivered_page(inbox, i64::MIN, 64);
        let _ = inbound::delivered_among(inbox, &seen);
    }
    let _ = store.write(Adds::Messages, |transaction| {
        let outcomes: Vec<Projection> = seen
            .iter()
            .map(|id| Projection {
                message_id: id.clone(),
                status: ProjectedStatus::Delivered,
                platform_message_id: None,
                delivered_at: now,
            })
            .collect();
        inbound::project(transaction, &outcomes)?;
        inbound::count_live_tasks(transaction)?;
        inbound::pause_series(transaction, "t")?;
        inbound::resume_series(transaction, "t")?;
        inbound::cancel_series(transaction, "t")
    });
}

fuzz_target!(|input: &[u8]| {
    WORLD.with(|cell| {
        let world = cell.get_or_init(world);
        plant(world, input);
        use_as_the_host_does(&world.root, &world.connections, &SessionLeases::default());
        assert_eq!(fs::read(&world.canary).expect("the canary"), b"canary");
    });
});
