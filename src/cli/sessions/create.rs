//! `nanorelay sessions create`.

use super::super::output::OutputArgs;
use super::super::place::{ChangePlaceArgs, Host, unreachable};
use super::super::{Exit, Failure};
use crate::control::socket::session_request;
use clap::Args;
use nanorelay_actors::relay::{ReadySession, SessionMode, SessionRequest};

/// Finds the session of a chat, or makes it.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// The agent group that answers, by its id in v2.db
    #[arg(long, value_name = "ID")]
    agent_group: String,
    /// The chat it speaks in: the kind of platform and the chat's id there; without it, a session of no chat
    #[arg(long, num_args = 2, value_names = ["TYPE", "PLATFORM_ID"])]
    chat: Option<Vec<String>>,
    /// The thread of that chat
    #[arg(long, value_name = "ID", requires = "chat")]
    thread: Option<String>,
    /// shared (one session for the chat), per-thread or agent-shared (one for all chats); without it, as v2.db says
    #[arg(long, value_parser = mode_argument)]
    mode: Option<SessionMode>,
    /// Add the chat to v2.db when it is not there
    #[arg(long, requires = "chat")]
    add_chat: bool,
    #[command(flatten)]
    place: ChangePlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn mode_argument(name: &str) -> Result<SessionMode, String> {
    let names = || SessionMode::ALL.map(SessionMode::as_str).join(", ");
    SessionMode::from_name(name).ok_or_else(|| format!("a mode is {}", names()))
}

impl Host {
    fn create_session(&self, request: &SessionRequest) -> Result<ReadySession, Failure> {
        match self {
            Self::Running(client) => client.create_session(request).map_err(unreachable),
            Self::Stopped(host) => host.noted("session.create", request.agent_group_id.as_str(), |host| {
                host.create_session(request).map_err(|problem| Failure::Failed(problem.to_string()))
            }),
        }
    }
}

/// Creates; prints the session's id.
pub(super) fn run(args: &CreateArgs) -> Result<Exit, Failure> {
    let chat = args.chat.as_ref().map(|chat| (chat[0].clone(), chat[1].clone()));
    let (thread, mode, add_chat) = (args.thread.as_deref(), args.mode, args.add_chat);
    let request = session_request(&args.agent_group, chat.as_ref(), thread, mode, add_chat)
        .map_err(|problem| Failure::Usage(problem.to_string()))?;
    let ready = args.place.open()?.create_session(&request)?;
    args.output.object(&ready, || format!("{}\n", ready.session_id))?;
    Ok(Exit::Done)
}
