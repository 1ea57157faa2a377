//! What is not settled, and the index of it.

use super::*;

fn connection(ledger: &Fixture) -> Connection {
    let path = ledger.folder.path().join(LEDGER_FILE);
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap()
}

/// The names of the indexes of all deliveries.
fn indexes(connection: &Connection) -> Vec<String> {
    connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'deliveries' ORDER BY name",
        )
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn the_names_of_the_states_that_wait_are_the_last_ones() {
    for state in DeliveryState::ALL {
        let waits = matches!(state, DeliveryState::Queued | DeliveryState::Sending | DeliveryState::Retrying);
        assert_eq!(state.as_str() >= "queued", waits, "{state:?}");
    }
}

#[test]
fn what_waits_is_found_along_its_index() {
    let ledger = Fixture::new();
    let connection = connection(&ledger);
    for question in [
        "SELECT count(*) FROM deliveries WHERE session_id = ?1 AND lane >= '' AND state >= 'queued'",
        "SELECT min(next_attempt_at) FROM deliveries WHERE session_id = ?1 AND lane >= '' AND next_attempt_at > ?2
           AND state >= 'queued'",
        "SELECT DISTINCT lane FROM deliveries WHERE session_id = ?1 AND state >= 'queued'",
        "SELECT message_id FROM deliveries WHERE session_id = ?1 AND lane = ?2 AND state >= 'queued'
           AND NOT (next_attempt_at IS NOT NULL AND next_attempt_at > ?3) ORDER BY seq, message_id LIMIT 1",
        "SELECT session_id, count(*) FROM deliveries WHERE state >= 'queued' GROUP BY session_id",
    ] {
        let plan: Vec<String> = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {question}"))
            .unwrap()
            .query_map(rusqlite::params_from_iter(vec![""; question.matches('?').count()]), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(plan.len(), 1, "nothing is sorted: {plan:?}");
        assert!(plan[0].contains("INDEX deliveries_waiting"), "{plan:?}");
    }
}

#[test]
fn a_ledger_of_an_earlier_version_gets_the_index_that_this_one_uses() {
    let mut ledger = Fixture::new();
    let expected = indexes(&connection(&ledger));
    ledger.admit(&[admission("a", 1), admission("b", 3)]);
    connection(&ledger)
        .execute_batch(
            "DROP INDEX deliveries_waiting;
             CREATE INDEX deliveries_unsettled ON deliveries(session_id, lane, seq)
               WHERE state IN ('queued','sending','retrying');",
        )
        .unwrap();
    let Fixture { folder, writer } = ledger;
    drop(writer);
    let writer = LedgerWriter::open(folder.path()).unwrap();
    let ledger = Fixture { folder, writer };
    assert_eq!(indexes(&connection(&ledger)), expected);
    assert_eq!(ledger.reader().backlog(&session()).unwrap(), 2);
    ledger.reader().check().unwrap();
}
