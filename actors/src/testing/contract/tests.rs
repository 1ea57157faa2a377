use super::*;
use crate::channel::adapter::Idempotency;
use crate::clock::SystemClock;
use crate::testing::mock_channel::{Answer as Scripted, Call, MockChannel};
use serde_json::Value;

/// The users of a mock channel.
struct MockPlatform(Arc<MockChannel>);

fn text(call: &Call) -> Option<String> {
    let content: Value = serde_json::from_str(&call.content).ok()?;
    content["text"].as_str().map(str::to_owned)
}

#[async_trait]
impl Platform for MockPlatform {
    async fn times_shown(&self, wanted: &str) -> Option<usize> {
        Some(self.0.shown().iter().filter(|call| text(call).as_deref() == Some(wanted)).count())
    }

    async fn files_shown(&self, wanted: &str) -> Option<Vec<ReceivedFile>> {
        let shown = self.0.shown();
        shown.into_iter().find(|call| text(call).as_deref() == Some(wanted)).map(|call| call.files)
    }

    async fn provoke(&self, trouble: Trouble) -> bool {
        self.0.next([match trouble {
            Trouble::RateLimited(wait) => Scripted::rate_limited(Some(wait)),
            Trouble::ServerFault => Scripted::transient("a fault"),
            Trouble::Refused => Scripted::permanent("refused"),
            Trouble::DestinationGone => Scripted::destination_gone(),
            Trouble::Unauthorized => Scripted::unauthorized(),
            Trouble::LostAnswer => Scripted::accept_then_drop(),
        }]);
        true
    }
}

async fn check(channel: &Arc<MockChannel>) -> Report {
    let platform = Arc::new(MockPlatform(Arc::clone(channel)));
    Contract::of(channel.clone()).platform(platform).answer_within(Duration::from_secs(5)).check().await
}

#[tokio::test]
async fn a_channel_of_each_kind_keeps_every_claim_that_concerns_it() {
    for (idempotency, does_not_concern) in [
        (Idempotency::NativeKey, vec!["a message can be asked for before and after it was sent"]),
        (Idempotency::Reconcile, vec!["a repeated key is shown once"]),
        (
            Idempotency::None,
            vec!["a repeated key is shown once", "a message can be asked for before and after it was sent"],
        ),
    ] {
        let report = check(&MockChannel::with(idempotency, Arc::new(SystemClock))).await;
        report.assert_kept();
        let skipped: Vec<&str> = report
            .cases
            .iter()
            .filter(|case| matches!(case.verdict, Verdict::Skipped(_)))
            .map(|case| case.claim)
            .collect();
        assert_eq!(skipped.len(), does_not_concern.len(), "{idempotency:?}\n{report}");
        assert!(does_not_concern.iter().all(|claim| skipped.contains(claim)), "{idempotency:?}\n{report}");
    }
}

#[tokio::test]
async fn a_channel_of_which_nothing_can_be_seen_is_checked_by_its_answers() {
    let report = Contract::of(MockChannel::new()).check().await;
    report.assert_kept();
    assert!(matches!(report.verdict("a lost answer is ambiguous"), Verdict::Skipped(_)), "{report}");
    assert_eq!(report.verdict("a plain message is accepted and shown once"), &Verdict::Kept);
}

#[tokio::test]
async fn each_way_to_break_the_contract_is_found_and_named() {
    let claim_of = |answer: Scripted, words: &'static str| async move {
        let channel = MockChannel::new();
        channel.on_text(words, [answer]);
        check(&channel).await.broken()
    };
    let temporary = || Scripted::transient("try again");
    let found = claim_of(Scripted::Panic("a bug".to_owned()), "plain").await;
    assert!(found.contains(&"a plain message is accepted and shown once"), "{found:?}");
    let found = claim_of(temporary(), "something new").await;
    assert_eq!(found, ["every shape of content gets an answer for good"]);
    let found = claim_of(temporary(), "long long").await;
    assert_eq!(found, ["a text that is too large is taken or refused for good"]);
    let found = claim_of(temporary(), "three files").await;
    assert_eq!(found, ["attachments arrive whole"]);
    let found = claim_of(temporary(), "at once").await;
    assert_eq!(found, ["many sends at once each get their own receipt"]);
}

/// A channel that is wrong about what it promises.
struct Boaster(Arc<MockChannel>, Idempotency);

#[async_trait]
impl Channel for Boaster {
    fn idempotency(&self) -> Idempotency {
        self.1
    }

    async fn send(&self, delivery: &Delivery) -> Answer {
        self.0.send(delivery).await
    }
}

#[tokio::test]
async fn a_channel_that_promises_too_much_is_found_out() {
    let boast = |idempotency| async move {
        let channel = MockChannel::new();
        let platform = Arc::new(MockPlatform(Arc::clone(&channel)));
        Contract::of(Arc::new(Boaster(channel, idempotency))).platform(platform).check().await.broken()
    };
    let found = boast(Idempotency::NativeKey).await;
    assert!(found.contains(&"a repeated key is shown once"), "{found:?}");
    assert_eq!(
        boast(Idempotency::Reconcile).await,
        ["a message can be asked for before and after it was sent"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_is_a_broken_claim_and_not_the_end_of_the_check() {
    let channel = MockChannel::new();
    channel.on_text("plain", [Scripted::Hang]);
    let report = check(&channel).await;
    let verdict = report.verdict("a plain message is accepted and shown once");
    assert_eq!(verdict, &Verdict::Broken("send gave no answer within 5 s".to_owned()), "{report}");
    assert_eq!(report.broken().len(), 1, "{report}");
}
