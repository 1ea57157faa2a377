//! How deliveries are shown.

use super::super::table::columns;
use crate::channels::plain_text::one_line;
use nanorelay_actors::report::{AttemptRecord, DeliveryDetails, DeliveryRecord};

pub fn table(records: &[DeliveryRecord]) -> String {
    let destination = |record: &DeliveryRecord| {
        let parts = [&record.channel_type, &record.platform_id, &record.thread_id];
        parts.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    };
    let row = |record: &DeliveryRecord| {
        [
            record.state.as_str().to_owned(),
            record.session_id.clone(),
            record.message_id.clone(),
            record.seq.to_string(),
            record.kind.clone(),
            destination(record),
            record.attempts.to_string(),
            record.updated_at.clone(),
            record.error.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    let heading = ["STATE", "SESSION", "MESSAGE", "SEQ", "KIND", "DESTINATION", "TRIES", "UPDATED", "ERROR"];
    columns(heading, &rows)
}

pub fn details(details: &DeliveryDetails) -> String {
    let record = &details.record;
    let fields = [
        ("session", Some(record.session_id.clone())),
        ("message", Some(record.message_id.clone())),
        ("seq", Some(record.seq.to_string())),
        ("kind", Some(record.kind.clone())),
        ("state", Some(record.state.as_str().to_owned())),
        ("attempts", Some(record.attempts.to_string())),
        ("error class", record.error_class.clone()),
        ("error", record.error.clone()),
        ("channel type", record.channel_type.clone()),
        ("platform id", record.platform_id.clone()),
        ("thread id", record.thread_id.clone()),
        ("platform message id", record.platform_message_id.clone()),
        ("next attempt at", record.next_attempt_at.clone()),
        ("updated at", Some(record.updated_at.clone())),
    ];
    let lines = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let mut text: String = lines.map(|(name, value)| format!("{name:<20} {}\n", one_line(&value))).collect();
    for failed in &details.failed_attempts {
        let AttemptRecord { attempt, ended_at, error_class, error } = failed;
        let name = format!("attempt {attempt} failed");
        text.push_str(&format!("{name:<20} {ended_at} {error_class}: {}\n", one_line(error)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::json_rows;
    use super::*;
    use nanorelay_actors::report::DeliveryState;

    fn record() -> DeliveryRecord {
        DeliveryRecord {
            session_id: "s-1".to_owned(),
            message_id: "m-1".to_owned(),
            seq: 3,
            kind: "chat".to_owned(),
            state: DeliveryState::Dead,
            attempts: 1,
            error_class: Some("invalid".to_owned()),
            error: Some("content is not JSON\x1b[2J".to_owned()),
            channel_type: Some("slack".to_owned()),
            platform_id: Some("slack:C0".to_owned()),
            thread_id: None,
            platform_message_id: None,
            next_attempt_at: None,
            updated_at: "2026-04-16T14:37:00Z".to_owned(),
        }
    }

    #[test]
    fn json_rows_are_an_array_with_every_field() {
        assert_eq!(json_rows::<DeliveryRecord>(&[]).unwrap(), "[]\n");
        let text = json_rows(&[record(), record()]).unwrap();
        assert_eq!(text.lines().count(), 4);
        let rows: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&text).unwrap();
        for field in [
            "session_id",
            "message_id",
            "state",
            "attempts",
            "error_class",
            "error",
            "channel_type",
            "platform_id",
            "thread_id",
            "platform_message_id",
            "next_attempt_at",
            "updated_at",
        ] {
            assert!(rows[0].contains_key(field), "{field}");
        }
        assert_eq!(rows[1]["state"], "dead");
    }

    #[test]
    fn what_an_agent_wrote_is_escaped_for_the_terminal() {
        assert!(!table(&[record()]).contains('\x1b'));
        let failed = AttemptRecord {
            attempt: 1,
            ended_at: "2026-04-16T14:36:00Z".to_owned(),
            error_class: "transient".to_owned(),
            error: "502\x1b[2J".to_owned(),
        };
        let details = details(&DeliveryDetails { record: record(), failed_attempts: vec![failed] });
        assert!(!details.contains('\x1b') && details.contains("error class          invalid\n"), "{details}");
        assert!(details.contains("attempt 1 failed     2026-04-16T14:36:00Z transient: 502"), "{details}");
    }
}
