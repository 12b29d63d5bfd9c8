//! Commands of a limited kind before they begin: let through, or sent back into the store until their
//! time. No attempt has begun then, and none is counted.
//!
//! Invariant: a message stays in its queue while it waits here, so that it can be cancelled, parked and
//! overtaken by an earlier one like any other; and what was handled before it does not wait for it.

use std::rc::Rc;

use super::{
    activation::Core,
    fate::{Fate, Taken},
    room::Delivery,
    turn::Group,
};
use crate::{
    actor::Actor,
    backend::{Deferral, Home},
    coordination::limit::gate::{Admitted, Arrival, Pass},
};

impl<A: Actor> Core<A> {
    /// The next message to handle, with what it passed the gate of its kind with; `None` when the turn
    /// ends here.
    pub(super) async fn admitted(
        self: &Rc<Self>,
        group: &mut Group<A::State>,
    ) -> Option<(Delivery, Option<Box<Pass>>)> {
        let shared = &self.room.shared;
        let Some(gate) = shared.limits.gate(A::KIND) else { return Some((self.next()?, None)) };
        // What was handled is committed first.
        if !group.taken.is_empty() || self.room.stopping() {
            return None;
        }
        if let Some(pass) = self.unused.take() {
            return self.used(pass);
        }
        let (fresh, resumed) = {
            let queue = self.queue.borrow();
            let first = &queue.front()?.stored;
            (first.home == Home::Mailbox, self.room.is_journaled(first.position))
        };
        let halted = self.room.halted.notified();
        // What waits behind it may be parked when memory is short, as behind a slow handler.
        self.slot.since.set(shared.clock.now());
        let arrival = Arrival { key: self.address.key(), fresh, resumed };
        let admitted = tokio::select! {
            biased;
            admitted = gate.admit(&shared.limits, arrival, shared.settings.linger) => Some(admitted),
            () = halted => None,
        };
        self.slot.since.set(0);
        match admitted? {
            Admitted::Now(pass) => self.used(Box::new(pass)),
            Admitted::Later(due) => {
                let delivery = self.next()?;
                self.send_back(group, delivery, due);
                None
            }
        }
    }

    /// Who was let through may be gone by now: then the next one of this work goes in its place.
    fn used(&self, pass: Box<Pass>) -> Option<(Delivery, Option<Box<Pass>>)> {
        match self.next() {
            Some(delivery) => Some((delivery, Some(pass))),
            None => {
                self.unused.set(Some(pass));
                None
            }
        }
    }

    /// A message waits in the store until its time, and its key with it.
    fn send_back(&self, group: &mut Group<A::State>, delivery: Delivery, due: i64) {
        let stored = &delivery.stored;
        group.commit.deferred.push(Deferral {
            position: stored.position,
            home: stored.home,
            due: due.max(group.commit.at + 1),
            // What is counted because it may have ended the process stays counted (G6).
            attempts: stored.attempts,
            failures: stored.failures.clone(),
            blocks: true,
        });
        group.taken.push(Taken { delivery, fate: Fate::Held, seconds: 0.0 });
        self.block(group);
    }
}
