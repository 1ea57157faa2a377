//! Changes that are made once however often they are asked for: a repeat with the same `Idempotency-Key` gets the answer of
//! the first. Answers are in memory: after a restart a repeat is a new change, and the objects' own ids make it harmless
//! where that matters (a message for an agent has an id).

use super::problem::{Problem, ProblemKind};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use nanorelay_actors::model::time::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The header with the key.
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that is a repetition.
const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// How long an answer is kept.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(24 * 3600);
/// Most answers that are kept; the oldest go first.
const ANSWERS_MAX: usize = 10_000;
/// The largest answer that is kept, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What all kept answers may take together, in bytes; the oldest go first.
const ANSWERS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A hash: keys, paths and bodies are of any length.
type Hash = [u8; 32];

/// Answers for repeats.
#[derive(Default)]
pub(super) struct Answers(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    entries: HashMap<Hash, Entry>,
    /// The keys of the entries, the oldest first, and of some that are gone.
    order: VecDeque<(Timestamp, Hash)>,
    /// What all answers take together.
    bytes: usize,
}

struct Entry {
    /// Of the request.
    fingerprint: Hash,
    begun_at: Timestamp,
    /// `None` while it is being made.
    answer: Option<Answer>,
}

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub content_type: Option<HeaderValue>,
    pub body: Bytes,
}

impl Answer {
    /// The answer once more.
    pub fn repeated(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(content_type) = &self.content_type {
            response.insert_header((CONTENT_TYPE, content_type.clone()));
        }
        response.insert_header((REPLAYED_HEADER, "true")).body(self.body.clone())
    }
}

/// What is to be done about a request with a key.
pub(super) enum Turn {
    /// It is the first: answer it, then [`Claim::keep`] the answer.
    First(Claim),
    /// It was answered.
    Repeat(Answer),
}

/// The right to answer a request. When it is dropped without an answer, the next repeat is the first again.
pub(super) struct Claim {
    answers: Arc<Answers>,
    key: Hash,
}

/// The key of a request, if it has one.
pub(super) fn key_in(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let mut values = headers.get_all(KEY_HEADER);
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.as_bytes();
    let is_plain = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    if values.next().is_some() || !is_plain {
        let words = format!("is one text of 1 to {KEY_BYTES_MAX} visible ASCII characters");
        return Err(Problem::field("Idempotency-Key", words));
    }
    Ok(Some(key))
}

impl Answers {
    /// Looks what a request with this key is: `caller` is whose key it is, `request` are the parts that a repeat has in
    /// common with the first.
    pub fn begin(
        self: &Arc<Self>,
        caller: &str,
        key: &[u8],
        request: &[&[u8]],
        now: Timestamp,
    ) -> Result<Turn, Problem> {
        let (key, fingerprint) = (hash(&[caller.as_bytes(), key]), hash(request));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget_old(now);
        if let Some(entry) = kept.entries.get(&key) {
            return match &entry.answer {
                _ if entry.fingerprint != fingerprint => {
                    let words = "the key was used for a request with another path or body";
                    Err(Problem::new(ProblemKind::IdempotencyMismatch, words))
                }
                Some(answer) => Ok(Turn::Repeat(answer.clone())),
                None => {
                    let words = "an earlier request with this key is being answered";
                    let problem = Problem::new(ProblemKind::IdempotencyInProgress, words);
                    Err(problem.retry_after(Duration::from_secs(1)))
                }
            };
        }
        while kept.entries.len() >= ANSWERS_MAX {
            if kept.forget_oldest() {
                continue;
            }
            let words = "too many requests with a key are being answered";
            let problem = Problem::new(ProblemKind::TooManyRequests, words);
            return Err(problem.retry_after(Duration::from_secs(1)));
        }
        kept.add(key, Entry { fingerprint, begun_at: now, answer: None });
        Ok(Turn::First(Claim { answers: Arc::clone(self), key }))
    }
}

impl Kept {
    fn add(&mut self, key: Hash, entry: Entry) {
        self.order.push_back((entry.begun_at, key));
        self.entries.insert(key, entry);
        if self.order.len() > 2 * ANSWERS_MAX {
            // Those that were given up without an answer.
            let entries = &self.entries;
            self.order
                .retain(|(begun_at, key)| entries.get(key).is_some_and(|entry| entry.begun_at == *begun_at));
        }
    }

    fn forget_old(&mut self, now: Timestamp) {
        while let Some((begun_at, _)) = self.order.front()
            && now.since(*begun_at) >= ANSWER_TIME
            && self.forget_oldest()
        {}
    }

    /// Forgets the oldest answer; `false` when there is none.
    fn forget_oldest(&mut self) -> bool {
        let is_being_made = |(begun_at, key): &(Timestamp, Hash)| {
            self.entries.get(key).is_some_and(|entry| entry.begun_at == *begun_at && entry.answer.is_none())
        };
        let Some(index) = self.order.iter().position(|place| !is_being_made(place)) else { return false };
        if let Some((begun_at, key)) = self.order.remove(index)
            && self.entries.get(&key).is_some_and(|entry| entry.begun_at == begun_at)
        {
            self.bytes -= self.entries.remove(&key).map_or(0, |entry| entry.bytes());
        }
        true
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.body.len())
    }
}

