//! Tests of the configuration as a whole.

use super::*;
use nanorelay_actors::model::breaker::BreakerSettings;
use nanorelay_actors::model::rate_limit::{Rate, Rates};
use nanorelay_actors::runtime::command::CommandSettings;
use nanorelay_actors::settings::ChannelSettings;

fn sources(file: &Path, environment: &[(&str, &str)]) -> ConfigSources {
    ConfigSources {
        data_dir: file.parent().map(Path::to_owned),
        environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        ..ConfigSources::default()
    }
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE_NAME);
    std::fs::write(&file, text).unwrap();
    let without_dir =
        |error: &ConfigError| error.to_string().replace(&format!("{}/", dir.path().display()), "");
    sources(&file, environment).load().map_err(|errors| errors.0.iter().map(without_dir).collect())
}

#[track_caller]
fn errors_of(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load(text, environment).expect_err("must be refused")
}

#[track_caller]
fn refused(text: &str, start: &str) {
    let errors = errors_of(text, &[]);
    assert!(errors.len() == 1 && errors[0].starts_with(start), "{errors:?} should be {start:?}");
}

#[test]
fn the_default_file_holds_the_engines_defaults() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.settings, Settings::default());
    assert_eq!(config.log, LogConfig { level: LogLevel::Info, format: LogFormat::Auto });
    assert_eq!(config.shutdown_deadline, Duration::from_secs(30));
    assert!(config.channels.is_empty());
}

#[test]
fn the_default_file_holds_the_runtimes_defaults() {
    let RuntimeConfig::Command(found) =
        runtime("[runtime]\nkind = \"command\"\ncommand = [\"agent\"]\n", &[])
    else {
        panic!("a command")
    };
    assert_eq!(*found, CommandSettings::new(vec!["agent".to_owned()], Default::default()));
    assert_eq!(runtime("", &[]), RuntimeConfig::None);
    let settings =
        load("[runtime]\nidle_stop = \"unlimited\"\nstart_grace = \"5s\"\n", &[]).unwrap().settings;
    assert_eq!((settings.agent_idle_after, settings.agent_start_grace), (None, Duration::from_secs(5)));
}

fn runtime(text: &str, environment: &[(&str, &str)]) -> RuntimeConfig {
    load(text, environment).unwrap().runtime
}

#[test]
fn a_runtime_has_limits_and_groups_of_its_own() {
    let text = "[runtime]\nkind = \"command\"\ncommand = [\"/bin/agent\", \"-v\"]\nagents = 3\nagents_per_tenant = 2\n\
        environment.KEY = \"env:SECRET\"\n[runtime.limits]\nmemory = \"2GiB\"\ncpu_time = \"1h\"\nprocesses = \"unlimited\"\n\
        [runtime.groups.\"ag-*\"]\ncommand = [\"/bin/other\"]\nenvironment.MODEL = \"large\"\n";
    let RuntimeConfig::Command(found) = runtime(text, &[("SECRET", "s")]) else { panic!("a command") };
    assert_eq!((found.roster.agents_max, found.roster.agents_per_tenant_max), (3, Some(2)));
    assert_eq!((found.limits.memory_bytes, found.limits.cpu_seconds), (Some(2 << 30), Some(3600)));
    assert_eq!((found.limits.processes, found.limits.open_files), (None, Some(1024)));
    assert_eq!(found.agent.environment["KEY"], "s");
    assert_eq!(found.agent.groups[0].command.as_deref(), Some(&["/bin/other".to_owned()][..]));
    assert_eq!(found.agent.groups[0].environment["MODEL"], "large");
}

