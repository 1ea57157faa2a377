//! The content of a message: whatever the agent writes, parsing ends with a value or an error, and what is
//! forwarded to another agent is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nanorelay_actors::model::content::{Content, Shape, for_inbox, received};

fuzz_target!(|json: &str| {
    if let Ok(content) = Content::parse(json) {
        if let Shape::Question(question) = &content.shape {
            let _ = question.options_json();
        }
        let files: Vec<&str> = content.files.iter().map(String::as_str).collect();
        let forwarded = received(json, Some("m-1"), &files, "a2a-0");
        Content::parse(&forwarded).expect("what is forwarded can be parsed");
    } else {
        let _ = received(json, None, &[], "a2a-0");
        let _ = for_inbox(json, false);
    }
});
