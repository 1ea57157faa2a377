use super::*;
use crate::store::session_dir::tests::{Fixture, assert_missing, assert_refused, make_fifo};
use std::io::{Read, Seek};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

fn component(text: &str) -> PathComponent {
    PathComponent::new(text).unwrap()
}

/// A session with `outbox/m1/report.pdf`.
fn with_report() -> Fixture {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("outbox/m1")).unwrap();
    std::fs::write(fixture.path("outbox/m1/report.pdf"), "report").unwrap();
    fixture
}

fn open_report(fixture: &Fixture) -> Result<(File, u64), StoreError> {
    open_outbox_file(&fixture.directory, &component("m1"), &component("report.pdf"))
}

fn source(content: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn copy(fixture: &Fixture, content: &str, size: u64) -> Result<(), StoreError> {
    copy_into_inbox(&fixture.directory, &component("m1"), &component("a.png"), &mut source(content), size)
}

#[test]
fn a_plain_attachment_is_opened_with_its_size() {
    let fixture = with_report();
    let (mut file, size) = open_report(&fixture).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), size), ("report", 6));
    let open = |message, name| open_outbox_file(&fixture.directory, &component(message), &component(name));
    assert_missing(open("m1", "other"));
    assert_missing(open("m2", "report.pdf"));
}

#[test]
fn a_link_at_any_level_is_refused() {
    #[track_caller]
    fn check(link: &str) {
        let fixture = with_report();
        let real = fixture.data.path().join("outside/real");
        std::fs::rename(fixture.path(link), &real).unwrap();
        symlink(&real, fixture.path(link)).unwrap();
        assert_refused(open_report(&fixture), "symbolic link");
    }
    check("outbox");
    check("outbox/m1");
    check("outbox/m1/report.pdf");
}

#[test]
fn a_fifo_device_folder_or_hard_link_is_refused_at_once() {
    #[track_caller]
    fn check(words: &str, make: impl FnOnce(&Fixture, &Path)) {
        let fixture = with_report();
        let path = fixture.path("outbox/m1/report.pdf");
        std::fs::remove_file(&path).unwrap();
        make(&fixture, &path);
        assert_refused(open_report(&fixture), words);
    }
    check("FIFO", |_, path| make_fifo(path));
    check("folder", |_, path| std::fs::create_dir(path).unwrap());
    check("hard link", |fixture, path| std::fs::hard_link(fixture.victim(), path).unwrap());
    check("socket", |_, path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()));
}

