//! One test for each data directory that real NanoClaw containers made. Most are owed what NanoClaw's own host
//! did; where that host lost, misordered or hid something, the test says what nanorelay owes instead.

use crate::support::fixture::all_cases;
use crate::support::trial::{Owed, Trial, check, deliver};
use nanorelay_actors::testing::Answer;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

/// For cases in which something stays undone: a run would wait for it until its deadline.

#[test]
fn every_fixture_has_a_test() {
    let tests = include_str!("fixtures.rs");
    for case in all_cases() {
        assert!(tests.contains(&format!("\"{case}\"")), "no test uses {case}");
    }
}

#[actix_rt::test]
async fn a_reply_reaches_its_thread() {
    check(&deliver("01-chat-reply").await, &Owed::default());
}

#[actix_rt::test]
async fn what_the_real_agent_runner_wrote_is_delivered() {
    check(&deliver("02-real-index-ts").await, &Owed::default());
}

#[actix_rt::test]
async fn a_message_without_a_target_goes_where_the_session_is() {
    check(&deliver("03-send-message-default").await, &Owed::default());
}

#[actix_rt::test]
async fn a_message_to_a_permitted_chat_is_delivered() {
    check(&deliver("04-send-message-named").await, &Owed::default());
}

#[actix_rt::test]
async fn files_arrive_whole_and_their_outbox_folder_goes() {
    check(&deliver("06-send-file").await, &Owed::default());
}

#[actix_rt::test]
async fn an_edit_of_a_delivered_message_is_delivered() {
    check(&deliver("07-edit-message").await, &Owed::default());
}

#[actix_rt::test]
async fn a_reaction_is_delivered() {
    check(&deliver("09-add-reaction").await, &Owed::default());
}

#[actix_rt::test]
async fn a_card_is_delivered() {
    check(&deliver("10-send-card").await, &Owed::default());
}

#[actix_rt::test]
async fn a_question_is_stored_once_and_delivered() {
    check(&deliver("11-ask-user-question").await, &Owed::default());
}

#[actix_rt::test]
async fn a_task_is_scheduled() {
    check(&deliver("12-schedule-once").await, &Owed::default());
}

#[actix_rt::test]
async fn a_cancelled_task_is_completed_and_does_not_recur() {
    check(&deliver("14-cancel-task").await, &Owed::default());
}

#[actix_rt::test]
async fn a_task_is_paused() {
    check(&deliver("15-pause-task").await, &Owed::default());
}

#[actix_rt::test]
async fn only_the_given_fields_of_a_task_are_updated() {
    check(&deliver("17-update-task").await, &Owed::default());
}

#[actix_rt::test]
async fn a_session_that_only_read_its_tasks_has_nothing_to_deliver() {
    check(&deliver("19-list-tasks").await, &Owed::default());
}

#[actix_rt::test]
async fn a_message_to_an_agent_lands_in_its_session_with_its_source() {
    check(&deliver("21-a2a").await, &Owed::default());
}

/// An action for which nothing is registered is refused, and the agent is told.
fn refused(action: &'static [(&'static str, &'static str)]) -> Owed {
    Owed { accepted: Some(&[]), dead: action, only_notices: true, ..Owed::default() }
}

#[actix_rt::test]
async fn create_agent_without_a_handler_is_refused() {
    check(&deliver("25-create-agent").await, &refused(&[("create_agent", "action_refused")]));
}

#[actix_rt::test]
async fn install_packages_without_a_handler_is_refused() {
    let owed = refused(&[("install_packages", "action_refused")]);
    check(&deliver("26-install-packages-no-admin").await, &owed);
}

#[actix_rt::test]
async fn install_packages_without_a_handler_is_refused_though_there_is_an_owner() {
    let owed = refused(&[("install_packages", "action_refused")]);
    check(&deliver("27-install-packages-owner").await, &owed);
}

#[actix_rt::test]
async fn cli_request_without_a_handler_is_refused() {
    check(&deliver("29-cli-request").await, &refused(&[("cli_request", "action_refused")]));
}

#[actix_rt::test]
async fn an_unknown_action_is_refused() {
    check(&deliver("38-unknown-action").await, &refused(&[("make_coffee", "action_refused")]));
}

#[actix_rt::test]
async fn a_providers_error_text_is_delivered() {
    check(&deliver("31-provider-error").await, &Owed::default());
}

