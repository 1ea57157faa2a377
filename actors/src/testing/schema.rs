//! The tables of a new data directory.

use super::data_dir::Era;
use super::seed_era;
use crate::store::error::StoreError;
use crate::store::{central, inbound, outbound};
use rusqlite::Connection;

type Create = fn(&Connection) -> Result<(), StoreError>;

pub(super) fn create_central(connection: &Connection, era: Era) {
    create(connection, era, seed_era::CENTRAL, central::create_central_schema);
}

pub(super) fn create_inbound(connection: &Connection, era: Era) {
    create(connection, era, seed_era::INBOUND, inbound::create_schema);
}

pub(super) fn create_outbound(connection: &Connection, era: Era) {
    create(connection, era, seed_era::OUTBOUND, outbound::create_schema);
}

fn create(connection: &Connection, era: Era, seed: &str, current: Create) {
    match era {
        Era::Seed => connection.execute_batch(seed).expect("the schema is valid SQL"),
        Era::Current => current(connection).expect("the schema is valid SQL"),
    }
}
