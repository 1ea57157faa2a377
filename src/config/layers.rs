//! The layers of a configuration laid over each other, and where each value came from.

use super::ConfigError;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// Environment variables with this prefix override the file.
const ENVIRONMENT_PREFIX: &str = "NANORELAY__";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The defaults that are compiled in.
    Default,
    /// The configuration file as a whole.
    WholeFile(PathBuf),
    /// A line of the configuration file, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// An option on the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::WholeFile(file) => write!(f, "{}", file.display()),
            Origin::File(file, line) => write!(f, "{}, line {line}", file.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag(name) => write!(f, "option {name}"),
        }
    }
}

/// A key's path, from the root.
pub(super) type KeyPath = Vec<String>;

/// All layers merged into one table.
pub(super) struct Layers {
    defaults: Table,
    merged: Table,
    /// Only keys that do not come from the defaults.
    origins: BTreeMap<KeyPath, Origin>,
}

impl Layers {
    /// Starts with the defaults alone.
    pub fn new(defaults: Table) -> Self {
        Self { merged: defaults.clone(), defaults, origins: BTreeMap::new() }
    }

    /// The merged values.
    pub fn merged(&self) -> &Table {
        &self.merged
    }

    /// Lays a file over what is there. A file that is not TOML changes nothing.
    pub fn add_file(&mut self, file: &Path, text: &str) -> Vec<ConfigError> {
        let (spanned, problems) = DeTable::parse_recoverable(text);
        let line_of = |offset: usize| {
            1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
        };
        let mut errors: Vec<ConfigError> = problems
            .iter()
            .map(|problem| {
                let line = problem.span().map_or(1, |span| line_of(span.start));
                ConfigError::at(Origin::File(file.to_owned(), line), "", problem.message())
            })
            .collect();
        if errors.is_empty() {
            match text.parse::<Table>() {
                Ok(table) => merge(&mut self.merged, table),
                Err(problem) => {
                    errors.push(ConfigError::at(Origin::WholeFile(file.to_owned()), "", problem.message()))
                }
            }
            let mut lines = Vec::new();
            collect_lines(spanned.get_ref(), &mut Vec::new(), &mut lines);
            for (path, offset) in lines {
                self.origins.insert(path, Origin::File(file.to_owned(), line_of(offset)));
            }
        }
        errors
    }

    /// Lays the environment over what is there.
    pub fn add_environment(&mut self, variables: &[(OsString, OsString)]) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut ours: Vec<_> = variables
            .iter()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(ENVIRONMENT_PREFIX.as_bytes()))
            .collect();
        ours.sort();
        for (name, value) in ours {
            let origin = Origin::Environment(name.to_string_lossy().into_owned());
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
                errors.push(ConfigError::at(origin, "", "is not UTF-8"));
                continue;
            };
            let path = self.path_of_variable(&name[ENVIRONMENT_PREFIX.len()..]);
            if path.iter().any(String::is_empty) {
                errors.push(ConfigError::at(origin, "", "names no key"));
                continue;
            }
            self.set(&path, value_of_text(value), origin);
        }
        errors
    }

    /// Lays one command line option over what is there.
    pub fn add_flag(&mut self, flag: &str, path: &[&str], value: &str) {
        let path: KeyPath = path.iter().map(|part| (*part).to_owned()).collect();
        self.set(&path, Value::String(value.to_owned()), Origin::Flag(flag.to_owned()));
    }

    /// Where the value at `path` came from. A key that is missing has the origin of the table that lacks it; a
    /// table that a key below it has brought into being has that key's origin.
    pub fn origin(&self, path: &[String]) -> Origin {
        let exact_or_above = (1..=path.len()).rev().find_map(|length| self.origins.get(&path[..length]));
        let below = || self.origins.iter().find(|(key, _)| key.starts_with(path)).map(|(_, origin)| origin);
        exact_or_above.or_else(below).cloned().unwrap_or(Origin::Default)
    }

    /// Forgets what the upper layers said at `path`, so that one error does not hide the next.
    pub fn reset(&mut self, path: &[String]) {
        let Some((last, parents)) = path.split_last() else { return };
        let default = value_at(&self.defaults, path).cloned();
        let Some(table) = table_at_mut(&mut self.merged, parents) else { return };
        match default {
            Some(value) => table.insert(last.clone(), value),
            None => table.remove(last),
        };
    }

    /// Completes the table at `path` with what the one at `from` has and it has not. Without a table at `path`, nothing
    /// happens.
    pub fn complete(&mut self, path: &[String], from: &[String]) {
        let Some(Value::Table(source)) = value_at(&self.merged, from).cloned() else { return };
        if let Some(table) = table_at_mut(&mut self.merged, path) {
            let own = std::mem::replace(table, source);
            merge(table, own);
        }
    }

    fn set(&mut self, path: &[String], value: Value, origin: Origin) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut table = &mut self.merged;
        for part in parents {
            let entry = table.entry(part.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
        table.insert(last.clone(), value);
        self.origins.insert(path.to_vec(), origin);
    }

    /// Each part names the existing key that equals it but for case, else itself in lower case.
    fn path_of_variable(&self, name: &str) -> KeyPath {
        let mut table = Some(&self.merged);
        let mut path = KeyPath::new();
        for part in name.split("__") {
            let existing = table.and_then(|table| table.keys().find(|key| key.eq_ignore_ascii_case(part)));
            let key = existing.cloned().unwrap_or_else(|| part.to_ascii_lowercase());
            table = table.and_then(|table| table.get(&key)).and_then(Value::as_table);
            path.push(key);
        }
        path
    }
}

/// The value at `path`.
pub(super) fn value_at<'t>(table: &'t Table, path: &[String]) -> Option<&'t Value> {
    let (last, parents) = path.split_last()?;
    let mut table = table;
    for part in parents {
        table = table.get(part)?.as_table()?;
    }
    table.get(last)
}

fn table_at_mut<'t>(table: &'t mut Table, path: &[String]) -> Option<&'t mut Table> {
    path.iter().try_fold(table, |table, part| table.get_mut(part)?.as_table_mut())
}

fn merge(base: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(upper)) => merge(base, upper),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn collect_lines(table: &DeTable<'_>, path: &mut KeyPath, lines: &mut Vec<(KeyPath, usize)>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        lines.push((path.clone(), key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(inner, path, lines);
        }
        path.pop();
    }
}

/// A variable's text as a TOML value (`true`, `5`, `"x"`), else as a string.
fn value_of_text(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    // A line break could smuggle in more keys.
    match parsed
        .filter(|table| table.len() == 1 && !text.contains('\n'))
        .and_then(|mut table| table.remove("value"))
    {
        Some(value) => value,
        None => Value::String(text.to_owned()),
    }
}
