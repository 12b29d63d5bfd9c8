//! An actor in memory: an actix actor that queues what it is told and works on it, one group of
//! commands at a time. It never decides what is true: that is what its commits do.
//!
//! Order (G2): `queue` is sorted by position and holds nothing that is after a parked message.
//! While messages of the key are parked in the store (`behind`), whatever arrives is parked too,
//! and the queue is refilled from the store, lowest position first, with what is before all that may
//! still arrive. While the actor is paused, all of it is parked.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::{ActorContext, ActorFutureExt, AsyncContext, WrapFuture};
use tokio::sync::Notify;
use tracing::warn;

use super::{
    kind::Typed,
    reader::after,
    room::{ACTIVATION_BYTES, Delivery, Room, Signal, Slot, SlotState},
};
use crate::{
    actor::Actor,
    address::Address,
    backend::{Commit, Home, Loaded, Refused, Stored, document},
    coordination::limit::gate::Pass,
    durable::journal::Journal,
    envelope::Position,
    error::{Error, Result},
};

/// Parked messages fetched at once, and how many even when its lane has no room: a key must go on.
const REFILL: usize = 64;
const LEAST: usize = 4;

/// The actix actor: its mailbox and its context, around the core.
pub(crate) struct Activation<A: Actor> {
    core: Rc<Core<A>>,
    working: bool,
}

/// What an activation is made of, shared with the future that works.
pub(crate) struct Core<A: Actor> {
    pub(crate) actor: Arc<A>,
    pub(crate) fields: Arc<[String]>,
    pub(crate) room: Rc<Room>,
    pub(crate) address: Address,
    pub(crate) slot: Rc<SlotState>,
    pub(crate) queue: RefCell<VecDeque<Delivery>>,
    pub(crate) behind: Cell<bool>,
    /// Messages that are in memory and not to be handled when they arrive here: an earlier owner's commit has ended
    /// them.
    ended: RefCell<Vec<(Position, Home)>>,
    /// How many of the next messages are handled one commit each, because a group of them failed.
    pub(crate) single: Cell<usize>,
    /// Commands whose state the store will never take, and what it said: they fail when their turn comes again.
    pub(crate) unsavable: RefCell<HashMap<Position, Error>>,
    /// Parks on their way, and how many there ever were.
    parking: Cell<usize>,
    parks: Cell<u64>,
    parked: Notify,
    /// A signal has come since the work last looked.
    woken: Cell<bool>,
    memory: RefCell<Option<Memory<A::State>>>,
    /// What a command passed its kind's gate with that was gone then.
    pub(crate) unused: Cell<Option<Box<Pass>>>,
    /// Journals of the commands that run.
    pub(crate) live: RefCell<HashMap<Position, Rc<Journal>>>,
    /// Held while a journal of a command that is not in memory is read or written.
    pub(crate) noting: tokio::sync::Mutex<()>,
}

/// The state as last committed, or being worked on.
pub(crate) struct Memory<S> {
    pub(crate) state: S,
    pub(crate) rev: u64,
    /// Digest of the saved document: an unchanged state is not written again.
    pub(crate) saved: u64,
}

/// Brings an actor into memory on this thread.
pub(crate) fn start<A: Actor>(kind: &Typed<A>, room: &Rc<Room>, address: Address, loaded: Loaded) -> Result<Slot> {
    let slot = Rc::new(SlotState::default());
    let saved = xxhash_rust::xxh3::xxh3_64(&loaded.doc);
    let memory = Memory { state: document::decode(&loaded.doc)?, rev: loaded.rev, saved };
    slot.bytes.set(ACTIVATION_BYTES + address.key().len() + loaded.doc.len());
    let core = Rc::new(Core {
        actor: kind.actor.clone(),
        fields: kind.fields.clone(),
        room: room.clone(),
        address,
        slot: slot.clone(),
        queue: RefCell::default(),
        behind: Cell::new(loaded.parked),
        ended: RefCell::new(loaded.finished),
        single: Cell::default(),
        unsavable: RefCell::default(),
        parking: Cell::default(),
        parks: Cell::default(),
        parked: Notify::new(),
        woken: Cell::default(),
        memory: RefCell::new(Some(memory)),
        unused: Cell::default(),
        live: RefCell::default(),
        noting: tokio::sync::Mutex::default(),
    });
    let activation = Activation { core, working: false };
    Ok(Slot { to: actix::Actor::start(activation).recipient(), state: slot })
}

impl<A: Actor> actix::Actor for Activation<A> {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The window bounds what is delivered; actix's own default of 16 would lose messages.
        ctx.set_mailbox_capacity(usize::MAX >> 4);
    }
}

