//! Reading a partition's mailbox, and waking the actors whose messages were parked when the last owner stopped.
//!
//! The front reads everything once, in order: what comes is met at once, however much waits before it. What
//! has no room is passed over, and read again from where its lane remembers ([`lanes`](super::lanes) has why
//! that keeps the order). Deferred messages are read likewise, in [`due`](super::due).
//!
//! Invariant: no more messages are taken into memory than the lanes have room for, and at most one page is on
//! its way there.

use std::{rc::Rc, time::Duration};

use futures_util::FutureExt;
use tracing::warn;

use super::{
    distribute::{Arrival, Arrivals, activate, distribute},
    faults::Point,
    lane::{Belongs, LaneId, Mail},
    room::{Room, Signal},
};
use crate::{
    address::Address,
    backend::Stored,
    envelope::{Note, Position},
    error::Result,
};

/// Messages read at once, to be taken; and to be passed over, if they are small.
pub(super) const BATCH: usize = 256;
const SKIM: usize = 1024;
const SKIM_BYTES: usize = 4 << 20;
/// The front reads this many pages for each that is read for a lane that waited.
const AHEAD: u64 = 4;
/// Activations opened at once for parked messages found at start.
const WAKE: usize = 256;
/// A handler that has run this long may have what waits behind it parked when memory is short.
const SLOW: Duration = Duration::from_millis(250);
/// How long to wait when the store does not answer.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// How the mailbox is being read.
struct Reading {
    /// Whether there may be something that was not met yet.
    more: bool,
    /// How much of that is read at once, and of what is read again.
    limit: usize,
    again: usize,
    pages: u64,
}

/// Reads the mailbox, as far as there is memory for it.
pub(crate) async fn read(room: Rc<Room>) {
    let mut reading = Reading { more: true, limit: BATCH, again: 1, pages: 0 };
    while !room.stopping() {
        // Also while what waited is being read: who comes now does not wait for all of that.
        reading.more |= room.signals.arrived.notified().now_or_never().is_some();
        let back = match reading.more && !reading.pages.is_multiple_of(AHEAD + 1) {
            true => None,
            false => room.lanes.borrow_mut().next::<Mail>(),
        };
        let waits = room.freed.mail.notified();
        let read = match back {
            Some((start, fits)) => {
                reading.pages += 1;
                read_back(&room, &mut reading, start, fits).await
            }
            None if reading.more => {
                reading.pages += 1;
                read_front(&room, &mut reading).await
            }
            None => {
                room.report();
                tokio::select! {
                    () = room.signals.arrived.notified() => reading.more = true,
                    () = waits => {}
                }
                Ok(())
            }
        };
        if let Err(error) = read {
            if error.is_terminal() {
                warn!(partition = room.lease.partition, %error, "the mailbox cannot be read");
                return room.lose();
            }
            warn!(partition = room.lease.partition, %error, "the mailbox could not be read, trying again");
            room.shared.clock.sleep(AGAIN).await;
        }
    }
}

/// Reads what was not met yet.
async fn read_front(room: &Rc<Room>, reading: &mut Reading) -> Result<()> {
    let (walk, front) = {
        let mut lanes = room.lanes.borrow_mut();
        lanes.ask::<Mail>();
        let front = lanes.front;
        (lanes.walk::<Mail>(Some(after(front)), true), front)
    };
    let page = room.shared.backend.read(room.lease.partition, front, reading.limit).await;
    let left = room.lanes.borrow_mut().left::<Mail>();
    let page = page?;
    let Some(last) = page.last().map(|stored| stored.position) else {
        (reading.more, reading.limit) = (false, BATCH);
        room.lanes.borrow_mut().end_of_mailbox();
        room.wake_behind();
        return Ok(());
    };
    let mean = page.iter().map(|stored| stored.size).sum::<usize>() / page.len();
    let mut taken = Vec::new();
    {
        let mut lanes = room.lanes.borrow_mut();
        for stored in page.into_iter().filter(|stored| !left.contains(&stored.position)) {
            let belongs = room.belongs(&lanes, &stored);
            if let Some(tenant) = belongs.tenant {
                lanes.usage.came(tenant, stored.size);
            }
            if lanes.admit::<Mail>(walk, belongs, stored.position) {
                taken.push(take(&mut lanes, stored, belongs));
            } else {
                lanes.passed_over(belongs);
            }
        }
        lanes.front = last;
    }
    // Where everything is passed over, what is not is as far away as it may be.
    reading.limit = match taken.is_empty() {
        true => (reading.limit * 2).min(SKIM_BYTES / mean.max(1)).clamp(16, SKIM),
        false => BATCH,
    };
    hand_out(room, taken).await;
    Ok(())
}

