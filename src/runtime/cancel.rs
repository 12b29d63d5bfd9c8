//! Cancelling a message without racing its handler: while the store is asked, the message is marked,
//! and its activation begins neither it nor anything after it.
//!
//! Invariant: between the mark and the verdict no attempt of the message begins, and a message of
//! which an attempt runs, or whose fate is on its way in a commit, is never marked.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use actix::ResponseFuture;
use tokio::sync::Notify;

use super::{
    partition::Partition,
    room::{Room, Signal},
};
use crate::{
    address::Address,
    envelope::Position,
    error::{Error, Result},
};

/// Messages being cancelled, each with the actor that stopped at it, if one did.
#[derive(Default)]
pub(crate) struct Cancelling {
    marks: RefCell<HashMap<Position, Option<Address>>>,
    verdict: Notify,
}

impl Cancelling {
    pub(super) fn mark(&self, position: Position) {
        self.marks.borrow_mut().insert(position, None);
    }

    /// Whether `address` must stop at this message; it is woken when the verdict is in.
    pub(crate) fn stops(&self, position: Position, address: &Address) -> bool {
        let mut marks = self.marks.borrow_mut();
        let Some(stopped) = marks.get_mut(&position) else { return false };
        stopped.get_or_insert_with(|| address.clone());
        true
    }

    /// The verdict is in; the actor that waits for it, if one does.
    pub(super) fn unmark(&self, position: Position) -> Option<Address> {
        let stopped = self.marks.borrow_mut().remove(&position);
        self.verdict.notify_waiters();
        stopped.flatten()
    }

    /// Waits until none of the messages is being cancelled.
    pub(crate) async fn settled(&self, positions: &[Position]) {
        loop {
            let verdict = self.verdict.notified();
            let marked = |position| self.marks.borrow().contains_key(position);
            if !positions.iter().any(marked) {
                return;
            }
            verdict.await;
        }
    }
}

/// Cancel a message that no attempt has begun of.
#[derive(actix::Message)]
#[rtype(result = "Result<bool, Error>")]
pub(crate) struct Cancel(pub(crate) Position);

impl actix::Handler<Cancel> for Partition {
    type Result = ResponseFuture<Result<bool, Error>>;

    fn handle(&mut self, Cancel(position): Cancel, _: &mut Self::Context) -> Self::Result {
        Box::pin(cancel(self.room().clone(), position))
    }
}

impl Room {
    /// Remembers a cancelled message that is in memory or on its way there: it must not begin. Where the state is
    /// written before the message is ended, the store would find out too late.
    pub(crate) fn remember_cancelled(&self, position: Position) {
        self.fetching.outdate(position);
        self.journaled.borrow_mut().remove(&position);
        let mut lanes = self.lanes.borrow_mut();
        lanes.outdate(position);
        if lanes.holds(position) {
            self.cancelled.borrow_mut().insert(position);
        }
    }

    /// Whether a message in memory was cancelled; it may be there twice, so it is remembered until it leaves.
    pub(crate) fn was_cancelled(&self, position: Position) -> bool {
        !self.cancelled.borrow().is_empty() && self.cancelled.borrow().contains(&position)
    }
}

async fn cancel(room: Rc<Room>, position: Position) -> Result<bool> {
    room.cancelling.settled(&[position]).await;
    if room.stopping() {
        return Err(Error::new("the request's partition is changing hands"));
    }
    if room.running.borrow().contains_key(&position) {
        return Ok(false);
    }
    room.cancelling.mark(position);
    // The lease is not let go before the verdict.
    room.begin_work();
    let cancelled = room.shared.backend.cancel(room.lease, position, room.shared.clock.now()).await;
    if matches!(cancelled, Ok(true)) {
        room.remember_cancelled(position);
        room.handed.borrow_mut().remove(&position);
        room.shared.ended(position);
    }
    if cancelled.is_err() && room.shared.backend.lease_time().is_some() {
        // It may have happened, or happen yet: under another epoch it cannot, and what is there is read
        // again.
        room.lose();
    }
    if let Some(address) = room.cancelling.unmark(position)
        && let Some(slot) = room.slots.borrow().get(&address)
    {
        slot.send(Signal::Wake);
    }
    room.end_work();
    cancelled
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn whoever_stopped_at_a_mark_is_named_by_the_verdict() {
        let (cancelling, position) = (Cancelling::default(), Position::new(0, 1));
        let address: Address = "order/7".parse().unwrap();
        assert!(!cancelling.stops(position, &address));
        let of_it = [position];
        cancelling.mark(position);
        assert!(!cancelling.stops(Position::new(0, 2), &address));
        assert!(cancelling.stops(position, &address));
        let mut settled = Box::pin(cancelling.settled(&of_it));
        assert!(settled.as_mut().now_or_never().is_none());
        assert_eq!(cancelling.unmark(position), Some(address));
        assert!(settled.now_or_never().is_some());
        assert_eq!(cancelling.unmark(position), None);
    }
}
