//! The attachments in `outbox/` and `inbox/`: opened, copied and removed beneath the session folder.

use crate::model::ids::PathComponent;
use crate::store::error::StoreError;
use crate::store::session_dir::{
    SessionDir, io_error, lookup_error, make_folder, open_folder, open_regular, refused, size_of_file,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};

/// The most names that are read from one folder at a time.
pub const FOLDER_ENTRIES_MAX: usize = 4096;
/// Bytes that are copied at a time.
const COPY_BLOCK_BYTES: usize = 64 * 1024;
/// Files that the agent receives are its own to read, like everything else in its folder.
const INBOX_FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const INBOX_FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

/// Opens a file that an agent sends, for reading; also gives its size in bytes.
///
/// Fails with [`StoreError::Missing`] when it is not there, and with [`StoreError::Refused`] when it is not a plain
/// file of this folder.
pub fn open_outbox_file(
    directory: &SessionDir,
    message: &PathComponent,
    name: &PathComponent,
) -> Result<(File, u64), StoreError> {
    let path = format!("outbox/{message}/{name}");
    let (file, found) = open_regular(directory.as_fd(), &path, directory.device(), OFlags::RDONLY)?;
    Ok((File::from(file), size_of_file(&found)))
}

/// Whether an error of [`open_outbox_file`] is the file's own, and stays: it is not there, or no plain file of this folder.
/// All others are the host's, which may have run out of descriptors; they may pass.
pub fn is_unusable(error: &StoreError) -> bool {
    matches!(error, StoreError::Missing(_) | StoreError::Refused { .. })
}

