//! One partition's place on its thread: the activations it holds, what of its mailbox is in
//! memory, and what is running. Single-threaded, so plain cells suffice.
//!
//! Invariant: an activation leaves `slots` only when nothing is delivered to it that it has not
//! finished (`pending` is 0), so no message can meet an actor that has left.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
};

use tokio::sync::Notify;
use tracing::error;

pub(crate) use super::slot::{ACTIVATION_BYTES, Delivery, Signal, Slot, SlotState};
use super::{
    cancel::Cancelling,
    commit::Committer,
    fetch::Fetching,
    lane::{Mail, Timed},
    lanes::Lanes,
    pages::Pages,
    shared::Shared,
    slot::Freed,
    supervisor::Beat,
    tenure::Tenure,
    told::{How, answer},
};
use crate::{
    address::Address,
    backend::{Commit, Done, Lease, Outcome, Refused, Signals, Stored},
    envelope::Position,
    error::Failure,
};

/// A partition on its thread.
pub(crate) struct Room {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lease: Lease,
    tenure: Arc<Tenure>,
    pub(crate) committer: Committer,
    pub(crate) beat: Arc<Beat>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) slots: RefCell<HashMap<Address, Slot>>,
    /// Activations in the order they were last found unused; the front one leaves first.
    ring: RefCell<VecDeque<Address>>,
    activation_bytes: Cell<usize>,
    pub(crate) lanes: RefCell<Lanes>,
    pub(crate) freed: Freed,
    /// Some lane waits for room.
    pub(crate) starved: Notify,
    /// Some tenant came over its share of the mailbox, or is no longer.
    pub(crate) shares: Notify,
    /// Messages that were last said to wait, for room and because they are paused.
    reported: Cell<(usize, usize)>,
    /// Tenants that were last said to have more than their share.
    pub(crate) refused: Cell<usize>,
    /// Attempts that run, are about to, or whose fate is on its way in a commit.
    pub(crate) running: RefCell<HashMap<Position, u32>>,
    /// Deferred messages handed to their activations.
    pub(crate) handed: RefCell<HashSet<Position>>,
    pub(crate) cancelling: Cancelling,
    /// Messages cancelled while they were in memory, until they leave it.
    pub(super) cancelled: RefCell<HashSet<Position>>,
    pub(crate) distributing: tokio::sync::Mutex<()>,
    pub(crate) pages: Pages,
    /// Messages up to here may have been running when the last owner died.
    suspects: Position,
    opened: i64,
    busy: Cell<usize>,
    pub(crate) quiet: Notify,
    pub(super) fetching: Fetching,
    /// Messages that have a journal.
    pub(crate) journaled: RefCell<HashSet<Position>>,
    /// Nothing new may begin from now on.
    pub(crate) halted: Notify,
    /// Actors some message of which is left to another build.
    pub(super) left: RefCell<HashSet<Address>>,
}

impl Room {
    pub(crate) fn new(
        shared: Arc<Shared>,
        lease: Lease,
        suspects: Position,
        beat: Arc<Beat>,
        tenure: Arc<Tenure>,
    ) -> Rc<Self> {
        let opened = shared.clock.now();
        let (messages, bytes) = (shared.settings.window_messages, shared.settings.window_bytes);
        let mut lanes = Lanes::new(messages, bytes, Position::new(lease.partition, 0));
        lanes.usage.share = shared.share();
        lanes.pause(shared.pausing.now());
        Rc::new(Self {
            committer: Committer::new(shared.clone(), lease, beat.clone()),
            signals: shared.backend.signals(lease.partition),
            shared,
            lease,
            tenure,
            beat,
            slots: RefCell::default(),
            ring: RefCell::default(),
            activation_bytes: Cell::default(),
            lanes: RefCell::new(lanes),
            freed: Freed::default(),
            starved: Notify::new(),
            shares: Notify::new(),
            reported: Cell::default(),
            refused: Cell::default(),
            running: RefCell::default(),
            handed: RefCell::default(),
            cancelling: Cancelling::default(),
            cancelled: RefCell::default(),
            distributing: tokio::sync::Mutex::default(),
            pages: Pages::default(),
            suspects,
            opened,
            busy: Cell::default(),
            quiet: Notify::new(),
            fetching: Fetching::default(),
            journaled: RefCell::default(),
            halted: Notify::new(),
            left: RefCell::default(),
        })
    }

