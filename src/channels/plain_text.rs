//! Text of untrusted origin made harmless for a terminal.

/// Escapes everything that could move the cursor, colour, hide or reorder text: control characters, line
/// breaks, and the characters that steer the direction of writing.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if steers(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// The same line by line, each line with `indent` before it: a line of the text can never pass for one of ours.
pub fn indented(text: &str, indent: &str) -> String {
    let mut out = String::with_capacity(text.len() + indent.len());
    for line in text.lines() {
        out.push_str(indent);
        out.push_str(&one_line(&line.replace('\t', "    ")));
        out.push('\n');
    }
    out
}

/// At most `chars` characters, the last one an ellipsis when something was cut.
pub fn shortened(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
}

fn steers(c: char) -> bool {
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || direction || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_arrive_as_text() {
        assert_eq!(one_line("a\x1b[2Jb\r\u{9b}c\u{7f}"), "a\\u{1b}[2Jb\\r\\u{9b}c\\u{7f}");
        assert_eq!(one_line("x\u{202e}fdp.exe"), "x\\u{202e}fdp.exe");
        assert_eq!(one_line("two\nlines"), "two\\nlines");
        assert_eq!(one_line("Grüße 👩‍💻 ✓"), "Grüße 👩‍💻 ✓");
    }

    #[test]
    fn each_line_is_indented() {
        assert_eq!(indented("a\n── forged\n\tb", "   "), "   a\n   ── forged\n       b\n");
        assert_eq!(indented("", "   "), "");
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }
}
