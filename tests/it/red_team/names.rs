//! Names and ids that want to be paths (hazards H1, H7, H11).

use super::battle::{Battle, within};
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::testing::RowSpec;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;

#[actix_rt::test]
async fn no_declared_name_leads_out_of_its_folder() {
    let battle = Battle::new();
    let outside = battle.outside.join("secret.txt").display().to_string();
    let long = "x".repeat(4096);
    let names = [
        "../../../../../outside/secret.txt",
        &outside,
        "a/b",
        "..",
        ".",
        "",
        "a\\b",
        "..\\..\\secret.txt",
        "nul\0byte",
        "line\nbreak",
        "escape\u{1b}[2J",
        "/",
        "//",
        "./secret.txt",
        "secret.txt/",
        &long,
    ];
    let row = |name: &&str| {
        let content = serde_json::json!({ "text": "x", "files": [name] }).to_string();
        RowSpec { content, ..battle.victim.text_row("") }
    };
    let ids = battle.victim.rows(names.iter().map(row).collect());
    let relay = battle.start().await;
    for id in &ids {
        battle.is_dead(&relay, id, "").await;
        let record = battle.record(&relay, id).await.expect("it is listed");
        let error = record.error.unwrap_or_default();
        assert!(error.len() <= 1000 && !error.contains('\u{1b}'), "{error:?}");
    }
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_message_id_is_no_path() {
    let battle = Battle::new();
    let mut ids = Vec::new();
    for id in ["../../../../outside/folder", "..", ".", "/", "a/../../b", "folder\0"] {
        let content = "{\"text\":\"x\",\"files\":[\"report.txt\"]}".to_owned();
        ids.push(battle.victim.row(RowSpec { content, ..battle.victim.text_row("") }.id(id)));
    }
    // Without files such an id harms nobody, and the message arrives.
    let plain = battle.victim.row(battle.victim.text_row("x").id("../../../../outside/secret.txt"));
    let relay = battle.start().await;
    for id in &ids {
        battle.is_dead(&relay, id, "id").await;
    }
    battle.is_shown(&plain).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn names_that_are_no_text_lie_in_the_outbox_and_harm_nobody() {
    let battle = Battle::new();
    let id = battle.message_with_file("with-file", "report.txt");
    for name in [&b"\xff\xfe"[..], b"new\nline", b"\x1b[2J", b"..."] {
        fs::write(battle.path("outbox/with-file").join(OsStr::from_bytes(name)), "x").expect("a file");
        fs::create_dir(battle.path("outbox").join(OsStr::from_bytes(name))).expect("a folder");
    }
    let relay = battle.start().await;
    battle.is_shown(&id).await;
    within("the relay settles", relay.settle()).await;
    assert!(!battle.path("outbox/with-file").exists(), "it goes after its delivery");
    battle.end(relay).await;
}

#[actix_rt::test]
async fn ten_gibibytes_are_too_much() {
    let battle = Battle::new();
    let id = battle.message_with_file("with-file", "report.txt");
    let sparse = File::options().write(true).open(battle.path("outbox/with-file/report.txt"));
    if sparse.and_then(|file| file.set_len(10 << 30)).is_err() {
        println!("skipped: this file system has no sparse files of that size");
        return;
    }
    let relay = battle.start().await;
    battle.neighbour_is_served().await;
    battle.is_dead(&relay, &id, "10737418240 bytes, the limit is").await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn ten_thousand_attachments_are_too_many() {
    let battle = Battle::new();
    let names: Vec<String> = (0..10_000).map(|number| format!("f{number}")).collect();
    let content = serde_json::json!({ "text": "x", "files": names }).to_string();
    let mut row = RowSpec { content, ..battle.victim.text_row("") };
    row.files = names.into_iter().map(|name| (name, Vec::new())).collect();
    let id = battle.victim.row(row);
    let relay = battle.start().await;
    battle.neighbour_is_served().await;
    battle.is_dead(&relay, &id, "10000 attachments, the limit is 20").await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn a_long_name_is_told_by_its_beginning() {
    let mut battle = Battle::new();
    battle.host.settings.limits.attachment_name_bytes_max = 12;
    let id = battle.message_with_file("long", "a-name-of-18-bytes");
    let fine = battle.message_with_file("fine", "twelve-bytes");
    let relay = battle.start().await;
    battle.is_dead(&relay, &id, "the name has 18 bytes, the limit is 12").await;
    battle.is_shown(&fine).await;
    battle.end(relay).await;
}

#[actix_rt::test]
async fn what_lies_deep_in_the_outbox_stays_and_the_message_is_delivered() {
    let battle = Battle::new();
    let id = battle.message_with_file("with-file", "report.txt");
    fs::create_dir_all(battle.path("outbox/with-file/a/b/c/d")).expect("folders");
    let relay = battle.start().await;
    battle.is_shown(&id).await;
    within("the relay settles", relay.settle()).await;
    let record = battle.record(&relay, &id).await.expect("it is listed");
    assert_eq!(record.state, DeliveryState::Delivered);
    battle.end(relay).await;
}
