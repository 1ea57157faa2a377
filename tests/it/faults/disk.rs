//! A small disk that is full, or that has become read-only, under the whole data directory.

use crate::support::host::TestHost;
use crate::support::log::Log;
use crate::support::wait::{called, settled, shown, until};
use nanorelay_actors::testing::{Answer, DataDir, Era, SessionSpec, TestAgent};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// A file system of its own, in memory. It ends with this value.
struct SmallDisk {
    place: PathBuf,
    _temporary: tempfile::TempDir,
}

impl SmallDisk {
    /// None where this user may not mount.
    fn mount() -> Option<Self> {
        let temporary = tempfile::Builder::new().prefix("nanorelay-").tempdir().expect("a temporary folder");
        let place = temporary.path().join("disk");
        fs::create_dir(&place).expect("a folder");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&place).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self { place, _temporary: temporary })
    }

    fn remount(&self, options: &str) {
        let remount =
            Command::new("mount").args(["-o", options]).arg(&self.place).output().expect("mount runs");
        assert!(remount.status.success(), "{remount:?}");
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("a file");
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).expect("the ballast is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).output();
    }
}

/// A host on that disk whose sends wait at a gate, one of each of its sessions.
fn agents(folder: &Path) -> (DataDir, Vec<TestAgent>) {
    let data = DataDir::create_in(folder.join("data"), Era::Current);
    let session = |number| data.session(SessionSpec::new("ag").chat("slack", &format!("slack:C{number}")));
    let agents = (0..5).map(session).collect();
    (data, agents)
}

/// Messages are on their way, and more wait, when the disk fails. All of them arrive when it is well again.
async fn check(fail: impl Fn(&SmallDisk), heal: impl Fn(&SmallDisk)) {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: this user may not mount; the tests of `session_files` and `ledger` still run");
        return;
    };
    let (data, agents) = agents(&disk.place);
    let mut ids: Vec<_> = agents.iter().map(|agent| agent.text("on its way")).collect();
    ids.extend(agents.iter().map(|agent| agent.text("behind it")));
    let (mut host, log) = (TestHost::new(data.path()), Log::default());
    let slack = host.channel("slack");
    slack.script(|_| Answer::gate());
    let relay = host.start_with(|builder| builder.logger(log.logger())).await;
    called(&slack, 5).await;

    fail(&disk);
    slack.open_gate();
    until("records fail", || log.count("outcome not recorded yet") >= 5).await;
    assert_eq!(slack.calls().len(), 5, "without a record nothing more is sent");
    assert!(agents.iter().all(|agent| agent.delivered().is_empty()), "nobody is told what is not recorded");

    heal(&disk);
    shown(&slack, 10).await;
    settled(&relay).await;
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
    assert_eq!(slack.calls().len(), 10);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    for agent in &agents {
        assert_eq!(agent.delivered().len(), 2, "{}", agent.session_id());
    }
}

#[actix_rt::test]
async fn a_full_disk_stops_sends_until_there_is_room() {
    check(SmallDisk::fill, SmallDisk::free).await;
}

#[actix_rt::test]
async fn a_host_that_starts_on_a_full_disk_says_so_and_starts_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: this user may not mount");
        return;
    };
    let (data, agents) = agents(&disk.place);
    let id = agents[0].text("hello");
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    disk.fill();
    let error = host.builder().start().await.expect_err("there is no room for a ledger").to_string();
    assert!(error.contains("full") || error.contains("No space"), "{error}");
    disk.free();
    assert_eq!(host.drain().await.report.delivered, 1);
    slack.assert_exactly_once(&[id]);
}

#[actix_rt::test]
async fn a_host_that_starts_on_a_read_only_disk_says_so_and_starts_when_it_can_be_written() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: this user may not mount");
        return;
    };
    let (data, agents) = agents(&disk.place);
    let mut ids = vec![agents[0].text("before")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    assert_eq!(host.drain().await.report.delivered, 1);
    ids.push(agents[1].text("meanwhile"));
    disk.remount("remount,ro");
    let error = host.builder().start().await.expect_err("nothing can be recorded").to_string();
    assert!(error.to_lowercase().contains("read-only") || error.contains("readonly"), "{error}");
    assert_eq!(slack.calls().len(), 1);
    disk.remount("remount,rw");
    assert_eq!(host.drain().await.report.delivered, 1);
    slack.assert_exactly_once(&ids);
}
