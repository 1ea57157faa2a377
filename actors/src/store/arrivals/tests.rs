use super::*;
use crate::store::lease::SessionLeases;
use crate::store::session_dir::tests::{Fixture, group, session};
use crate::store::session_store::{Adds, SessionPlace, SessionSetup, create_session_files};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_ms(1_795_333_635_501);

struct World {
    fixture: Fixture,
    store: SessionStore,
}

fn world() -> World {
    let fixture = Fixture::new();
    create_session_files(&fixture.directory, &SessionSetup::default()).unwrap();
    let lease = SessionLeases::default().try_acquire(&session()).unwrap();
    let place = SessionPlace { root: Arc::clone(&fixture.root), group: group(), session: session() };
    World { fixture, store: SessionStore::new(place, lease) }
}

fn arrival(id: &str, platform_id: &str, files: &[(&str, &str)]) -> Arrival {
    let file = |(name, bytes): &(&str, &str)| ArrivalFile {
        name: PathComponent::new(name).unwrap(),
        size: bytes.len() as u64,
        content: AttachmentContent::Bytes(bytes.as_bytes().into()),
    };
    let row = NewInbound {
        id: MessageId::new(id).unwrap(),
        kind: "chat".to_owned(),
        process_after: None,
        recurrence: None,
        series_id: None,
        trigger: true,
        on_wake: false,
        platform_id: Some(platform_id.to_owned()),
        channel_type: Some("slack".to_owned()),
        thread_id: None,
        content: r#"{"text":"x"}"#.to_owned(),
        source_session_id: None,
    };
    Arrival { row, files: files.iter().map(file).collect() }
}

fn write(store: &mut SessionStore, arrivals: &[Arrival]) -> Vec<Enqueued> {
    let placed = place(store, arrivals).unwrap();
    let insert_all = |tx: &Transaction<'_>| {
        placed.iter().map(|placed| insert(tx, placed.as_ref().unwrap(), NOW)).collect::<Result<Vec<_>, _>>()
    };
    store.write(Adds::Messages, insert_all).unwrap()
}

#[test]
fn files_whose_row_never_came_are_removed_and_those_of_a_row_stay() {
    let World { fixture, mut store } = world();
    let arrivals = [arrival("m-1", "C1", &[("a.txt", "a")]), arrival("m-2", "C1", &[("b.txt", "b")])];
    let expected = expected_files(&mut store, arrivals.iter()).unwrap();
    assert_eq!(expected.len(), 2);
    write(&mut store, &arrivals[..1]);
    // The host dies before the second row.
    place(&mut store, &arrivals[1..]).unwrap();
    assert!(fixture.path("inbox/m-2/b.txt").exists());
    clear_leftovers(&mut store, &expected).unwrap();
    assert!(fixture.path("inbox/m-1/a.txt").exists());
    assert!(!fixture.path("inbox/m-2").exists());
    let left = expected_files(&mut store, arrivals.iter()).unwrap();
    assert_eq!(left, expected[1..], "what has its row is not expected again");
}

#[test]
fn a_message_that_comes_twice_in_one_batch_is_there_once_with_the_first_ones_files() {
    let World { fixture, mut store } = world();
    let twice = [arrival("m-1", "C1", &[("a.txt", "a")]), arrival("m-1", "C1", &[("b.txt", "b")])];
    let enqueued = write(&mut store, &twice);
    assert_eq!(
        enqueued.iter().map(|enqueued| (enqueued.seq, enqueued.is_new)).collect::<Vec<_>>(),
        [(2, true), (2, false)]
    );
    assert!(fixture.path("inbox/m-1/a.txt").exists() && !fixture.path("inbox/m-1/b.txt").exists());
}

#[test]
fn what_an_earlier_try_left_in_a_folder_is_not_taken_for_the_messages_own() {
    let World { fixture, mut store } = world();
    place(&mut store, &[arrival("m-1", "C1", &[("old.txt", "old"), ("a.txt", "old")])]).unwrap();
    write(&mut store, &[arrival("m-1", "C1", &[("a.txt", "new")])]);
    assert_eq!(std::fs::read_to_string(fixture.path("inbox/m-1/a.txt")).unwrap(), "new");
    assert!(!fixture.path("inbox/m-1/old.txt").exists());
}

#[test]
fn a_file_is_read_from_its_beginning_each_time() {
    use std::io::Write;
    let World { fixture, mut store } = world();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"picture").unwrap();
    let content = AttachmentContent::File(Arc::new(file));
    let message = |id: &str| {
        let name = PathComponent::new("a.png").unwrap();
        Arrival {
            files: vec![ArrivalFile { name, size: 7, content: content.clone() }],
            ..arrival(id, "C1", &[])
        }
    };
    write(&mut store, &[message("m-1"), message("m-2")]);
    for id in ["m-1", "m-2"] {
        assert_eq!(std::fs::read_to_string(fixture.path(&format!("inbox/{id}/a.png"))).unwrap(), "picture");
    }
}

proptest! {
    #[test]
    fn every_id_has_one_folder_that_is_a_plain_name(id in "\\PC{1,300}|[./\\\\]{1,9}") {
        let id = MessageId::new(&id);
        prop_assume!(id.is_ok());
        let id = id.unwrap();
        let folder = folder_of(&id).unwrap();
        prop_assert_eq!(&folder, &folder_of(&id).unwrap());
        prop_assert!(!folder.as_str().contains('/') && folder.as_str() != "..");
    }
}
