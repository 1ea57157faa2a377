//! `kill -9`: real processes that die at labelled places and at random moments, and what they must leave.
//!
//! The suite runs a few kills. More of them: `NANORELAY_KILLS=1000 cargo test --test it kill:: -- --nocapture`
//! kills a host so often in each scenario and prints the figures. `NANORELAY_KILL_SESSIONS` chooses how many
//! sessions write at the same time, which is how many sends can be in flight; the scenarios named after one send
//! in flight have one session, whatever it says.

mod trial;
mod window;

use crate::support::program::nanorelay;
use crate::support::receiver::{Receiver, Reply};
use crate::support::sink::Sink;
use nanorelay_actors::testing::crash_point;
use std::time::Duration;
use trial::{OnAmbiguous, Target, Trial};

/// The time that a slow platform takes for an answer.
const SLOW: Duration = Duration::from_millis(20);

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn file() -> Target {
    Target::File(Sink::table("*"))
}

fn web(delay: Duration) -> Target {
    Target::Web(Receiver::start(move |_, _| Reply::status(200).after(delay)))
}

/// Kills hosts at random moments until enough have died, then looks at what is left.
fn kill_at_random(name: &str, target: Target, on_ambiguous: OnAmbiguous) {
    let kills = number("NANORELAY_KILLS", 5);
    let mut trial = Trial::new(target, on_ambiguous, number("NANORELAY_KILL_SESSIONS", 8));
    while trial.kills() < kills {
        trial.write_round();
        trial.kill_one();
    }
    let found = trial.check();
    println!("{name}: {found}");
}

#[test]
fn a_file_and_what_is_unknown_is_held() {
    kill_at_random("jsonl, hold", file(), OnAmbiguous::Hold);
}

#[test]
fn a_file_and_what_is_unknown_is_sent_again() {
    kill_at_random("jsonl, resend", file(), OnAmbiguous::Resend);
}

#[test]
fn an_instant_receiver_and_what_is_unknown_is_held() {
    kill_at_random("webhook at once, hold", web(Duration::ZERO), OnAmbiguous::Hold);
}

#[test]
fn an_instant_receiver_and_what_is_unknown_is_sent_again() {
    kill_at_random("webhook at once, resend", web(Duration::ZERO), OnAmbiguous::Resend);
}

#[test]
fn a_slow_receiver_and_what_is_unknown_is_held() {
    kill_at_random("webhook of 20 ms, hold", web(SLOW), OnAmbiguous::Hold);
}

#[test]
fn a_slow_receiver_and_what_is_unknown_is_sent_again() {
    kill_at_random("webhook of 20 ms, resend", web(SLOW), OnAmbiguous::Resend);
}

#[test]
fn a_receiver_that_knows_repeats_and_what_is_unknown_is_sent_again() {
    kill_at_random("webhook at once, keys known again", web(Duration::ZERO), OnAmbiguous::Auto);
}

/// Kills hosts at moments that only the clock chooses, while one lane sends without a pause. This is what can be
/// compared with a host that polls: one send in flight, killed at any time.
fn kill_one_lane_at_any_time(name: &str, target: Target) {
    let kills = number("NANORELAY_KILLS", 5);
    let mut trial = Trial::new(target, OnAmbiguous::Resend, 1);
    while trial.kills() < kills {
        trial.kill_while_sending();
    }
    let found = trial.check();
    println!("{name}, one send in flight, at any time: {found}");
}

#[test]
fn one_send_in_flight_to_a_file_at_any_time() {
    kill_one_lane_at_any_time("jsonl, resend", file());
}

#[test]
fn one_send_in_flight_to_an_instant_receiver_at_any_time() {
    kill_one_lane_at_any_time("webhook at once, resend", web(Duration::ZERO));
}

#[test]
fn one_send_in_flight_to_a_receiver_that_takes_first_and_answers_late_at_any_time() {
    kill_one_lane_at_any_time("webhook that takes at once and answers after 20 ms, resend", web(SLOW));
}

#[test]
fn one_send_in_flight_to_a_receiver_that_works_before_it_takes_at_any_time() {
    let receiver = Receiver::start_working(SLOW, |_, _| Reply::status(200));
    kill_one_lane_at_any_time("webhook that works for 20 ms and takes, resend", Target::Web(receiver));
}

/// Lets a host die at each labelled place for the nth time, then looks at what is left.
fn crash_at_each_place(target: fn() -> Target, on_ambiguous: OnAmbiguous, nth: usize) {
    for label in crash_point::LABELS {
        let mut trial = Trial::new(target(), on_ambiguous, 2);
        trial.write_all_kinds();
        let place = format!("{label}:{nth}");
        let drain = nanorelay(&["drain", "--json"]).data(trial.data_dir());
        let ended = drain.env(crash_point::VARIABLE, &place).run();
        // Every place is passed once; not every one is passed often.
        assert!(ended.was_killed() || nth > 1, "{place}: {ended:?}");
        trial.note_kill();
        let found = trial.check();
        println!("{place}: {found}");
    }
}

#[test]
fn a_crash_at_each_place_for_the_first_time() {
    crash_at_each_place(file, OnAmbiguous::Hold, 1);
}

#[test]
fn a_crash_at_each_place_for_the_third_time() {
    crash_at_each_place(file, OnAmbiguous::Hold, 3);
}

#[test]
fn a_crash_at_each_place_with_a_receiver_that_knows_repeats() {
    crash_at_each_place(|| web(Duration::ZERO), OnAmbiguous::Auto, 2);
}
