//! How the view is drawn. Whatever an agent or a platform may have written is escaped.

use super::super::status::in_words;
use super::state::{List, Screen};
use crate::channels::plain_text::one_line;
use crate::control::status::{ChannelStatus, HostStatus};
use nanorelay_actors::model::time::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Sparkline, Table};
use std::time::Duration;

/// Rows of channels that are shown at most, the heading not counted.
const CHANNEL_ROWS_MAX: u16 = 8;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let channels = u16::try_from(screen.status.channels.len()).unwrap_or(u16::MAX).clamp(1, CHANNEL_ROWS_MAX);
    let [title, numbers, plot, channel_rows, list, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(channels + 2),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(screen), title);
    frame.render_widget(Paragraph::new(number_lines(screen)), numbers);
    draw_plot(frame, screen, plot);
    draw_channels(frame, &screen.status, channel_rows);
    draw_list(frame, screen, list);
    let help = " q end   p stop/go on   + - faster/slower   1 sessions   2 failures   3 holds   Tab next";
    frame.render_widget(Line::styled(help, dim()), keys);
}

fn title_line(screen: &Screen) -> Line<'static> {
    let status = &screen.status;
    let uptime = in_words(Duration::from_millis(status.uptime_ms));
    let mut parts = vec![
        Span::styled(format!(" nanorelay {} ", one_line(&status.version)), bold()),
        Span::raw(format!(" process {}, up {uptime}", status.process_id)),
    ];
    if let Some(address) = &status.http_address {
        parts.push(Span::raw(format!(", http://{}/", one_line(address))));
    }
    if screen.is_paused {
        parts.push(Span::styled("  STOPPED", warning()));
    }
    if let Some(problem) = &screen.problem {
        parts.push(Span::styled(format!("  {}", one_line(problem)), error()));
    }
    Line::from(parts)
}

fn number_lines(screen: &Screen) -> Vec<Line<'static>> {
    let status = &screen.status;
    let rate = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}/s"));
    let rates = screen.rates;
    let lag =
        status.lag.map_or("-".to_owned(), |lag| format!("p50 {} ms, p99 {} ms", lag.p50_ms, lag.p99_ms));
    let counts = &status.standing.counts;
    let sessions = &status.standing.sessions;
    vec![
        Line::from(vec![
            label("rates"),
            Span::raw(format!(
                "delivered {}  attempts {}  dead {}",
                rate(rates.map(|rates| rates.delivered)),
                rate(rates.map(|rates| rates.attempts)),
                rate(rates.map(|rates| rates.dead)),
            )),
        ]),
        Line::from(vec![label("lag"), Span::raw(lag), Span::raw("   "), oldest(status)]),
        Line::from(vec![
            label("waiting"),
            Span::raw(format!("queued {}  sending {}  ", counts.queued, counts.sending)),
            noted("retrying", counts.retrying, warning()),
        ]),
        Line::from(vec![
            label("operator"),
            noted("dead", counts.dead, error()),
            noted("ambiguous", counts.ambiguous, error()),
            noted("held", counts.held, warning()),
            noted("holds", status.holds_total, warning()),
        ]),
        Line::from(vec![
            label("sessions"),
            Span::raw(format!(
                "{} active  {} agents run  {} at work  {} watched  ",
                sessions.active, sessions.running, status.session_actors, status.watched_folders
            )),
            noted("quarantined", sessions.quarantined, error()),
        ]),
    ]
}

fn oldest(status: &HostStatus) -> Span<'static> {
    let Some(oldest) = &status.standing.oldest_undelivered else { return Span::raw("nothing waits") };
    let age_ms = Timestamp::parse(&status.now).map_or(0, |now| now.as_ms().saturating_sub(oldest.since_ms));
    let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
    let style = if age >= Duration::from_secs(60) { warning() } else { Style::default() };
    let words = format!("oldest {}: {} {}", in_words(age), oldest.session_id, oldest.message_id);
    Span::styled(one_line(&words), style)
}

