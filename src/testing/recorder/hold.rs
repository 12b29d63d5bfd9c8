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
}

impl Hold {
    /// Waits until a page may arrive.
    pub(super) async fn arrives(&self, page: &Arrives) {
        let page = page.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(page) = page {
            self.asked.notify_one();
            let _ = page.await;
        }
    }
}
