//! Attacks by a session's agent on the host, its files and its neighbours. One test for each.
//!
//! In each of them a [`battle::Battle`] has a session that is attacked from within, a healthy neighbour, and canary
//! files outside of both. Every test ends with [`battle::Battle::end`]: the canaries are untouched, nothing of them
//! was delivered, the neighbour is served, and the host ends in time.

mod attacker;
pub mod battle;
mod boundary;
mod contents;
mod databases;
mod floods;
mod links;
mod locks;
mod names;
mod quotas;
mod races;
