//! Channels: the adapter trait and the actor that drives an adapter.

pub mod adapter;
