//! A relay in a tokio application: it lives on a thread of its own, and its handle works from every task.
//!
//! Run it: `cargo run --example tokio_app`

use nanorelay_actors::inbox::InboxMessage;
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::relay::{OperationError, Relay};
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use nanorelay_actors::testing::{DataDir, MockChannel, ScriptedAgents, SessionSpec};
use std::error::Error;
use std::time::Duration;

/// What the application tells its users when a call fails: the kind of the error decides.
fn advice(error: &OperationError) -> &'static str {
    match error {
        OperationError::NotFound(_) => "there is no such thing",
        OperationError::Invalid(_) => "ask for something else",
        OperationError::Ended => "the host is going down",
        error if error.is_temporary() => "try again in a moment",
        _ => "call somebody",
    }
}

/// One of the application's tasks: it hands a person's message to an agent.
async fn ask(relay: Relay, session: String, number: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let message = InboxMessage::new(r#"{"text":"What is new?"}"#).id(&format!("m-{number}"));
    relay.enqueue(SessionId::new(&session)?, message).await?;
    Ok(())
}

async fn run(data: &DataDir, sessions: Vec<String>) -> Result<u64, Box<dyn Error + Send + Sync>> {
    // Agents and a platform for this example; yours are real.
    let agents = ScriptedAgents::of(data);
    agents.answer("What is new?", "Nothing much.");
    let room = MockChannel::new();

    let owner =
        Relay::builder(data.path()).channel("room", room.clone()).runtime(agents).start_on_thread().await?;
    let relay = owner.relay();
    let asked: Vec<_> = sessions
        .into_iter()
        .enumerate()
        .map(|(number, session)| tokio::spawn(ask(relay.clone(), session, number)))
        .collect();
    for task in asked {
        task.await??;
    }
    let report = relay.drain(Duration::from_secs(30)).await;

    let dead = DeliveryFilter { states: vec![DeliveryState::Dead], ..DeliveryFilter::default() };
    match relay.deliveries(dead).await {
        Ok(dead) => println!("{} delivered, {} dead", report.delivered, dead.len()),
        Err(error) => println!("{error}: {}", advice(&error)),
    }
    // The thread ends here; a clone of the handle that somebody still holds gets errors from now on.
    let late = relay.clone();
    owner.shutdown(Duration::from_secs(10)).await?;
    let error = late.deliveries(DeliveryFilter::default()).await.expect_err("the relay has ended");
    println!("afterwards: {error}, {}", advice(&error));
    Ok(report.delivered)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let data = DataDir::new();
    let sessions: Vec<String> = (1..=5)
        .map(|number| {
            data.session(SessionSpec::new("ag-main").chat("room", &format!("room:{number}")).stopped())
        })
        .map(|agent| agent.session_id().to_owned())
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    assert_eq!(runtime.block_on(run(&data, sessions))?, 5);
    Ok(())
}
