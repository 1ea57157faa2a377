//! What the engine must know of a message's content. The content itself is forwarded as the agent wrote it.

use super::ids::OPAQUE_ID_BYTES_MAX;
use serde_json::{Map, Value, json};

/// The field that tells an agent where its files are.
const ATTACHMENTS: &str = "attachments";

/// The parts of a content (JSON text) that decide how it is handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What kind of message it is.
    pub shape: Shape,
    /// Names of the declared attachments, as written: not yet checked to be plain file names.
    pub files: Vec<String>,
}

/// What kind of message a content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Text, markdown or files.
    Message,
    /// Replaces the text of a message that was sent before.
    Edit {
        /// The platform's id of that message, or the number under which the agent knows it.
        message_id: String,
    },
    /// A reaction to a message.
    Reaction {
        /// The platform's id of that message, or the number under which the agent knows it.
        message_id: String,
        /// Name of the emoji, `thumbs_up`.
        emoji: String,
    },
    /// A question with buttons.
    Question(Question),
    /// A card.
    Card,
    /// A JSON object of no known shape; the channel adapter decides whether it can send it.
    Unknown,
}

/// A question that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Names the question in the answer.
    pub question_id: String,
    /// Absent in seed files.
    pub title: Option<String>,
    /// The question itself.
    pub question: Option<String>,
    /// The possible answers, in the order of display.
    pub options: Vec<QuestionOption>,
}

/// One possible answer. In seed files an option is one text, which then stands for all three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionOption {
    /// Text of the button.
    pub label: String,
    /// Text shown once it was chosen.
    pub selected_label: String,
    /// What the agent gets as answer.
    pub value: String,
}

/// Why a content, or the content of a system action, cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The text is not JSON.
    #[error("content is not JSON: {reason}")]
    NotJson {
        /// The parser's words.
        reason: String,
    },
    /// The text is JSON, but not an object.
    #[error("content must be a JSON object, found {found}")]
    NotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// A field that must hold something is empty.
    #[error("{field} is empty")]
    Empty {
        /// Name of the field.
        field: &'static str,
    },
    /// A field is longer than its limit.
    #[error("{field} has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Length found.
        bytes: usize,
        /// Length allowed.
        limit: usize,
    },
    /// A field that may not be there is.
    #[error("{field} must not be in the content of a message with files of its own")]
    Unexpected {
        /// Name of the field.
        field: &'static str,
    },
    /// A field holds something else than it must.
    #[error("{field} must be {expected}, found {found}")]
    WrongType {
        /// Name of the field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is instead.
        found: &'static str,
    },
}

impl Content {
    /// Reads a content. It must be a JSON object; fields that are not known are ignored.
    ///
    /// ```
    /// use nanorelay_actors::model::content::{Content, Shape};
    ///
    /// let content = Content::parse(r#"{"text":"the report","files":["report.pdf"]}"#).unwrap();
    /// assert_eq!(content.shape, Shape::Message);
    /// assert_eq!(content.files, ["report.pdf"]);
    /// assert!(Content::parse(r#"{"text": "oops"#).is_err());
    /// ```
    pub fn parse(json: &str) -> Result<Self, ContentError> {
        let object = parse_object(json)?;
        let files = declared_files(&object)?;
        let shape = shape(&object, &files)?;
        Ok(Self { shape, files })
    }
}

impl Question {
    /// The options as compact JSON, as `pending_questions.options_json` holds them.
    pub fn options_json(&self) -> String {
        let options: Vec<Value> = self.options.iter().map(QuestionOption::to_json).collect();
        Value::Array(options).to_string()
    }

    fn read(object: &Map<String, Value>) -> Result<Self, ContentError> {
        let question_id = id_field(object, "questionId")?;
        let options = match object.get("options") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items.iter().map(QuestionOption::read).collect::<Result<_, _>>()?,
            Some(other) => return Err(wrong_type("options", "an array", other)),
        };
        Ok(Self {
            question_id,
            title: text_field(object, "title")?,
            question: text_field(object, "question")?,
            options,
        })
    }
}

impl QuestionOption {
    fn to_json(&self) -> Value {
        json!({ "label": self.label, "selectedLabel": self.selected_label, "value": self.value })
    }

    fn read(item: &Value) -> Result<Self, ContentError> {
        match item {
            Value::String(text) => {
                Ok(Self { label: text.clone(), selected_label: text.clone(), value: text.clone() })
            }
            Value::Object(option) => {
                let label = required_text(option, "label")?;
                Ok(Self {
                    selected_label: text_field(option, "selectedLabel")?.unwrap_or_else(|| label.clone()),
                    value: text_field(option, "value")?.unwrap_or_else(|| label.clone()),
                    label,
                })
            }
            other => Err(wrong_type("an entry of options", "text or an object with a label", other)),
        }
    }
}

