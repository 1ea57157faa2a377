//! `nanorelay top`: a live view of a running host in the terminal.

mod state;
mod view;

use super::place::PlaceArgs;
use super::status::ask;
use super::{Exit, Failure, duration_argument, signals};
use crate::control::status::HostStatus;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use state::{Asked, Screen};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// The shortest and the longest time between two questions.
const INTERVAL_MIN: Duration = Duration::from_millis(250);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// How long a key may wait for its effect.
const KEY_PAUSE: Duration = Duration::from_millis(100);

/// What `top` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys: q, Esc or Ctrl-C end it. p stops and goes on. + and - change how often it asks. \
                        1 lists the sessions with most to send, 2 what fails, 3 what is held; Tab the next of them."
)]
pub(super) struct TopArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Time between two questions, 250ms to 60s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval_argument)]
    interval: Duration,
}

fn interval_argument(text: &str) -> Result<Duration, String> {
    let interval = duration_argument(text)?;
    match (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        true => Ok(interval),
        false => Err("the time between two questions is 250ms to 60s".to_owned()),
    }
}

/// What the view hears of.
enum Heard {
    Asked(Box<Asked>),
    Signal(signals::Signal),
}

/// Shows the host until somebody ends it; 69 when none runs at the beginning.
pub(super) fn run(args: &TopArgs) -> Result<Exit, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "top needs a terminal; `nanorelay status -o json` is for programs".to_owned(),
        ));
    }
    let first = ask(&args.place.data)?;
    let (tell, heard) = mpsc::channel();
    signals::tell_on_a_thread({
        let tell = tell.clone();
        move |signal| tell.send(Heard::Signal(signal)).is_ok()
    })
    .map_err(|error| Failure::Io("cannot listen for signals", error))?;
    let questions = ask_on_a_thread(args.place.data.clone(), tell);
    let screen = Screen::new(first, args.interval);
    // From here on the terminal is ours; it is given back at the end and in a panic.
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::Io("cannot take the terminal over", error))?;
    let ended = show(&mut terminal, screen, &questions, &heard);
    ratatui::restore();
    ended.map_err(|error| Failure::Io("the terminal is gone", error))
}

/// Asks the host each time that it is told to: a host that is slow must not hold up the keys.
fn ask_on_a_thread(data_dir: PathBuf, tell: Sender<Heard>) -> Sender<()> {
    let (questions, asked) = mpsc::channel();
    std::thread::spawn(move || {
        while asked.recv().is_ok() {
            let answer: Result<HostStatus, String> = ask(&data_dir).map_err(|failure| failure.to_string());
            if tell.send(Heard::Asked(Box::new(Asked::now(answer)))).is_err() {
                return;
            }
        }
    });
    questions
}

fn show(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    questions: &Sender<()>,
    heard: &Receiver<Heard>,
) -> io::Result<Exit> {
    loop {
        terminal.draw(|frame| view::draw(frame, &screen))?;
        if screen.wants_to_ask() {
            // The thread ends only with this view.
            let _ = questions.send(());
        }
        match heard.recv_timeout(KEY_PAUSE / 2) {
            Ok(Heard::Asked(asked)) => screen.take(*asked),
            Ok(Heard::Signal(signal)) => return Ok(Exit::Signal(signal)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
                && !pressed(&mut screen, key)
            {
                return Ok(Exit::Done);
            }
        }
    }
}

/// Does what a key says; whether the view goes on.
fn pressed(screen: &mut Screen, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('p' | ' ') => screen.is_paused = !screen.is_paused,
        KeyCode::Char('+') => screen.interval = (screen.interval / 2).max(INTERVAL_MIN),
        KeyCode::Char('-') => screen.interval = (screen.interval * 2).min(INTERVAL_MAX),
        KeyCode::Char(digit @ '1'..='3') => screen.list = state::List::ALL[digit as usize - '1' as usize],
        KeyCode::Tab => screen.list = screen.list.next(),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests;
