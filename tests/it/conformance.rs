//! Behaviours that NanoClaw's own host pins and that no other suite here shows. `docs/conformance.md` lists all of
//! them, with the test that shows each.

mod agent_routing;
mod delivery;
mod sessions;
