//! A log that a test waits on.

use slog::{Drain, Logger, OwnedKVList, Record};
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps the message of every record.
#[derive(Clone, Default)]
pub struct Log {
    messages: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// A logger that writes here.
    pub fn logger(&self) -> Logger {
        Logger::root(self.clone().fuse(), slog::o!())
    }

    /// How many records have this message.
    pub fn count(&self, message: &str) -> usize {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().filter(|found| *found == message).count()
    }
}

impl Drain for Log {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        let message = record.msg().to_string();
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        Ok(())
    }
}
