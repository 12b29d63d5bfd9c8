//! Telling whoever waits: clients that hold a connection open, streams that follow a request, and
//! other nodes that have such streams. What is told here is already durable; a telling that is lost is
//! polled instead.
//!
//! Invariant: what is remembered for others is bounded, in number and in time.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use tokio::sync::{oneshot, watch};

use super::view::View;
use crate::envelope::Position;

/// Messages followed from other nodes that are remembered, and for how long: they renew it.
const ABROAD: usize = 10_000;
const KEPT: Duration = Duration::from_secs(120);

/// Everybody who waits.
#[derive(Default)]
pub(crate) struct Waiting {
    replies: DashMap<u64, oneshot::Sender<View>>,
    watchers: DashMap<Position, watch::Sender<u64>>,
    /// Nodes that follow a message, and since when.
    abroad: DashMap<Position, Vec<(u64, Instant)>>,
    /// Entries of the two above, so that a message nobody follows costs one look.
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

    /// Whether somebody of this node waits for this token.
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

    /// Another node follows a position.
    pub(crate) fn watch_from(&self, position: Position, node: u64) {
        let full = self.abroad.len() >= ABROAD;
        match self.abroad.entry(position) {
            Entry::Occupied(mut nodes) => {
                nodes.get_mut().retain(|(known, _)| *known != node);
                nodes.get_mut().push((node, Instant::now()));
            }
            // It looks now and then anyway.
            Entry::Vacant(_) if full => {}
            Entry::Vacant(nodes) => {
                nodes.insert(vec![(node, Instant::now())]);
                self.watched.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Whether a position is followed, here or from another node.
    pub(crate) fn follows(&self, position: Position) -> bool {
        self.watched.load(Ordering::SeqCst) > 0
            && (self.watchers.contains_key(&position) || self.abroad.contains_key(&position))
    }

    /// Lets this node's followers of a position look again; the other nodes that follow it.
    pub(crate) fn changed(&self, position: Position) -> Vec<u64> {
        if self.watched.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        if let Some(watcher) = self.watchers.get(&position) {
            watcher.send_modify(|version| *version += 1);
        }
        let nodes = self.abroad.get(&position);
        nodes.map(|nodes| nodes.iter().map(|(node, _)| *node).collect()).unwrap_or_default()
    }

    /// A position will not change any more.
    pub(crate) fn ended(&self, position: Position) {
        if self.watched.load(Ordering::SeqCst) > 0 && self.abroad.remove(&position).is_some() {
            self.watched.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// What this node's clients follow.
    pub(crate) fn followed(&self) -> Vec<Position> {
        if self.watched.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        self.watchers.iter().filter(|entry| entry.receiver_count() > 0).map(|entry| *entry.key()).collect()
    }

    /// Drops waits that were given up.
    pub(crate) fn sweep(&self) {
        self.replies.retain(|_, reply| !reply.is_closed());
        self.watchers.retain(|_, watcher| self.kept(watcher.receiver_count() > 0));
        self.abroad.retain(|_, nodes| {
            nodes.retain(|(_, since)| since.elapsed() < KEPT);
            self.kept(!nodes.is_empty())
        });
    }

    fn kept(&self, kept: bool) -> bool {
        if !kept {
            self.watched.fetch_sub(1, Ordering::SeqCst);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_nodes_are_told_until_the_end_and_no_more_are_remembered_than_can_be() {
        let (waiting, position) = (Waiting::default(), Position::new(0, 1));
        assert!(waiting.changed(position).is_empty() && !waiting.follows(position));
        waiting.watch_from(position, 2);
        waiting.watch_from(position, 2);
        waiting.watch_from(position, 3);
        assert_eq!(waiting.changed(position), [2, 3]);
        assert!(waiting.follows(position));
        waiting.sweep();
        waiting.ended(position);
        assert!(waiting.changed(position).is_empty());
        assert_eq!(waiting.watched.load(Ordering::SeqCst), 0);
        for number in 0..ABROAD as u64 + 5 {
            waiting.watch_from(Position::new(1, number), 2);
        }
        assert_eq!((waiting.abroad.len(), waiting.watched.load(Ordering::SeqCst)), (ABROAD, ABROAD));
        // What is known may still be renewed.
        waiting.watch_from(Position::new(1, 0), 4);
        assert_eq!(waiting.changed(Position::new(1, 0)), [2, 4]);
    }

    #[test]
    fn followers_are_named_while_they_follow() {
        let (waiting, position) = (Waiting::default(), Position::new(0, 1));
        let follower = waiting.watch(position);
        assert_eq!(waiting.followed(), [position]);
        assert!(waiting.changed(position).is_empty() && follower.has_changed().unwrap());
        drop(follower);
        assert!(waiting.followed().is_empty());
        waiting.sweep();
        assert_eq!(waiting.watched.load(Ordering::SeqCst), 0);
    }
}
