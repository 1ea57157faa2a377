use super::*;
use crate::relay::Relay;
use crate::report::DeliveryFilter;
use crate::settings::Settings;
use crate::testing::{DataDir, SessionSpec, sample_delivery};
use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use actix_rt::Arbiter;
use std::sync::Mutex;
use tokio::sync::{Notify, oneshot};

/// What an actor of these tests does with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Answer,
    PanicBefore,
    PanicAfter,
    NeverAnswer,
}

struct Room {
    does: Does,
    accepted: Arc<Mutex<Vec<String>>>,
    /// Held up until it is told to go on.
    held_up: Option<Arc<Notify>>,
}

impl Room {
    fn new(does: Does) -> Self {
        Self { does, accepted: Arc::default(), held_up: None }
    }
}

impl Actor for Room {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(go_on) = self.held_up.take() {
            context.set_mailbox_capacity(1);
            context.wait(async move { go_on.notified().await }.into_actor(self));
        }
    }
}

impl Handler<Deliver> for Room {
    type Result = ResponseFuture<Result<Receipt, SendError>>;

    fn handle(&mut self, message: Deliver, _: &mut Self::Context) -> Self::Result {
        assert!(self.does != Does::PanicBefore, "injected");
        let delivery = match message.accept() {
            Ok(delivery) => delivery,
            Err(error) => return Box::pin(async { Err(error) }),
        };
        self.accepted.lock().unwrap().push(delivery.message_id.to_string());
        assert!(self.does != Does::PanicAfter, "injected");
        let answers = self.does == Does::Answer;
        Box::pin(async move {
            if !answers {
                std::future::pending::<()>().await;
            }
            Ok(Receipt { platform_message_id: Some("line".to_owned()), ..Receipt::default() })
        })
    }
}

const LIMIT: Duration = Duration::from_secs(9);

fn channel(recipient: Recipient<Deliver>) -> ActorChannel {
    ActorChannel::new(recipient).answer_within(LIMIT)
}

async fn answer_of(does: Does) -> Result<Receipt, SendError> {
    tokio::time::pause();
    channel(Room::new(does).start().recipient()).send(&sample_delivery("a", 1)).await
}

#[actix_rt::test]
async fn an_answer_is_the_answer() {
    assert_eq!(answer_of(Does::Answer).await.unwrap().platform_message_id.as_deref(), Some("line"));
}

#[actix_rt::test]
async fn an_actor_that_ends_before_it_accepted_has_surely_not_sent() {
    assert!(matches!(answer_of(Does::PanicBefore).await, Err(SendError::Unavailable { .. })));
    let gone = ActorChannel::looked_up(|| None);
    assert!(matches!(gone.send(&sample_delivery("a", 1)).await, Err(SendError::Unavailable { .. })));
}

#[actix_rt::test]
async fn an_actor_that_ends_after_it_accepted_may_have_sent() {
    assert!(matches!(answer_of(Does::PanicAfter).await, Err(SendError::Ambiguous { .. })));
}

#[actix_rt::test]
async fn an_actor_that_accepts_and_never_answers_may_have_sent() {
    assert!(matches!(answer_of(Does::NeverAnswer).await, Err(SendError::Ambiguous { .. })));
}

#[actix_rt::test]
async fn what_waits_in_a_full_mailbox_at_the_limit_is_not_sent_later() {
    tokio::time::pause();
    let go_on = Arc::new(Notify::new());
    let room = Room { held_up: Some(Arc::clone(&go_on)), ..Room::new(Does::Answer) };
    let accepted = Arc::clone(&room.accepted);
    let channel = Arc::new(channel(room.start().recipient()));
    let sends: Vec<_> = (0..20)
        .map(|number| {
            let channel = Arc::clone(&channel);
            actix_rt::spawn(
                async move { channel.send(&sample_delivery(&format!("m-{number}"), number)).await },
            )
        })
        .collect();
    for send in sends {
        let answer = send.await.unwrap();
        assert!(matches!(answer, Err(SendError::Unavailable { .. })), "{answer:?}");
    }
    go_on.notify_one();
    channel.send(&sample_delivery("last", 99)).await.unwrap();
    assert_eq!(*accepted.lock().unwrap(), ["last"], "the others were taken back");
}

#[actix_rt::test]
async fn a_mailbox_that_is_full_for_a_while_only_slows_down() {
    let go_on = Arc::new(Notify::new());
    let room = Room { held_up: Some(Arc::clone(&go_on)), ..Room::new(Does::Answer) };
    let channel = Arc::new(channel(room.start().recipient()));
    let sends: Vec<_> = (0..20)
        .map(|number| {
            let channel = Arc::clone(&channel);
            actix_rt::spawn(
                async move { channel.send(&sample_delivery(&format!("m-{number}"), number)).await },
            )
        })
        .collect();
    go_on.notify_one();
    for send in sends {
        send.await.unwrap().unwrap();
    }
}

#[actix_rt::test]
async fn a_relay_delivers_by_an_actor_of_another_arbiter_and_outlives_it() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").chat("room", "room:1"));
    let arbiter = Arbiter::new();
    let (started, actor) = oneshot::channel();
    arbiter.spawn_fn(move || {
        let _ = started.send(Room::new(Does::Answer).start());
    });
    let actor = actor.await.unwrap();
    let mut settings = Settings::default();
    settings.retry.unavailable.base = Duration::from_millis(1);
    let relay = Relay::builder(data.path()).settings(settings).channel_actor("room", actor.recipient());
    let relay = relay.start().await.unwrap();
    agent.text("hello");
    assert_eq!(relay.drain(Duration::from_secs(30)).await.delivered, 1);

    arbiter.stop();
    arbiter.join().unwrap();
    let second = agent.text("is anybody there?");
    let report = relay.drain(Duration::ZERO).await;
    relay.settle().await;
    assert_eq!((report.delivered, report.dead, report.ambiguous), (1, 0, 0));
    let records = relay.deliveries(DeliveryFilter::default()).await.unwrap();
    let record = records.iter().find(|record| record.message_id == second).unwrap();
    assert_eq!(record.error_class.as_deref(), Some("unavailable"), "{record:?}");
    relay.shutdown(Duration::from_secs(5)).await;
}