/// Checks a content for an agent's inbox and makes it compact: containers search it as text.
///
/// With files of its own a message may not name others: the agent would be told of what is not there.
pub fn for_inbox(json: &str, has_files: bool) -> Result<String, ContentError> {
    let object = parse_object(json)?;
    if has_files && object.contains_key(ATTACHMENTS) {
        return Err(ContentError::Unexpected { field: ATTACHMENTS });
    }
    Ok(Value::Object(object).to_string())
}

/// The content as an agent finds it in its inbox: the same object, plus `attachments` for the files in
/// `inbox/<folder>/`, plus `originalId` when its row has another id than the platform's.
///
/// Without either the object is only made compact. A text that is no JSON object is returned unchanged.
pub fn received(json: &str, original_id: Option<&str>, attachments: &[&str], folder: &str) -> String {
    let Ok(mut object) = parse_object(json) else { return json.to_owned() };
    if let Some(original_id) = original_id {
        object.insert("originalId".to_owned(), original_id.into());
    }
    if !attachments.is_empty() {
        let copied = attachments.iter().map(|name| {
            json!({
                "name": name,
                "filename": name,
                "type": "file",
                "localPath": format!("inbox/{folder}/{name}"),
            })
        });
        object.insert(ATTACHMENTS.to_owned(), copied.collect());
    }
    Value::Object(object).to_string()
}

fn shape(object: &Map<String, Value>, files: &[String]) -> Result<Shape, ContentError> {
    let name = |field: &str| object.get(field).and_then(Value::as_str);
    match (name("operation"), name("type")) {
        (Some("edit"), _) => Ok(Shape::Edit { message_id: id_field(object, "messageId")? }),
        (Some("reaction"), _) => Ok(Shape::Reaction {
            message_id: id_field(object, "messageId")?,
            emoji: required_text(object, "emoji")?,
        }),
        (None, Some("ask_question")) => Ok(Shape::Question(Question::read(object)?)),
        (None, Some("card")) => Ok(Shape::Card),
        _ if name("text").is_some() || name("markdown").is_some() || !files.is_empty() => Ok(Shape::Message),
        _ => Ok(Shape::Unknown),
    }
}

fn declared_files(object: &Map<String, Value>) -> Result<Vec<String>, ContentError> {
    let not_names = |found| wrong_type("files", "an array of file names", found);
    match object.get("files") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(|| not_names(item))).collect()
        }
        Some(other) => Err(not_names(other)),
    }
}

/// Parses a text that must be one JSON object. Nesting is bounded by the parser, at 128 levels.
pub(super) fn parse_object(json: &str) -> Result<Map<String, Value>, ContentError> {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(ContentError::NotAnObject { found: type_name(&other) }),
        Err(error) => Err(ContentError::NotJson { reason: error.to_string() }),
    }
}

/// A field that holds text, or that is absent or null.
pub(super) fn text_field(
    object: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<String>, ContentError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong_type(field, "text", other)),
    }
}

/// A field that must hold text, and not the empty one.
pub(super) fn required_text(
    object: &Map<String, Value>,
    field: &'static str,
) -> Result<String, ContentError> {
    match text_field(object, field)? {
        None => Err(ContentError::Missing { field }),
        Some(text) if text.is_empty() => Err(ContentError::Empty { field }),
        Some(text) => Ok(text),
    }
}

/// A field that must hold an id: text of bounded length. Ids that some tools write as numbers count as text.
fn id_field(object: &Map<String, Value>, field: &'static str) -> Result<String, ContentError> {
    let id = match object.get(field) {
        Some(Value::Number(number)) => number.to_string(),
        _ => required_text(object, field)?,
    };
    if id.len() > OPAQUE_ID_BYTES_MAX {
        return Err(ContentError::TooLong { field, bytes: id.len(), limit: OPAQUE_ID_BYTES_MAX });
    }
    Ok(id)
}

