//! `nanorelay token`: who may use the control plane over HTTP. The file of tokens is changed directly, whether the host
//! runs or not: a running one reads it again.

use super::output::OutputArgs;
use super::table::columns;
use super::{Exit, Failure, duration_argument, place};
use crate::config::ConfigSources;
use crate::control::http::Scope;
use crate::control::http::tokens::{NewToken, TokenError, TokenFile, TokenRecord};
use clap::{Args, Subcommand};
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::time::Timestamp;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it; it is shown this once
    Create(CreateArgs),
    /// List the tokens, without their secrets
    List(ListArgs),
    /// Take a token's rights away at once
    Revoke(RevokeArgs),
}

/// Where the file of tokens is.
#[derive(Debug, Args)]
struct FileArgs {
    /// The folder that holds v2.db and v2-sessions/
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The configuration file; without it DIR/nanorelay.toml, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileArgs {
    fn open(&self) -> Result<TokenFile, Failure> {
        let sources = ConfigSources {
            data_dir: Some(self.data.clone()),
            file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags: Vec::new(),
        };
        Ok(TokenFile::new(sources.load()?.server.tokens_file))
    }
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Whose it is, or what for; the audit shows it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// read: look; operate: also change; admin: also see the audit and drain
    #[arg(long, value_name = "SCOPE", value_parser = scope_argument)]
    scope: Scope,
    /// Only this tenant's sessions; may come several times. Without it, all tenants
    #[arg(long = "tenant", value_name = "TENANT", default_value = "*")]
    tenants: Vec<String>,
    /// How long it lasts, for example 30d; without it, until it is revoked
    #[arg(long, value_name = "DURATION", value_parser = duration_argument)]
    expires: Option<Duration>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The token's id, as it is listed
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputArgs,
}

fn scope_argument(name: &str) -> Result<Scope, String> {
    let names = || Scope::ALL.map(Scope::as_str).join(", ");
    Scope::from_name(name).ok_or_else(|| format!("a scope is {}", names()))
}

pub(super) fn run(command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create(args) => create(args),
        TokenCommand::List(args) => list(&args),
        TokenCommand::Revoke(args) => revoke(&args),
    }
}

fn create(args: CreateArgs) -> Result<Exit, Failure> {
    let (file, now) = (args.file.open()?, SystemClock.now());
    let new = NewToken {
        name: args.name,
        scope: args.scope,
        tenants: args.tenants,
        expires_at: args.expires.map(|duration| now.plus(duration)),
    };
    let (text, record) = file.create(new, now).map_err(in_words)?;
    let told = json!({ "token": text, "id": record.id, "expires_at": record.expires_at });
    args.output.object(&told, || format!("{text}\n"))?;
    Ok(Exit::Done)
}

/// Lists; 3 when there is none.
fn list(args: &ListArgs) -> Result<Exit, Failure> {
    let records = args.file.open()?.tokens().map_err(in_words)?;
    let now = SystemClock.now();
    let shown: Vec<_> = records.iter().map(|record| Shown::of(record, now)).collect();
    args.output.list(&shown, table)?;
    Ok(place::matched(records.len() as u64))
}

/// A token as it is listed: not even the hash of its secret.
#[derive(Debug, serde::Serialize)]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    scope: Scope,
    tenants: &'a [String],
    created_at: &'a str,
    expires_at: Option<&'a str>,
    has_expired: bool,
}

impl<'a> Shown<'a> {
    fn of(record: &'a TokenRecord, now: Timestamp) -> Self {
        let TokenRecord { id, name, scope, tenants, created_at, expires_at, secret_sha256: _ } = record;
        Self {
            id,
            name,
            scope: *scope,
            tenants,
            created_at,
            expires_at: expires_at.as_deref(),
            has_expired: record.has_expired(now),
        }
    }
}

fn table(records: &[Shown<'_>]) -> String {
    let row = |record: &Shown<'_>| {
        let ends = record.expires_at.unwrap_or("revoked");
        [
            record.id.to_owned(),
            record.name.to_owned(),
            record.scope.as_str().to_owned(),
            record.tenants.join(" "),
            record.created_at.to_owned(),
            format!("{ends}{}", if record.has_expired { " (over)" } else { "" }),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    columns(["ID", "NAME", "SCOPE", "TENANTS", "CREATED", "ENDS"], &rows)
}

/// Revokes; 3 when there is no such token.
fn revoke(args: &RevokeArgs) -> Result<Exit, Failure> {
    let gone = args.file.open()?.revoke(&args.id).map_err(in_words)?;
    args.output.object(&json!({ "revoked": gone.is_some() }), || match &gone {
        Some(record) => format!("revoked {}\n", record.name),
        None => "there is no such token\n".to_owned(),
    })?;
    Ok(place::matched(u64::from(gone.is_some())))
}

fn in_words(error: TokenError) -> Failure {
    match error {
        TokenError::Refused(words) => Failure::Usage(words),
        error => Failure::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(arguments: &str) -> Result<Command, clap::Error> {
        Ok(Cli::try_parse_from(["nanorelay"].into_iter().chain(arguments.split(' ')))?.command)
    }

    #[test]
    fn a_token_is_for_all_tenants_unless_some_are_named() {
        let tenants = |more: &str| {
            let parsed = parse(&format!("token create --data d --name n --scope read{more}"));
            let Ok(Command::Token { command: TokenCommand::Create(args) }) = parsed else { panic!("create") };
            args.tenants
        };
        assert_eq!(tenants(""), ["*"]);
        assert_eq!(tenants(" --tenant a --tenant b"), ["a", "b"]);
        assert!(parse("token create --data d --name n --scope root").is_err());
        assert!(parse("token create --data d --scope read").is_err());
    }
}
