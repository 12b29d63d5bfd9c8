//! How a test comes between a question to the store and its answer.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{Notify, oneshot};

use super::Recorder;
use crate::{
    backend::{Due, Home, Loaded, Stored},
    envelope::Position,
};

/// When an answer that is on its way arrives.
pub(crate) type Arrives = Mutex<Option<oneshot::Receiver<()>>>;

/// Lets a test come between a question to the store and its answer.
#[derive(Default)]
pub(crate) struct Hold {
    /// The store has been asked.
    pub(crate) asked: Notify,
    /// The store is asked now whether it cancels: whether really, or answering `false` for it.
    pub(crate) verdict: Mutex<Option<oneshot::Receiver<bool>>>,
    /// So many of the next groups of commits are never answered.
    pub(crate) lost: AtomicUsize,
    /// The next page of the mailbox, if anything is in it, arrives now.
    pub(crate) page: Arrives,
    /// Messages that the commit of the next state that is opened is said to have ended.
    pub(crate) finished: Mutex<Vec<(Position, Home)>>,
    /// The next page of what is due, if anything is, arrives now.
    pub(crate) due: Arrives,
    /// The next page of what is parked does.
    pub(crate) parked: Arrives,
    /// The next page of the actors that have any does, and the next counts of attempts do.
    pub(crate) blocked: Arrives,
    pub(crate) counts: Arrives,
    /// Most that a page of messages holds, as if it were bounded by bytes; 0 where only its limit says.
    pub(crate) most: AtomicUsize,
    /// The answer to the next group of commits does.
    pub(crate) commits: Arrives,
    /// How far the store's clock is behind the machine's, in milliseconds; 0 when it has none.
    pub(crate) behind: AtomicI64,
}

impl Recorder {
    /// What the test says of a state that is opened.
    pub(super) fn finished(&self, loaded: &mut [Loaded]) {
        if let (Some(hold), Some(first)) = (&self.hold, loaded.first_mut()) {
            first.finished.append(&mut hold.finished.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// A page that is cut where the test says.
    pub(super) fn cut(&self, mut page: Vec<Stored>) -> Vec<Stored> {
        page.truncate(self.most());
        page
    }

    /// The same of due messages: the next one is then the first that was cut off.
    pub(super) fn cut_due(&self, due: Due) -> Due {
        let next = due.messages.get(self.most()).map(|stored| stored.due).or(due.next);
        Due { messages: self.cut(due.messages), next }
    }

    fn most(&self) -> usize {
        match self.hold.as_ref().map_or(0, |hold| hold.most.load(SeqCst)) {
            0 => usize::MAX,
            most => most,
        }
    }

    /// Waits until an answer may arrive.
    pub(super) async fn arrives(&self, which: impl Fn(&Hold) -> &Arrives) {
        let Some(hold) = &self.hold else { return };
        let answer = which(hold).lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answer) = answer {
            hold.asked.notify_one();
            let _ = answer.await;
        }
    }
}
