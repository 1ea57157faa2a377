use super::*;
use crate::model::ids::PathComponent;
use crate::testing::{VirtualClock, sample_delivery};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What an assertion says when it fails.
#[track_caller]
fn complaint(assertion: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion fails");
    payload.downcast_ref::<String>().expect("a text").clone()
}

fn plat(number: usize) -> Result<Receipt, SendError> {
    Ok(Receipt { platform_message_id: Some(format!("plat-{number}")), limit: None })
}

fn failed(answer: Answer) -> Result<Receipt, SendError> {
    match answer {
        Answer::Fail(error) | Answer::AcceptThenFail(error) => Err(error),
        other => panic!("{other:?} is no failure"),
    }
}

#[tokio::test]
async fn answers_come_by_message_then_text_then_queue_then_script() {
    let channel = MockChannel::new();
    channel.on_text("text of", [Answer::permanent("by text")]);
    channel.on_message("a", [Answer::transient("by message")]);
    channel.next([Answer::rate_limited(None)]);
    channel.script(|call| Answer::AcceptAs(format!("own-{}", call.number)));
    let mut results = Vec::new();
    for _ in 0..4 {
        results.push(channel.send(&sample_delivery("a", 1)).await);
    }
    assert_eq!(results[0], failed(Answer::transient("by message")));
    assert_eq!(results[1], failed(Answer::permanent("by text")));
    assert_eq!(results[2], failed(Answer::rate_limited(None)));
    assert_eq!(results[3], Ok(Receipt { platform_message_id: Some("own-4".to_owned()), limit: None }));
}

#[tokio::test]
async fn a_lasting_answer_lasts_and_everything_else_is_accepted() {
    let channel = MockChannel::new();
    channel.always_on_text("of bad", Answer::permanent("no"));
    for _ in 0..3 {
        assert!(channel.send(&sample_delivery("bad", 1)).await.is_err());
    }
    assert_eq!(channel.send(&sample_delivery("good", 3)).await, plat(4));
    channel.assert_exactly_once(&["good"]);
    channel.assert_delivered("good");
}

#[tokio::test]
async fn attachments_are_read_and_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    std::fs::write(&path, "abc and more").unwrap();
    let mut message = sample_delivery("a", 1);
    let name = PathComponent::new("a.txt").unwrap();
    message.attachments.push(Attachment::new(name, 3, File::open(&path).unwrap()));
    let channel = MockChannel::new();
    channel.send(&message).await.unwrap();
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
    let expected = ReceivedFile { name: "a.txt".to_owned(), size: 3, sha256 };
    assert_eq!(channel.calls()[0].files, [expected]);
}

