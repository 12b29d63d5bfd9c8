//! What a partition and its activations say to each other, and what each knows of the other.

use std::{cell::Cell, rc::Rc};

use actix::Recipient;
use tokio::sync::Notify;

use crate::backend::Stored;

/// A message handed to an activation.
pub(crate) struct Delivery {
    pub(crate) stored: Stored,
    /// Whether this attempt has been counted durably already.
    pub(crate) counted: bool,
    /// Whether an earlier attempt may have ended without a word (a crash).
    pub(crate) suspect: bool,
}

/// What a partition says to an activation.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(crate) enum Signal {
    /// Handle this when its turn comes.
    Deliver(Box<Delivery>),
    /// A parked message of yours may be due.
    Wake,
    /// Memory is short: put what you have not begun back into the store.
    Park,
    /// Leave memory.
    Leave,
}

/// An activation as its partition sees it.
pub(crate) struct Slot {
    pub(crate) to: Recipient<Signal>,
    pub(crate) state: Rc<SlotState>,
}

impl Slot {
    pub(crate) fn send(&self, signal: Signal) {
        self.state.pending.set(self.state.pending.get() + 1);
        self.to.do_send(signal);
    }
}

/// Shared by an activation and its partition.
#[derive(Default)]
pub(crate) struct SlotState {
    /// Signals and messages not finished.
    pub(crate) pending: Cell<usize>,
    /// Bytes its state occupies, roughly.
    pub(crate) bytes: Cell<usize>,
    /// Touched since the last look at it.
    pub(crate) used: Cell<bool>,
    /// When what is running began; 0 when nothing is.
    pub(crate) since: Cell<i64>,
}

/// Says that there is room for messages again, to whoever reads them in either order.
#[derive(Default)]
pub(crate) struct Freed {
    pub(crate) mail: Notify,
    pub(crate) due: Notify,
}

/// What an activation occupies besides its state: measured, see docs/PERFORMANCE.md.
pub(crate) const ACTIVATION_BYTES: usize = 2048;
