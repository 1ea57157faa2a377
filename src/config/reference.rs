//! The reference in `docs/configuration.md` is made from `default.toml`, and compared with it.

use super::DEFAULT_TOML;
use std::fmt::Write;
use std::path::Path;

/// Set in the environment, it has the document written instead of compared.
const REWRITE: &str = "NANORELAY_REWRITE_DOCS";
/// What stands above the part that is made.
const MARK: &str = "<!-- From here on made from src/config/default.toml. -->\n";

/// `default.toml` as Markdown: a heading and a table for each section, examples as they are.
fn reference() -> String {
    let mut text = MARK.to_owned();
    let mut comments: Vec<&str> = Vec::new();
    let mut meaning = "see above".to_owned();
    let mut is_in_table = false;
    // The head of the file is told by the document itself.
    let sections = DEFAULT_TOML.find("\n\n").map_or(DEFAULT_TOML, |end| &DEFAULT_TOML[end + 2..]);
    for line in sections.lines().chain([""]) {
        if let Some(comment) = line.strip_prefix('#') {
            comments.push(comment.strip_prefix(' ').unwrap_or(comment));
        } else if line.starts_with('[') {
            let _ = write!(text, "\n### `{line}`\n");
            if !comments.is_empty() {
                let _ = write!(text, "\n{}\n", comments.join("\n"));
            }
            comments.clear();
            meaning = "see above".to_owned();
            is_in_table = false;
        } else if let Some((key, value)) = line.split_once(" = ") {
            if !is_in_table {
                text.push_str("\n| key | default | meaning |\n|---|---|---|\n");
                is_in_table = true;
            }
            if !comments.is_empty() {
                meaning = comments.join(" ");
                comments.clear();
            }
            let _ = writeln!(text, "| `{key}` | `{value}` | {} |", meaning.replace('|', "\\|"));
        } else {
            write_block(&mut text, &comments);
            comments.clear();
            is_in_table = false;
        }
    }
    text
}

/// Comments that stand for themselves: words, or examples.
fn write_block(text: &mut String, comments: &[&str]) {
    if comments.is_empty() {
        return;
    }
    let kind = if comments.iter().any(|line| line.starts_with('[')) { "toml" } else { "text" };
    let _ = write!(text, "\n```{kind}\n");
    let example = comments.iter().position(|line| line.starts_with('[')).unwrap_or(0);
    for (number, line) in comments.iter().enumerate() {
        // The words above an example are a comment of it.
        let is_comment = kind == "toml" && number < example && !line.is_empty();
        let _ = writeln!(text, "{}{line}", if is_comment { "# " } else { "" });
    }
    text.push_str("```\n");
}

#[test]
fn the_reference_of_the_configuration_is_made_from_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let kept = std::fs::read_to_string(&path).expect("docs/configuration.md");
    let words = kept.split(MARK).next().unwrap_or_default();
    let made = format!("{words}{}", reference());
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, &made).expect("the document can be written");
        return;
    }
    let different = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "docs/configuration.md is old: run this test with {REWRITE}=1 and look at the change\nfirst: {different:?}"
    );
}

#[test]
fn the_reference_has_every_section_and_every_key() {
    let reference = reference();
    let defaults: toml::Table = DEFAULT_TOML.parse().expect("the defaults are TOML");
    let tables = defaults.iter().filter_map(|(name, value)| Some((name, value.as_table()?)));
    for (name, table) in tables {
        assert!(reference.contains(&format!("### `[{name}")), "{name}");
        for (key, _) in table.iter().filter(|(_, value)| !value.is_table()) {
            assert!(reference.contains(&format!("| `{key}` | `")), "{name}.{key}");
        }
    }
}