#[test]
fn a_file_swapped_while_it_is_opened_never_yields_another_file() {
    let fixture = with_report();
    let (report, other, link) = (
        fixture.path("outbox/m1/report.pdf"),
        fixture.path("outbox/m1/other"),
        fixture.path("outbox/m1/link"),
    );
    std::fs::write(&other, "report").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                symlink(fixture.victim(), &link).unwrap();
                std::fs::rename(&link, &report).unwrap();
                std::fs::write(&other, "report").unwrap();
                std::fs::rename(&other, &report).unwrap();
            }
        });
        for _ in 0..2000 {
            match open_report(&fixture) {
                Ok((mut file, _)) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text, "report");
                }
                Err(StoreError::Refused { .. } | StoreError::Missing(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_outbox_lists_plain_names_only() {
    let fixture = with_report();
    std::fs::create_dir(fixture.path("outbox/m2")).unwrap();
    std::fs::create_dir(fixture.path("outbox/a\nb")).unwrap();
    let mut names = list_outbox(&fixture.directory).unwrap();
    names.sort();
    assert_eq!(names, [component("m1"), component("m2")]);
    assert_eq!(list_outbox_files(&fixture.directory, &component("m1")).unwrap(), [component("report.pdf")]);
    assert_missing(list_outbox_files(&fixture.directory, &component("m3")));
    std::fs::remove_dir_all(fixture.path("outbox")).unwrap();
    assert_eq!(list_outbox(&fixture.directory).unwrap(), []);
}

#[test]
fn a_removed_outbox_is_gone_and_removing_it_again_does_nothing() {
    let fixture = with_report();
    std::fs::create_dir(fixture.path("outbox/m1/images")).unwrap();
    std::fs::write(fixture.path("outbox/m1/images/a.png"), "").unwrap();
    remove_outbox(&fixture.directory, &component("m1")).unwrap();
    assert!(!fixture.path("outbox/m1").exists());
    remove_outbox(&fixture.directory, &component("m1")).unwrap();
    std::fs::remove_dir(fixture.path("outbox")).unwrap();
    remove_outbox(&fixture.directory, &component("m1")).unwrap();
}

#[test]
fn removing_follows_no_link() {
    let fixture = with_report();
    symlink(fixture.victim(), fixture.path("outbox/m1/link")).unwrap();
    symlink(fixture.data.path().join("outside"), fixture.path("outbox/m1/folder-link")).unwrap();
    std::fs::create_dir(fixture.path("outbox/m1/inner")).unwrap();
    symlink(fixture.data.path().join("outside"), fixture.path("outbox/m1/inner/link")).unwrap();
    remove_outbox(&fixture.directory, &component("m1")).unwrap();
    assert!(!fixture.path("outbox/m1").exists());
    fixture.assert_victim_untouched();

    symlink(fixture.data.path().join("outside"), fixture.path("outbox/m2")).unwrap();
    assert_refused(remove_outbox(&fixture.directory, &component("m2")), "symbolic link");
    fixture.assert_victim_untouched();

    std::fs::rename(fixture.path("outbox"), fixture.path("real")).unwrap();
    symlink(fixture.data.path(), fixture.path("outbox")).unwrap();
    assert_refused(remove_outbox(&fixture.directory, &component("outside")), "symbolic link");
    fixture.assert_victim_untouched();
}

#[test]
fn a_removed_inbox_folder_is_gone_and_its_links_are_not_followed() {
    let fixture = Fixture::new();
    copy(&fixture, "picture", 7).unwrap();
    symlink(fixture.data.path().join("outside"), fixture.path("inbox/m1/link")).unwrap();
    remove_inbox(&fixture.directory, &component("m1")).unwrap();
    assert!(!fixture.path("inbox/m1").exists());
    remove_inbox(&fixture.directory, &component("m1")).unwrap();
    symlink(fixture.data.path().join("outside"), fixture.path("inbox/m1")).unwrap();
    assert_refused(remove_inbox(&fixture.directory, &component("m1")), "symbolic link");
    fixture.assert_victim_untouched();
}

#[test]
fn a_deep_outbox_is_refused() {
    let fixture = with_report();
    std::fs::create_dir_all(fixture.path("outbox/m1/a/b")).unwrap();
    assert_refused(remove_outbox(&fixture.directory, &component("m1")), "folders within folders");
}

#[test]
fn a_huge_outbox_is_removed_in_several_tries() {
    let fixture = with_report();
    for number in 0..FOLDER_ENTRIES_MAX {
        std::fs::write(fixture.path(&format!("outbox/m1/{number}")), "").unwrap();
    }
    assert!(matches!(remove_outbox(&fixture.directory, &component("m1")), Err(StoreError::Limit(_))));
    remove_outbox(&fixture.directory, &component("m1")).unwrap();
    assert!(!fixture.path("outbox/m1").exists());
}

#[test]
fn a_copy_has_the_declared_bytes_and_replaces_what_a_crash_left() {
    let fixture = Fixture::new();
    let path = fixture.path("inbox/m1/a.png");
    copy(&fixture, "picture", 7).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "picture");
    copy(&fixture, "picture and more", 7).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "picture");
    let long = "x".repeat(3 * COPY_BLOCK_BYTES + 5);
    copy(&fixture, &long, long.len() as u64).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), long);
}

#[test]
fn a_copy_from_a_shortened_file_fails_and_leaves_nothing() {
    let fixture = Fixture::new();
    assert!(matches!(copy(&fixture, "short", 100), Err(StoreError::Io { .. })));
    assert!(!fixture.path("inbox/m1/a.png").exists());
}

#[test]
fn a_copy_goes_through_no_link() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("inbox/m1")).unwrap();
    symlink(fixture.victim(), fixture.path("inbox/m1/a.png")).unwrap();
    copy(&fixture, "picture", 7).unwrap();
    fixture.assert_victim_untouched();
    assert!(fixture.path("inbox/m1/a.png").symlink_metadata().unwrap().is_file());

    std::fs::remove_dir_all(fixture.path("inbox/m1")).unwrap();
    symlink(fixture.data.path().join("outside"), fixture.path("inbox/m1")).unwrap();
    assert_refused(copy(&fixture, "picture", 7), "symbolic link");

    std::fs::remove_dir_all(fixture.path("inbox")).unwrap();
    symlink(fixture.data.path().join("outside"), fixture.path("inbox")).unwrap();
    assert_refused(copy(&fixture, "picture", 7), "symbolic link");
    assert_eq!(std::fs::read_dir(fixture.data.path().join("outside")).unwrap().count(), 1);

    std::fs::remove_file(fixture.path("inbox")).unwrap();
    std::fs::create_dir_all(fixture.path("inbox/m1/a.png")).unwrap();
    assert_refused(copy(&fixture, "picture", 7), "folder");
}
