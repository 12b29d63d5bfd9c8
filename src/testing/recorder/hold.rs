//! How a test comes between a question to the store and its answer.

use std::sync::{Mutex, PoisonError, atomic::AtomicUsize};

use tokio::sync::{Notify, oneshot};

/// When an answer that is on its way arrives.
type Arrives = Mutex<Option<oneshot::Receiver<()>>>;

/// Lets a test come between a question to the store and its answer.
#[derive(Default)]
pub(crate) struct Hold {
    /// The store has been asked.
    pub(crate) asked: Notify,
    /// The store is asked now whether it cancels: whether really, or answering `false` for it.
    pub(crate) verdict: Mutex<Option<oneshot::Receiver<bool>>>,
    /// So many of the next groups of commits are never answered.
    pub(crate) lost: AtomicUsize,
    /// The next page of what is due, if anything is, arrives now.
    pub(crate) due: Arrives,
    /// The next page of what is parked does.
    pub(crate) parked: Arrives,
    /// The next page of the actors that have any does, and the next counts of attempts do.
    pub(crate) blocked: Arrives,
    pub(crate) counts: Arrives,
}

impl Hold {
    /// Holds one back; what lets it go.
    pub(crate) fn back(page: &Arrives) -> oneshot::Sender<()> {
        let (send, sent) = oneshot::channel();
        *page.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
        send
    }

    /// Whether one that is held back has been asked for.
    pub(crate) fn is_asked(page: &Arrives) -> bool {
        page.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Waits until a page may arrive.
    pub(super) async fn arrives(&self, page: &Arrives) {
        let page = page.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(page) = page {
            self.asked.notify_one();
            let _ = page.await;
        }
    }
}
