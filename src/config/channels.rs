//! The `[channels.<channel_type>]` tables.

use super::layers::{KeyPath, Layers, value_at};
use super::sections::RetrySection;
use super::units::{count, duration, interval_of_rate, optional_count};
use super::{ConfigError, ConfigSources, from_reference, typed_part};
use crate::channels::webhook::{SigningKeys, check_url};
use nanorelay_actors::model::breaker::BreakerSettings;
use nanorelay_actors::model::rate_limit::{Rate, Rates};
use nanorelay_actors::settings::{ChannelSettings, OnAmbiguous, OnBlock};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// One configured channel.
#[derive(Debug, Clone)]
pub struct ChannelEntry {
    /// The channel type that it delivers; `*` for all types without a channel of their own.
    pub name: String,
    /// The engine's part.
    pub settings: ChannelSettings,
    /// The adapter and its settings.
    pub kind: ChannelKind,
}

impl ChannelEntry {
    /// Whether it takes all types without a channel of their own.
    pub fn is_fallback(&self) -> bool {
        self.name == "*"
    }
}

/// An adapter and its settings.
#[derive(Debug, Clone)]
pub enum ChannelKind {
    /// Readable on standard output.
    Console,
    /// A line of JSON for each delivery.
    Jsonl {
        /// The file that lines are appended to.
        path: PathBuf,
        /// Whether each line is synced to the disk before the message counts as delivered.
        fsync: bool,
    },
    /// A signed POST for each delivery.
    Webhook(WebhookConfig),
    /// A chat page in the browser.
    Web,
}

/// Settings of a webhook.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Where to POST.
    pub url: String,
    /// The keys that sign each request.
    pub keys: SigningKeys,
    /// Whether internal addresses may be reached.
    pub allow_private: bool,
    /// The longest that one request may take.
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnAmbiguousName {
    #[default]
    Auto,
    Resend,
    Reconcile,
    Hold,
}

/// `wait`, `skip` or `park-after:N`.
fn on_block<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OnBlock, D::Error> {
    let text = String::deserialize(deserializer)?;
    let attempts = text.strip_prefix("park-after:").map(str::parse);
    match (text.as_str(), attempts) {
        ("wait", _) => Ok(OnBlock::Wait),
        ("skip", _) => Ok(OnBlock::Skip),
        (_, Some(Ok(attempts @ 1..=1_000_000))) => Ok(OnBlock::ParkAfter(attempts)),
        _ => Err(de::Error::custom(format!(
            "expected \"wait\", \"skip\" or \"park-after:N\" with N from 1 to 1000000, found {text:?}"
        ))),
    }
}

