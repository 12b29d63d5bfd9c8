//! Telling whoever waits: clients that hold a connection open, and streams that follow a request.
//! What is told here is already durable; a telling that is lost is polled instead.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::{oneshot, watch};

use super::view::View;
use crate::envelope::Position;

/// Everybody of this node who waits.
#[derive(Default)]
pub(crate) struct Waiting {
    replies: DashMap<u64, oneshot::Sender<View>>,
    watchers: DashMap<Position, watch::Sender<u64>>,
    watched: AtomicUsize,
}

impl Waiting {
    /// Waits for the reply with this token.
    pub(crate) fn expect(&self, token: u64) -> oneshot::Receiver<View> {
        let (reply, answer) = oneshot::channel();
        self.replies.insert(token, reply);
        answer
    }

    /// Nobody waits for this token.
    pub(crate) fn forget(&self, token: u64) {
        self.replies.remove(&token);
    }

    /// Whether somebody waits for this token.
    pub(crate) fn expects(&self, token: u64) -> bool {
        self.replies.contains_key(&token)
    }

    /// Answers a token.
    pub(crate) fn reply(&self, token: u64, view: View) {
        if let Some((_, reply)) = self.replies.remove(&token) {
            // It gave up waiting; the result can be polled.
            let _ = reply.send(view);
        }
    }

    /// Follows a position.
    pub(crate) fn watch(&self, position: Position) -> watch::Receiver<u64> {
        let entry = self.watchers.entry(position).or_insert_with(|| {
            self.watched.fetch_add(1, Ordering::SeqCst);
            watch::Sender::new(0)
        });
        entry.subscribe()
    }

    /// Lets followers of a position look again.
    pub(crate) fn changed(&self, position: Position) {
        if self.watched.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(watcher) = self.watchers.get(&position) {
            watcher.send_modify(|version| *version += 1);
        }
    }

    /// Drops waits that were given up.
    pub(crate) fn sweep(&self) {
        self.replies.retain(|_, reply| !reply.is_closed());
        self.watchers.retain(|_, watcher| {
            let kept = watcher.receiver_count() > 0;
            if !kept {
                self.watched.fetch_sub(1, Ordering::SeqCst);
            }
            kept
        });
    }
}