#[test]
fn containers_have_an_image_a_user_and_processors() {
    let text = "[runtime]\nkind = \"docker\"\n[runtime.docker]\nimage = \"agents\"\ncpu_thousandths = 1500\n\
        user = \"image\"\ndata_dir = \"/srv/data\"\n";
    let RuntimeConfig::Docker(found) = runtime(text, &[]) else { panic!("containers") };
    assert_eq!((found.image.as_str(), found.nano_cpus, found.user), ("agents", Some(1_500_000_000), None));
    assert_eq!(found.data_dir_of_engine.as_deref(), Some(Path::new("/srv/data")));
    assert_eq!((found.mount.as_path(), found.roster.agents_max), (Path::new("/workspace"), 16));
}

#[test]
fn what_an_agent_is_given_is_not_printed() {
    let text = "[runtime]\nenvironment.KEY = \"a-secret\"\nenvironment.OTHER = \"env:NAME\"\n";
    let effective = load(text, &[("NAME", "another-secret")]).unwrap().effective;
    assert!(!effective.contains("secret"), "{effective}");
    assert!(effective.contains("KEY = \"(hidden)\"") && effective.contains("OTHER = \"env:NAME\""));
}

#[test]
fn a_wrong_runtime_is_refused_with_the_key_and_the_line() {
    let command = |keys: &str| format!("[runtime]\nkind = \"command\"\n{keys}\n");
    for (text, start) in [
        (command(""), "nanorelay.toml, line 1: runtime.command: is empty"),
        (
            command("command = [\"./agent\"]"),
            "nanorelay.toml, line 3: runtime.command: \"./agent\" is neither",
        ),
        (
            command("command = [\"a\"]\nenvironment.NANORELAY_X = \"1\""),
            "nanorelay.toml, line 4: runtime.environment.NANORELAY_X: is set by",
        ),
        (
            command("command = [\"a\"]\nenvironment.K = \"env:MISSING\""),
            "nanorelay.toml, line 4: runtime.environment.K: environment variable MISSING is not set",
        ),
        (
            command("command = [\"a\"]\ngroups.\"ag-*\".command = []"),
            "nanorelay.toml, line 4: runtime.groups.ag-*.command: is empty",
        ),
        (
            command("command = [\"a\"]\nbackoff_max = \"10ms\""),
            "nanorelay.toml, line 4: runtime.backoff_max: is less",
        ),
        (
            "[runtime]\nkind = \"docker\"\n".to_owned(),
            "nanorelay.toml, line 1: runtime.docker.image: is empty",
        ),
        (
            "[runtime]\nkind = \"docker\"\ndocker.image = \"i\"\ndocker.socket = \"s\"\n".to_owned(),
            "nanorelay.toml, line 4: runtime.docker.socket: is not an absolute path",
        ),
        ("[runtime]\nkind = \"podman\"\n".to_owned(), "nanorelay.toml, line 2: runtime.kind: unknown value"),
        (
            "[runtime]\nidle_stop = \"soon\"\n".to_owned(),
            "nanorelay.toml, line 2: runtime.idle_stop: \"soon\" is not a duration",
        ),
        (
            "[runtime.limits]\nmemory = \"1KiB\"\n".to_owned(),
            "nanorelay.toml, line 2: runtime.limits.memory: 1024 bytes is out of bounds",
        ),
    ] {
        refused(&text, start);
    }
}

