//! A lane's key as an operator reads and types it: `channel/slack/slack:C0TEAM/171.2`.

use super::message::KEY_SEPARATOR;
use std::fmt::Write;

const SEPARATOR: char = '/';
const ESCAPE: char = '%';

/// The readable form of a lane's key.
pub fn name_of(lane_key: &str) -> String {
    let mut name = String::with_capacity(lane_key.len());
    for character in lane_key.chars() {
        match character {
            KEY_SEPARATOR => name.push(SEPARATOR),
            SEPARATOR | ESCAPE | ' ' => escape(&mut name, character),
            character if character.is_control() => escape(&mut name, character),
            character => name.push(character),
        }
    }
    // A chat without a thread has an empty last part.
    name.trim_end_matches(SEPARATOR).to_owned()
}

fn escape(name: &mut String, character: char) {
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(name, "{ESCAPE}{byte:02X}");
    }
}

/// The key of a lane's readable form; `None` when it is none.
pub fn key_of(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match char::from(byte) {
            SEPARATOR => KEY_SEPARATOR as u8,
            ESCAPE => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => byte,
        });
    }
    let mut key = String::from_utf8(bytes).ok()?;
    let is_channel = key.starts_with("channel") && key.contains(KEY_SEPARATOR);
    if is_channel && name.matches(SEPARATOR).count() == 2 {
        key.push(KEY_SEPARATOR);
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::super::ids::{ChannelType, PlatformId, ThreadId};
    use super::super::message::{Destination, Lane};
    use super::*;

    #[test]
    fn a_lane_is_found_again_by_its_name() {
        let lane = |platform: &str, thread: Option<&str>| {
            Lane::Channel(Destination {
                channel_type: ChannelType::new("slack").unwrap(),
                platform_id: PlatformId::new(platform).unwrap(),
                thread_id: thread.map(|thread| ThreadId::new(thread).unwrap()),
            })
        };
        let cases = [
            (lane("slack:C1", None), "channel/slack/slack:C1"),
            (lane("slack:C1", Some("171.2")), "channel/slack/slack:C1/171.2"),
            (lane("a/b %", Some("ü\u{1b}")), "channel/slack/a%2Fb%20%25/ü%1B"),
            (Lane::System, "system"),
        ];
        for (lane, name) in cases {
            assert_eq!(name_of(&lane.key()), name);
            assert_eq!(key_of(name), Some(lane.key()), "{name}");
        }
        for wrong in ["%", "a%2", "%zz", "%ff"] {
            assert_eq!(key_of(wrong), None, "{wrong}");
        }
    }
}
