//! `nanorelay completions` and `nanorelay man`: made from the definition of the command line.

use super::exit::CODES;
use super::{Cli, Exit, Failure, print};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What `completions` is told.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// What `man` is told.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for every command into this folder, which is made; without it, print the page of nanorelay itself
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints a script for a shell.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nanorelay", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Prints the page of the program, or writes the pages of all commands.
pub(super) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let pages = pages().map_err(|error| Failure::Io("cannot make a page", error))?;
    match &args.dir {
        Some(dir) => {
            fs::create_dir_all(dir).map_err(|error| cannot_create(dir, error))?;
            for (name, text) in &pages {
                let path = dir.join(format!("{name}.1"));
                fs::write(&path, text).map_err(|error| cannot_create(&path, error))?;
            }
            print(&format!("{} pages in {}\n", pages.len(), dir.display()))?;
        }
        None => print(&pages[0].1)?,
    }
    Ok(Exit::Done)
}

fn cannot_create(path: &Path, error: io::Error) -> Failure {
    Failure::CannotCreate(path.display().to_string(), error)
}

/// All commands that people use, the program itself first.
fn commands() -> Vec<clap::Command> {
    let mut program = Cli::command();
    // Fills in the full names of all commands, and the options that they share.
    program.build();
    let mut found = vec![program];
    let mut next = 0;
    while let Some(command) = found.get(next) {
        let shown = command.get_subcommands().filter(|command| is_shown(command)).cloned();
        let below: Vec<clap::Command> = shown.collect();
        found.extend(below);
        next += 1;
    }
    found
}

fn is_shown(command: &clap::Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

fn page_name(command: &clap::Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

/// The pages, by name.
fn pages() -> io::Result<Vec<(String, String)>> {
    let page = |command: clap::Command| {
        let name = page_name(&command);
        let mut text = Vec::new();
        Man::new(command).manual("nanorelay manual").render(&mut text)?;
        exit_status().to_writer(&mut text)?;
        Ok((name, String::from_utf8_lossy(&text).into_owned()))
    };
    commands().into_iter().map(page).collect()
}

fn exit_status() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in CODES {
        section.control("TP", []).text([bold(code.to_string())]).text([roman(meaning)]);
    }
    section
}

#[cfg(test)]
mod tests;