impl Claim {
    /// Keeps an answer for repeats. Only that of a change that was made: what was refused may be tried again.
    pub fn keep(self, answer: &Answer) {
        if !answer.status.is_success() || answer.body.len() > ANSWER_BYTES_MAX {
            return;
        }
        let mut kept = self.answers.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += answer.body.len();
        if let Some(entry) = kept.entries.get_mut(&self.key) {
            entry.answer = Some(answer.clone());
        }
        while kept.bytes > ANSWERS_BYTES_MAX && kept.forget_oldest() {}
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut kept = self.answers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.entries.get(&self.key).is_some_and(|entry| entry.answer.is_none()) {
            kept.entries.remove(&self.key);
        }
    }
}

/// A hash of parts that cannot be mistaken for other parts.
fn hash(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1000)
    }

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, content_type: None, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn begin(answers: &Arc<Answers>, caller: &str, key: &str, body: &str, now: i64) -> Result<Turn, Problem> {
        answers.begin(caller, key.as_bytes(), &[b"/v1/x", body.as_bytes()], at(now))
    }

    #[track_caller]
    fn first(turn: Result<Turn, Problem>) -> Claim {
        match turn {
            Ok(Turn::First(claim)) => claim,
            Ok(Turn::Repeat(answer)) => panic!("it was answered: {answer:?}"),
            Err(problem) => panic!("{problem}"),
        }
    }

    #[track_caller]
    fn kind(turn: Result<Turn, Problem>) -> ProblemKind {
        turn.err().expect("a problem").kind()
    }

    #[test]
    fn a_repeat_gets_the_first_answer_and_another_request_or_caller_does_not() {
        let answers = Arc::default();
        first(begin(&answers, "ann", "k", "b", 0)).keep(&answer(200, "one"));
        let Ok(Turn::Repeat(repeated)) = begin(&answers, "ann", "k", "b", 1) else { panic!("a repeat") };
        assert_eq!(repeated, answer(200, "one"));
        assert_eq!(kind(begin(&answers, "ann", "k", "other", 1)), ProblemKind::IdempotencyMismatch);
        first(begin(&answers, "bob", "k", "b", 1));
        first(begin(&answers, "ann", "k2", "b", 1));
        first(begin(&answers, "ann", "k", "b", 24 * 3600)).keep(&answer(200, "two"));
    }

    #[test]
    fn two_at_the_same_time_are_one_change_and_one_that_fails_is_tried_again() {
        let answers = Arc::default();
        let claim = first(begin(&answers, "ann", "k", "b", 0));
        assert_eq!(kind(begin(&answers, "ann", "k", "b", 0)), ProblemKind::IdempotencyInProgress);
        claim.keep(&answer(409, "not now"));
        drop(first(begin(&answers, "ann", "k", "b", 0)));
        first(begin(&answers, "ann", "k", "b", 0)).keep(&answer(204, ""));
        assert!(matches!(begin(&answers, "ann", "k", "b", 0), Ok(Turn::Repeat(_))));
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_size() {
        let answers: Arc<Answers> = Arc::default();
        let large = "x".repeat(ANSWER_BYTES_MAX);
        for n in 0..ANSWERS_BYTES_MAX / ANSWER_BYTES_MAX + 10 {
            first(begin(&answers, "ann", &format!("large-{n}"), "b", n as i64)).keep(&answer(200, &large));
        }
        assert!(answers.0.lock().unwrap().bytes <= ANSWERS_BYTES_MAX);
        first(begin(&answers, "ann", "large-0", "b", 1000)).keep(&answer(200, &format!("{large}x")));
        first(begin(&answers, "ann", "large-0", "b", 1000));
        for n in 0..ANSWERS_MAX + 10 {
            first(begin(&answers, "ann", &format!("small-{n}"), "b", 2000)).keep(&answer(200, "x"));
        }
        let kept = answers.0.lock().unwrap();
        assert_eq!(kept.entries.len(), ANSWERS_MAX);
        assert_eq!(kept.bytes, kept.entries.values().map(Entry::bytes).sum::<usize>());
    }

    #[test]
    fn a_key_is_one_plain_text() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(KEY_HEADER, HeaderValue::from_static(value));
            }
            key_in(&headers).map(|key| key.map(<[u8]>::to_vec)).map_err(|problem| problem.kind())
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["abc"]), Ok(Some(b"abc".to_vec())));
        for wrong in [&[""][..], &["a b"], &["a", "b"]] {
            assert_eq!(with(wrong), Err(ProblemKind::InvalidRequest), "{wrong:?}");
        }
    }
}