    /// A message has come into memory that its actor fetched.
    pub(crate) fn hold(&self, stored: &Stored, address: &Address) {
        let belongs = self.belongs_to(address);
        self.lanes.borrow_mut().hold(stored, belongs);
    }

    /// How many more messages of an actor there is room for.
    pub(crate) fn room_for(&self, address: &Address) -> usize {
        let belongs = self.belongs_to(address);
        self.lanes.borrow().room_for(belongs)
    }

    /// A message has left memory; it is still handed out.
    pub(crate) fn release(&self, position: Position) {
        let shares = {
            let mut lanes = self.lanes.borrow_mut();
            lanes.release(position);
            if !lanes.holds(position) {
                self.cancelled.borrow_mut().remove(&position);
            }
            lanes.usage.has_changed()
        };
        if shares {
            self.shares.notify_one();
        }
        self.look_again();
    }

    /// A message has left memory.
    pub(crate) fn let_go(&self, position: Position) {
        self.handed.borrow_mut().remove(&position);
        self.release(position);
    }

    /// Lets the readers look whether what waits has room now.
    pub(crate) fn look_again(&self) {
        self.freed.mail.notify_one();
        self.freed.due.notify_one();
    }

    /// Sees to those who were passed over.
    pub(crate) fn look_after(&self) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.usage.has_changed() {
            self.shares.notify_one();
        }
        if lanes.waits::<Mail>() || lanes.waits::<Timed>() {
            self.starved.notify_one();
        }
    }

    /// Says how many messages wait.
    pub(crate) fn report(&self) {
        let now = self.lanes.borrow().waiting();
        let before = self.reported.replace(now);
        self.shared.metrics.waiting(now.0 as i64 - before.0 as i64, now.1 as i64 - before.1 as i64);
    }

    /// Whether nothing of an actor may begin: it is paused, or left to another build.
    pub(crate) fn is_paused(&self, address: &Address) -> bool {
        self.shared.pausing.covers(address) || self.is_left(address)
    }

    /// Whether a message may have been running when the last owner died.
    pub(crate) fn suspect(&self, stored: &Stored) -> bool {
        stored.position <= self.suspects && stored.due <= self.opened
    }

    /// Adds an activation, and lets the least used leave if memory is short.
    pub(crate) fn admit(&self, address: Address, slot: Slot) {
        self.resize(&slot.state, slot.state.bytes.get(), 0);
        self.ring.borrow_mut().push_back(address.clone());
        self.slots.borrow_mut().insert(address, slot);
        self.shared.metrics.activations(1);
        let budget = self.shared.settings.activation_bytes / self.shared.open().max(1);
        if self.activation_bytes.get() > budget {
            self.passivate(|room| room.activation_bytes.get() > budget);
        }
    }

    /// An activation has grown or shrunk.
    pub(crate) fn resize(&self, state: &SlotState, bytes: usize, before: usize) {
        state.bytes.set(bytes);
        let sum = (self.activation_bytes.get() + bytes).saturating_sub(before);
        self.activation_bytes.set(sum);
        self.shared.metrics.activation_bytes(bytes as i64 - before as i64);
    }

    /// Lets activations leave while `needed`: those that were not used since they were last looked
    /// at (second chance), and never one with anything to do.
    pub(crate) fn passivate(&self, needed: impl Fn(&Self) -> bool) {
        let looks = self.ring.borrow().len() * 2;
        for _ in 0..looks {
            if !needed(self) {
                break;
            }
            self.look_at_next();
        }
    }

    /// Looks at each activation once: those unused since the last time leave.
    pub(crate) fn passivate_idle(&self) {
        let all = self.ring.borrow().len();
        for _ in 0..all {
            self.look_at_next();
        }
    }

    fn look_at_next(&self) {
        let Some(address) = self.ring.borrow_mut().pop_front() else { return };
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get(&address) else { return };
        if slot.state.used.replace(false) || slot.state.pending.get() > 0 {
            drop(slots);
            self.ring.borrow_mut().push_back(address);
            return;
        }
        if let Some(slot) = slots.remove(&address) {
            drop(slots);
            slot.to.do_send(Signal::Leave);
            self.resize(&slot.state, 0, slot.state.bytes.get());
            self.shared.metrics.activations(-1);
            self.shared.metrics.passivated(address.kind());
        }
    }

    /// Whether nothing new may begin here.
    pub(crate) fn stopping(&self) -> bool {
        self.tenure.over() || self.shared.draining() || self.shared.faults.crashed()
    }

    /// Nothing new begins here any more.
    pub(crate) fn stop(&self) {
        self.tenure.end();
        self.quiet.notify_one();
        self.halted.notify_waiters();
        self.signals.arrived.notify_one();
        self.signals.deferred.notify_one();
    }

    /// The store said that another owner has taken over: stop, and let the node know.
    pub(crate) fn lose(&self) {
        self.tenure.lose();
        self.stop();
        self.shared.look();
    }

    /// Leaves nothing behind: activations leave, and whoever waits for a commit is refused.
    pub(crate) fn vacate(&self) {
        self.committer.close();
        let (waiting, paused) = self.reported.take();
        self.shared.metrics.waiting(-(waiting as i64), -(paused as i64));
        self.shared.metrics.refused(-(self.refused.take() as i64));
        self.ring.borrow_mut().clear();
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        for slot in slots.into_values() {
            slot.to.do_send(Signal::Leave);
            self.resize(&slot.state, 0, slot.state.bytes.get());
            self.shared.metrics.activations(-1);
        }
    }

    /// An activation has begun to work; it says so again when it has ended.
    pub(crate) fn begin_work(&self) {
        self.busy.set(self.busy.get() + 1);
    }

    /// An activation has stopped working.
    pub(crate) fn end_work(&self) {
        self.busy.set(self.busy.get().saturating_sub(1));
        if self.busy.get() == 0 {
            self.quiet.notify_one();
        }
    }

    /// Whether anything is being handled or committed.
    pub(crate) fn busy(&self) -> bool {
        self.busy.get() > 0
    }

    /// Whether a message has a journal.
    pub(crate) fn is_journaled(&self, position: Position) -> bool {
        let journaled = self.journaled.borrow();
        !journaled.is_empty() && journaled.contains(&position)
    }

    /// Ends a message that no actor can handle, in the dead letters (G12).
    pub(crate) async fn bury(&self, stored: &Stored, address: Address, failure: Failure) {
        self.cancelling.settled(&[stored.position]).await;
        if self.was_cancelled(stored.position) {
            return self.let_go(stored.position);
        }
        self.running.borrow_mut().insert(stored.position, stored.attempts);
        error!(position = %stored.position, %address, code = failure.code, "dead letter: {}", failure.message);
        let mut failures = stored.failures.clone();
        let mut commit = Commit::of(address.clone(), self.shared.clock.now());
        commit.outbox.extend(answer(stored, How::Dead(&failure), commit.at));
        failures.push(failure);
        commit.done.push(Done {
            position: stored.position,
            home: stored.home,
            outcome: Outcome::Dead(failures),
            size: stored.size,
            attempts: stored.attempts,
            keep: false,
            journal: self.is_journaled(stored.position),
        });
        self.shared.metrics.dead_lettered(address.kind());
        if let Err(refused) = self.committer.commit(commit).await {
            error!(position = %stored.position, %refused, "the dead letter was not recorded, it stays where it is");
            if !matches!(refused, Refused::Gone(_)) {
                // Only the next owner reads it again.
                return self.lose();
            }
        }
        self.running.borrow_mut().remove(&stored.position);
        self.let_go(stored.position);
        self.shared.ended(stored.position);
    }
}