/// Reads on for lanes that waited and have room.
async fn read_back(room: &Rc<Room>, reading: &mut Reading, start: Position, fits: usize) -> Result<()> {
    let (walk, front) = {
        let mut lanes = room.lanes.borrow_mut();
        lanes.ask::<Mail>();
        (lanes.walk::<Mail>(Some(start), false), lanes.front)
    };
    let limit = fits.max(reading.again).min(BATCH);
    let page = room.shared.backend.reread(room.lease.partition, start, front, limit).await;
    let left = room.lanes.borrow_mut().left::<Mail>();
    let page = page?;
    // However short the page is: the store ends one where it likes, and only an empty one is the end.
    let end = page.last().map(|last| after(last.position)).filter(|end| *end <= front);
    let (mut taken, read) = (Vec::new(), page.len());
    {
        let mut lanes = room.lanes.borrow_mut();
        for stored in page {
            if lanes.holds(stored.position) || left.contains(&stored.position) {
                continue;
            }
            let belongs = room.belongs(&lanes, &stored);
            if lanes.admit::<Mail>(walk, belongs, stored.position) {
                lanes.taken_up(belongs);
                taken.push(take(&mut lanes, stored, belongs));
            }
        }
        lanes.walked::<Mail>(walk, end);
    }
    // Among much that is others', more is read at once.
    reading.again = if taken.len() * 2 < read { reading.again * 2 } else { reading.again / 2 }.clamp(1, BATCH);
    hand_out(room, taken).await;
    Ok(())
}

fn take(lanes: &mut super::lanes::Lanes, stored: Stored, belongs: Belongs) -> Arrival {
    let suspicious = lanes.suspicious(belongs);
    lanes.hold(&stored, belongs);
    Arrival { stored, suspicious }
}

/// The first position after another one.
pub(super) fn after(position: Position) -> Position {
    Position::new(position.partition(), position.number() + 1)
}

async fn hand_out(room: &Rc<Room>, taken: Vec<Arrival>) {
    room.look_after();
    if let Some(first) = taken.first().map(|arrival| arrival.stored.position) {
        room.lanes.borrow_mut().hand_out(Some(first));
        room.shared.faults.at(Point::Read).await;
        distribute(room, taken).await;
        room.lanes.borrow_mut().hand_out(None);
    }
    room.wake_behind();
}

impl Room {
    /// Where a message belongs now. What is not handled by a handler has a lane of its own; but the wish that
    /// a command be recalled or withdrawn is met after that command, which may wait.
    pub(super) fn belongs(&self, lanes: &super::lanes::Lanes, stored: &Stored) -> Belongs {
        let notes = Belongs::special(LaneId::NOTES);
        let Ok(envelope) = &stored.envelope else { return notes };
        match envelope.note.as_deref() {
            None | Some(Note::Recall { .. } | Note::Withdraw { .. }) => {}
            Some(_) => return notes,
        }
        self.kind_of(&envelope.to).map_or(notes, |belongs| lanes.of(&envelope.to, belongs))
    }

    /// Where an actor's messages belong now.
    pub(super) fn belongs_to(&self, address: &Address) -> Belongs {
        let notes = Belongs::special(LaneId::NOTES);
        self.kind_of(address).map_or(notes, |belongs| self.lanes.borrow().of(address, belongs))
    }

    fn kind_of(&self, address: &Address) -> Option<Belongs> {
        Some(self.shared.kinds.get(address.kind())?.belongs(address.key()))
    }
}

/// When no memory comes free because keys are stuck behind slow handlers, what waits behind those goes back
/// to the store (G6: they must not stop the others of their lane).
pub(crate) async fn relieve(room: Rc<Room>) {
    while !room.stopping() {
        room.starved.notified().await;
        while !room.stopping() {
            let Some(stuck) = room.lanes.borrow_mut().stuck() else { break };
            let slow = room.shared.clock.now() - SLOW.as_millis() as i64;
            for (address, slot) in room.slots.borrow().iter() {
                let waits = (1..=slow).contains(&slot.state.since.get()) && slot.state.pending.get() > 1;
                if waits && stuck.contains(&room.belongs_to(address).lane) {
                    slot.send(Signal::Park);
                }
            }
            room.shared.clock.sleep(SLOW).await;
        }
    }
}

/// Wakes the actors that have parked messages, if `which` says so.
pub(crate) async fn wake_parked(room: &Rc<Room>, which: impl Fn(&Address) -> bool) {
    let mut after = None;
    while !room.stopping() {
        match room.shared.backend.blocked(room.lease.partition, after.clone(), WAKE).await {
            Ok(addresses) => {
                let Some(last) = addresses.last() else { return };
                after = Some(last.clone());
                let _one = room.distributing.lock().await;
                let mut missing = Vec::new();
                for address in addresses.into_iter().filter(&which) {
                    match room.slots.borrow().get(&address) {
                        Some(slot) => slot.send(Signal::Wake),
                        None => missing.push(Arrivals { address, deliveries: Vec::new() }),
                    }
                }
                activate(room, missing).await;
            }
            Err(error) => {
                warn!(%error, "parked messages could not be found, trying again");
                room.shared.clock.sleep(AGAIN).await;
            }
        }
    }
}