impl<A: Actor> actix::Handler<Signal> for Activation<A> {
    type Result = ();

    fn handle(&mut self, signal: Signal, ctx: &mut Self::Context) {
        self.core.slot.used.set(true);
        self.core.woken.set(true);
        match signal {
            Signal::Deliver(delivery) => self.core.arrive(*delivery),
            Signal::Wake => self.core.finished(1),
            Signal::Park => {
                self.core.park_queue();
                if self.core.room.is_paused(&self.core.address) {
                    // What waits in memory for something waits in the store from now on.
                    self.core.live.borrow().values().for_each(|journal| journal.nudge());
                }
                self.core.finished(1);
            }
            Signal::Leave => return ctx.stop(),
        }
        self.work(ctx);
    }
}

impl<A: Actor> Activation<A> {
    fn work(&mut self, ctx: &mut actix::Context<Self>) {
        if self.working || self.core.room.stopping() {
            return;
        }
        self.working = true;
        self.core.slot.pending.set(self.core.slot.pending.get() + 1);
        self.core.room.begin_work();
        let work = self.core.clone().work().into_actor(self).map(|(), activation, ctx| {
            activation.working = false;
            activation.core.finished(1);
            activation.core.room.end_work();
            // What came between the end of the work and now found it still working.
            if activation.core.ready() {
                activation.work(ctx);
            }
        });
        ctx.spawn(work);
    }
}

impl<A: Actor> Core<A> {
    /// Signals or messages are finished.
    pub(crate) fn finished(&self, count: usize) {
        self.slot.pending.set(self.slot.pending.get().saturating_sub(count));
    }

    /// Takes a message in, at its place in the order.
    fn arrive(self: &Rc<Self>, delivery: Delivery) {
        if self.has_ended(&delivery.stored) {
            self.room.let_go(delivery.stored.position);
            self.finished(1);
            return;
        }
        if brings(&delivery) {
            self.noted(delivery);
        } else if delivery.stored.parked {
            // It is fetched in its order; this only says that it is due.
            self.behind.set(true);
            self.room.release(delivery.stored.position);
            self.finished(1);
        } else if self.behind.get() {
            self.park(vec![delivery]);
        } else {
            self.enqueue(delivery);
        }
    }

    /// Whether a message was read before an earlier owner's commit, which ends it, was finished. Said once of each: it
    /// may be there again.
    fn has_ended(&self, stored: &Stored) -> bool {
        let mut ended = self.ended.borrow_mut();
        let at = ended.iter().position(|ended| *ended == (stored.position, stored.home));
        at.map(|at| ended.swap_remove(at)).is_some()
    }

    fn enqueue(&self, delivery: Delivery) {
        let mut queue = self.queue.borrow_mut();
        let position = delivery.stored.position;
        match queue.back() {
            // A timer that fell due was accepted before what waits.
            Some(last) if last.stored.position > position => {
                let at = queue.partition_point(|queued| queued.stored.position < position);
                queue.insert(at, delivery);
            }
            _ => queue.push_back(delivery),
        }
    }

