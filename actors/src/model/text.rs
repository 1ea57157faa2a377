//! Text of others in our own messages: quoted, escaped and of bounded length.

/// Most characters of someone else's text that one of our messages repeats.
const QUOTED_CHARS_MAX: usize = 64;

/// `text` in double quotes with control characters escaped, cut after [`QUOTED_CHARS_MAX`] characters.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// `text`, cut at a character boundary so that it has at most `bytes_max` bytes.
pub(crate) fn bounded(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_escaped_and_bounded() {
        assert_eq!(quoted("a\n\"b\""), r#""a\n\"b\"""#);
        let long = "é".repeat(1000);
        assert_eq!(quoted(&long).chars().count(), QUOTED_CHARS_MAX + 3);
    }

    #[test]
    fn bounded_text_ends_between_characters() {
        assert_eq!(bounded("éé".to_owned(), 3), "é");
        assert_eq!(bounded("ab".to_owned(), 9), "ab");
    }
}
