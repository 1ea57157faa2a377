//! A delivery as a block of text for people. Everything from the agent is escaped.

use super::super::plain_text::{indented, one_line};
use crate::config::units::show_size;
use nanorelay_actors::channel::adapter::Delivery;
use serde_json::Value;

const INDENT: &str = "   ";

/// A heading that starts in the first column, then the message, indented, then an empty line.
pub(super) fn block(delivery: &Delivery, id: &str) -> String {
    let destination = &delivery.destination;
    let thread = destination.thread_id.as_ref().map_or(String::new(), |thread| format!(", thread {thread}"));
    let heading = format!(
        "── {id} → {} {}{thread} (session {}, #{})",
        destination.channel_type, destination.platform_id, delivery.session_id, delivery.seq
    );
    let mut block = one_line(&heading);
    block.push('\n');
    block.push_str(&indented(&body(&delivery.content), INDENT));
    for file in &delivery.attachments {
        let line = format!("file: {} ({})", one_line(file.name()), show_size(file.size()));
        block.push_str(&indented(&line, INDENT));
    }
    block.push('\n');
    block
}

fn body(content: &str) -> String {
    // Deeply nested or strange content is shown as it is.
    let Ok(value) = serde_json::from_str::<Value>(content) else { return content.to_owned() };
    let known = match (text_of(&value, "operation"), text_of(&value, "type")) {
        (Some("edit"), _) => edit(&value),
        (Some("reaction"), _) => reaction(&value),
        (_, Some("ask_question")) => question(&value),
        (_, Some("card")) => card(&value),
        _ => text_of(&value, "text").or_else(|| text_of(&value, "markdown")).map(str::to_owned),
    };
    known.unwrap_or_else(|| content.to_owned())
}

fn text_of<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn edit(value: &Value) -> Option<String> {
    let text = text_of(value, "text").or_else(|| text_of(value, "markdown"))?;
    Some(format!("edit of {}:\n{text}", one_line(text_of(value, "messageId")?)))
}

fn reaction(value: &Value) -> Option<String> {
    let (emoji, id) = (text_of(value, "emoji")?, text_of(value, "messageId")?);
    Some(format!("reaction {} to {}", one_line(emoji), one_line(id)))
}

fn question(value: &Value) -> Option<String> {
    let question = text_of(value, "question")?;
    let title = text_of(value, "title").unwrap_or("question");
    let mut lines = vec![format!("? {}", one_line(title)), question.to_owned()];
    for (index, option) in value.get("options")?.as_array()?.iter().enumerate() {
        // Older agents write plain texts, newer ones objects.
        let label = option.as_str().or_else(|| text_of(option, "label")).unwrap_or("(unnamed)");
        lines.push(format!("{}. {}", index + 1, one_line(label)));
    }
    Some(lines.join("\n"))
}

fn card(value: &Value) -> Option<String> {
    let card = value.get("card")?;
    let mut lines = Vec::new();
    lines.extend(text_of(card, "title").map(|title| format!("▪ {}", one_line(title))));
    lines.extend(text_of(card, "description").map(str::to_owned));
    for child in card.get("children").and_then(Value::as_array).into_iter().flatten() {
        lines.extend(child.as_str().or_else(|| text_of(child, "text")).map(str::to_owned));
    }
    for action in card.get("actions").and_then(Value::as_array).into_iter().flatten() {
        let label = one_line(text_of(action, "label").unwrap_or("(unnamed)"));
        lines.push(match text_of(action, "url") {
            Some(url) => format!("[{label}] {}", one_line(url)),
            None => format!("[{label}]"),
        });
    }
    match lines.is_empty() {
        true => text_of(value, "fallbackText").map(str::to_owned),
        false => Some(lines.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::payload::tests::{attachment, delivery};
    use super::*;
    use nanorelay_actors::model::ids::ThreadId;

    #[track_caller]
    fn shows(content: &str, expected: &str) {
        let block = block(&delivery(content), "console-1");
        assert_eq!(block, format!("── console-1 → slack slack:C0OPS (session sess-1, #3)\n{expected}\n"));
    }

    #[test]
    fn every_shape_of_the_contract_is_readable() {
        shows(r#"{"text":"LGTM"}"#, "   LGTM\n");
        shows(r###"{"markdown":"## x\n- y"}"###, "   ## x\n   - y\n");
        shows(
            r#"{"operation":"edit","messageId":"discord:1501","text":"Updated"}"#,
            "   edit of discord:1501:\n   Updated\n",
        );
        shows(
            r#"{"operation":"reaction","messageId":"60:42","emoji":"thumbs_up"}"#,
            "   reaction thumbs_up to 60:42\n",
        );
        let seed = r#"{"type":"ask_question","questionId":"q","question":"Deploy?","options":["Yes","No"]}"#;
        shows(seed, "   ? question\n   Deploy?\n   1. Yes\n   2. No\n");
        let current = r#"{"type":"ask_question","questionId":"q","title":"Confirm","question":"Deploy?",
            "options":[{"label":"Yes","selectedLabel":"Yes","value":"Yes"}]}"#;
        shows(current, "   ? Confirm\n   Deploy?\n   1. Yes\n");
        let card = r#"{"type":"card","card":{"title":"Build","description":"ok","children":["line",{"text":"x"}],
            "actions":[{"label":"Open","url":"https://e.x","style":"primary"}]},"fallbackText":"Build ok"}"#;
        shows(card, "   ▪ Build\n   ok\n   line\n   x\n   [Open] https://e.x\n");
        shows(r#"{"type":"card","card":{},"fallbackText":"Build ok"}"#, "   Build ok\n");
        shows(r#"{"strange":true}"#, "   {\"strange\":true}\n");
    }

    #[test]
    fn thread_and_files_are_shown() {
        let mut message = delivery(r#"{"text":"","files":["report.pdf"]}"#);
        message.destination.thread_id = Some(ThreadId::new("171.2").unwrap());
        message.attachments.push(attachment("report.pdf", b"", 1536));
        assert_eq!(
            block(&message, "console-7"),
            "── console-7 → slack slack:C0OPS, thread 171.2 (session sess-1, #3)\n   file: report.pdf (1.5 KiB)\n\n"
        );
    }

    #[test]
    fn an_agent_cannot_steer_the_terminal_or_forge_a_heading() {
        shows(
            "{\"text\":\"a\\u001b]0;owned\\u0007\\n── console-9 → slack\"}",
            "   a\\u{1b}]0;owned\\u{7}\n   ── console-9 → slack\n",
        );
        shows(r#"{"operation":"reaction","messageId":"x\n── y","emoji":"z"}"#, "   reaction z to x\\n── y\n");
    }
}