#[test]
fn the_channels_shown_in_the_default_file_are_valid() {
    let start = DEFAULT_TOML.find("# [channels.slack]").unwrap();
    let lines: Vec<&str> = DEFAULT_TOML[start..].lines().map(|line| line.trim_start_matches("# ")).collect();
    let text: String = lines
        .iter()
        .filter(|line| (line.starts_with('[') || line.contains(" = ")) && !line.starts_with("secret_file"))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = load(&text, &[("SLACK_HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
    let names: Vec<&str> = config.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["*", "archive", "slack", "web"]);
}

#[test]
fn a_channel_has_rates_a_breaker_and_schedules_of_its_own() {
    let text = "[retry.transient]\nattempts = 7\nmax = \"9m\"\n[channels.a]\nkind = \"console\"\n\
        rate_per_second = 20\ndestination_rate_per_second = 0.5\ndestination_burst = 4\n\
        breaker = { failures = 0 }\nretry.transient.attempts = 3\n[channels.b]\nkind = \"console\"\n";
    let config = load(text, &[]).unwrap();
    let settings = &config.channels[0].settings;
    let rates = Rates {
        account: Some(Rate::new(Duration::from_millis(50), 20)),
        destination: Some(Rate::new(Duration::from_secs(2), 4)),
    };
    assert_eq!(settings.rates, rates);
    assert_eq!(settings.breaker, BreakerSettings { failures: 0, ..BreakerSettings::default() });
    let retry = settings.retry.clone().expect("schedules of its own");
    assert_eq!(
        (retry.transient.attempts_max, retry.transient.delay_max),
        (Some(3), Duration::from_secs(540))
    );
    assert_eq!(retry.rate_limited, config.settings.retry.rate_limited);
    assert_eq!(config.channels[1].settings, ChannelSettings::default());
    let console = "[channels.a]\nkind = \"console\"\n";
    for (line, message) in [
        ("burst = 3", "burst: means nothing without rate_per_second"),
        ("rate_per_second = 0", "rate_per_second: 0 is out of bounds, 0.001 to 10000 is allowed"),
        ("rate_per_second = nan", "rate_per_second: NaN is out of bounds"),
        ("breaker = { failure = 1 }", "breaker.failure: unknown key `failure`"),
        ("retry.transient.tries = 1", "retry.transient.tries: unknown key `tries`"),
        ("retry.sometimes.attempts = 1", "retry.sometimes: unknown key `sometimes`"),
        ("colour = 1", "colour: unknown key `colour`"),
    ] {
        refused(&format!("{console}{line}\n"), &format!("nanorelay.toml, line 3: channels.a.{message}"));
    }
}

#[test]
fn tenants_have_groups_a_weight_and_a_limit() {
    let text = "[tenants.acme]\nagent_groups = [\"ag-*\"]\nweight = 3\nin_flight = 8\nwake_on_failure = true\n\
        [tenants.b]\nagent_groups = []\n";
    let tenants = load(text, &[]).unwrap().settings.tenants;
    assert_eq!((tenants[0].name.as_str(), tenants[0].weight, tenants[0].in_flight_max), ("acme", 3, Some(8)));
    assert_eq!((tenants[0].wake_on_failure, tenants[1].wake_on_failure), (Some(true), None));
    assert_eq!((tenants[1].name.as_str(), tenants[1].weight, tenants[1].in_flight_max), ("b", 1, None));
    refused("[tenants.a]\nweight = 1\n", "nanorelay.toml, line 1: tenants.a: missing key `agent_groups`");
    refused(
        "[tenants.a]\nagent_groups = []\nweight = 0\n",
        "nanorelay.toml, line 3: tenants.a.weight: 0 is out of bounds, 1 to 1000 is allowed",
    );
}

#[test]
fn environment_wins_over_file_and_file_over_defaults() {
    let text = "[sweep]\ninterval = \"5s\"\nclaim_tries = 7\n";
    let config = load(text, &[("NANORELAY__SWEEP__INTERVAL", "9s"), ("HOME", "/x")]).unwrap();
    assert_eq!(config.settings.sweep_interval, Duration::from_secs(9));
    assert_eq!(config.settings.claim_tries_max, 7);
    assert_eq!(config.settings.claim_stale_after, Duration::from_secs(60));
}

#[test]
fn a_flag_wins_over_the_environment() {
    let mut sources = sources(Path::new("/nowhere/x"), &[("NANORELAY__LOG__LEVEL", "error")]);
    assert_eq!(sources.load().unwrap().log.level, LogLevel::Error);
    sources.flags.push(("--log-level".to_owned(), vec!["log", "level"], "debug".to_owned()));
    assert_eq!(sources.load().unwrap().log.level, LogLevel::Debug);
    sources.flags[0].2 = "loud".to_owned();
    let errors = sources.load().unwrap_err().to_string();
    assert!(errors.starts_with("option --log-level: log.level: unknown value `loud`"), "{errors}");
}

#[test]
fn an_environment_variable_names_an_existing_channel_whatever_its_case() {
    let text = "[channels.MyChat]\nkind = \"jsonl\"\npath = \"a\"\n";
    let variables =
        [("NANORELAY__CHANNELS__MYCHAT__FSYNC", "false"), ("NANORELAY__CHANNELS__OTHER__KIND", "console")];
    let config = load(text, &variables).unwrap();
    let [mychat, other] = &config.channels[..] else { panic!("two channels") };
    assert!(matches!(mychat.kind, ChannelKind::Jsonl { fsync: false, .. }), "{mychat:?}");
    assert_eq!((mychat.name.as_str(), other.name.as_str()), ("MyChat", "other"));
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    refused(
        "[delivery]\nwatch = \"poll\"\nwach = 1\n",
        "nanorelay.toml, line 3: delivery.wach: unknown key `wach`",
    );
    refused("\n\n[delivry]\n", "nanorelay.toml, line 3: delivry: unknown key `delivry`");
    refused(
        "[channels.x]\nkind = \"console\"\npath = \"a\"\n",
        "nanorelay.toml, line 3: channels.x.path: unknown key `path`",
    );
    refused(
        "[retry.transient]\nbase = \"1s\"\njitter = 1",
        "nanorelay.toml, line 3: retry.transient.jitter: unknown",
    );
}

#[test]
fn wrong_types_and_bounds_are_named_with_their_line() {
    refused("[log]\nlevel = 5\n", "nanorelay.toml, line 2: log.level: ");
    refused(
        "[sweep]\ninterval = 60\n",
        "nanorelay.toml, line 2: sweep.interval: invalid type: integer `60`, expected a duration",
    );
    refused(
        "[sweep]\ninterval = \"1ms\"\n",
        "nanorelay.toml, line 2: sweep.interval: 1ms is out of bounds, 1s to 1h is allowed",
    );
    refused(
        "[limits]\nblocking = 0\n",
        "nanorelay.toml, line 2: limits.blocking: 0 is out of bounds, 1 to 512 is allowed",
    );
    refused("sweep = 3\n", "nanorelay.toml, line 1: sweep: invalid type: integer `3`");
    refused(
        "[tasks]\ntimezone = \"Mars/Base\"\n",
        "nanorelay.toml, line 2: tasks.timezone: \"Mars/Base\" is not a known",
    );
    refused("[channels.x]\nfsync = true\n", "nanorelay.toml, line 1: channels.x: missing key `kind`");
    refused("[channels.x]\nkind = \"fax\"\n", "nanorelay.toml, line 2: channels.x.kind: unknown value `fax`");
}

#[test]
fn all_errors_are_reported_together() {
    let text = "[log]\nlevel = 5\ncolour = true\n[sweep]\ninterval = \"x\"\n[channels.a]\nkind = \"jsonl\"\n";
    let errors = errors_of(text, &[("NANORELAY__LIMITS__BLOCKING", "many")]);
    assert_eq!(errors.len(), 5, "{errors:#?}");
    assert!(errors.iter().any(|error| {
        error.starts_with("environment variable NANORELAY__LIMITS__BLOCKING: limits.blocking:")
    }));
    assert!(
        errors
            .iter()
            .any(|error| error.starts_with("nanorelay.toml, line 6: channels.a: missing key `path`"))
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_the_line() {
    refused("[log]\nlevel = \n", "nanorelay.toml, line 2: ");
}

#[test]
fn a_variable_that_is_no_key_is_named() {
    for (name, start) in [
        ("NANORELAY__LOG__COLOUR", "environment variable NANORELAY__LOG__COLOUR: log.colour: unknown key"),
        ("NANORELAY__LOG", "environment variable NANORELAY__LOG: log: invalid type"),
        ("NANORELAY__LOG____LEVEL", "environment variable NANORELAY__LOG____LEVEL: names no key"),
        ("NANORELAY__LOG__LEVEL__X", "environment variable NANORELAY__LOG__LEVEL__X: log.level"),
    ] {
        let errors = errors_of("", &[(name, "1")]);
        assert!(errors[0].starts_with(start), "{errors:?}");
    }
}

#[test]
fn a_given_file_must_exist() {
    let sources = ConfigSources { file: Some("/nowhere/at/all.toml".into()), ..ConfigSources::default() };
    assert!(sources.load().unwrap_err().to_string().starts_with("/nowhere/at/all.toml: cannot read"));
}

#[test]
fn secrets_come_from_text_a_variable_or_a_file_and_are_never_shown() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let head = "[channels.a]\nkind = \"webhook\"\nurl = \"https://example.org/\"\n";
    let config = load(&format!("{head}secret = \"{secret}\"\n"), &[]).unwrap();
    assert!(!format!("{config:?}").contains("MfKQ9"), "hidden in the values in force and in debug output");
    assert!(config.effective.contains("secret = \"(hidden)\""));
    let config = load(&format!("{head}secret = \"env:HOOK\"\n"), &[("HOOK", secret)]).unwrap();
    assert!(config.effective.contains("secret = \"env:HOOK\""));
    assert!(!format!("{config:?}").contains("MfKQ9"));
    refused(
        head,
        "nanorelay.toml, line 1: channels.a.secret_file: one of secret and secret_file is required",
    );
    refused(
        &format!("{head}secret = \"env:HOOK\"\n"),
        "nanorelay.toml, line 4: channels.a.secret: environment variable HOOK is not set",
    );
    let errors = errors_of(&format!("{head}secret = \"hunter2\"\n"), &[]);
    assert!(errors.len() == 1 && !errors[0].contains("hunter2"), "{errors:?}");
}

#[test]
fn relative_paths_start_at_the_data_directory_and_never_lie_among_the_agents() {
    let config = load("[channels.a]\nkind = \"jsonl\"\npath = \"out.jsonl\"\n", &[]).unwrap();
    let ChannelKind::Jsonl { path, fsync: true } = &config.channels[0].kind else { panic!("jsonl") };
    assert_eq!(path.file_name().unwrap(), "out.jsonl");
    assert!(path.is_absolute());
    for path in ["v2-sessions/g/s/out", "../out", "x/../v2-sessions/out", ""] {
        refused(
            &format!("[channels.a]\nkind = \"jsonl\"\npath = \"{path}\"\n"),
            "nanorelay.toml, line 3: channels.a.path: ",
        );
    }
}

#[test]
fn the_values_in_force_are_valid_toml_and_name_their_origin() {
    let config = load("[log]\nlevel = \"warn\"\n[channels.\"*\"]\nkind = \"console\"\n", &[]).unwrap();
    assert!(config.effective.parse::<toml::Table>().is_ok(), "{}", config.effective);
    let line = config.effective.lines().find(|line| line.starts_with("level")).unwrap();
    assert!(line.starts_with("level = \"warn\"  # /") && line.ends_with("nanorelay.toml, line 2"), "{line}");
}

#[test]
fn every_configuration_shown_in_the_documentation_is_valid() {
    let texts = [
        include_str!("../../README.md"),
        include_str!("../../docs/configuration.md"),
        include_str!("../../docs/channels.md"),
        include_str!("../../docs/pauses-and-limits.md"),
        include_str!("../../docs/runtimes.md"),
    ];
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let blocks: Vec<&str> = texts
        .iter()
        .flat_map(|text| text.split("```toml\n").skip(1))
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 3, "the documentation shows configurations");
    for block in blocks {
        if let Err(errors) = load(block, &[("SLACK_HOOK_SECRET", secret), ("AGENT_API_KEY", "key")]) {
            panic!("{errors:#?} in\n{block}");
        }
    }
}
