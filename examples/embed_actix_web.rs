//! A relay inside an actix-web application that has routes, a login and an actor of its own.
//!
//! The application has a chat room, an actor, which is the channel; pages of its own under `/`; and the control plane of the
//! relay under `/agents`, for the people that the application knows.
//!
//! Run it: `cargo run --example embed_actix_web`

use actix::{Actor, Context, Handler};
use actix_web::{App, HttpRequest, HttpServer, Responder, web};
use nanorelay::control::http::{Caller, ControlPlane, Scope};
use nanorelay_actors::channel::actor::Deliver;
use nanorelay_actors::model::error::{Receipt, SendError};
use nanorelay_actors::model::tenant::TenantSet;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::testing::{DataDir, SessionSpec};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The application's own actor. It handles [`Deliver`], so it is a channel.
#[derive(Default)]
struct ChatRoom {
    lines: Vec<String>,
}

impl Actor for ChatRoom {
    type Context = Context<Self>;
}

impl Handler<Deliver> for ChatRoom {
    type Result = Result<Receipt, SendError>;

    fn handle(&mut self, message: Deliver, _: &mut Self::Context) -> Self::Result {
        let delivery = message.accept()?;
        self.lines.push(format!("{}: {}", delivery.session_id, delivery.content));
        Ok(Receipt { platform_message_id: Some(format!("line-{}", self.lines.len())), ..Receipt::default() })
    }
}

/// Who the application says is there. Yours looks at its session or at a signed header.
fn who(request: &HttpRequest) -> Option<Caller> {
    let user = request.headers().get("x-user")?.to_str().ok()?;
    let scope = if user == "alice" { Scope::Admin } else { Scope::Read };
    Some(Caller::of_application(user, scope, TenantSet::All))
}

async fn hello() -> impl Responder {
    "the application's own page"
}

/// What a browser does: one GET, and the whole answer.
async fn get(address: SocketAddr, path: &str, user: Option<&str>) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let user = user.map(|user| format!("x-user: {user}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{user}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = DataDir::new();
    let agents: Vec<_> = (1..=3)
        .map(|number| data.session(SessionSpec::new("ag-main").chat("room", &format!("room:{number}"))))
        .collect();

    let room = ChatRoom::default().start();
    let relay = Relay::builder(data.path()).channel_actor("room", room.recipient()).start().await?;
    let routes = ControlPlane::new(relay.clone()).authorized_by(who).routes();
    let server = HttpServer::new(move || {
        App::new().route("/", web::get().to(hello)).service(web::scope("/agents").configure(routes.clone()))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")?;
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    let serving = actix_web::rt::spawn(server);

    for agent in &agents {
        agent.text("hello");
    }
    assert_eq!(relay.drain(Duration::from_secs(10)).await.delivered, 3);

    let own = get(address, "/", None).await?;
    assert!(own.ends_with("the application's own page"), "{own}");
    let stranger = get(address, "/agents/v1/channels", None).await?;
    assert!(stranger.starts_with("HTTP/1.1 401"), "{stranger}");
    let alice = get(address, "/agents/v1/channels", Some("alice")).await?;
    assert!(alice.starts_with("HTTP/1.1 200") && alice.contains("\"attempts\":3"), "{alice}");
    println!("{}", alice.lines().last().unwrap_or_default());

    // Streams first, then the server, then the relay.
    ControlPlane::new(relay.clone()).close_streams();
    handle.stop(true).await;
    serving.await??;
    relay.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