fn draw_plot(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let highest = screen.history.iter().max().copied().unwrap_or(0);
    let title = format!(" delivered per second, highest {:.1} ", highest as f64 / 10.0);
    let width = usize::from(area.width);
    let skipped = screen.history.len().saturating_sub(width);
    let shown: Vec<u64> = screen.history.iter().skip(skipped).copied().collect();
    let plot = Sparkline::default().data(shown).style(Style::new().fg(Color::Cyan));
    frame.render_widget(plot.block(Block::new().borders(Borders::TOP).title(title)), area);
}

fn draw_channels(frame: &mut Frame<'_>, status: &HostStatus, area: Rect) {
    let row = |channel: &ChannelStatus| {
        let until = channel.blocked_until_ms.map(|ms| format!(" until {}", Timestamp::from_ms(ms).to_iso()));
        let blocked =
            channel.blocked_by.as_ref().map(|by| one_line(&format!("{by}{}", until.unwrap_or_default())));
        let style = if blocked.is_some() { warning() } else { Style::default() };
        let cells = [
            one_line(&channel.name),
            channel.queued.to_string(),
            channel.in_flight.to_string(),
            channel.lanes_held_back.to_string(),
            blocked.unwrap_or_default(),
        ];
        Row::new(cells).style(style)
    };
    // Those that are blocked, and then those with most to send.
    let mut channels: Vec<&ChannelStatus> = status.channels.iter().collect();
    channels.sort_by_key(|channel| (channel.blocked_by.is_none(), std::cmp::Reverse(channel.queued)));
    let rows: Vec<Row<'_>> = channels.into_iter().map(row).collect();
    let heading = ["CHANNEL", "WAITING", "SENDING", "LANES HELD", "BLOCKED BY"];
    draw_table(frame, area, " channels ", heading, &[20, 9, 9, 11], rows);
}

fn draw_list(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let standing = &screen.status.standing;
    match screen.list {
        List::Sessions => {
            let rows = standing
                .busiest
                .iter()
                .map(|busy| Row::new([one_line(&busy.session_id), busy.waiting.to_string()]));
            draw_table(
                frame,
                area,
                " sessions with most to send ",
                ["SESSION", "WAITING"],
                &[44],
                rows.collect(),
            );
        }
        List::Failures => {
            let rows = standing.failing.iter().map(|failing| {
                let channel = failing.channel.as_deref().unwrap_or("-");
                let cells = [channel, &failing.error_class, &failing.count.to_string(), &failing.last_at];
                Row::new(cells.map(one_line))
            });
            let heading = ["CHANNEL", "CLASS", "MESSAGES", "LAST"];
            draw_table(frame, area, " what is tried again ", heading, &[20, 16, 9], rows.collect());
        }
        List::Holds => {
            let rows = screen.status.holds.iter().map(|hold| {
                let name = hold.name.join(" ");
                let until = hold.until.as_deref().unwrap_or("resumed");
                Row::new([hold.scope.as_str(), &name, hold.cause.as_str(), until, &hold.reason].map(one_line))
            });
            let heading = ["SCOPE", "NAME", "CAUSE", "UNTIL", "REASON"];
            draw_table(frame, area, " what is held ", heading, &[12, 30, 13, 25], rows.collect());
        }
    }
}

/// The last column takes what is left.
fn draw_table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &'static str,
    heading: [&'static str; N],
    widths: &[u16],
    rows: Vec<Row<'_>>,
) {
    let rest = std::iter::once(Constraint::Min(8));
    let widths: Vec<Constraint> = widths.iter().map(|width| Constraint::Length(*width)).chain(rest).collect();
    let table = Table::new(rows, widths).header(Row::new(heading).style(dim()));
    frame.render_widget(table.block(Block::new().borders(Borders::TOP).title(title)), area);
}

fn label(text: &str) -> Span<'static> {
    Span::styled(format!(" {text:<10}"), dim())
}

/// A count that stands out when it is not 0.
fn noted(name: &str, count: u64, style: Style) -> Span<'static> {
    let style = if count > 0 { style } else { Style::default() };
    Span::styled(format!("{name} {count}  "), style)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED)
}

fn warning() -> Style {
    Style::new().fg(Color::Yellow)
}

fn error() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}
