//! The guarantees, against a small model of them: agents write, platforms answer, actors die, whole hosts die and
//! come back, disks fail, clocks are set, all as a random script says. A model that knows only the promises then judges what
//! the platform saw, what the ledger says and what the agents were told.
//!
//! The suite plays some scripts. More of them: `NANORELAY_SCRIPTS=5000 cargo test --test it model_based`. A script
//! that fails is made as short as possible and printed as JSON, one step a line; play it again with
//! `NANORELAY_SCRIPT=file.json cargo test --test it model_based`.

mod judge;
mod script;
mod stage;
mod tampering;

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use script::Script;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Scripts in a run of the suite.
const SCRIPTS: u32 = 32;
/// How often a script that fails is made shorter. What goes on in threads is not the same each time.
const SHRINKS_MAX: u32 = 300;

fn play(script: &Script) {
    judge::judge(script, &stage::play(script));
}

#[test]
fn whatever_happens_the_guarantees_hold() {
    if let Ok(file) = std::env::var("NANORELAY_SCRIPT") {
        let text = std::fs::read_to_string(file).expect("a script");
        return play(&serde_json::from_str(&text).expect("a script"));
    }
    let cases =
        std::env::var("NANORELAY_SCRIPTS").map_or(SCRIPTS, |text| text.parse().expect("a number of scripts"));
    let config =
        Config { cases, max_shrink_iters: SHRINKS_MAX, failure_persistence: None, ..Config::default() };
    let played = TestRunner::new(config).run(&script::any_script(), |script| {
        catch_unwind(AssertUnwindSafe(|| play(&script))).map_err(|panic| {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or(panic.downcast_ref::<&str>().copied());
            TestCaseError::fail(words.unwrap_or("a panic without words").to_owned())
        })
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}
