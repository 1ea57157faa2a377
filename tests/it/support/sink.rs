//! The file of a jsonl channel, and a wait for what is written to it.

use super::program::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use serde_json::Value;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name of the file in the data directory.
const NAME: &str = "deliveries.jsonl";

/// A jsonl channel's file.
pub struct Sink {
    path: PathBuf,
}

impl Sink {
    /// The file of a data directory for which [`Sink::table`] is configured.
    pub fn of(data_dir: &Path) -> Self {
        Self { path: data_dir.join(NAME) }
    }

    /// The configuration of the channel.
    pub fn table(channel_type: &str) -> String {
        format!("[channels.\"{channel_type}\"]\nkind = \"jsonl\"\npath = \"{NAME}\"\n")
    }

    /// Every whole line.
    pub fn deliveries(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        // What stands behind the last line break is being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many whole lines there are.
    pub fn count(&self) -> usize {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The ids of all deliveries, in order.
    pub fn ids(&self) -> Vec<String> {
        let id = |delivery: &Value| delivery["id"].as_str().expect("an id").to_owned();
        self.deliveries().iter().map(id).collect()
    }

    /// The seqs of all deliveries by session, in order.
    pub fn seqs(&self) -> BTreeMap<String, Vec<i64>> {
        let mut seqs: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for delivery in self.deliveries() {
            let session = delivery["session_id"].as_str().expect("a session").to_owned();
            seqs.entry(session).or_default().push(delivery["seq"].as_i64().expect("a seq"));
        }
        seqs
    }

    /// Waits until there are so many deliveries, and returns them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Value> {
        let complete = self.wait_until(PATIENCE, || self.deliveries().len() >= count);
        let found = self.deliveries();
        assert!(complete, "{} of {count} deliveries in time: {found:#?}", found.len());
        found
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Looks again at each change of the folder; whether what was waited for came in time.
    pub fn wait_until(&self, patience: Duration, mut is_there: impl FnMut() -> bool) -> bool {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
        let folder = self.path.parent().expect("a folder");
        inotify::add_watch(&events, folder, WatchFlags::MODIFY | WatchFlags::CREATE).expect("a watch");
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let until = Instant::now() + patience;
        loop {
            if is_there() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let timeout = Timespec::try_from(left).expect("a short time");
            let _ = poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&timeout));
            let mut reader = Reader::new(&events, &mut buffer);
            while reader.next().is_ok() {}
        }
    }
}
