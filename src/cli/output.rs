//! How commands print what they found.

use super::{Failure, json_line, json_rows, print};
use clap::{Args, ValueEnum};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people
    Table,
    /// For programs: a list is an array with one item a line, everything else is one object on one line
    Json,
}

/// The choice between a table and JSON, the same for all commands.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputArgs {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl OutputArgs {
    /// Whether a program reads it.
    pub fn is_json(self) -> bool {
        self.json || self.output == OutputFormat::Json
    }

    /// Prints a list.
    pub fn list<T: Serialize>(
        self,
        records: &[T],
        table: impl FnOnce(&[T]) -> String,
    ) -> Result<(), Failure> {
        print(&if self.is_json() { json_rows(records)? } else { table(records) })
    }

    /// Prints one thing.
    pub fn object(self, value: &impl Serialize, words: impl FnOnce() -> String) -> Result<(), Failure> {
        print(&if self.is_json() { json_line(value)? } else { words() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        output: OutputArgs,
    }

    #[test]
    fn json_is_chosen_in_two_ways_and_a_table_is_the_default() {
        for (arguments, is_json) in
            [("", false), ("-o table", false), ("-o json", true), ("--output json", true), ("--json", true)]
        {
            let probe = Probe::try_parse_from(["probe"].into_iter().chain(arguments.split_whitespace()));
            assert_eq!(probe.expect(arguments).output.is_json(), is_json, "{arguments}");
        }
        for wrong in ["-o yaml", "-o json --json", "-o table --json"] {
            assert!(Probe::try_parse_from(["probe"].into_iter().chain(wrong.split(' '))).is_err(), "{wrong}");
        }
    }
}
