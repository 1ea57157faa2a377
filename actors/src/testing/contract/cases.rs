//! The cases, one claim each.

use super::report::{CaseReport, Report, Verdict};
use super::{Answer, Bench, Checked, Stop, Trouble};
use crate::channel::adapter::Idempotency;
use crate::model::error::{ErrorClass, SendError};
use crate::testing::ReceivedFile;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Sends that are on their way at the same time.
const AT_ONCE: usize = 32;
/// A text that is larger than most platforms take.
const LARGE_TEXT_BYTES: usize = 256 * 1024;
/// A file that is larger than any buffer of an adapter should be.
const LARGE_FILE_BYTES: usize = 512 * 1024;
/// What text meets in the world: joined emoji, right to left, combining marks, quotes, line breaks, controls.
const UNICODE: &str = "Grüße 👩‍👩‍👧 \u{202e}שלום\u{202c} e\u{301} \"quoted\" \\ <b>&amp;\u{2028}\n\ttab \u{1}";

/// Checks everything.
pub(super) async fn check_all(bench: &Bench) -> Report {
    let mut report = Report::default();
    let mut add = |claim, checked: Checked| {
        let verdict = match checked {
            Ok(()) => Verdict::Kept,
            Err(Stop::Broken(what)) => Verdict::Broken(what),
            Err(Stop::Skipped(reason)) => Verdict::Skipped(reason),
        };
        report.cases.push(CaseReport { claim, verdict });
    };
    add("a plain message is accepted and shown once", plain(bench).await);
    add("unicode arrives as it was written", unicode(bench).await);
    add("every shape of content gets an answer for good", shapes(bench).await);
    add("a text that is too large is taken or refused for good", large_text(bench).await);
    add("attachments arrive whole", attachments(bench).await);
    add("a file that became shorter is no receipt for the whole", shortened(bench).await);
    add("many sends at once each get their own receipt", at_once(bench).await);
    add("a send that is broken off harms no later one", broken_off(bench).await);
    add("a repeated key is shown once", repeated_key(bench).await);
    add("a message can be asked for before and after it was sent", asked_for(bench).await);
    add("a rate limit is told with its time", rate_limit(bench).await);
    for (claim, trouble, expected) in TROUBLES {
        add(claim, trouble_is(bench, trouble, expected).await);
    }
    add("a lost answer is ambiguous", lost_answer(bench).await);
    report
}

const TROUBLES: [(&str, Trouble, ErrorClass); 4] = [
    ("a fault of the platform is transient", Trouble::ServerFault, ErrorClass::Transient),
    ("a message that is refused for good is permanent", Trouble::Refused, ErrorClass::Permanent),
    ("a destination that is gone is told as gone", Trouble::DestinationGone, ErrorClass::DestinationGone),
    ("refused credentials are told as unauthorized", Trouble::Unauthorized, ErrorClass::Unauthorized),
];

fn broken(what: String) -> Checked {
    Err(Stop::Broken(what))
}

fn skipped<T>(reason: &str) -> Result<T, Stop> {
    Err(Stop::Skipped(reason.to_owned()))
}

async fn plain(bench: &Bench) -> Checked {
    let sample = bench.samples.text("plain");
    bench.accepted(&sample.delivery).await?;
    bench.must_show(&sample.text, 1).await
}

async fn unicode(bench: &Bench) -> Checked {
    let sample = bench.samples.text(UNICODE);
    bench.accepted(&sample.delivery).await?;
    match bench.contract.platform.times_shown(&sample.text).await {
        Some(1) => Ok(()),
        Some(times) => broken(format!("the text is shown {times} times as it was written")),
        None => skipped("it was taken, but what users see is not known"),
    }
}