fn on_block_default() -> OnBlock {
    OnBlock::Wait
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KindName {
    Console,
    Jsonl,
    Webhook,
    Web,
}

/// The tables of `[retry]`.
const RETRY_CLASSES: [&str; 4] = ["rate_limited", "transient", "unauthorized", "unavailable"];

/// The names of [`CommonKeys`].
const COMMON_KEYS: [&str; 9] = [
    "kind",
    "on_ambiguous",
    "on_block",
    "rate_per_second",
    "burst",
    "destination_rate_per_second",
    "destination_burst",
    "breaker",
    "retry",
];

/// What every channel may have. The kind decides which other keys there may be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommonKeys {
    kind: KindName,
    #[serde(default)]
    on_ambiguous: OnAmbiguousName,
    #[serde(default = "on_block_default", deserialize_with = "on_block")]
    on_block: OnBlock,
    /// The time from one send to the next.
    #[serde(default, rename = "rate_per_second", deserialize_with = "interval_of_rate")]
    interval: Option<Duration>,
    #[serde(default, deserialize_with = "optional_count::<_, _, 1, 1_000_000>")]
    burst: Option<u32>,
    #[serde(default, rename = "destination_rate_per_second", deserialize_with = "interval_of_rate")]
    destination_interval: Option<Duration>,
    #[serde(default, deserialize_with = "optional_count::<_, _, 1, 1_000_000>")]
    destination_burst: Option<u32>,
    #[serde(default)]
    breaker: BreakerKeys,
    retry: Option<RetrySection>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BreakerKeys {
    #[serde(deserialize_with = "count::<_, _, 0, 1_000_000>")]
    failures: u32,
    #[serde(deserialize_with = "duration::<_, 10, 3_600_000>")]
    open_min: Duration,
    #[serde(deserialize_with = "duration::<_, 10, 86_400_000>")]
    open_max: Duration,
}

impl Default for BreakerKeys {
    fn default() -> Self {
        let BreakerSettings { failures, open_min, open_max } = BreakerSettings::default();
        Self { failures, open_min, open_max }
    }
}

impl CommonKeys {
    fn settings(&self) -> ChannelSettings {
        let BreakerKeys { failures, open_min, open_max } = self.breaker;
        ChannelSettings {
            on_ambiguous: match self.on_ambiguous {
                OnAmbiguousName::Auto => OnAmbiguous::Auto,
                OnAmbiguousName::Resend => OnAmbiguous::Resend,
                OnAmbiguousName::Reconcile => OnAmbiguous::Reconcile,
                OnAmbiguousName::Hold => OnAmbiguous::Hold,
            },
            on_block: self.on_block,
            rates: Rates {
                account: rate(self.interval, self.burst),
                destination: rate(self.destination_interval, self.destination_burst),
            },
            breaker: BreakerSettings { failures, open_min, open_max },
            retry: self.retry.as_ref().map(RetrySection::schedules),
        }
    }
}

/// Without a burst, what comes within a second may come at once.
fn rate(interval: Option<Duration>, burst: Option<u32>) -> Option<Rate> {
    let interval = interval?;
    let within_a_second = Duration::from_secs(1).as_nanos() / interval.as_nanos().max(1);
    let burst = burst.unwrap_or_else(|| u32::try_from(within_a_second).unwrap_or(u32::MAX));
    Some(Rate::new(interval, burst))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonlKeys {
    path: PathBuf,
    #[serde(default = "fsync_default")]
    fsync: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookKeys {
    url: String,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    allow_private: bool,
    #[serde(default = "timeout_default", deserialize_with = "duration::<_, 100, 600_000>")]
    timeout: Duration,
}

fn fsync_default() -> bool {
    true
}

fn timeout_default() -> Duration {
    Duration::from_secs(20)
}

/// Reads all channel tables; wrong ones are left out and reported.
pub(super) fn read(
    layers: &mut Layers,
    sources: &ConfigSources,
    errors: &mut Vec<ConfigError>,
) -> Vec<ChannelEntry> {
    let root = vec!["channels".to_owned()];
    let Some(channels) = value_at(layers.merged(), &root) else { return Vec::new() };
    let Some(table) = channels.as_table() else {
        errors.push(ConfigError::at(layers.origin(&root), "channels", "must be a table"));
        return Vec::new();
    };
    let names: Vec<String> = table.keys().cloned().collect();
    names.into_iter().filter_map(|name| read_one(layers, sources, name, errors)).collect()
}

fn read_one(
    layers: &mut Layers,
    sources: &ConfigSources,
    name: String,
    errors: &mut Vec<ConfigError>,
) -> Option<ChannelEntry> {
    let path = vec!["channels".to_owned(), name.clone()];
    let wrong =
        |layers: &Layers, message: &str| ConfigError::at(layers.origin(&path), path.join("."), message);
    if name.is_empty() || name == "agent" {
        errors.push(wrong(layers, "is no channel type that can be configured"));
        return None;
    }
    if !value_at(layers.merged(), &path).is_some_and(toml::Value::is_table) {
        errors.push(wrong(layers, "must be a table with a kind"));
        return None;
    }
    // A channel's schedules differ from those of all channels only where it says so.
    let retry = [&path[..], &["retry".to_owned()]].concat();
    for class in RETRY_CLASSES {
        layers.complete(&[&retry[..], &[class.to_owned()]].concat(), &["retry".to_owned(), class.to_owned()]);
    }
    layers.complete(&retry, &["retry".to_owned()]);
    let is_common = |key: &str| COMMON_KEYS.contains(&key);
    let common: CommonKeys = typed_part(layers, &path, is_common, errors)?;
    for (burst, rate, is_alone) in [
        ("burst", "rate_per_second", common.burst.is_some() && common.interval.is_none()),
        (
            "destination_burst",
            "destination_rate_per_second",
            common.destination_burst.is_some() && common.destination_interval.is_none(),
        ),
    ] {
        if is_alone {
            errors.push(at_key(layers, &path, burst, format!("means nothing without {rate}")));
        }
    }
    let is_own = |key: &str| !is_common(key);
    let kind = match common.kind {
        KindName::Console => {
            let NoKeys {} = typed_part(layers, &path, is_own, errors)?;
            ChannelKind::Console
        }
        KindName::Web if name == "*" => {
            errors.push(at_key(
                layers,
                &path,
                "kind",
                "a chat in the browser needs a channel type of its own".to_owned(),
            ));
            return None;
        }
        KindName::Web => {
            let NoKeys {} = typed_part(layers, &path, is_own, errors)?;
            ChannelKind::Web
        }
        KindName::Jsonl => {
            let keys: JsonlKeys = typed_part(layers, &path, is_own, errors)?;
            let file = sources.resolve(&keys.path);
            if let Err(message) = check_jsonl_path(sources.data_dir.as_deref(), &keys.path, &file) {
                errors.push(at_key(layers, &path, "path", message));
                return None;
            }
            ChannelKind::Jsonl { path: file, fsync: keys.fsync }
        }
        KindName::Webhook => {
            let keys: WebhookKeys = typed_part(layers, &path, is_own, errors)?;
            ChannelKind::Webhook(webhook(layers, sources, &path, keys, errors)?)
        }
    };
    Some(ChannelEntry { name, settings: common.settings(), kind })
}

fn webhook(
    layers: &Layers,
    sources: &ConfigSources,
    path: &KeyPath,
    keys: WebhookKeys,
    errors: &mut Vec<ConfigError>,
) -> Option<WebhookConfig> {
    if let Err(problem) = check_url(&keys.url, keys.allow_private) {
        errors.push(at_key(layers, path, "url", problem.to_string()));
    }
    let key = if keys.secret.is_some() { "secret" } else { "secret_file" };
    let text = match (keys.secret, keys.secret_file) {
        (Some(_), Some(_)) => Err("there is a secret and a secret_file, only one is allowed".to_owned()),
        (None, None) => Err("one of secret and secret_file is required".to_owned()),
        (Some(secret), None) => from_reference(&secret, sources),
        (None, Some(file)) => std::fs::read_to_string(sources.resolve(&file))
            .map_err(|error| format!("cannot read {}: {error}", file.display())),
    };
    match text.and_then(|text| SigningKeys::parse(&text).map_err(|problem| problem.to_string())) {
        Ok(signing) if check_url(&keys.url, keys.allow_private).is_ok() => Some(WebhookConfig {
            url: keys.url,
            keys: signing,
            allow_private: keys.allow_private,
            timeout: keys.timeout,
        }),
        Ok(_) => None,
        Err(message) => {
            errors.push(at_key(layers, path, key, message));
            None
        }
    }
}

/// The agents own everything below `v2-sessions`: a file of ours must not stand there.
fn check_jsonl_path(data_dir: Option<&Path>, configured: &Path, resolved: &Path) -> Result<(), String> {
    if configured.as_os_str().is_empty() {
        return Err("is empty".to_owned());
    }
    if configured.components().any(|part| part == Component::ParentDir) {
        return Err("must not hold \"..\"".to_owned());
    }
    match data_dir {
        Some(dir) if resolved.starts_with(dir.join("v2-sessions")) => {
            Err("lies in a folder that agents can write to".to_owned())
        }
        _ => Ok(()),
    }
}

fn at_key(layers: &Layers, path: &KeyPath, key: &str, message: String) -> ConfigError {
    let mut path = path.clone();
    path.push(key.to_owned());
    ConfigError::at(layers.origin(&path), path.join("."), message)
}
