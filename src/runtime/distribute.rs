//! From messages that were read to the activations that handle them: who each is for, whether its
//! attempt must be counted first, and bringing actors into memory.
//!
//! Invariant: one batch is handed out at a time, so the messages of a key arrive in their order.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use tracing::warn;

use super::{
    faults::Point,
    leaving::{give_up_parked, set_aside},
    room::{Delivery, Room, Signal},
};
use crate::{
    address::Address,
    backend::{Home, Stored},
    envelope::Position,
    error::{Error, Failure, Result},
};

/// A message that has been taken into memory.
pub(crate) struct Arrival {
    pub(crate) stored: Stored,
    /// Whether it is among those that the last owner may have had in memory.
    pub(crate) suspicious: bool,
}

/// Messages for an actor that is not in memory.
pub(crate) struct Arrivals {
    pub(crate) address: Address,
    pub(crate) deliveries: Vec<Delivery>,
}

/// Hands messages to their activations, in order.
pub(crate) async fn distribute(room: &Rc<Room>, mut batch: Vec<Arrival>) {
    let _one = room.distributing.lock().await;
    let counted = loop {
        if room.stopping() {
            return;
        }
        match count(room, &mut batch).await {
            Ok(counted) => break counted,
            Err(error) if error.is_terminal() => {
                warn!(partition = room.lease.partition, %error, "attempts could not be counted");
                return room.lose();
            }
            Err(error) => {
                warn!(partition = room.lease.partition, %error, "attempts could not be counted, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    };
    let (mut absent, mut index, mut aside) = (Vec::<Arrivals>::new(), HashMap::new(), Vec::new());
    for Arrival { stored, suspicious } in batch {
        if counted.contains(&stored.position) && stored.attempts == 0 {
            // It has ended since it was read.
            room.let_go(stored.position);
            continue;
        }
        let Some(address) = recipient(room, &stored).await else { continue };
        let delivery = Delivery {
            counted: counted.contains(&stored.position),
            suspect: suspicious && room.suspect(&stored),
            stored,
        };
        if !room.shared.kinds.contains_key(address.kind()) {
            match room.leaves(&address).await {
                true => aside.push((address, delivery)),
                false => {
                    let failure = unknown_kind(&address).failure(0, room.shared.clock.now());
                    room.bury(&delivery.stored, address, failure).await;
                }
            }
            continue;
        }
        if let Some(slot) = room.slots.borrow().get(&address) {
            slot.send(Signal::Deliver(Box::new(delivery)));
            continue;
        }
        let at = *index.entry(address.clone()).or_insert_with(|| {
            absent.push(Arrivals { address, deliveries: Vec::new() });
            absent.len() - 1
        });
        absent[at].deliveries.push(delivery);
    }
    set_aside(room, aside).await;
    activate(room, absent).await;
}

/// Who a message is for; one that is no message at all is buried (G12).
pub(crate) async fn recipient(room: &Room, stored: &Stored) -> Option<Address> {
    match &stored.envelope {
        Ok(envelope) => Some(envelope.to.clone()),
        Err(undecodable) => {
            // A name that is always valid.
            let address = Address::new("unreadable", "message").ok()?;
            room.bury(stored, address, failure(room, "undecodable", undecodable.reason.clone())).await;
            None
        }
    }
}

/// Why nothing of this build can handle an actor's messages.
fn unknown_kind(address: &Address) -> Error {
    let why = format!("no feature of this build has the kind {:?}", address.kind());
    Error::terminal(why).code("unknown_kind")
}

/// Counts the first attempt of messages that may have been running when the last owner died, all
/// at once, and says which. Those that were counted before, and those that their actors fetch, are counted
/// one by one, each before it runs.
async fn count(room: &Rc<Room>, batch: &mut [Arrival]) -> Result<HashSet<Position>> {
    let suspect = |Arrival { stored, suspicious }: &&Arrival| {
        let known = |stored: &Stored| {
            stored.envelope.as_ref().is_ok_and(|envelope| room.shared.kinds.contains_key(envelope.to.kind()))
        };
        *suspicious && stored.attempts == 0 && !stored.parked && room.suspect(stored) && known(stored)
    };
    let suspects: Vec<(Position, Home)> =
        batch.iter().filter(suspect).map(|arrival| (arrival.stored.position, arrival.stored.home)).collect();
    if suspects.is_empty() {
        return Ok(HashSet::new());
    }
    // As good as begun: neither is one counted that is being cancelled, nor cancelled while counted.
    let positions: Vec<Position> = suspects.iter().map(|(position, _)| *position).collect();
    room.cancelling.settled(&positions).await;
    room.running.borrow_mut().extend(positions.iter().map(|position| (*position, 0)));
    let counts = room.shared.backend.begin(room.lease, suspects.clone()).await;
    for position in &positions {
        room.running.borrow_mut().remove(position);
    }
    let counts = counts?;
    let counts: HashMap<Position, u32> = positions.into_iter().zip(counts).collect();
    for Arrival { stored, .. } in batch.iter_mut() {
        if let Some(attempts) = counts.get(&stored.position) {
            stored.attempts = *attempts;
            if *attempts > 0 {
                room.shared.begun.counted(stored.position);
            }
        }
    }
    room.shared.faults.at(Point::Counted).await;
    Ok(counts.into_keys().collect())
}

pub(crate) fn failure(room: &Room, code: &'static str, message: String) -> Failure {
    Error::terminal(message).code(code).failure(0, room.shared.clock.now())
}

/// Loads actors, brings them into memory and hands them their messages: as many at once as memory can hold.
pub(crate) async fn activate(room: &Rc<Room>, absent: Vec<Arrivals>) {
    let known = |arrivals: &Arrivals| room.shared.kinds.contains_key(arrivals.address.kind());
    // The store need not even have a place for states of a kind that this build does not have.
    let (mut absent, unknown): (Vec<_>, Vec<_>) = absent.into_iter().partition(known);
    for Arrivals { address, .. } in unknown {
        // Parked by an owner that has the kind, or that knew of a build that has.
        if !room.leaves(&address).await {
            give_up_parked(room, &address, &unknown_kind(&address)).await;
        }
    }
    while !absent.is_empty() && !room.stopping() {
        let rest = absent.split_off(room.pages.next().min(absent.len()));
        activate_page(room, std::mem::replace(&mut absent, rest)).await;
    }
}

async fn activate_page(room: &Rc<Room>, absent: Vec<Arrivals>) {
    let addresses: Vec<Address> = absent.iter().map(|arrivals| arrivals.address.clone()).collect();
    let loaded = loop {
        if room.stopping() {
            return;
        }
        match room.shared.backend.open(room.lease, addresses.clone()).await {
            Ok(loaded) => break loaded,
            Err(error) if error.is_terminal() => {
                warn!(partition = room.lease.partition, %error, "states could not be loaded");
                return room.lose();
            }
            Err(error) => {
                warn!(%error, "states could not be loaded, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    };
    room.pages.saw(&loaded);
    room.shared.faults.at(Point::Activated).await;
    let mut aside = Vec::new();
    for (arrivals, mut loaded) in absent.into_iter().zip(loaded) {
        // A message in memory must not be handled, nor one in a page that was asked for before. One that is read later
        // was read after its commit was finished: a dead letter that was put back, say.
        loaded.finished.retain(|(position, _)| {
            let mut lanes = room.lanes.borrow_mut();
            let held = lanes.holds(*position);
            if !held {
                lanes.outdate(*position);
            }
            held
        });
        let Some(kind) = room.shared.kinds.get(arrivals.address.kind()) else { continue };
        let parked = loaded.parked;
        match kind.activate(room, arrivals.address.clone(), loaded) {
            Ok(slot) => {
                if arrivals.deliveries.is_empty() && parked {
                    slot.send(Signal::Wake);
                }
                for delivery in arrivals.deliveries {
                    slot.send(Signal::Deliver(Box::new(delivery)));
                }
                // Only now: what is admitted with nothing to do may have to leave at once.
                room.admit(arrivals.address, slot);
            }
            // Another build may have written its state.
            Err(_) if room.leaves(&arrivals.address).await => {
                let address = arrivals.address;
                aside.extend(arrivals.deliveries.into_iter().map(|delivery| (address.clone(), delivery)));
            }
            Err(error) => {
                for delivery in arrivals.deliveries {
                    let failure = error.failure(delivery.stored.attempts, room.shared.clock.now());
                    room.bury(&delivery.stored, arrivals.address.clone(), failure).await;
                }
                if parked {
                    give_up_parked(room, &arrivals.address, &error).await;
                }
            }
        }
    }
    set_aside(room, aside).await;
}