/// Content as agents write it, and as they should not.
fn contents() -> Vec<(&'static str, Value)> {
    let option = json!({ "label": "Yes", "selectedLabel": "Yes", "value": "yes" });
    vec![
        ("chat", json!({ "text": "" })),
        ("chat", json!({})),
        ("chat", json!([1, "two", null])),
        ("chat", json!({ "text": 7, "files": "none" })),
        ("chat", json!({ "operation": "edit", "messageId": "plat-1", "text": "edited" })),
        ("chat", json!({ "operation": "reaction", "messageId": "plat-1", "emoji": "thumbs_up" })),
        (
            "chat-sdk",
            json!({ "type": "ask_question", "questionId": "q", "title": "T", "question": "Q?", "options": [option] }),
        ),
        ("chat-sdk", json!({ "type": "card", "card": { "title": "T" }, "fallbackText": "T" })),
        ("chat-sdk", json!({ "type": "something new" })),
    ]
}

async fn shapes(bench: &Bench) -> Checked {
    for (kind, content) in contents() {
        let answer = bench.send(&bench.samples.content(kind, &content)).await?;
        if !is_for_good(&answer) {
            return broken(format!(
                "{kind} {content}: {answer:?}; the same content gets the same answer each time"
            ));
        }
    }
    Ok(())
}

/// Whether the next try of the same message would end the same way.
fn is_for_good(answer: &Answer) -> bool {
    matches!(answer, Ok(_) | Err(SendError::Permanent { .. }))
}

async fn large_text(bench: &Bench) -> Checked {
    let sample = bench.samples.text(&"long ".repeat(LARGE_TEXT_BYTES / 5));
    let answer = bench.send(&sample.delivery).await?;
    if !is_for_good(&answer) {
        return broken(format!("{answer:?}; it will be as large at the next try"));
    }
    plain(bench).await
}

async fn attachments(bench: &Bench) -> Checked {
    let large = vec![b'x'; LARGE_FILE_BYTES];
    let files: [(&str, &[u8]); 3] = [("empty.txt", b""), ("Grüße.bin", b"\0\xff\r\n"), ("large.dat", &large)];
    let sample = bench.samples.with_files("three files", &files);
    match bench.send(&sample.delivery).await? {
        Ok(_) => {}
        Err(SendError::Permanent { reason }) => {
            return skipped(&format!("the channel refuses them: {reason}"));
        }
        Err(error) => return broken(format!("{error:?}")),
    }
    let expected: Vec<ReceivedFile> = files.iter().map(|(name, bytes)| received(name, bytes)).collect();
    match bench.contract.platform.files_shown(&sample.text).await {
        Some(shown) if shown != expected => broken(format!("{shown:?}, expected {expected:?}")),
        Some(_) => Ok(()),
        None => skipped("they were taken, but what users see is not known"),
    }
}

fn received(name: &str, bytes: &[u8]) -> ReceivedFile {
    let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    ReceivedFile { name: name.to_owned(), size: bytes.len() as u64, sha256 }
}

async fn shortened(bench: &Bench) -> Checked {
    let sample = bench.samples.with_shortened_file();
    if bench.send(&sample.delivery).await?.is_err() {
        return Ok(());
    }
    match bench.contract.platform.files_shown(&sample.text).await {
        Some(files) if files.iter().any(|file| file.size == 8) => {
            broken(format!("8 bytes of 4 arrived: {files:?}"))
        }
        _ => Ok(()),
    }
}

async fn at_once(bench: &Bench) -> Checked {
    let samples: Vec<_> = (0..AT_ONCE).map(|chat| bench.samples.text_elsewhere("at once", chat)).collect();
    let mut sends = tokio::task::JoinSet::new();
    for sample in &samples {
        let (channel, delivery) = (Arc::clone(&bench.contract.channel), sample.delivery.clone());
        sends.spawn(async move { channel.send(&delivery).await });
    }
    let limit = bench.contract.answer_within;
    let Ok(answers) = tokio::time::timeout(limit, sends.join_all()).await else {
        return broken(format!("not all were answered within {} s", limit.as_secs_f64()));
    };
    let mut ids = BTreeSet::new();
    for answer in answers {
        match answer {
            // Another chat may not exist on a real platform, and it may set a pace.
            Err(
                SendError::Permanent { .. }
                | SendError::DestinationGone { .. }
                | SendError::RateLimited { .. },
            ) => {}
            Err(error) => return broken(format!("{error:?}")),
            Ok(receipt) => {
                if let Some(id) = receipt.platform_message_id
                    && !ids.insert(id.clone())
                {
                    return broken(format!("two messages have the platform id {id:?}"));
                }
            }
        }
    }
    Ok(())
}

