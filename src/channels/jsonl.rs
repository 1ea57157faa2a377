//! The `jsonl` channel: one line of JSON for each delivery, appended to a file in a single write.

use super::appender::Appender;
use super::payload::{self, FileReader};
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery};
use nanorelay_actors::clock::SharedClock;
use nanorelay_actors::model::error::{Receipt, SendError};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Deliveries whose attachments are hashed at the same time.
const PARALLEL_READS: usize = 4;

/// Appends deliveries to a file.
///
/// A line is complete or it is followed by a line break: what a crash or a full disk has left of a line stays
/// visible but never runs into the next one.
pub struct JsonlChannel {
    files: FileReader,
    lines: Appender<String, Result<(), SendError>>,
}

impl JsonlChannel {
    /// Opens the file, which is made when it is missing. With `fsync` a message counts as delivered only when its
    /// line is on the disk; all sends that wait share one sync.
    pub fn open(path: &Path, fsync: bool, clock: SharedClock) -> io::Result<Self> {
        let existed = path.exists();
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let regular = file.metadata()?.is_file();
        if fsync && !existed {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        let mut writer = LineWriter { file, fsync: fsync && regular, broken_line: false, clock };
        writer.broken_line = regular && !writer.ends_with_line_break()?;
        writer.end_broken_line()?;
        let lines = Appender::start("nanorelay-jsonl", move |heads| writer.append(heads))?;
        Ok(Self { files: FileReader::new(PARALLEL_READS), lines })
    }
}

#[async_trait]
impl Channel for JsonlChannel {
    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        let files = self.files.read(delivery, false).await?;
        let mut head = payload::to_json(delivery, &files)?;
        // The closing brace; the writer adds the time and closes the object.
        head.pop();
        match self.lines.submit(head).await {
            Some(Ok(())) => Ok(Receipt::default()),
            Some(Err(error)) => Err(error),
            None => Err(SendError::Ambiguous { reason: "the writer of the file has died".to_owned() }),
        }
    }
}

struct LineWriter {
    file: File,
    fsync: bool,
    /// Whether the file ends in a part of a line.
    broken_line: bool,
    clock: SharedClock,
}

impl LineWriter {
    fn append(&mut self, heads: Vec<String>) -> Vec<Result<(), SendError>> {
        let mut results: Vec<_> = heads.into_iter().map(|head| self.append_one(head)).collect();
        if self.fsync
            && results.iter().any(Result::is_ok)
            && let Err(error) = self.file.sync_data()
        {
            let reason = format!("the line was written but not synced: {error}");
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(SendError::Ambiguous { reason: reason.clone() });
            }
        }
        results
    }

    fn append_one(&mut self, head: String) -> Result<(), SendError> {
        let nothing_written = |error: io::Error| SendError::Transient {
            retry_after: None,
            reason: format!("cannot write the line: {error}"),
        };
        self.end_broken_line().map_err(nothing_written)?;
        let line = format!("{head},\"delivered_at\":\"{}\"}}\n", utc_microseconds(self.clock.now_us()));
        let written = self.write_once(line.as_bytes()).map_err(nothing_written)?;
        if written == line.len() {
            return Ok(());
        }
        self.broken_line = true;
        let reason = format!("only {written} of {} bytes of the line were written", line.len());
        Err(SendError::Ambiguous { reason })
    }

    fn end_broken_line(&mut self) -> io::Result<()> {
        if self.broken_line {
            self.write_once(b"\n")?;
            self.broken_line = false;
        }
        Ok(())
    }

    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn ends_with_line_break(&mut self) -> io::Result<bool> {
        if self.file.metadata()?.len() == 0 {
            return Ok(true);
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        Ok(last == *b"\n")
    }
}

/// RFC 3339 in UTC with six digits after the second.
fn utc_microseconds(us: i64) -> String {
    let instant = jiff::Timestamp::from_microsecond(us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{instant:.6}")
}

#[cfg(test)]
mod tests {
    use super::super::payload::tests::{attachment, delivery};
    use super::*;
    use nanorelay_actors::clock::Clock;
    use nanorelay_actors::model::time::Timestamp;
    use std::sync::Arc;

    struct FixedClock;
    impl Clock for FixedClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_ms(1_776_350_220_123)
        }
        fn now_us(&self) -> i64 {
            1_776_350_220_123_456
        }
    }

    fn open(path: &Path, fsync: bool) -> JsonlChannel {
        JsonlChannel::open(path, fsync, Arc::new(FixedClock)).unwrap()
    }

    #[tokio::test]
    async fn a_line_has_exactly_the_documented_fields_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let mut message = delivery(r#"{"text":"","files":["a.txt"]}"#);
        message.attachments.push(attachment("a.txt", b"abc", 3));
        let receipt = open(&path, true).send(&message).await.unwrap();
        assert_eq!(receipt, Receipt::default());
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"session_id\":\"sess-1\",\"agent_group_id\":\"ag-1\",\"id\":\"msg-1\",\"seq\":3,\
             \"channel_type\":\"slack\",\"platform_id\":\"slack:C0OPS\",\"thread_id\":null,\"kind\":\"chat\",\
             \"content\":{\"text\":\"\",\"files\":[\"a.txt\"]},\"files\":[{\"name\":\"a.txt\",\"size\":3,\
             \"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}],\"attempt\":1,\
             \"delivered_at\":\"2026-04-16T14:37:00.123456Z\"}\n"
        );
    }

    #[tokio::test]
    async fn what_a_crash_left_of_a_line_stays_apart_from_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        std::fs::write(&path, "{\"a\":1}\n{\"session_id\":\"se").unwrap();
        open(&path, false).send(&delivery("{}")).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["{\"a\":1}", "{\"session_id\":\"se"]);
        assert!(lines.len() == 3 && serde_json::from_str::<serde_json::Value>(lines[2]).is_ok());
    }

    #[tokio::test]
    async fn concurrent_sends_are_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let channel = Arc::new(open(&path, true));
        let mut sends = tokio::task::JoinSet::new();
        for seq in 0..100 {
            let channel = Arc::clone(&channel);
            sends.spawn(async move { channel.send(&Delivery { seq, ..delivery("{\"text\":\"x\"}") }).await });
        }
        while let Some(result) = sends.join_next().await {
            result.unwrap().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut seqs: Vec<i64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_i64().unwrap())
            .collect();
        seqs.sort_unstable();
        assert_eq!(seqs, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_full_disk_is_tried_again() {
        let channel = open(Path::new("/dev/full"), true);
        let result = channel.send(&delivery("{}")).await;
        assert!(matches!(result, Err(SendError::Transient { .. })), "{result:?}");
    }
}
