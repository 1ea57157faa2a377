//! The content of a message: whatever the agent writes, parsing ends with a value or an error, and what is
//! forwarded to another agent is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nanorelay_actors::model::content::{Content, Shape, forwarded_to_agent};

fuzz_target!(|json: &str| {
    if let Ok(content) = Content::parse(json) {
        if let Shape::Question(question) = &content.shape {
            let _ = question.options_json();
        }
        let forwarded = forwarded_to_agent(json, &content.files, "a2a-0");
        Content::parse(&forwarded).expect("what is forwarded can be parsed");
    } else {
        let _ = forwarded_to_agent(json, &[], "a2a-0");
    }
});
