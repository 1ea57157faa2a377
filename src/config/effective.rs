//! The values in force as TOML, with the origin of each that is not a default.

use super::layers::{KeyPath, Layers, Origin};
use std::fmt::Write;
use toml::{Table, Value};

/// Prints all tables. Secrets are hidden, references to secrets are not.
pub(super) fn print(layers: &Layers) -> String {
    let mut out = String::from("# The configuration in force. Values without a note are defaults.\n");
    print_table(layers, layers.merged(), &mut Vec::new(), &mut out);
    out
}

fn print_table(layers: &Layers, table: &Table, path: &mut KeyPath, out: &mut String) {
    let has_values = table.values().any(|value| !value.is_table());
    if !path.is_empty() && (has_values || table.is_empty()) {
        let header: Vec<String> = path.iter().map(|part| key_text(part)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "\n[{}]", header.join("."));
    }
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        path.push(key.clone());
        let shown = if is_secret(path, value) { Value::String("(hidden)".to_owned()) } else { value.clone() };
        let note = match layers.origin(path) {
            Origin::Default => String::new(),
            origin => format!("  # {origin}"),
        };
        let _ = writeln!(out, "{} = {shown}{note}", key_text(key));
        path.pop();
    }
    for (key, value) in table {
        if let Value::Table(inner) = value {
            path.push(key.clone());
            print_table(layers, inner, path, out);
            path.pop();
        }
    }
}

fn is_secret(path: &[String], value: &Value) -> bool {
    let named_secret = path.last().is_some_and(|key| key == "secret");
    // What agents are given may be a key of theirs.
    let is_variable = path.len() > 1 && path[path.len() - 2] == "environment";
    (named_secret || is_variable) && !value.as_str().is_some_and(|text| text.starts_with("env:"))
}

/// A key as TOML writes it: quoted unless it is bare.
fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(bare) {
        true => key.to_owned(),
        false => Value::String(key.to_owned()).to_string(),
    }
}
