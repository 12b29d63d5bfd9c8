//! Reading a partition: the mailbox in order, the deferred messages as they fall due, and the actors
//! whose messages were parked when the last owner stopped.
//!
//! Invariant: no more messages are taken into memory than the window has room for.

use std::{rc::Rc, time::Duration};

use tracing::warn;

use super::{
    distribute::{Arrivals, activate, distribute},
    faults::Point,
    room::{Room, Signal},
};
use crate::envelope::Position;

/// Messages read at once.
const BATCH: usize = 256;
/// Activations opened at once for parked messages found at start.
const WAKE: usize = 256;
/// A handler that has run this long may have what waits behind it parked when memory is short.
const SLOW: i64 = 250;

/// Reads the mailbox in order, as far as there is memory for it.
pub(crate) async fn read(room: Rc<Room>) {
    let backend = room.shared.backend.clone();
    let partition = room.lease.partition;
    let mut cursor = Position::new(partition, 0);
    // What the last owner had in memory is at the front of the mailbox, and no more than fits a window.
    let mut suspects = room.shared.settings.window_messages;
    while !room.stopping() {
        let space = room_for_more(&room).await;
        match backend.read(partition, cursor, space.min(BATCH)).await {
            Ok(batch) if batch.is_empty() => room.signals.arrived.notified().await,
            Ok(batch) => {
                cursor = batch.last().map_or(cursor, |last| last.position);
                room.shared.faults.at(Point::Read).await;
                let suspicious = suspects > 0;
                suspects = suspects.saturating_sub(batch.len());
                distribute(&room, batch, suspicious).await;
            }
            Err(error) => {
                warn!(partition, %error, "the mailbox could not be read, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Waits until there is memory for more; when none comes free because keys are stuck behind slow
/// handlers, what waits behind those goes back to the store (G6: they must not stop the others).
async fn room_for_more(room: &Rc<Room>) -> usize {
    loop {
        let space = room.space();
        if space > 0 {
            return space;
        }
        let freed = room.freed.notified();
        if room.shared.clock.limit(Duration::from_millis(SLOW as u64), freed).await.is_some() {
            continue;
        }
        let slow = room.shared.clock.now() - SLOW;
        for slot in room.slots.borrow().values() {
            if (1..=slow).contains(&slot.state.since.get()) && slot.state.pending.get() > 1 {
                slot.send(Signal::Park);
            }
        }
    }
}

/// Reads deferred messages as they fall due.
pub(crate) async fn due(room: Rc<Room>) {
    let backend = room.shared.backend.clone();
    let partition = room.lease.partition;
    while !room.stopping() {
        let space = room_for_more(&room).await;
        let now = room.shared.clock.now();
        let handed = room.handed.borrow().clone();
        match backend.due(partition, now, handed, space.min(BATCH)).await {
            Ok(due) if due.messages.is_empty() => {
                let deferred = room.signals.deferred.notified();
                match due.next {
                    Some(next) => tokio::select! {
                        biased;
                        () = deferred => {}
                        () = room.shared.clock.until(next.max(now + 1)) => {}
                    },
                    None => deferred.await,
                }
            }
            Ok(due) => {
                room.handed.borrow_mut().extend(due.messages.iter().map(|stored| stored.position));
                distribute(&room, due.messages, true).await;
            }
            Err(error) => {
                warn!(partition, %error, "deferred messages could not be read, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Wakes the actors that had messages parked when the last owner stopped.
pub(crate) async fn wake_parked(room: Rc<Room>) {
    let mut after = None;
    while !room.stopping() {
        match room.shared.backend.blocked(room.lease.partition, after.clone(), WAKE).await {
            Ok(addresses) => {
                let Some(last) = addresses.last() else { return };
                after = Some(last.clone());
                let _one = room.distributing.lock().await;
                let mut missing = Vec::new();
                for address in addresses {
                    match room.slots.borrow().get(&address) {
                        Some(slot) => slot.send(Signal::Wake),
                        None => missing.push(Arrivals { address, deliveries: Vec::new() }),
                    }
                }
                activate(&room, missing).await;
            }
            Err(error) => {
                warn!(%error, "parked messages could not be found, trying again");
                room.shared.clock.sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
