//! An agent's output: a file that is replaced when it is full.

use super::order::LogBounds;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name of the file being written; older ones are `agent.log.1` and so on.
pub const LOG_FILE: &str = "agent.log";

/// The log of one session's agents.
pub struct LogFile {
    folder: PathBuf,
    bounds: LogBounds,
    file: File,
    bytes: u64,
    /// Whether the last line has no end yet.
    is_in_line: bool,
}

impl LogFile {
    /// Goes on with the file in `folder`.
    pub fn open(folder: &Path, bounds: LogBounds) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.create(true).read(true).append(true).mode(0o600).open(folder.join(LOG_FILE))?;
        let bytes = file.metadata()?.len();
        let mut last = [b'\n'];
        if bytes > 0 {
            file.read_exact_at(&mut last, bytes - 1)?;
        }
        Ok(Self { folder: folder.to_owned(), bounds, file, bytes, is_in_line: last != [b'\n'] })
    }

    /// Writes a line of its own, whatever was written before.
    pub fn write_line(&mut self, text: &str) -> io::Result<()> {
        let begin = if self.is_in_line { "\n" } else { "" };
        self.write(format!("{begin}{text}\n").as_bytes())
    }

    /// Writes; what does not fit begins a new file, and the oldest one goes.
    pub fn write(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            if self.bytes >= self.bounds.bytes_max {
                self.rotate()?;
            }
            let room = usize::try_from(self.bounds.bytes_max - self.bytes).unwrap_or(usize::MAX);
            let part = &text[..text.len().min(room.max(1))];
            self.file.write_all(part)?;
            self.bytes += part.len() as u64;
            self.is_in_line = part.last() != Some(&b'\n');
            text = &text[part.len()..];
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let name = |number: u32| match number {
            0 => self.folder.join(LOG_FILE),
            number => self.folder.join(format!("{LOG_FILE}.{number}")),
        };
        let oldest = self.bounds.files.saturating_sub(1);
        for number in (0..oldest).rev() {
            match fs::rename(name(number), name(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let mut options = File::options();
        self.file = options.create(true).write(true).truncate(true).mode(0o600).open(name(0))?;
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_makes_place_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        let bounds = LogBounds { bytes_max: 4, files: 3 };
        let mut log = LogFile::open(folder.path(), bounds.clone()).unwrap();
        log.write(b"aaaabb").unwrap();
        drop(log);
        let mut log = LogFile::open(folder.path(), bounds).unwrap();
        log.write(b"bbccccdd").unwrap();
        assert_eq!(read("agent.log").as_deref(), Some("dd"));
        assert_eq!(read("agent.log.1").as_deref(), Some("cccc"));
        assert_eq!(read("agent.log.2").as_deref(), Some("bbbb"));
        assert_eq!(read("agent.log.3"), None);
    }

    #[test]
    fn a_line_of_the_host_is_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let bounds = LogBounds { bytes_max: 4096, files: 1 };
        for text in ["half a line", "a whole one\n"] {
            let mut log = LogFile::open(folder.path(), bounds.clone()).unwrap();
            log.write_line("--- start").unwrap();
            log.write(text.as_bytes()).unwrap();
        }
        LogFile::open(folder.path(), bounds).unwrap().write_line("--- end").unwrap();
        let log = fs::read_to_string(folder.path().join(LOG_FILE)).unwrap();
        assert_eq!(log, "--- start\nhalf a line\n--- start\na whole one\n--- end\n");
    }

    #[test]
    fn one_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(folder.path(), LogBounds { bytes_max: 3, files: 1 }).unwrap();
        log.write(b"abcdefgh").unwrap();
        assert_eq!(fs::read(folder.path().join(LOG_FILE)).unwrap(), b"gh");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