async fn broken_off(bench: &Bench) -> Checked {
    let sample = bench.samples.text("broken off");
    let channel = Arc::clone(&bench.contract.channel);
    // The first poll begins the send; then its caller is gone, as after a deadline.
    {
        let mut send = channel.send(&sample.delivery);
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(send.as_mut().poll(context)));
        let _ = polled.await;
    }
    plain(bench).await?;
    if bench.contract.channel.idempotency() == Idempotency::NativeKey {
        bench.accepted(&sample.delivery).await?;
        return bench.must_show(&sample.text, 1).await;
    }
    Ok(())
}

async fn repeated_key(bench: &Bench) -> Checked {
    if bench.contract.channel.idempotency() != Idempotency::NativeKey {
        return skipped("the channel does not claim to recognise keys");
    }
    let sample = bench.samples.text("sent twice");
    bench.accepted(&sample.delivery).await?;
    let mut again = sample.delivery.clone();
    again.attempt = 2;
    bench.accepted(&again).await?;
    let other = bench.samples.text("sent twice, too");
    bench.accepted(&other.delivery).await?;
    bench.must_show(&other.text, 1).await?;
    if bench.contract.platform.times_shown(&sample.text).await.is_none() {
        return skipped("both were taken, but what users see is not known");
    }
    bench.must_show(&sample.text, 1).await
}

async fn asked_for(bench: &Bench) -> Checked {
    if bench.contract.channel.idempotency() != Idempotency::Reconcile {
        return skipped("the channel does not claim that it can be asked");
    }
    let sample = bench.samples.text("asked for");
    match bench.find(&sample.delivery).await? {
        Ok(None) => {}
        other => return broken(format!("before it was sent: {other:?}")),
    }
    let receipt = bench.accepted(&sample.delivery).await?;
    match bench.find(&sample.delivery).await? {
        Ok(Some(found)) if found.platform_message_id == receipt.platform_message_id => Ok(()),
        other => broken(format!("after it was sent as {receipt:?}: {other:?}")),
    }
}

/// Sends one message into a trouble and one after it, which must be taken.
async fn in_trouble(bench: &Bench, trouble: Trouble) -> Result<SendError, Stop> {
    if !bench.contract.platform.provoke(trouble).await {
        return skipped("the platform cannot be made to do this");
    }
    let sample = bench.samples.text("in trouble");
    let answer = bench.send(&sample.delivery).await?;
    let Err(error) = answer else { return Err(Stop::Broken("there is a receipt all the same".to_owned())) };
    plain(bench).await?;
    Ok(error)
}

async fn trouble_is(bench: &Bench, trouble: Trouble, expected: ErrorClass) -> Checked {
    let error = in_trouble(bench, trouble).await?;
    if error.class() == expected { Ok(()) } else { broken(format!("{error:?}")) }
}

async fn rate_limit(bench: &Bench) -> Checked {
    let wait = Duration::from_secs(7);
    match in_trouble(bench, Trouble::RateLimited(wait)).await? {
        SendError::RateLimited { retry_after: Some(told), .. } if told >= wait => Ok(()),
        error => broken(format!("expected a rate limit with at least {} s: {error:?}", wait.as_secs())),
    }
}

async fn lost_answer(bench: &Bench) -> Checked {
    let error = in_trouble(bench, Trouble::LostAnswer).await?;
    let repeats_are_harmless = bench.contract.channel.idempotency() == Idempotency::NativeKey;
    match error.class() {
        ErrorClass::Ambiguous => Ok(()),
        ErrorClass::Transient if repeats_are_harmless => Ok(()),
        _ => broken(format!("{error:?}; users may see the message")),
    }
}
