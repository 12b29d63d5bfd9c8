//! Messages that this build cannot read, while members of [another build](super::builds) live: they are set aside
//! in the order of their key for a node that can.
//!
//! Invariant: of an actor one of whose messages was left nothing begins here, so nothing overtakes that message; it
//! is tried again when another set of builds is there.

use std::{collections::HashMap, rc::Rc};

use futures_util::future::join_all;
use tracing::warn;

use super::{
    reader::{after, wake_parked},
    room::{Delivery, Room, Signal},
};
use crate::{
    address::Address,
    backend::{Commit, Deferral, Refused, Stored},
    envelope::Position,
    error::Error,
};

/// Parked messages given up at once.
const PAGE: usize = 64;
/// How soon what comes for a command that has begun is looked at again, in milliseconds.
const SOON: i64 = 1_000;

impl Room {
    /// Whether what this build cannot read of an actor is left to another build, because one is there. Then this
    /// partition is for a node of that.
    pub(crate) async fn leaves(&self, address: &Address) -> bool {
        let Some(others) = &self.shared.others else { return false };
        let mut halted = std::pin::pin!(self.halted.notified());
        halted.as_mut().enable();
        if self.stopping() {
            // The next owner decides.
            return true;
        }
        let several = tokio::select! {
            biased;
            several = others.builds.others_live(|| self.shared.look()) => several,
            () = halted => return true,
        };
        if several {
            if self.shared.kinds.contains_key(address.kind()) {
                self.left.borrow_mut().insert(address.clone());
            }
            if others.builds.decline(self.lease.partition) {
                warn!(partition = self.lease.partition, %address, "what this build cannot read is left to another one");
                self.shared.look();
            }
        }
        several
    }

    /// Whether some message of an actor was left to another build.
    pub(crate) fn is_left(&self, address: &Address) -> bool {
        let left = self.left.borrow();
        !left.is_empty() && left.contains(address)
    }
}

/// Sets messages aside, none of which has begun.
pub(super) async fn set_aside(room: &Rc<Room>, messages: Vec<(Address, Delivery)>) {
    let (mut keys, changes) = (HashMap::<Address, Vec<Delivery>>::new(), room.shared.others.as_ref());
    let changes = changes.map(|others| others.builds.follow());
    for (address, delivery) in messages {
        keys.entry(address).or_default().push(delivery);
    }
    if keys.is_empty() {
        return;
    }
    join_all(keys.iter_mut().map(|(address, deliveries)| set_aside_of(room, address, deliveries))).await;
    if changes.is_some_and(|changes| changes.has_changed().unwrap_or(false)) {
        // Whoever looked because of that may have looked before they were there.
        let room = room.clone();
        actix::spawn(async move { wake_parked(&room, |address| keys.contains_key(address)).await });
    }
}

async fn set_aside_of(room: &Room, address: &Address, deliveries: &mut Vec<Delivery>) {
    deliveries.retain(|delivery| {
        let set_aside = delivery.stored.parked && !delivery.counted && !brings(&delivery.stored);
        if set_aside {
            // It is where it should be; as long as it is handed out, it is not read again.
            room.release(delivery.stored.position);
        }
        !set_aside
    });
    while !deliveries.is_empty() && !room.stopping() {
        let gone = match room.committer.commit(aside(room, address, deliveries)).await {
            Ok(()) => None,
            Err(Refused::Gone(position)) => Some(position),
            Err(_) => return room.lose(),
        };
        deliveries.retain(|Delivery { stored, .. }| {
            let left = gone.is_none_or(|gone| gone == stored.position);
            if left {
                room.let_go(stored.position);
            }
            !left
        });
    }
}

/// The commit that sets messages of a key aside.
fn aside(room: &Room, address: &Address, deliveries: &[Delivery]) -> Commit {
    let mut commit = Commit::of(address.clone(), room.shared.clock.now());
    for Delivery { stored, counted, .. } in deliveries {
        let note = brings(stored);
        if !note && !counted {
            commit.parked.push((stored.position, stored.home));
            continue;
        }
        commit.deferred.push(Deferral {
            position: stored.position,
            home: stored.home,
            due: commit.at + if note { SOON } else { 1 },
            // This attempt has not begun.
            attempts: stored.attempts.saturating_sub(u32::from(*counted)),
            failures: stored.failures.clone(),
            // What comes for a command waits for nothing, so it must not wait in that one's order.
            blocks: !note,
        });
    }
    commit
}

fn brings(stored: &Stored) -> bool {
    stored.envelope.as_ref().is_ok_and(|envelope| envelope.note.is_some())
}

/// Ends all that is parked of an actor in the dead letters: no build that is there can read it (G12).
pub(super) async fn give_up_parked(room: &Rc<Room>, address: &Address, error: &Error) {
    let mut from = Position::new(0, 0);
    while !room.stopping() {
        let page = match room.shared.backend.parked(address, from, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                warn!(%address, %error, "parked messages could not be read, trying again");
                room.shared.clock.sleep(super::reader::AGAIN).await;
                continue;
            }
        };
        let Some(last) = page.last().map(|stored| stored.position) else { return };
        for stored in page {
            room.hold(&stored, address);
            let failure = error.failure(stored.attempts, room.shared.clock.now());
            room.bury(&stored, address.clone(), failure).await;
        }
        from = after(last);
    }
}

/// Tries again what was left, whenever another set of builds is there.
pub(super) async fn follow(room: Rc<Room>) {
    let Some(others) = &room.shared.others else { return };
    let mut there = others.builds.follow();
    while there.changed().await.is_ok() && !room.stopping() {
        let left = room.left.take();
        for (address, slot) in room.slots.borrow().iter().filter(|(address, _)| left.contains(address)) {
            if !room.is_paused(address) {
                slot.send(Signal::Wake);
            }
        }
        let kinds = &room.shared.kinds;
        wake_parked(&room, |address| {
            (left.contains(address) || !kinds.contains_key(address.kind())) && !room.is_paused(address)
        })
        .await;
    }
}