/// The folders in `outbox/`: one for each message that has, or had, attachments. Names that no message with
/// attachments can have are left out, as are all behind [`FOLDER_ENTRIES_MAX`].
pub fn list_outbox(directory: &SessionDir) -> Result<Vec<PathComponent>, StoreError> {
    match open_folder(directory.as_fd(), "outbox", directory.device()) {
        Ok(outbox) => list(&outbox, "outbox"),
        Err(StoreError::Missing(_)) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// The names in one message's folder in `outbox/`, with the same exceptions as in [`list_outbox`].
pub fn list_outbox_files(
    directory: &SessionDir,
    message: &PathComponent,
) -> Result<Vec<PathComponent>, StoreError> {
    let path = format!("outbox/{message}");
    list(&open_folder(directory.as_fd(), &path, directory.device())?, &path)
}

/// Removes a message's folder in `outbox/` with the files in it. Does nothing when there is none.
///
/// A link is removed, never followed. A folder in the folder is emptied too, but none below that.
pub fn remove_outbox(directory: &SessionDir, message: &PathComponent) -> Result<(), StoreError> {
    remove_message_folder(directory, "outbox", message)
}

/// The same for a folder in `inbox/`.
pub fn remove_inbox(directory: &SessionDir, message: &PathComponent) -> Result<(), StoreError> {
    remove_message_folder(directory, "inbox", message)
}

fn remove_message_folder(
    directory: &SessionDir,
    parent: &str,
    message: &PathComponent,
) -> Result<(), StoreError> {
    let device = directory.device();
    let removed = open_folder(directory.as_fd(), parent, device).and_then(|parent_folder| {
        let path = format!("{parent}/{message}");
        let folder = match open_folder(parent_folder.as_fd(), message.as_str(), device) {
            Ok(folder) => folder,
            Err(StoreError::Refused { reason, .. }) => return Err(refused(&path, &reason)),
            Err(failure) => return Err(failure),
        };
        empty_folder(&folder, &path, device, 1)?;
        remove_folder(parent_folder.as_fd(), message.as_str(), &path)
    });
    match removed {
        Err(StoreError::Missing(_)) => Ok(()),
        removed => removed,
    }
}

/// Copies the first `size` bytes of `source` to `inbox/<message>/<name>`, where an agent finds them. They are on the
/// disk when this returns: the row that names them comes later, and must not outlive them in a power loss.
///
/// A file of that name is replaced: it is what a crash left of an earlier try. Fails when `source` has fewer than
/// `size` bytes.
pub fn copy_into_inbox(
    target: &SessionDir,
    message: &PathComponent,
    name: &PathComponent,
    source: &mut dyn Read,
    size: u64,
) -> Result<(), StoreError> {
    let device = target.device();
    let inbox = make_folder(target.as_fd(), "inbox", INBOX_FOLDER_MODE, device)?;
    let folder = make_folder(inbox.as_fd(), message.as_str(), INBOX_FOLDER_MODE, device)?;
    let path = format!("inbox/{message}/{name}");
    match fs::unlinkat(&folder, name.as_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::ISDIR) => return Err(refused(&path, "is a folder")),
        Err(errno) => return Err(io_error(format!("cannot replace {path}"), errno)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(&folder, name.as_str(), flags, INBOX_FILE_MODE)
        .map_err(|errno| lookup_error(&path, errno))?;
    let mut file = File::from(file);
    let copied = copy_bytes(source, &mut file, size)
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(fs::fsync(&folder)?))
        .and_then(|()| Ok(fs::fsync(&inbox)?));
    copied.map_err(|source| {
        // Half a file helps nobody. If this fails too, the next try replaces it.
        let _ = fs::unlinkat(&folder, name.as_str(), AtFlags::empty());
        StoreError::Io { context: format!("cannot copy to {path}"), source }
    })
}

fn copy_bytes(source: &mut dyn Read, target: &mut File, size: u64) -> io::Result<()> {
    let mut block = vec![0; COPY_BLOCK_BYTES];
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(COPY_BLOCK_BYTES);
        let got = match source.read(&mut block[..part]) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        target.write_all(&block[..got])?;
        left -= got as u64;
    }
    Ok(())
}

/// Removes everything in a folder, and in its folders down to `depth`.
fn empty_folder(folder: &OwnedFd, path: &str, device: u64, depth: u32) -> Result<(), StoreError> {
    let names = entries(folder, path)?;
    for name in names.iter().take(FOLDER_ENTRIES_MAX) {
        match fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) if depth == 0 => return Err(refused(path, "has folders within folders")),
            Err(Errno::ISDIR) => {
                // A name that is no text cannot be opened by `open_folder`, and no tool of an agent writes one.
                let name =
                    name.to_str().map_err(|_| refused(path, "has a folder with a name that is no text"))?;
                let inner_path = format!("{path}/{name}");
                empty_folder(&open_folder(folder.as_fd(), name, device)?, &inner_path, device, depth - 1)?;
                remove_folder(folder.as_fd(), name, &inner_path)?;
            }
            Err(errno) => return Err(io_error(format!("cannot remove a file in {path}"), errno)),
        }
    }
    if names.len() > FOLDER_ENTRIES_MAX {
        return Err(StoreError::Limit(format!("{path} has more than {FOLDER_ENTRIES_MAX} files")));
    }
    Ok(())
}

fn remove_folder(base: BorrowedFd<'_>, name: &str, path: &str) -> Result<(), StoreError> {
    match fs::unlinkat(base, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(io_error(format!("cannot remove {path}"), errno)),
    }
}

fn list(folder: &OwnedFd, path: &str) -> Result<Vec<PathComponent>, StoreError> {
    let names = entries(folder, path)?;
    let plain = names.iter().take(FOLDER_ENTRIES_MAX).filter_map(|name| name.to_str().ok());
    Ok(plain.filter_map(|name| PathComponent::new(name).ok()).collect())
}

/// The names in a folder; one more than [`FOLDER_ENTRIES_MAX`] when there are more.
fn entries(folder: &OwnedFd, path: &str) -> Result<Vec<CString>, StoreError> {
    let failed = |errno| io_error(format!("cannot list {path}"), errno);
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
        if names.len() > FOLDER_ENTRIES_MAX {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