    /// Puts messages back at the front of the queue, in order.
    pub(crate) fn put_back(self: &Rc<Self>, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            if brings(&delivery) {
                self.noted(delivery);
            } else {
                self.enqueue(delivery);
            }
        }
    }

    /// Puts what waits in memory back into the store.
    fn park_queue(self: &Rc<Self>) {
        let waiting: Vec<Delivery> = self.queue.borrow_mut().drain(..).collect();
        if !waiting.is_empty() {
            self.behind.set(true);
            self.park(waiting);
        }
    }

    fn park(self: &Rc<Self>, deliveries: Vec<Delivery>) {
        self.parking.set(self.parking.get() + 1);
        self.parks.set(self.parks.get() + 1);
        let core = self.clone();
        self.room.begin_work();
        actix::spawn(async move {
            core.park_now(deliveries).await;
            core.parking.set(core.parking.get() - 1);
            core.parked.notify_one();
            core.room.end_work();
        });
    }

    async fn park_now(&self, mut deliveries: Vec<Delivery>) {
        while !deliveries.is_empty() {
            let mut commit = Commit::of(self.address.clone(), self.room.shared.clock.now());
            commit.parked = deliveries.iter().map(|d| (d.stored.position, d.stored.home)).collect();
            let gone = match self.room.committer.commit(commit).await {
                Ok(()) => None,
                Err(Refused::Gone(position)) => Some(position),
                Err(_) => return self.room.lose(),
            };
            deliveries.retain(|delivery| {
                let left = gone.is_none_or(|gone| gone == delivery.stored.position);
                if left {
                    self.room.let_go(delivery.stored.position);
                    self.finished(1);
                }
                !left
            });
        }
    }

    /// Works until nothing is left to do now.
    async fn work(self: Rc<Self>) {
        // Only one work runs at a time, so the memory is always there.
        let Some(mut memory) = self.memory.borrow_mut().take() else { return };
        while !self.room.stopping() {
            self.woken.set(false);
            let paused = self.room.is_paused(&self.address);
            if paused {
                self.park_queue();
            }
            let more = if self.ready() {
                self.turn(&mut memory).await
            } else {
                !paused && self.queue.borrow().is_empty() && self.behind.get() && self.refill().await
            };
            // A signal that came meanwhile may have changed the answer.
            if !more && !self.woken.get() {
                break;
            }
        }
        *self.memory.borrow_mut() = Some(memory);
        self.unused.set(None);
        // An idle actor keeps no room for messages: most of what it would weigh.
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            *queue = VecDeque::new();
        }
    }

    /// Fetches parked messages that may run now; whether it is worth going on.
    async fn refill(&self) -> bool {
        let handed = self.room.handed(&self.address);
        // What was sent before this arrives first.
        tokio::task::yield_now().await;
        while self.parking.get() > 0 {
            self.parked.notified().await;
        }
        let parks = self.parks.get();
        let shared = &self.room.shared;
        // What runs beside the others is still parked in the store; nothing else begins meanwhile.
        let running: HashSet<Position> =
            self.live.borrow().keys().chain(self.room.running.borrow().keys()).copied().collect();
        let (mut found, mut from, mut beside) = (Vec::new(), Some(Position::new(0, 0)), false);
        while let Some(first) = from.take_if(|_| found.is_empty()) {
            self.room.fetch(&self.address);
            let page = shared.backend.parked(&self.address, first, REFILL).await;
            let cancelled = self.room.fetched(&self.address);
            match page {
                Ok(page) => {
                    from = page.last().map(|last| after(last.position));
                    beside |= page.iter().any(|stored| running.contains(&stored.position));
                    found = page;
                    found
                        .retain(|Stored { position, .. }| !running.contains(position) && !cancelled.contains(position));
                }
                Err(error) => {
                    warn!(address = %self.address, %error, "parked messages could not be read, trying again");
                    shared.clock.sleep(Duration::from_millis(200)).await;
                    return true;
                }
            }
        }
        if found.is_empty() && beside {
            // Its end wakes this actor, and so does what arrives.
            return false;
        }
        if found.is_empty() {
            let settled = parks == self.parks.get();
            self.behind.set(!settled);
            return !settled;
        }
        let now = shared.clock.now();
        let mut taken = false;
        let fits = self.room.room_for(&self.address).clamp(LEAST, REFILL);
        // What is before it may be in the mailbox, if it ran there when its last owner died.
        let early = |stored: &Stored| handed.is_some_and(|handed| stored.position >= handed);
        if found.first().is_some_and(|first| first.due <= now && early(first)) {
            self.room.wait_behind(&self.address, &self.slot);
            // Unless that has come meanwhile.
            return self.room.handed(&self.address) != handed;
        }
        // Everything after a retry that is not due waits with it.
        let may = |stored: &Stored| stored.due <= now && !early(stored);
        for stored in found.into_iter().take_while(may).take(fits) {
            self.room.hold(&stored, &self.address);
            self.slot.pending.set(self.slot.pending.get() + 1);
            let suspect = self.room.suspect(&stored);
            self.enqueue(Delivery { stored, counted: false, suspect });
            taken = true;
        }
        taken
    }

    /// Whether a message waits that may begin. One that is being cancelled may not, nor what is after
    /// it: the verdict wakes the actor. Nothing of an actor that is paused may.
    fn ready(&self) -> bool {
        let first = self.queue.borrow().front().map(|next| next.stored.position);
        let may = |position| !self.room.cancelling.stops(position, &self.address);
        first.is_some_and(may) && !self.room.is_paused(&self.address)
    }

    /// The next message to handle, without those that were cancelled meanwhile.
    pub(crate) fn next(&self) -> Option<Delivery> {
        loop {
            if self.room.stopping() || !self.ready() {
                return None;
            }
            let next = self.queue.borrow_mut().pop_front()?;
            if !self.room.was_cancelled(next.stored.position) {
                return Some(next);
            }
            self.room.let_go(next.stored.position);
            self.finished(1);
        }
    }
}

/// Whether a message brings something for a command that has begun.
fn brings(delivery: &Delivery) -> bool {
    delivery.stored.envelope.as_ref().is_ok_and(|envelope| envelope.note.is_some())
}
