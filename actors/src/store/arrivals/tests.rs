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
    let place = SessionPlace {
        root: Arc::clone(&fixture.root),
        connections: Arc::default(),
        group: group(),
        session: session(),
    };
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
fn two_chats_with_the_same_id_in_one_batch_are_both_there_with_their_files() {
    let World { fixture, mut store } = world();
    let batch = [
        arrival("42", "C1", &[]),
        arrival("42", "C2", &[("b.txt", "b")]),
        arrival("42", "C2", &[("b.txt", "b")]),
        arrival("42", "C1", &[]),
    ];
    let expected = expected_files(&mut store, batch.iter()).unwrap();
    let enqueued = write(&mut store, &batch);
    let [first, second, second_again, first_again] = &enqueued[..] else { panic!("{enqueued:?}") };
    assert_eq!((first.message_id.as_str(), first.seq, first.is_new), ("42", 2, true));
    assert_eq!((second.seq, second.is_new), (4, true), "another chat's message is another message");
    assert_eq!(*second_again, Enqueued { is_new: false, ..second.clone() });
    assert_eq!(*first_again, Enqueued { is_new: false, ..first.clone() });
    assert!(expected.iter().all(|files| files.message_id.as_str() == second.message_id), "{expected:?}");
    let content: String = store
        .inbound()
        .unwrap()
        .query_row("SELECT content FROM messages_in WHERE id = ?1", [&second.message_id], |row| row.get(0))
        .unwrap();
    let content: serde_json::Value = serde_json::from_str(&content).unwrap();
    assert_eq!(content["originalId"], "42");
    let path = content["attachments"][0]["localPath"].as_str().expect("a path");
    assert_eq!(path, format!("inbox/{}/b.txt", expected[0].folder), "the folder that the ledger knows");
    assert_eq!(std::fs::read_to_string(fixture.path(path)).unwrap(), "b");
    assert_eq!(write(&mut store, &batch[1..2])[0], *second_again, "and is found there later");
}

#[test]
fn a_message_whose_files_could_not_be_copied_leaves_them_to_the_one_that_comes_again() {
    let World { fixture, mut store } = world();
    let mut broken = arrival("m-1", "C1", &[("a.txt", "whole"), ("b.txt", "whole")]);
    // The file has become shorter since it was checked.
    broken.files[1].size += 1;
    let again = arrival("m-1", "C1", &[("a.txt", "whole"), ("b.txt", "whole")]);
    let placed = place(&mut store, &[broken, again]).unwrap();
    let [Err(failure), Ok(second)] = &placed[..] else { panic!("{placed:?}") };
    assert!(failure.to_string().contains("cannot copy to inbox/m-1/b.txt"), "{failure}");
    assert!(store.write(Adds::Messages, |tx| insert(tx, second, NOW)).unwrap().is_new);
    for name in ["a.txt", "b.txt"] {
        assert_eq!(std::fs::read_to_string(fixture.path(&format!("inbox/m-1/{name}"))).unwrap(), "whole");
    }
}

#[test]
fn an_id_whose_message_failed_is_the_next_chats_and_stays_it() {
    let World { fixture, mut store } = world();
    let mut broken = arrival("42", "C1", &[("a.txt", "whole")]);
    broken.files[0].size += 1;
    let batch = [broken, arrival("42", "C2", &[("b.txt", "b")])];
    let expected = expected_files(&mut store, batch.iter()).unwrap();
    let placed = place(&mut store, &batch).unwrap();
    let [Err(_), Ok(second)] = &placed[..] else { panic!("{placed:?}") };
    let enqueued = store.write(Adds::Messages, |tx| insert(tx, second, NOW)).unwrap();
    assert_eq!((enqueued.message_id.as_str(), enqueued.is_new), ("42", true));
    assert_eq!(write(&mut store, &batch[1..]), [Enqueued { is_new: false, ..enqueued }], "not a second time");
    clear_leftovers(&mut store, &expected).unwrap();
    assert_eq!(std::fs::read_to_string(fixture.path("inbox/42/b.txt")).unwrap(), "b");
}

#[test]
fn files_that_could_not_all_be_copied_are_not_left_to_a_message_without_files() {
    let World { fixture, mut store } = world();
    let mut broken = arrival("m-1", "C1", &[("a.txt", "whole"), ("b.txt", "whole")]);
    broken.files[1].size += 1;
    let placed = place(&mut store, &[broken, arrival("m-1", "C1", &[])]).unwrap();
    let [Err(_), Ok(second)] = &placed[..] else { panic!("{placed:?}") };
    assert!(store.write(Adds::Messages, |tx| insert(tx, second, NOW)).unwrap().is_new);
    assert!(!fixture.path("inbox/m-1").exists());
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
