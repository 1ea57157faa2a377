//! Everything that can fail does: disks, files, locks, descriptors, platforms.
//!
//! Each test shows the same four things. Only what is touched suffers. Its state is visible. It goes on by itself
//! once the fault is gone, without a restart. And nothing was lost or sent twice meanwhile.

mod corruption;
mod descriptors;
mod disk;
mod ledger;
mod platform;
mod session_files;
