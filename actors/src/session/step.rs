//! What all steps of a session share. A step is one piece of asynchronous work on the session's databases;
//! one runs at a time, and it owns the databases while it runs.

use crate::engine::Engine;
use crate::ledger::LedgerError;
use crate::model::ids::{AgentGroupId, SessionId};
use crate::store::error::StoreError;
use crate::store::session_dir::FileIdentity;
use crate::store::session_store::SessionStore;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Who a step works for.
#[derive(Clone)]
pub(super) struct StepContext {
    pub engine: Arc<Engine>,
    pub session: SessionId,
    pub group: AgentGroupId,
}

/// Why a step did not succeed. The session tries again later; nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// One of the session's databases, or the central one.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The blocking section panicked; the handles are gone.
    #[error("a database section panicked")]
    Panicked,
    /// Another actor is down for the moment.
    #[error("the {0} is not available")]
    Peer(&'static str),
}

impl StepError {
    /// Whether waiting a little may help by itself.
    pub fn is_transient(&self) -> bool {
        match self {
            StepError::Store(error) => matches!(
                error,
                StoreError::Busy(_)
                    | StoreError::HotJournal(_)
                    | StoreError::Sqlite(_)
                    | StoreError::Io { .. }
            ),
            StepError::Ledger(_) | StepError::Panicked | StepError::Peer(_) => true,
        }
    }
}

/// The databases, while a step has them.
pub(super) struct OwnedStore {
    // Boxed: it goes from step to step.
    store: Box<SessionStore>,
    /// The right to keep them open from one section to the next. Without it, they are closed at the end of each: a host has
    /// more sessions than descriptors.
    stays_open: Option<OwnedSemaphorePermit>,
}

impl OwnedStore {
    /// Takes over what a section has opened.
    pub fn new(store: SessionStore, engine: &Engine) -> Self {
        let mut owned = Self { store: Box::new(store), stays_open: None };
        owned.close_unless_permitted(engine);
        owned
    }

    fn close_unless_permitted(&mut self, engine: &Engine) {
        if !self.store.is_open() {
            self.stays_open = None;
        } else if self.stays_open.is_none() {
            self.stays_open = Arc::clone(&engine.permits.open_sessions).try_acquire_owned().ok();
            if self.stays_open.is_none() {
                self.store.close();
            }
        }
    }

    /// Closes them; the next section opens them again.
    pub fn close(&mut self) {
        self.store.close();
        self.stays_open = None;
    }

    /// Whether anything is open.
    pub fn is_open(&self) -> bool {
        self.store.is_open()
    }

    /// See [`SessionStore::quiet_inbox`].
    pub fn quiet_inbox(&self) -> Option<FileIdentity> {
        self.store.quiet_inbox()
    }
}

impl StepContext {
    /// Runs `section` with the databases on a blocking thread.
    pub async fn with_store<T: Send + 'static>(
        &self,
        store: &mut Option<OwnedStore>,
        section: impl FnOnce(&mut SessionStore, &StepContext) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StepError> {
        let Some(mut owned) = store.take() else { return Err(StepError::Panicked) };
        let context = self.clone();
        let ran = self.engine.blocking.run(move || {
            let store = &mut owned.store;
            store.let_go_of_replaced_folder();
            let result = section(store, &context).map_err(|error| store.classify(error));
            owned.close_unless_permitted(&context.engine);
            (owned, result)
        });
        let (owned, result) = ran.await.map_err(|_| StepError::Panicked)?;
        *store = Some(owned);
        Ok(result?)
    }
}
