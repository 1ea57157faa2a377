//! The entries of one chat as server-sent events.

use crate::channels::web::{ChatEntry, EntryState, PagePlace, PageRange, WebChats};
use actix_web::web::Bytes;
use futures_util::stream::{self, Stream};
use nanorelay_actors::model::message::Destination;
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;

/// Entries that are read at a time.
const PAGE_ENTRIES: u32 = 100;
/// Entries on their way to an agent that a stream waits for; of more, the oldest are told when the page is loaded again.
const UNSETTLED_MAX: usize = 64;
/// A silent connection is given a sign of life so often: something between may close it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What a stream remembers from one event to the next.
struct Reader {
    chats: WebChats,
    chat: Destination,
    /// The highest number that was read.
    after: i64,
    changes: Receiver<Destination>,
    closing: watch::Receiver<bool>,
    /// Read, not told yet.
    ready: VecDeque<Bytes>,
    /// Read while it was on its way to the agent; told when that is settled.
    unsettled: BTreeSet<i64>,
}

/// The entries after a number, and those to come, until `closing` is true.
pub(super) fn entries(
    chats: WebChats,
    chat: Destination,
    after: i64,
    closing: watch::Receiver<bool>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let changes = chats.changes();
    // A first word at once: a browser knows then that it is connected.
    let ready = VecDeque::from([Bytes::from_static(b": connected\n\n")]);
    let reader = Reader { chats, chat, after, changes, closing, ready, unsettled: BTreeSet::new() };
    stream::unfold(reader, |mut reader| async move { reader.next().await.map(|event| (Ok(event), reader)) })
}

impl Reader {
    /// The next event; `None` ends the stream, and a browser connects again.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.closing.borrow() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if !self.read().await? {
                tokio::select! {
                    _ = self.closing.wait_for(|is_closing| *is_closing) => return None,
                    changed = changed(&mut self.changes, &self.chat) => changed?,
                    () = tokio::time::sleep(SIGN_OF_LIFE) => return Some(Bytes::from_static(b": still here\n\n")),
                }
            }
        }
    }

    /// Reads what is new; whether there was something. `None` when the transcript cannot be read.
    async fn read(&mut self) -> Option<bool> {
        for number in self.unsettled.clone() {
            let range = PageRange { place: PagePlace::After(number - 1), limit: 1 };
            let page = self.chats.page(&self.chat, range).await.ok()?;
            let entry = page.items.first().filter(|entry| entry.number == number);
            if entry.is_none_or(|entry| entry.state != EntryState::Sending) {
                self.unsettled.remove(&number);
            }
            self.ready.extend(entry.filter(|entry| entry.state != EntryState::Sending).and_then(event));
        }
        let range = PageRange { place: PagePlace::After(self.after), limit: PAGE_ENTRIES };
        let page = self.chats.page(&self.chat, range).await.ok()?;
        for entry in page.items {
            self.after = entry.number;
            if entry.state == EntryState::Sending {
                self.unsettled.insert(entry.number);
                if self.unsettled.len() > UNSETTLED_MAX {
                    self.unsettled.pop_first();
                }
            } else {
                self.ready.extend(event(&entry));
            }
        }
        Some(!self.ready.is_empty() || page.has_more)
    }
}

/// Waits until the chat has something new, or may have; `None` when there will never be anything.
async fn changed(changes: &mut Receiver<Destination>, chat: &Destination) -> Option<()> {
    loop {
        match changes.recv().await {
            Ok(changed) if changed == *chat => return Some(()),
            Ok(_) => {}
            // Too many changes to be remembered: this chat may be among them.
            Err(RecvError::Lagged(_)) => return Some(()),
            Err(RecvError::Closed) => return None,
        }
    }
}

fn event(entry: &ChatEntry) -> Option<Bytes> {
    // JSON of one line: contents are kept without line breaks.
    let data = serde_json::to_string(entry).ok()?;
    Some(Bytes::from(format!("id: {}\nevent: entry\ndata: {data}\n\n", entry.number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::web::{NewEntry, WebChatSettings};
    use futures_util::StreamExt;
    use nanorelay_actors::clock::SystemClock;
    use nanorelay_actors::model::ids::{ChannelType, PlatformId};
    use serde_json::json;
    use std::sync::Arc;

    fn chat(name: &str) -> Destination {
        Destination {
            channel_type: ChannelType::new("web").unwrap(),
            platform_id: PlatformId::new(name).unwrap(),
            thread_id: None,
        }
    }

    async fn say(chats: &WebChats, place: &str, id: &str, state: EntryState) -> i64 {
        let mut entry = NewEntry::of_person(chat(place), "sess-1", "Ann", id, &json!({ "text": id }));
        entry.state = state;
        chats.add(entry).await.unwrap().0.number
    }

    #[tokio::test]
    async fn entries_are_told_when_they_are_settled_until_the_streams_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let chats = WebChats::open(dir.path(), &WebChatSettings::default(), Arc::new(SystemClock)).unwrap();
        let close = watch::Sender::new(false);
        say(&chats, "web:a", "seen", EntryState::Sent).await;
        say(&chats, "web:a", "old", EntryState::Sent).await;
        let mut stream = Box::pin(entries(chats.clone(), chat("web:a"), 1, close.subscribe()));
        let mut next = async || String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert_eq!(next().await, ": connected\n\n");
        let told = next().await;
        assert!(told.starts_with("id: 2\nevent: entry\ndata: {") && told.ends_with("}\n\n"), "{told}");
        let slow = say(&chats, "web:a", "slow", EntryState::Sending).await;
        say(&chats, "web:b", "of another chat", EntryState::Sent).await;
        say(&chats, "web:a", "quick", EntryState::Sent).await;
        assert!(next().await.contains("\"quick\""), "what is on its way holds up nothing");
        chats.settle(slow, EntryState::Sent, None).await.unwrap();
        assert!(next().await.contains("\"slow\""));
        close.send_replace(true);
        assert!(stream.next().await.is_none());
    }
}
