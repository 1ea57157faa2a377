//! The files that go out with a message.

use super::adapter::Attachment;
use super::queue::QueuedDelivery;
use crate::engine::Engine;
use crate::engine::quotas::AttachmentPermit;
use crate::model::ids::PathComponent;
use crate::settings::MissingAttachment;
use crate::store::attachments;
use crate::store::error::StoreError;
use std::sync::Arc;

/// Why a message's attachments could not be opened.
pub(super) enum NotOpened {
    /// Never: one is missing, refused or too large.
    Refused(String),
    /// The session sends as many already as it may.
    NotNow,
    /// The host could not: it may have run out of descriptors.
    Unavailable(String),
}

pub(super) type OpenAttachments = (Vec<Attachment>, Option<AttachmentPermit>);

/// Opens what the message declares, within what its session may send at a time.
pub(super) async fn open_attachments(
    engine: &Arc<Engine>,
    item: &QueuedDelivery,
) -> Result<OpenAttachments, NotOpened> {
    if item.files.is_empty() {
        return Ok((Vec::new(), None));
    }
    let (engine_inside, item) = (Arc::clone(engine), item.clone());
    engine
        .blocking
        .run(move || {
            let attachments = open_declared_files(&engine_inside, &item)?;
            let permit = take_permit(&engine_inside, &item, &attachments)?;
            Ok((attachments, Some(permit)))
        })
        .await
        .unwrap_or_else(|error| Err(NotOpened::Unavailable(error.to_string())))
}

fn take_permit(
    engine: &Engine,
    item: &QueuedDelivery,
    attachments: &[Attachment],
) -> Result<AttachmentPermit, NotOpened> {
    let limits = &engine.settings.limits;
    let bytes = attachments.iter().map(Attachment::size).fold(0, u64::saturating_add);
    // It would never fit, however long it waits.
    if bytes > limits.attachment_bytes_per_session_max {
        let limit = limits.attachment_bytes_per_session_max;
        let reason = format!("attachments have {bytes} bytes, the limit of a session is {limit}");
        return Err(NotOpened::Refused(reason));
    }
    let permit = engine.attachments.take(&item.session_id, attachments.len(), bytes, limits);
    permit.ok_or(NotOpened::NotNow)
}

fn open_declared_files(engine: &Engine, item: &QueuedDelivery) -> Result<Vec<Attachment>, NotOpened> {
    let limits = &engine.settings.limits;
    let too_large = |reason: String| Err(NotOpened::Refused(reason));
    if item.files.len() > limits.attachments_max {
        return too_large(format!(
            "{} attachments, the limit is {}",
            item.files.len(),
            limits.attachments_max
        ));
    }
    let directory = engine
        .sessions_root
        .session(&item.agent_group_id, &item.session_id)
        .map_err(|error| not_opened(&error, error.to_string()))?;
    let mut attachments = Vec::with_capacity(item.files.len());
    let mut total = 0_u64;
    for declared in item.files.iter() {
        limits.check_attachment_name(declared).map_err(NotOpened::Refused)?;
        let opened = open_declared_file(&directory, item, declared);
        let (name, file, size) = match opened {
            Ok(opened) => opened,
            Err(NotOpened::Refused(_))
                if engine.settings.missing_attachment == MissingAttachment::SendWithout =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        total = total.saturating_add(size);
        if size > limits.attachment_bytes_max {
            return too_large(format!(
                "attachment {declared:?} has {size} bytes, the limit is {}",
                limits.attachment_bytes_max
            ));
        }
        if total > limits.attachments_total_bytes_max {
            return too_large(format!(
                "attachments have more than {} bytes together",
                limits.attachments_total_bytes_max
            ));
        }
        attachments.push(Attachment::new(name, size, file));
    }
    Ok(attachments)
}

fn not_opened(error: &StoreError, reason: String) -> NotOpened {
    if attachments::is_unusable(error) { NotOpened::Refused(reason) } else { NotOpened::Unavailable(reason) }
}

fn open_declared_file(
    directory: &crate::store::session_dir::SessionDir,
    item: &QueuedDelivery,
    declared: &str,
) -> Result<(PathComponent, std::fs::File, u64), NotOpened> {
    let in_words = |reason: &dyn std::fmt::Display| format!("attachment {declared:?}: {reason}");
    let refused = |reason: &dyn std::fmt::Display| NotOpened::Refused(in_words(reason));
    let name = PathComponent::new(declared).map_err(|error| refused(&error))?;
    let folder = item.message_id.path_component().map_err(|error| refused(&error))?;
    match attachments::open_outbox_file(directory, &folder, &name) {
        Ok((file, size)) => Ok((name, file, size)),
        Err(StoreError::Missing(_)) => Err(refused(&"the file does not exist")),
        Err(error) => Err(not_opened(&error, in_words(&error))),
    }
}
