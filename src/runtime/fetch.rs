//! What a partition knows of actors that fetch their parked messages.
//!
//! Invariant: what an actor fetches is before all that may still come to it from the mailbox, and was not
//! cancelled while it was on its way.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use super::{
    room::{Room, Signal},
    slot::SlotState,
};
use crate::{address::Address, envelope::Position};

/// Who fetches, and who waits to.
#[derive(Default)]
pub(crate) struct Fetching {
    /// What has been cancelled since each actor asked for a page.
    cancelled: RefCell<HashMap<Address, HashSet<Position>>>,
    /// Actors that may have messages in the mailbox that are before their parked ones.
    behind: RefCell<HashSet<Address>>,
}

impl Fetching {
    /// A message has been cancelled.
    pub(super) fn outdate(&self, position: Position) {
        for cancelled in self.cancelled.borrow_mut().values_mut() {
            cancelled.insert(position);
        }
    }
}

impl Room {
    /// All of an actor's messages in the mailbox that are before this have been sent to it; `None`: all have.
    pub(crate) fn handed(&self, address: &Address) -> Option<Position> {
        let belongs = self.belongs_to(address);
        self.lanes.borrow().handed(belongs)
    }

    /// An actor wants to be woken when more of the mailbox has been handed out; until then it stays.
    pub(crate) fn wait_behind(&self, address: &Address, state: &SlotState) {
        if self.fetching.behind.borrow_mut().insert(address.clone()) {
            state.pending.set(state.pending.get() + 1);
        }
    }

    /// More of the mailbox has been handed out.
    pub(crate) fn wake_behind(&self) {
        for address in self.fetching.behind.take() {
            if let Some(slot) = self.slots.borrow().get(&address) {
                slot.to.do_send(Signal::Wake);
            }
        }
    }

    /// An actor asks for its parked messages.
    pub(crate) fn fetch(&self, address: &Address) {
        self.fetching.cancelled.borrow_mut().insert(address.clone(), HashSet::new());
    }

    /// They are there: of which they do not say yet that they were cancelled.
    pub(crate) fn fetched(&self, address: &Address) -> HashSet<Position> {
        self.fetching.cancelled.borrow_mut().remove(address).unwrap_or_default()
    }
}
