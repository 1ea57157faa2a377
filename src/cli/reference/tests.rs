//! `docs/cli.md` is made from the definition of the command line, and compared with it.

use super::*;
use clap_complete::Shell;
use std::fmt::Write;

/// Set in the environment, it has the document written instead of compared.
const REWRITE: &str = "NANORELAY_REWRITE_DOCS";

const HEAD: &str = "# Command line

Made from the program's own definition; a test compares the two. `nanorelay help COMMAND` prints the same, and
`nanorelay man --dir DIR` writes manual pages.

Results go to standard output, the log and progress go to standard error. Progress is shown on a terminal only.

Commands that take `--data DIR` work on a running host through the socket `DIR/nanorelay.sock`, and on a stopped one
directly, unless they say otherwise. Commands that print something take `-o table` or `-o json`; `--json` is a short form
of `-o json`. In JSON a list is an array with one item a line, everything else is one object on one line. Field names and
times are those of the HTTP API.

Completions: `nanorelay completions bash > /usr/share/bash-completion/completions/nanorelay`, `nanorelay completions zsh >
\"${fpath[1]}/_nanorelay\"`, `nanorelay completions fish > ~/.config/fish/completions/nanorelay.fish`. The Debian package
installs them.

## Exit codes

| code | meaning |
|---|---|
";

fn document() -> String {
    let mut text = HEAD.to_owned();
    for (code, meaning) in CODES {
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    for mut command in commands().into_iter().filter(|command| !command.has_subcommands()) {
        let name = command.get_bin_name().unwrap_or_default().to_owned();
        let about = command.get_long_about().or(command.get_about()).map(ToString::to_string);
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = write!(text, "\n## {name}\n\n{}.\n\n```text\n{usage}\n```\n", about.unwrap_or_default());
        let rows: Vec<String> = command.get_arguments().filter_map(row).collect();
        if !rows.is_empty() {
            let _ = write!(text, "\n| argument | meaning |\n|---|---|\n{}\n", rows.join("\n"));
        }
        if let Some(more) = command.get_after_help() {
            let _ = write!(text, "\n{more}\n");
        }
    }
    text
}

/// One argument; none for those that every command has.
fn row(argument: &clap::Arg) -> Option<String> {
    if argument.is_hide_set() || ["help", "version", "output", "json"].contains(&argument.get_id().as_str()) {
        return None;
    }
    let values = argument.get_value_names().unwrap_or_default().join(" ");
    let takes_value = argument.get_action().takes_values();
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) if takes_value => format!("-{short}, --{long} {values}"),
        (_, Some(long)) if takes_value => format!("--{long} {values}"),
        (_, Some(long)) => format!("--{long}"),
        _ => values,
    };
    let mut help =
        argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let choices: Vec<String> =
        argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if takes_value && !choices.is_empty() {
        help += &format!(": {}", choices.join(", "));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if takes_value && !defaults.iter().all(String::is_empty) {
        help += &format!(" (default `{}`)", defaults.join(" "));
    }
    let required = if argument.is_required_set() { "; required" } else { "" };
    Some(format!("| `{name}` | {}{required} |", help.replace('|', "\\|")))
}

#[test]
fn the_reference_of_the_command_line_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let made = document();
    if std::env::var_os(REWRITE).is_some() {
        fs::write(&path, &made).expect("the document can be written");
    }
    let kept = fs::read_to_string(&path).expect("docs/cli.md");
    let different = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "docs/cli.md is old: run this test with {REWRITE}=1 and look at the change\nfirst: {different:?}"
    );
}

#[test]
fn every_command_has_a_manual_page_that_tells_its_exit_codes() {
    let pages = pages().unwrap();
    let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["nanorelay", "nanorelay-serve", "nanorelay-deliveries", "nanorelay-deliveries-replay"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("keeper")), "hidden commands have none: {names:?}");
    for (name, text) in &pages {
        assert!(text.contains(".SH \"EXIT STATUS\"") && text.contains("\\fB78\\fR"), "{name}: {text}");
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}");
    }
}

#[test]
fn every_shell_completes_commands_and_options() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "nanorelay", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("deliveries") && script.contains("dry-run"), "{shell}");
    }
}
