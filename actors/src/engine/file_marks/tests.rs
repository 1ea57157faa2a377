use super::*;
use crate::store::outbound::Cursor;

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

fn session(number: u32) -> SessionId {
    SessionId::new(&format!("sess-{number}")).unwrap()
}

fn file(size: u64) -> FileIdentity {
    FileIdentity { device: 1, inode: 2, size, modified_ns: (NOW.as_ms() - 60_000) * 1_000_000 }
}

fn rest_mark(size: u64) -> RestMark {
    RestMark { outbound: Some(file(size)), inbound: Some(file(1)), heartbeat: None, due_at: None, tasks: 0 }
}

#[test]
fn everything_that_is_known_of_a_session_is_told_at_once() {
    let marks = FileMarks::new([(session(1), rest_mark(1))]);
    let read = ReadMark::new(Some(file(1)), NOW);
    assert!(read.is_firm);
    let rests =
        KnownFiles { read: Some(read), resting: Some(rest_mark(1)), is_watched: false, is_idle: true };
    assert_eq!(marks.known(&session(1)), rests);
    marks.set_watched(&session(1), true);
    assert_eq!(marks.known(&session(1)), KnownFiles { is_watched: true, ..rests });
    marks.set_busy(&session(1));
    let busy = KnownFiles { is_watched: true, is_idle: false, resting: None, ..rests };
    assert_eq!(marks.known(&session(1)), busy);
    assert_eq!(marks.known(&session(2)), KnownFiles::default());
}

#[test]
fn each_mark_is_taken_once_for_the_ledger_and_again_when_it_has_changed() {
    let marks = FileMarks::new([(session(0), rest_mark(0))]);
    for number in 0..5 {
        marks.set_busy(&session(number));
        marks.set_idle(&session(number), Some(rest_mark(1)), true);
        // Nothing new.
        marks.set_idle(&session(number), Some(rest_mark(1)), true);
    }
    // Works again when the marks are taken.
    marks.set_busy(&session(4));
    let mut taken = marks.take_unsaved(3);
    assert_eq!(taken.len(), 3);
    taken.extend(marks.take_unsaved(3));
    taken.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(taken, [0, 1, 2, 3].map(|number| (session(number), rest_mark(1))));
    assert_eq!(marks.take_unsaved(3), []);
    marks.set_idle(&session(4), Some(rest_mark(1)), true);
    marks.set_idle(&session(3), Some(rest_mark(2)), true);
    // The newest counts.
    marks.set_idle(&session(3), Some(rest_mark(3)), true);
    marks.set_idle(&session(2), None, true);
    assert_eq!(marks.take_unsaved(9), [(session(3), rest_mark(3)), (session(4), rest_mark(1))]);
}

#[test]
fn the_number_of_watched_folders_is_that_of_the_sessions_that_are_marked_so() {
    let marks = FileMarks::default();
    for number in 0..4 {
        marks.set_watched(&session(number), true);
        marks.set_watched(&session(number), true);
    }
    marks.set_watched(&session(0), false);
    marks.set_watched(&session(0), false);
    marks.set_watched(&session(9), false);
    assert_eq!(marks.watched_count(), 3);
    assert!(marks.is_watched(&session(3)) && !marks.is_watched(&session(0)));
    marks.retain(3, |it| *it != session(3));
    assert_eq!(marks.watched_count(), 2);
    marks.clear_watched();
    assert_eq!(marks.watched_count(), 0);
    assert!(!marks.is_watched(&session(1)));
}

#[test]
fn sessions_are_forgotten_when_there_are_more_than_exist() {
    let marks = FileMarks::new([(session(1), rest_mark(1)), (session(2), rest_mark(1))]);
    marks.retain(2, |it| *it == session(1));
    assert!(marks.resting(&session(2)).is_some(), "as many as exist: nobody is asked");
    marks.retain(1, |it| *it == session(1));
    assert_eq!(marks.resting(&session(2)), None);
    assert_eq!(marks.resting(&session(1)), Some(rest_mark(1)));
}

#[test]
fn a_bookmark_is_taken_once_and_only_while_the_session_rests() {
    let marks = FileMarks::new([(session(1), rest_mark(1))]);
    let progress = SessionCursor { cursor: Cursor::default(), low_water_seq: 7 };
    marks.leave_bookmark(&session(1), progress, true);
    let bookmark = Bookmark { progress, resting: rest_mark(1), inbox_is_quiet: true };
    assert_eq!(marks.take_bookmark(&session(1)), Some(bookmark));
    assert_eq!(marks.take_bookmark(&session(1)), None);
    marks.leave_bookmark(&session(1), progress, true);
    marks.set_busy(&session(1));
    assert_eq!(marks.take_bookmark(&session(1)), None);
}
