//! What the file system says of the host's own files: owners, modes, kinds, sizes. Nothing is opened but folders above
//! those of the sessions.

use rustix::fs::Access;
pub use rustix::fs::FileType;
use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The user who owns it; none when it is not there.
pub fn owner(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|found| found.uid())
}

/// Its permission bits, and what it is; links are not followed. None when it is not there.
pub fn mode(path: &Path) -> Option<u32> {
    std::fs::symlink_metadata(path).ok().map(|found| found.mode())
}

/// What it is; links are not followed. None when it is not there.
pub fn kind(path: &Path) -> Option<FileType> {
    mode(path).map(FileType::from_raw_mode)
}

/// Whether this user may write to it.
pub fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, Access::WRITE_OK).is_ok()
}

/// Its size in bytes; 0 when it is not there.
pub fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// The folders that hold an agent's database, as names of agent group and session, at most `max` of them for which
/// `is_wanted` holds. What is in them is not opened.
pub fn session_folders(
    data_dir: &Path,
    max: usize,
    is_wanted: impl Fn(&str, &str) -> bool,
) -> Vec<(String, String)> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut found = Vec::new();
    for group in entries(&data_dir.join("v2-sessions")).filter(is_folder) {
        for session in entries(&group.path()).filter(is_folder) {
            let (Ok(group), Ok(name)) = (group.file_name().into_string(), session.file_name().into_string())
            else {
                continue;
            };
            // Other folders are not sessions: what a group's agents share, for example.
            if mode(&session.path().join("outbound.db")).is_some() && is_wanted(&group, &name) {
                found.push((group, name));
            }
            if found.len() == max {
                return found;
            }
        }
    }
    found
}
