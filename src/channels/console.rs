//! The `console` channel: deliveries in a readable form.

mod render;

use super::ConsoleOutput;
use super::appender::Appender;
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery};
use nanorelay_actors::model::error::{Receipt, SendError};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes each delivery as a block of text. The receipt's id is `console-1`, `console-2`, and so on.
pub struct ConsoleChannel {
    blocks: Appender<String, io::Result<()>>,
    /// The number of the last id that was given out.
    last_id: AtomicU64,
}

impl ConsoleChannel {
    /// Writes to standard output or standard error.
    pub fn on(output: ConsoleOutput) -> io::Result<Self> {
        match output {
            ConsoleOutput::Stdout => Self::new(io::stdout()),
            ConsoleOutput::Stderr => Self::new(io::stderr()),
        }
    }

    /// Writes to `writer`, one write and one flush for each delivery, on a thread of its own: a reader that
    /// stalls holds up nobody else.
    pub fn new(mut writer: impl Write + Send + 'static) -> io::Result<Self> {
        let mut write = move |block: String| {
            writer.write_all(block.as_bytes())?;
            writer.flush()
        };
        let blocks = Appender::start("nanorelay-console", move |blocks: Vec<String>| {
            blocks.into_iter().map(&mut write).collect()
        })?;
        Ok(Self { blocks, last_id: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Channel for ConsoleChannel {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let id = format!("console-{}", 1 + self.last_id.fetch_add(1, Ordering::Relaxed));
        let reason = match self.blocks.submit(render::block(delivery, &id)).await {
            Some(Ok(())) => return Ok(Receipt { platform_message_id: Some(id), limit: None }),
            Some(Err(error)) => format!("cannot write to the console: {error}"),
            None => "the writer of the console has died".to_owned(),
        };
        Err(SendError::Transient { retry_after: None, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::tests::delivery;
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<Vec<u8>>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_message_is_one_write_and_gets_an_id() {
        let shared = Shared::default();
        let channel = ConsoleChannel::new(shared.clone()).unwrap();
        for n in 1..=2 {
            let receipt = channel.send(&delivery("{\"text\":\"a\\nb\"}")).await.unwrap();
            assert_eq!(receipt.platform_message_id, Some(format!("console-{n}")));
        }
        assert_eq!(shared.0.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_broken_output_is_tried_again() {
        let result = ConsoleChannel::new(Broken).unwrap().send(&delivery("{}")).await;
        assert!(matches!(result, Err(SendError::Transient { .. })), "{result:?}");
    }
}