pub(super) fn wrong_type(field: &'static str, expected: &'static str, found: &Value) -> ContentError {
    ContentError::WrongType { field, expected, found: type_name(found) }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn shape_of(json: &str) -> Shape {
        Content::parse(json).expect(json).shape
    }

    #[track_caller]
    fn refused(json: &str, message: &str) {
        assert_eq!(Content::parse(json).expect_err(json).to_string(), message);
    }

    #[test]
    fn text_markdown_and_files_are_messages() {
        assert_eq!(shape_of(r#"{"text":"LGTM"}"#), Shape::Message);
        assert_eq!(shape_of(r###"{"markdown":"## x"}"###), Shape::Message);
        assert_eq!(shape_of(r#"{"files":["a.png"]}"#), Shape::Message);
        assert_eq!(shape_of(r#"{"type":"note","text":"x"}"#), Shape::Message);
        assert_eq!(shape_of("{}"), Shape::Unknown);
        assert_eq!(shape_of(r#"{"type":"poll","choices":[1]}"#), Shape::Unknown);
    }

    #[test]
    fn an_edit_and_a_reaction_name_their_message() {
        let edit = shape_of(r#"{"operation":"edit","messageId":"discord:1501","text":"Updated"}"#);
        assert_eq!(edit, Shape::Edit { message_id: "discord:1501".to_owned() });
        let reaction = shape_of(r#"{"operation":"reaction","messageId":42,"emoji":"thumbs_up"}"#);
        let expected = Shape::Reaction { message_id: "42".to_owned(), emoji: "thumbs_up".to_owned() };
        assert_eq!(reaction, expected);
        refused(r#"{"operation":"edit","text":"x"}"#, "messageId is missing");
        refused(r#"{"operation":"reaction","messageId":"1","emoji":""}"#, "emoji is empty");
    }

    #[test]
    fn a_question_of_a_current_file_keeps_its_three_texts() {
        let json = r#"{"type":"ask_question","questionId":"msg-1","title":"Confirm","question":"Delete it?",
            "options":[{"label":"Yes","selectedLabel":"Yes","value":"Yes"},
                       {"label":"No","selectedLabel":"Kept","value":"no"}]}"#;
        let Shape::Question(question) = shape_of(json) else { panic!("not a question") };
        assert_eq!(question.question_id, "msg-1");
        assert_eq!(question.title.as_deref(), Some("Confirm"));
        assert_eq!(
            question.options_json(),
            r#"[{"label":"Yes","selectedLabel":"Yes","value":"Yes"},{"label":"No","selectedLabel":"Kept","value":"no"}]"#
        );
    }

    #[test]
    fn a_question_of_a_seed_file_has_one_text_for_each_option() {
        let json = r#"{"type":"ask_question","questionId":"msg-1","question":"Deploy?","options":["Yes"]}"#;
        let Shape::Question(question) = shape_of(json) else { panic!("not a question") };
        assert_eq!(question.title, None);
        assert_eq!(question.options_json(), r#"[{"label":"Yes","selectedLabel":"Yes","value":"Yes"}]"#);
    }

    #[test]
    fn a_question_without_id_or_with_strange_options_is_refused() {
        refused(r#"{"type":"ask_question","options":[]}"#, "questionId is missing");
        refused(r#"{"type":"ask_question","questionId":""}"#, "questionId is empty");
        refused(
            r#"{"type":"ask_question","questionId":"q","options":{}}"#,
            "options must be an array, found an object",
        );
        refused(
            r#"{"type":"ask_question","questionId":"q","options":[1]}"#,
            "an entry of options must be text or an object with a label, found a number",
        );
    }

    #[test]
    fn a_card_is_a_card() {
        assert_eq!(shape_of(r#"{"type":"card","card":{"title":"Build"},"fallbackText":"x"}"#), Shape::Card);
    }

    #[test]
    fn declared_files_are_kept_as_written() {
        let content = Content::parse(r#"{"text":"","files":["ünï pic.bin","../x"]}"#).unwrap();
        assert_eq!(content.files, ["ünï pic.bin", "../x"]);
        assert!(Content::parse(r#"{"text":"x","files":null}"#).unwrap().files.is_empty());
        refused(r#"{"files":"a.png"}"#, "files must be an array of file names, found text");
        refused(r#"{"files":["a",1]}"#, "files must be an array of file names, found a number");
    }

    #[test]
    fn what_is_no_json_object_is_refused_in_words() {
        refused("[1]", "content must be a JSON object, found an array");
        refused("null", "content must be a JSON object, found null");
        for text in ["", "{", r#"{"text": "oops"#, "{} {}", &"[".repeat(200), &r#"{"a":"#.repeat(200)] {
            let message = Content::parse(text).unwrap_err().to_string();
            assert!(message.starts_with("content is not JSON: "), "{message}");
        }
    }

    #[test]
    fn a_forwarded_content_names_the_copied_files_and_keeps_all_else_in_order() {
        let json = r#"{ "zeta": 1, "text": "look", "files": ["a.png"], "attachments": "old", "alpha": [2] }"#;
        assert_eq!(
            received(json, None, &["a.png"], "msg-7"),
            r#"{"zeta":1,"text":"look","files":["a.png"],"attachments":[{"name":"a.png","filename":"a.png","type":"file","localPath":"inbox/msg-7/a.png"}],"alpha":[2]}"#
        );
    }

    #[test]
    fn a_forwarded_content_without_files_is_only_made_compact() {
        assert_eq!(received(r#"{ "text": "hi" }"#, None, &[], "m"), r#"{"text":"hi"}"#);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = Content::parse(&text);
            let _ = received(&text, Some(&text), &[&text], &text);
        }

        #[test]
        fn forwarding_changes_no_value(text in any::<String>(), number in any::<i64>()) {
            let json = json!({ "text": text, "n": number, "nested": { "x": [text, null] } });
            let forwarded: Value = serde_json::from_str(&received(&json.to_string(), None, &[], "m")).unwrap();
            prop_assert_eq!(forwarded, json);
        }
    }
}