#[actix_rt::test]
async fn invalid_json_is_dead_at_once_and_the_next_row_goes_on() {
    let owed = Owed {
        accepted: Some(&[r#"{"text":"after the bad one"}"#]),
        dead: &[("oops", "invalid")],
        ..Owed::default()
    };
    check(&deliver("32-invalid-json").await, &owed);
}

#[actix_rt::test]
async fn a_chat_that_nobody_permitted_is_never_called() {
    let owed = Owed { accepted: Some(&[]), dead: &[(r#"{"text":"x"}"#, "not_permitted")], ..Owed::default() };
    check(&deliver("33-unknown-chat").await, &owed);
}

#[actix_rt::test]
async fn a_message_without_an_adapter_waits_for_one() {
    let trial = Trial::load("35-no-adapter").rarely_try_what_has_no_channel();
    // A drain does not wait for a channel that is not there.
    let ended = trial.run().await;
    let owed = Owed {
        accepted: Some(&[]),
        retrying: &[("nobody will read this", "unavailable")],
        ..Owed::default()
    };
    check(&ended, &owed);
}

#[actix_rt::test]
async fn a_message_without_a_target_column_is_dead() {
    let owed = Owed { accepted: Some(&[]), dead: &[(r#"{"text":"x"}"#, "no_route")], ..Owed::default() };
    check(&deliver("36-missing-routing").await, &owed);
}

#[actix_rt::test]
async fn deliver_after_is_an_instant_in_every_form() {
    let owed = Owed {
        accepted: Some(&[
            r#"{"text":"past sql"}"#,
            r#"{"text":"past iso, other day"}"#,
            r#"{"text":"past iso, today"}"#,
        ]),
        scheduled: &["future sql"],
        ..Owed::default()
    };
    check(&deliver("39-deliver-after").await, &owed);
}

#[actix_rt::test]
async fn a_message_that_fails_once_is_not_overtaken() {
    let trial = Trial::load("40-adapter-fails-once");
    trial.channel("discord").on_text("FAILONCE", [Answer::transient("platform 500")]);
    let ended = trial.run().await;
    check(&ended, &Owed::default());
    let attempts: Vec<_> =
        ended.host.channels()["discord"].calls().iter().map(|call| (call.seq, call.attempt)).collect();
    assert_eq!(attempts, [(3, 1), (3, 2), (5, 1)]);
}

#[actix_rt::test]
async fn a_message_that_always_fails_is_dead_after_its_attempts_and_the_next_one_goes_on() {
    let trial = Trial::load("41-adapter-fails-always");
    trial.channel("discord").always_on_text("FAILALWAYS", Answer::transient("platform 500"));
    let ended = trial.run().await;
    check(&ended, &Owed { dead: &[("FAILALWAYS", "transient")], ..Owed::default() });
    let attempts: Vec<_> =
        ended.host.channels()["discord"].calls().iter().map(|call| (call.seq, call.attempt)).collect();
    assert_eq!(attempts, [(3, 1), (3, 2), (3, 3), (5, 1)]);
}

#[actix_rt::test]
async fn links_in_the_outbox_reach_nothing_outside() {
    let trial = Trial::load("43-unsafe-outbox");
    let outside = trial.world.outside();
    let secrets = [outside.join("secret.txt"), outside.join("hostname")];
    for secret in &secrets {
        fs::write(secret, "secret").unwrap();
    }
    let main = &trial.world.agents["main"];
    fs::create_dir_all(main.outbox().join("msg-link")).unwrap();
    symlink(&secrets[0], main.outbox().join("msg-link/link.txt")).unwrap();
    symlink(&outside, main.outbox().join("msg-dirlink")).unwrap();
    main.text("still here");
    main.file("with a file", "good.txt", b"good");
    trial.world.agents["ops"].text("not touched");

    let ended = trial.run().await;
    let owed = Owed {
        accepted: Some(&[
            r#"{"text":"still here"}"#,
            r#"{"text":"with a file","files":["good.txt"]}"#,
            r#"{"text":"not touched"}"#,
        ]),
        dead: &[("traversal", "attachment"), ("symlink file", "attachment"), ("symlink dir", "attachment")],
        ..Owed::default()
    };
    check(&ended, &owed);
    for secret in &secrets {
        assert_eq!(fs::read_to_string(secret).unwrap(), "secret", "nothing outside is changed");
    }
    let calls = ended.host.channels()["discord"].calls();
    let names: Vec<&str> = calls.iter().flat_map(|call| &call.files).map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["good.txt"], "no file leaves by a link or a path");
}

#[actix_rt::test]
async fn a_damaged_session_is_visible_and_stops_no_other() {
    let ended = Trial::load("45-corrupt-outbound").run().await;
    let owed =
        Owed { accepted: Some(&[r#"{"text":"healthy session"}"#]), main_is_held: true, ..Owed::default() };
    check(&ended, &owed);
}

#[actix_rt::test]
async fn a_session_without_outbound_db_has_nothing_to_say() {
    check(&deliver("47-no-outbound-db").await, &Owed::default());
}

#[actix_rt::test]
async fn what_another_host_gave_up_is_listed_and_not_sent() {
    check(&deliver("50-already-failed").await, &Owed::default());
}
