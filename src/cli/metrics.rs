//! `nanorelay metrics`: the counters of a running host.

use super::place::{PlaceArgs, unreachable};
use super::{Exit, Failure, print};
use crate::control::client::ControlClient;

/// Prints what a monitoring system reads; 69 when no host runs.
pub(super) fn run(place: &PlaceArgs) -> Result<Exit, Failure> {
    let client = ControlClient::connect(&place.data).map_err(unreachable)?;
    print(&client.open_metrics().map_err(unreachable)?)?;
    Ok(Exit::Done)
}