#[tokio::test]
async fn a_gate_holds_calls_until_it_is_opened() {
    let channel = MockChannel::new();
    channel.next([Answer::gate()]);
    let held = tokio::spawn({
        let channel = Arc::clone(&channel);
        async move { channel.send(&sample_delivery("a", 1)).await }
    });
    channel.wait_for(1).await;
    assert_eq!(channel.calls()[0].outcome, Outcome::Open);
    assert!(!held.is_finished());
    channel.open_gate();
    assert_eq!(held.await.unwrap(), plat(1));
    channel.wait_for_shown(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_takes_virtual_time() {
    let clock = VirtualClock::starting_at(Timestamp::from_ms(0));
    let channel = MockChannel::with_clock(clock);
    channel.next([Answer::slow(Duration::from_secs(3600))]);
    channel.send(&sample_delivery("a", 1)).await.unwrap();
    let call = &channel.calls()[0];
    assert_eq!(call.answered_at.unwrap().since(call.started_at), Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_and_a_panic_are_told_apart() {
    let channel = MockChannel::new();
    channel.next([Answer::Hang, Answer::Panic("boom".to_owned())]);
    let message = sample_delivery("a", 1);
    let deadline = tokio::time::timeout(Duration::from_secs(5), channel.send(&message)).await;
    assert!(deadline.is_err());
    let panicking = Arc::clone(&channel);
    let end = tokio::spawn(async move { panicking.send(&sample_delivery("b", 3)).await }).await;
    assert!(end.unwrap_err().is_panic());
    let outcomes: Vec<Outcome> = channel.calls().into_iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [Outcome::Abandoned, Outcome::Panicked]);
    channel.assert_exactly_once::<&str>(&[]);
    channel.assert_lane_order();
}

#[tokio::test]
async fn exactly_once_tells_what_is_lost_and_what_came_twice() {
    let channel = MockChannel::new();
    channel.on_message("twice", [Answer::accept_then_drop(), Answer::Accept]);
    channel.send(&sample_delivery("twice", 1)).await.unwrap_err();
    channel.send(&sample_delivery("twice", 1)).await.unwrap();
    let text = complaint(|| channel.assert_exactly_once(&["twice", "lost"]));
    assert!(text.contains("twice was shown 2 times, expected 1"), "{text}");
    assert!(text.contains("lost was shown 0 times, expected 1"), "{text}");
    assert!(text.contains("call 2: sess-1 twice seq 1"), "{text}");
}

#[tokio::test]
async fn a_platform_with_keys_shows_a_repeated_message_once() {
    let channel = MockChannel::with(Idempotency::NativeKey, Arc::new(SystemClock));
    channel.next([Answer::accept_then_drop()]);
    channel.send(&sample_delivery("a", 1)).await.unwrap_err();
    channel.send(&sample_delivery("a", 1)).await.unwrap();
    channel.assert_exactly_once(&["a"]);
    assert_eq!(channel.shown().len(), 1);
}

#[tokio::test]
async fn lane_order_allows_retries_and_refuses_overtaking() {
    let channel = MockChannel::new();
    channel.next([Answer::transient("once")]);
    channel.send(&sample_delivery("a", 1)).await.unwrap_err();
    channel.send(&sample_delivery("a", 1)).await.unwrap();
    channel.send(&sample_delivery("b", 3)).await.unwrap();
    channel.assert_lane_order();
    channel.send(&sample_delivery("a", 1)).await.unwrap();
    let text = complaint(|| channel.assert_lane_order());
    assert!(text.contains("call 4 is out of seq order"), "{text}");
}

#[tokio::test]
async fn lane_order_refuses_two_open_calls_of_one_lane() {
    let channel = MockChannel::new();
    channel.next([Answer::gate()]);
    let held = tokio::spawn({
        let channel = Arc::clone(&channel);
        async move { channel.send(&sample_delivery("a", 1)).await }
    });
    channel.wait_for(1).await;
    channel.send(&sample_delivery("b", 3)).await.unwrap();
    let text = complaint(|| channel.assert_lane_order());
    assert!(text.contains("call 2 began while call 1"), "{text}");
    channel.open_gate();
    held.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn never_early_compares_with_the_platforms_hint() {
    let clock = VirtualClock::starting_at(Timestamp::from_ms(0));
    let channel = MockChannel::with_clock(clock);
    let hint = Duration::from_secs(30);
    channel.next([Answer::rate_limited(Some(hint)), Answer::rate_limited(Some(hint))]);
    channel.send(&sample_delivery("a", 1)).await.unwrap_err();
    tokio::time::advance(hint).await;
    channel.send(&sample_delivery("a", 1)).await.unwrap_err();
    channel.assert_never_early();
    tokio::time::advance(hint / 2).await;
    channel.send(&sample_delivery("a", 1)).await.unwrap();
    let text = complaint(|| channel.assert_never_early());
    assert!(text.contains("tried after 15s instead of 30s"), "{text}");
}

#[tokio::test]
async fn a_platform_that_flaps_comes_and_goes() {
    let channel = MockChannel::new();
    channel.flap(1, 2, Answer::transient("down"));
    let mut accepted = Vec::new();
    for number in 1..=6 {
        accepted.push(channel.send(&sample_delivery(&format!("m-{number}"), number)).await.is_ok());
    }
    assert_eq!(accepted, [true, false, false, true, false, false]);
}

#[actix_rt::test]
async fn an_actor_answers_as_its_mock_channel_is_told() {
    let channel = MockChannel::new();
    channel.next([Answer::rate_limited(None)]);
    let actor = crate::channel::actor::ActorChannel::new(channel.start_actor());
    assert_eq!(actor.send(&sample_delivery("a", 1)).await, failed(Answer::rate_limited(None)));
    assert_eq!(actor.send(&sample_delivery("a", 1)).await, plat(2));
    channel.assert_exactly_once(&["a"]);
}
