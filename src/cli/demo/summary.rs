//! What the demo tells at its end, and what would be wrong.

use crate::agents::demo_agent::{POISON_ID, QUESTION_ID, ROWS, RowKind};
use crate::agents::demo_world::{self, ADA, CLEO, DemoError, StoredTask};
use crate::channels::plain_text::one_line;
use nanorelay_actors::report::{DeliveryRecord, DeliveryState, DrainReport};
use std::fmt::Write;
use std::path::Path;

/// What the host has stored in NanoClaw's own files.
pub(super) struct Stored {
    task: Option<StoredTask>,
    /// Session and title.
    question: Option<(String, String)>,
    /// What Cleo was told of the poison row.
    notice: Option<String>,
}

impl Stored {
    /// Looks into the files.
    pub fn read(data_dir: &Path) -> Result<Self, DemoError> {
        Ok(Self {
            task: demo_world::stored_task(data_dir, &CLEO)?,
            question: demo_world::stored_question(data_dir, QUESTION_ID)?,
            notice: demo_world::notice(data_dir, &CLEO)?,
        })
    }
}

/// Everything that is not as the demo wants it.
pub(super) fn problems(report: &DrainReport, records: &[DeliveryRecord], stored: &Stored) -> Vec<String> {
    let mut problems = Vec::new();
    for (session, id, kind) in ROWS {
        let expected = match kind {
            RowKind::Poison => DeliveryState::Dead,
            _ => DeliveryState::Delivered,
        };
        let found =
            records.iter().find(|record| record.session_id == session.session_id && record.message_id == id);
        match found.map(|record| record.state) {
            Some(state) if state == expected => {}
            Some(state) => problems.push(format!("{id} is {}, not {}", state.as_str(), expected.as_str())),
            None => problems.push(format!("{id} was not seen")),
        }
    }
    if !report.is_complete() {
        problems.push("something that was due is left".to_owned());
    }
    if stored.task.is_none() {
        problems.push("the scheduled task was not stored".to_owned());
    }
    if stored.question.is_none() {
        problems.push("the question was not stored".to_owned());
    }
    problems
}

/// The end of the demo in words. `kept_dir` is where the reader can go on.
pub(super) fn text(records: &[DeliveryRecord], stored: &Stored, kept_dir: Option<&Path>) -> String {
    let delivered = |kind: RowKind| {
        let is_one = |record: &&DeliveryRecord| {
            record.state == DeliveryState::Delivered
                && ROWS.iter().any(|(session, id, row_kind)| {
                    *row_kind == kind && *id == record.message_id && session.session_id == record.session_id
                })
        };
        records.iter().filter(is_one).count()
    };
    let dead = records.iter().filter(|record| record.state == DeliveryState::Dead).count();
    let mut out = format!(
        "{} delivered to the console, {} system action applied, {} routed to another agent, {dead} dead\n\n",
        delivered(RowKind::Channel),
        delivered(RowKind::System),
        delivered(RowKind::Agent),
    );
    out.push_str(&poison_text(records, stored, kept_dir));
    // Writing to a string cannot fail.
    if let Some(StoredTask { id, process_after, recurrence }) = &stored.task {
        let due = process_after.as_deref().unwrap_or("now");
        let recurrence = recurrence.as_deref().unwrap_or("never");
        let _ = writeln!(
            out,
            "The scheduled task: row {} of messages_in in {}'s inbound.db, due {due}, recurs {recurrence}",
            one_line(id),
            CLEO.name
        );
    }
    if let Some((session, title)) = &stored.question {
        let _ = writeln!(
            out,
            "The question: row {QUESTION_ID} of pending_questions in v2.db, \"{}\" asked by {} ({})",
            one_line(title),
            ADA.name,
            one_line(session)
        );
    }
    out
}

fn poison_text(records: &[DeliveryRecord], stored: &Stored, kept_dir: Option<&Path>) -> String {
    let found = records.iter().find(|record| record.message_id == POISON_ID);
    let Some(record) = found else { return String::new() };
    let mut out = format!(
        "The poison row {POISON_ID} of {} is {} ({}): {}\n",
        CLEO.name,
        record.state.as_str(),
        record.error_class.as_deref().unwrap_or("no class"),
        one_line(record.error.as_deref().unwrap_or("no reason")),
    );
    if let Some(notice) = &stored.notice {
        let _ = writeln!(out, "  {} was told: {}", CLEO.name, one_line(notice));
    }
    let replay =
        |dir: &str| format!("nanorelay deliveries replay {} {POISON_ID} --data {dir}", CLEO.session_id);
    let _ = match kept_dir {
        Some(dir) => writeln!(out, "  To replay it: {}\n", replay(&dir.display().to_string())),
        None => writeln!(out, "  To replay it: {} (keep the directory with --dir DIR)\n", replay("DIR")),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<DeliveryRecord> {
        let record = |(session, id, kind): (demo_world::DemoSession, &str, RowKind)| DeliveryRecord {
            session_id: session.session_id.to_owned(),
            message_id: id.to_owned(),
            seq: 1,
            kind: "chat".to_owned(),
            state: if kind == RowKind::Poison { DeliveryState::Dead } else { DeliveryState::Delivered },
            attempts: 1,
            error_class: (kind == RowKind::Poison).then(|| "invalid".to_owned()),
            error: (kind == RowKind::Poison).then(|| "EOF while parsing a string".to_owned()),
            channel_type: None,
            platform_id: None,
            thread_id: None,
            platform_message_id: None,
            next_attempt_at: None,
            updated_at: "2026-04-16T14:37:00Z".to_owned(),
        };
        ROWS.into_iter().map(record).collect()
    }

    fn stored() -> Stored {
        Stored {
            task: Some(StoredTask {
                id: "cleo-digest".to_owned(),
                process_after: Some("2026-04-16T15:37:00.000Z".to_owned()),
                recurrence: Some("0 9 * * *".to_owned()),
            }),
            question: Some((ADA.session_id.to_owned(), "Deploy".to_owned())),
            notice: Some("{\"text\":\"…\"}".to_owned()),
        }
    }

    #[test]
    fn a_good_end_has_no_problems_and_tells_the_counts() {
        assert_eq!(problems(&DrainReport::default(), &records(), &stored()), Vec::<String>::new());
        let text = text(&records(), &stored(), None);
        assert!(
            text.starts_with(
                "6 delivered to the console, 1 system action applied, 1 routed to another agent, 1 dead\n\n\
                 The poison row cleo-2-poison of Cleo is dead (invalid): EOF while parsing a string\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_missing_or_left_is_a_problem() {
        let mut records = records();
        records.remove(0);
        records[0].state = DeliveryState::Held;
        let report = DrainReport { held: 1, ..DrainReport::default() };
        let nothing = Stored { task: None, question: None, notice: None };
        let problems = problems(&report, &records, &nothing);
        assert_eq!(
            problems[..3],
            [
                "ada-1-text was not seen",
                "ada-2-file is held, not delivered",
                "something that was due is left"
            ]
        );
        assert_eq!(problems.len(), 5);
    }
}
