//! An agent's wish to change a message that it has written before.

use super::content::parse_object;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A row that changes another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The id that it names, of the platform or of a row.
    pub message_id: String,
    /// The seq that it names, when it names a number: that is how an agent knows its messages.
    pub seq: Option<i64>,
    /// What is to become of it.
    pub change: Change,
}

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It says something else; this is the content that asks for it.
    Edit(Arc<str>),
    /// It is not wanted any more.
    Delete,
}

impl Revision {
    /// What a content asks to be changed; `None` when it is a message of its own.
    pub fn of(content: &Arc<str>) -> Option<Self> {
        // Only a text that names an operation can be one: no second parse for all others.
        if !content.contains("\"operation\"") {
            return None;
        }
        let object = parse_object(content).ok()?;
        let has_files = object.get("files").and_then(Value::as_array).is_some_and(|files| !files.is_empty());
        let has_text =
            ["text", "markdown"].iter().any(|field| object.get(*field).is_some_and(Value::is_string));
        let change = match object.get("operation").and_then(Value::as_str) {
            Some("edit") if has_text && !has_files => Change::Edit(Arc::clone(content)),
            Some("delete") => Change::Delete,
            _ => return None,
        };
        let (message_id, seq) = match object.get("messageId")? {
            Value::String(id) => (id.clone(), None),
            Value::Number(number) => (number.to_string(), number.as_i64()),
            _ => return None,
        };
        Some(Self { message_id, seq, change })
    }
}

/// A message's content with an edit's text in place of its own. Files and all other fields stay.
pub fn with_edit(content: &str, edit: &str) -> String {
    let (Ok(mut object), Ok(edit)) = (parse_object(content), parse_object(edit)) else {
        return content.to_owned();
    };
    remove_text(&mut object);
    let fields =
        edit.into_iter().filter(|(name, _)| name != "operation" && name != "messageId" && name != "files");
    object.extend(fields);
    Value::Object(object).to_string()
}

fn remove_text(object: &mut Map<String, Value>) {
    for field in ["text", "markdown"] {
        object.shift_remove(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Option<Revision> {
        Revision::of(&Arc::from(json))
    }

    #[test]
    fn an_edit_names_a_message_by_id_or_by_seq() {
        let json = r#"{"operation":"edit","messageId":"msg-1","text":"new"}"#;
        let edit = of(json).expect("an edit");
        assert_eq!((edit.message_id.as_str(), edit.seq), ("msg-1", None));
        assert_eq!(edit.change, Change::Edit(Arc::from(json)));
        let by_seq = of(r#"{"operation":"edit","messageId":43,"markdown":"new"}"#).expect("an edit");
        assert_eq!((by_seq.message_id.as_str(), by_seq.seq), ("43", Some(43)));
        let digits = of(r#"{"operation":"delete","messageId":"43"}"#).expect("a deletion");
        assert_eq!((digits.seq, digits.change), (None, Change::Delete), "a platform may have such ids");
    }

    #[test]
    fn everything_else_is_a_message_of_its_own() {
        for json in [
            r#"{"text":"say \"operation\" again"}"#,
            r#"{"operation":"reaction","messageId":"m","emoji":"x"}"#,
            r#"{"operation":"edit","messageId":"m"}"#,
            r#"{"operation":"edit","messageId":"m","text":"t","files":["a.png"]}"#,
            r#"{"operation":"edit","text":"t"}"#,
            r#"{"operation":"edit","messageId":null,"text":"t"}"#,
            r#"{"operation":"edit""#,
        ] {
            assert_eq!(of(json), None, "{json}");
        }
    }

    #[test]
    fn an_edit_replaces_the_text_and_keeps_the_rest() {
        let edited =
            |content: &str| with_edit(content, r#"{"operation":"edit","messageId":"m","text":"new"}"#);
        assert_eq!(edited(r#"{"text":"old","files":["a.png"]}"#), r#"{"files":["a.png"],"text":"new"}"#);
        assert_eq!(edited(r###"{"markdown":"## old"}"###), r#"{"text":"new"}"#);
        assert_eq!(
            edited(r#"{"operation":"edit","messageId":"plat-1","text":"old"}"#),
            r#"{"operation":"edit","messageId":"plat-1","text":"new"}"#,
            "an edit of an edit goes where the first one went"
        );
        assert_eq!(edited("no json"), "no json");
    }
}
