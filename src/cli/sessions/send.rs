//! `nanorelay sessions send`.

use super::super::output::OutputArgs;
use super::super::place::{ChangePlaceArgs, Host, limits, unreachable};
use super::super::{Exit, Failure};
use clap::{ArgGroup, Args};
use nanorelay_actors::inbox::{AttachmentContent, Enqueued, InboxAttachment, InboxMessage, MessageOrigin};
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::model::time::Timestamp;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes a message into a session's inbox.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["text", "content"]))]
pub(in crate::cli) struct SendArgs {
    /// The session's id
    session: String,
    /// What the agent is told
    text: Option<String>,
    /// The whole content instead: a JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "sender")]
    content: Option<String>,
    /// Who says it, for the agent
    #[arg(long, value_name = "NAME", default_value = "operator")]
    sender: String,
    /// A file that comes with it; may be given several times
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
    /// The message's id: one of the same id from the same chat is written once
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The row's kind: chat, chat-sdk, task, webhook or system
    #[arg(long, default_value = "chat")]
    kind: String,
    /// Whether it wakes the agent; false = context for the next time
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    trigger: bool,
    /// Only an agent that has just started takes it
    #[arg(long)]
    on_wake: bool,
    /// Not before this time, for example 2026-12-01T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    after: Option<Timestamp>,
    /// The chat it comes from, where the answer goes; without it, the session's own
    #[arg(long, num_args = 2..=3, value_names = ["TYPE", "PLATFORM_ID", "THREAD"])]
    from: Option<Vec<String>>,
    #[command(flatten)]
    place: ChangePlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn time_argument(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|problem| problem.to_string())
}

impl Host {
    fn enqueue(&self, session: &SessionId, message: InboxMessage, data: &Path) -> Result<Enqueued, Failure> {
        match self {
            Self::Running(client) => client.send(session.as_str(), &message).map_err(unreachable),
            Self::Stopped(host) => {
                let limits = limits(data)?;
                host.noted("session.message", session.as_str(), |host| {
                    host.enqueue(session, message, &limits)
                        .map_err(|problem| Failure::Failed(problem.to_string()))
                })
            }
        }
    }
}

/// Sends; says under which number the agent knows the message.
pub(super) fn run(args: SendArgs) -> Result<Exit, Failure> {
    let session = SessionId::new(&args.session).map_err(|problem| Failure::Usage(problem.to_string()))?;
    // Opened first, closed last: the files may be any.
    let attachments = args.attach.iter().map(|path| attachment(path)).collect::<Result<_, _>>()?;
    let content = match (args.content, args.text) {
        (Some(content), _) => content,
        (None, text) => json!({
            "text": text.unwrap_or_default(), "sender": &args.sender, "senderId": &args.sender,
        })
        .to_string(),
    };
    let message = InboxMessage {
        id: args.id,
        kind: args.kind,
        content,
        wake: args.trigger,
        on_wake: args.on_wake,
        not_before: args.after,
        origin: args.from.as_deref().map_or(MessageOrigin::Session, origin),
        attachments,
    };
    let enqueued = args.place.open()?.enqueue(&session, message, &args.place.place.data)?;
    let words = if enqueued.is_new { "sent" } else { "was sent before" };
    args.output.object(&enqueued, || format!("{words}: {} (#{})\n", enqueued.message_id, enqueued.seq))?;
    Ok(Exit::Done)
}

fn origin(parts: &[String]) -> MessageOrigin {
    let origin = MessageOrigin::chat(&parts[0], &parts[1]);
    match parts.get(2) {
        Some(thread) => origin.thread(thread),
        None => origin,
    }
}

fn attachment(path: &Path) -> Result<InboxAttachment, Failure> {
    let failed = |reason: String| Failure::Failed(format!("cannot attach {}: {reason}", path.display()));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| failed("it has no name that is text".to_owned()))?;
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    if !is_file {
        return Err(failed("it is not a plain file".to_owned()));
    }
    Ok(InboxAttachment { name: name.to_owned(), content: AttachmentContent::File(Arc::new(file)) })
}
