use super::*;
use crate::control::status::{ChannelStatus, LagTold, Totals};
use nanorelay_actors::model::hold::{HoldCause, HoldScopeKind};
use nanorelay_actors::report::{
    BusySession, FailingRecord, HoldRecord, OldestUndelivered, SessionCounts, Standing, StateCounts,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::time::Instant;

fn status() -> HostStatus {
    HostStatus {
        process_id: 4711,
        version: "0.1.0".to_owned(),
        started_at: "2026-11-22T10:00:00.000Z".to_owned(),
        now: "2026-11-22T12:03:00.000Z".to_owned(),
        uptime_ms: 7_380_000,
        http_address: Some("127.0.0.1:8420".to_owned()),
        totals: Totals { delivered: 100, attempts: 120, ..Totals::default() },
        lag: Some(LagTold { p50_ms: 2, p99_ms: 9 }),
        standing: Standing {
            counts: StateCounts { queued: 7, retrying: 3, dead: 2, ..StateCounts::default() },
            oldest_undelivered: Some(OldestUndelivered {
                session_id: "sess-old".to_owned(),
                message_id: "m\x1b[2J".to_owned(),
                since_ms: 1_795_348_920_000,
                since: "2026-11-22T12:02:00.000Z".to_owned(),
            }),
            failing: vec![FailingRecord {
                channel: Some("slack".to_owned()),
                error_class: "transient".to_owned(),
                count: 3,
                last_at: "2026-11-22T12:02:59.000Z".to_owned(),
            }],
            busiest: vec![BusySession { session_id: "sess-busy".to_owned(), waiting: 6 }],
            sessions: SessionCounts { total: 20, active: 18, running: 5, quarantined: 1 },
        },
        channels: vec![ChannelStatus {
            name: "slack".to_owned(),
            queued: 10,
            in_flight: 4,
            lanes_held_back: 1,
            blocked_by: Some("the platform's limit".to_owned()),
            blocked_until_ms: None,
        }],
        holds: vec![HoldRecord {
            scope: HoldScopeKind::Channel,
            name: vec!["slack".to_owned()],
            cause: HoldCause::RateLimit,
            until: None,
            reason: "slow down\x1b[2J".to_owned(),
            since: "2026-11-22T12:00:00.000Z".to_owned(),
        }],
        holds_total: 1,
        session_actors: 12,
        watched_folders: 18,
    }
}

/// What stands on the screen.
fn drawn(screen: &Screen) -> String {
    let mut terminal = Terminal::new(TestBackend::new(110, 30)).unwrap();
    terminal.draw(|frame| view::draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(|y| row(y) + "\n").collect()
}

#[track_caller]
fn shows(screen: &Screen, texts: &[&str]) {
    let drawn = drawn(screen);
    for text in texts {
        assert!(drawn.contains(text), "{text:?} is missing in\n{drawn}");
    }
    assert!(!drawn.contains('\x1b'), "an escape sequence reaches the terminal");
}

#[test]
fn the_view_tells_rates_lag_what_waits_what_fails_and_what_is_held() {
    let mut screen = Screen::new(status(), Duration::from_secs(1));
    shows(
        &screen,
        &[
            "nanorelay 0.1.0  process 4711, up 2 h 3 min, http://127.0.0.1:8420/",
            "delivered -  attempts -",
            "p50 2 ms, p99 9 ms   oldest 1 min 0 s: sess-old m\\u{1b}[2J",
            "queued 7  sending 0  retrying 3",
            "dead 2  ambiguous 0  held 0  holds 1",
            "18 active  5 agents run  12 at work  18 watched  quarantined 1",
            "the platform's limit",
            "sess-busy",
        ],
    );
    screen.list = state::List::Failures;
    shows(&screen, &["what is tried again", "transient"]);
    screen.list = state::List::Holds;
    shows(&screen, &["what is held", "rate_limit", "slow down\\u{1b}[2J"]);
}

#[test]
fn rates_are_those_between_two_answers_and_of_one_life_only() {
    let mut screen = Screen::new(status(), Duration::from_secs(1));
    let begun = Instant::now();
    let mut later = status();
    later.totals.delivered = 140;
    screen.take(Asked { at: begun + Duration::from_secs(100), answer: Ok(later.clone()) });
    let rates = screen.rates.unwrap();
    assert!((0.39..=0.41).contains(&rates.delivered), "{rates:?}");
    assert_eq!(screen.history, [4]);
    let mut another = later;
    another.process_id += 1;
    another.totals.delivered = 0;
    screen.take(Asked { at: begun + Duration::from_secs(101), answer: Ok(another) });
    assert_eq!(screen.rates, None, "a new host begins at 0");
}

#[test]
fn a_host_that_goes_away_is_told_and_its_last_answer_stays() {
    let mut screen = Screen::new(status(), Duration::from_secs(1));
    screen.take(Asked::now(Err("no host runs on /data".to_owned())));
    shows(&screen, &["no host runs on /data", "sess-busy"]);
    screen.take(Asked::now(Ok(status())));
    assert_eq!(screen.problem, None);
}

#[test]
fn keys_change_what_is_shown_and_end_the_view() {
    let mut screen = Screen::new(status(), Duration::from_secs(1));
    let mut press = |code, modifiers| pressed(&mut screen, KeyEvent::new(code, modifiers));
    for code in [KeyCode::Char('p'), KeyCode::Char('3'), KeyCode::Char('+'), KeyCode::Char('x')] {
        assert!(press(code, KeyModifiers::NONE), "{code:?} does not end it");
    }
    for (code, modifiers) in [
        (KeyCode::Char('q'), KeyModifiers::NONE),
        (KeyCode::Esc, KeyModifiers::NONE),
        (KeyCode::Char('c'), KeyModifiers::CONTROL),
    ] {
        assert!(!press(code, modifiers), "{code:?} ends it");
    }
    assert!(screen.is_paused && !screen.wants_to_ask());
    assert_eq!((screen.list, screen.interval), (state::List::Holds, Duration::from_millis(500)));
    for _ in 0..20 {
        pressed(&mut screen, KeyEvent::new(KeyCode::Char('-'), KeyModifiers::NONE));
    }
    assert_eq!(screen.interval, INTERVAL_MAX);
    pressed(&mut screen, KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE));
    assert_eq!(screen.list, state::List::Sessions);
}

#[test]
fn a_small_terminal_is_no_panic() {
    let screen = Screen::new(status(), Duration::from_secs(1));
    for (width, height) in [(1, 1), (20, 5), (300, 100)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view::draw(frame, &screen)).unwrap();
    }
}
