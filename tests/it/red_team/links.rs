//! Links and special files in place of folders, databases and attachments (hazards H1, H2).

use super::battle::Battle;
use nanorelay_actors::testing::RowSpec;
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Puts a symbolic link in the place of something.
fn link_instead(place: &Path, target: &Path) {
    if place.is_dir() {
        fs::remove_dir_all(place).expect("a folder");
    } else if place.exists() {
        fs::remove_file(place).expect("a file");
    }
    symlink(target, place).expect("a link");
}

/// A link in that place of the session folder quarantines the session.
async fn check_link(name: &str, target: &str, words: &str) {
    let battle = Battle::new();
    let id = battle.victim.text("hello");
    link_instead(&battle.path(name), &battle.outside.join(target));
    let relay = battle.start().await;
    battle.neighbour_is_served().await;
    if battle.slack.calls().iter().any(|call| call.message_id.as_str() == id) {
        // It could be delivered, but not recorded in the agent's file.
        battle.is_shown(&id).await;
    }
    battle.is_quarantined(&relay, words).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_linked_group_folder_is_refused() {
    let battle = Battle::new();
    battle.victim.text("hello");
    let group = battle.victim.folder().parent().expect("a group").to_owned();
    let moved = battle.data.path().join("moved");
    fs::rename(&group, &moved).expect("a folder can be moved");
    symlink(&moved, &group).expect("a link");
    let relay = battle.start().await;
    battle.is_quarantined(&relay, "symbolic link").await;
    assert!(battle.slack.calls().iter().all(|call| call.session_id.as_str() != "sess-victim"));
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_linked_session_folder_is_refused() {
    let battle = Battle::new();
    let folder = battle.victim.folder().to_owned();
    link_instead(&folder, &battle.outside);
    let relay = battle.start().await;
    battle.is_quarantined(&relay, "symbolic link").await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_linked_outbound_db_is_refused() {
    check_link("outbound.db", "outbound.db", "outbound.db is refused: is a symbolic link").await;
}

#[actix_rt::test]
async fn a_linked_inbound_db_is_refused() {
    check_link("inbound.db", "inbound.db", "inbound.db is refused: is a symbolic link").await;
}

#[actix_rt::test]
async fn a_dangling_link_is_no_missing_file() {
    check_link("inbound.db", "not-there", "inbound.db is refused").await;
}

#[actix_rt::test]
async fn a_linked_heartbeat_is_refused() {
    check_link(".heartbeat", "secret.txt", ".heartbeat is refused: is a symbolic link").await;
}

#[actix_rt::test]
async fn a_linked_journal_of_the_agent_is_refused() {
    check_link("outbound.db-journal", "secret.txt", "outbound.db-journal is refused").await;
}

#[actix_rt::test]
async fn a_linked_journal_of_the_host_is_refused() {
    check_link("inbound.db-journal", "secret.txt", "inbound.db-journal is refused").await;
}

/// A message whose attachment is reached through a link is dead, and nothing is deleted behind the link.
async fn check_attachment(plant: impl FnOnce(&Battle), words: &str) {
    let battle = Battle::new();
    let id = battle.message_with_file("with-file", "report.txt");
    plant(&battle);
    let relay = battle.start().await;
    battle.is_dead(&relay, &id, words).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_linked_outbox_is_not_followed() {
    let plant = |battle: &Battle| {
        link_instead(&battle.path("outbox"), &battle.outside);
    };
    check_attachment(plant, "symbolic link").await;
}

#[actix_rt::test]
async fn a_linked_folder_in_the_outbox_is_not_followed() {
    let plant = |battle: &Battle| {
        link_instead(&battle.path("outbox/with-file"), &battle.outside.join("folder"));
    };
    check_attachment(plant, "symbolic link").await;
}

#[actix_rt::test]
async fn a_linked_attachment_is_not_followed() {
    let plant = |battle: &Battle| {
        link_instead(&battle.path("outbox/with-file/report.txt"), &battle.outside.join("secret.txt"));
    };
    check_attachment(plant, "symbolic link").await;
}

#[actix_rt::test]
async fn a_hard_linked_attachment_is_refused() {
    let plant = |battle: &Battle| {
        let place = battle.path("outbox/with-file/report.txt");
        fs::remove_file(&place).expect("a file");
        fs::hard_link(battle.outside.join("secret.txt"), place).expect("a hard link");
    };
    check_attachment(plant, "hard link").await;
}

#[actix_rt::test]
async fn a_hard_linked_database_is_refused() {
    for name in ["outbound.db", "inbound.db"] {
        let battle = Battle::new();
        battle.victim.text("hello");
        fs::remove_file(battle.path(name)).expect("a file");
        fs::hard_link(battle.outside.join(name), battle.path(name)).expect("a hard link");
        let relay = battle.start().await;
        battle.is_quarantined(&relay, "hard link").await;
        battle.end(relay).await;
    }
}

#[actix_rt::test]
async fn a_fifo_stops_nobody() {
    for name in ["outbound.db", "inbound.db", "outbound.db-journal", ".heartbeat"] {
        let battle = Battle::new();
        battle.victim.text("hello");
        let _ = fs::remove_file(battle.path(name));
        make_special(&battle.path(name), FileType::Fifo, 0).expect("a fifo");
        let relay = battle.start().await;
        battle.is_quarantined(&relay, "is a FIFO").await;
        battle.end(relay).await;
    }
    let plant = |battle: &Battle| {
        let place = battle.path("outbox/with-file/report.txt");
        fs::remove_file(&place).expect("a file");
        make_special(&place, FileType::Fifo, 0).expect("a fifo");
    };
    check_attachment(plant, "is a FIFO").await;
}

#[actix_rt::test]
async fn a_device_is_refused() {
    let probe = Battle::new();
    // The machine's zeros: reading them would never end.
    let zero = rustix::fs::makedev(1, 5);
    if make_special(&probe.path("probe"), FileType::CharacterDevice, zero).is_err() {
        println!("skipped: this user may not make devices");
        return;
    }
    for name in ["outbound.db", "inbound.db"] {
        let battle = Battle::new();
        fs::remove_file(battle.path(name)).expect("a file");
        make_special(&battle.path(name), FileType::CharacterDevice, zero).expect("a device");
        let relay = battle.start().await;
        battle.is_quarantined(&relay, "is a device").await;
        battle.end(relay).await;
    }
    let plant = move |battle: &Battle| {
        let place = battle.path("outbox/with-file/report.txt");
        fs::remove_file(&place).expect("a file");
        make_special(&place, FileType::CharacterDevice, zero).expect("a device");
    };
    check_attachment(plant, "is a device").await;
}

fn make_special(path: &Path, kind: FileType, device: u64) -> rustix::io::Result<()> {
    rustix::fs::mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device)
}

/// A mount that ends with its value.
struct BindMount(PathBuf);

impl BindMount {
    fn new(source: &Path, place: &Path) -> Option<Self> {
        let mounted = Command::new("mount").arg("--bind").args([source, place]).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(place.to_owned()))
    }
}

impl Drop for BindMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[actix_rt::test]
async fn a_file_that_is_mounted_over_another_is_refused() {
    let battle = Battle::new();
    let id = battle.message_with_file("with-file", "report.txt");
    // On the same file system, with one link: nothing but the mount tells it from an ordinary file.
    let secret = battle.outside.join("secret.txt");
    let Some(mount) = BindMount::new(&secret, &battle.path("outbox/with-file/report.txt")) else {
        println!("skipped: this user may not mount");
        return;
    };
    let relay = battle.start().await;
    battle.is_dead(&relay, &id, "mount").await;
    drop(mount);
    let _database = BindMount::new(&battle.outside.join("outbound.db"), &battle.path("outbound.db"));
    battle.is_quarantined_soon(&relay, "mount").await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_linked_inbox_takes_no_file_of_another_agent() {
    let battle = Battle::new();
    battle.data.allow_agent("ag-good", "ag-evil");
    link_instead(&battle.path("inbox"), &battle.outside.join("folder"));
    let content = "{\"text\":\"for you\",\"files\":[\"gift.txt\"]}".to_owned();
    let row = RowSpec { content, ..RowSpec::text("agent", "ag-evil", "") };
    battle.neighbour.row(row.file("gift.txt", *b"gift"));
    let relay = battle.start().await;
    battle.neighbour_is_served().await;
    assert!(battle.victim.messages_in().iter().all(|row| row.channel_type.as_deref() != Some("agent")));
    battle.end(relay).await;
}
