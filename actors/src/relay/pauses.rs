//! What an operator does about what holds sends back: pause, resume, list.

use super::{OperationError, Relay};
use crate::channel::LookAgain;
use crate::channel::unblock::AskAgain;
use crate::engine::events::Happened;
use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::model::hold::{Hold, HoldCause, HoldScope};
use crate::model::text::bounded;
use crate::model::time::Timestamp;
use crate::report::{EventKind, HoldRecord};
use crate::store::error::StoreError;
use crate::store::ledger::LedgerTransaction;

/// What is ended when a scope is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The operator's pause.
    Pause,
    /// That, and what the platform asked for: limits, refused credentials, a destination that is gone, open breakers.
    /// For an operator who knows better, as after a change of credentials.
    Everything,
}

impl Resume {
    fn causes(self) -> &'static [HoldCause] {
        match self {
            Resume::Pause => &[HoldCause::Operator],
            Resume::Everything => &HoldCause::ALL,
        }
    }
}

/// An operator's pause.
pub(super) fn pause(
    scope: HoldScope,
    until: Option<Timestamp>,
    reason: &str,
    now: Timestamp,
) -> Result<Hold, OperationError> {
    if until.is_some_and(|until| until <= now) {
        return Err(OperationError::Invalid("the end of the pause lies in the past".to_owned()));
    }
    let reason = bounded(reason.to_owned(), ERROR_TEXT_BYTES_MAX);
    Ok(Hold { scope, cause: HoldCause::Operator, until, reason, since: now })
}

/// What was ended in the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// How many holds; 1 when there was none, but messages waited for their own times.
    pub count: usize,
    /// Up to when the messages waited that the platform had sent back and that are due again now.
    pub waited_until: Option<Timestamp>,
}

/// Ends a scope's holds in the ledger. What the platform has sent back because of them need not wait for longer either.
pub(super) fn end_holds(
    ledger: &mut LedgerTransaction<'_>,
    scope: &HoldScope,
    which: Resume,
    now: Timestamp,
) -> Result<Ended, StoreError> {
    let mut count = 0;
    for cause in which.causes() {
        count += usize::from(ledger.clear_hold(scope, *cause, now)?);
    }
    let waited_until = match which {
        Resume::Pause => None,
        Resume::Everything => ledger.end_waiting(scope, now)?,
    };
    Ok(Ended { count: count.max(usize::from(waited_until.is_some())), waited_until })
}

fn told(kind: EventKind, scope: &HoldScope, until: Option<Timestamp>, now: Timestamp) -> Happened {
    let session = match scope {
        HoldScope::Session(session) | HoldScope::Lane(session, ..) => Some(session.clone()),
        _ => None,
    };
    let detail = Some(scope.to_string().into());
    Happened { session, detail, until, ..Happened::new(kind, now) }
}

impl Relay {
    /// Sends nothing of a scope from now until `until`, or until it is resumed. What is on its way finishes; what waits
    /// spends no attempts. A pause survives a restart, and a second one of the same scope replaces the first.
    ///
    /// System actions are applied also while their session or tenant is paused: they go nowhere.
    pub async fn pause(
        &self,
        scope: HoldScope,
        until: Option<Timestamp>,
        reason: &str,
    ) -> Result<(), OperationError> {
        let engine = self.engine();
        let now = engine.now();
        let hold = pause(scope, until, reason, now)?;
        let recorded = hold.clone();
        engine.ledger.record_durably(move |ledger| ledger.set_hold(&recorded, now)).await?;
        slog::info!(engine.logger, "paused"; "scope" => %hold.scope, "reason" => &hold.reason,
            "until" => hold.until.map(Timestamp::to_iso));
        engine.events.tell(told(EventKind::Paused, &hold.scope, hold.until, now));
        engine.holds.set(hold);
        // A pause that is now shorter than the one before.
        self.look_again(None);
        Ok(())
    }

    /// Ends what holds a scope back. Returns how many holds there were; 1 also when messages waited for their own times
    /// only, after the platform had sent them back.
    pub async fn resume(&self, scope: HoldScope, which: Resume) -> Result<usize, OperationError> {
        let engine = self.engine();
        let (inside, now) = (scope.clone(), engine.now());
        let Ended { count, waited_until } =
            engine.ledger.record_durably(move |ledger| end_holds(ledger, &inside, which, now)).await?;
        for cause in which.causes() {
            engine.holds.clear(&scope, *cause);
        }
        if let (Resume::Everything, HoldScope::Channel(name)) = (which, &scope)
            && let Some(account) = engine.channels.named(name)
        {
            account.reset_breakers();
        }
        slog::info!(engine.logger, "resumed"; "scope" => %scope, "ended" => count);
        if count > 0 {
            engine.events.tell(told(EventKind::Resumed, &scope, None, now));
        }
        self.look_again(waited_until);
        Ok(count)
    }

    /// What holds sends back, the oldest first.
    pub fn holds(&self) -> Vec<HoldRecord> {
        let engine = self.engine();
        engine.holds.all(engine.now()).into_iter().map(HoldRecord::from).collect()
    }

    /// Has the channels look at what holds back, and at messages that waited at most until then.
    fn look_again(&self, waited_until: Option<Timestamp>) {
        let engine = self.engine();
        for (_, channel) in engine.directory.channels() {
            // One whose mailbox is full looks again without being told.
            let _ = match waited_until {
                Some(until) => {
                    channel.try_send(AskAgain { until, _token: engine.activity.token() }).map_err(drop)
                }
                None => channel.try_send(LookAgain { _token: engine.activity.token() }).map_err(drop),
            };
        }
    }
}
