//! A command with a journal on its activation: loading it, letting the command wait outside of memory,
//! and what becomes of what came for it.

use std::{cell::Cell, rc::Rc};

use tracing::warn;

use super::{
    activation::Core,
    fate::{Fate, Taken},
    handle::{decode, handle},
    room::Delivery,
    settle::Concluded,
    turn::Group,
};
use crate::{
    actor::Actor,
    backend::Deferral,
    context::About,
    durable::{
        drive::{Host, fill, noted},
        entry::Entry,
        journal::Journal,
    },
    envelope::Position,
    error::{Error, Result},
};

/// Reads the journal of a message.
pub(crate) fn decode_all(entries: &[Vec<u8>]) -> Result<Vec<Entry>> {
    entries.iter().map(|entry| Entry::decode(entry)).collect()
}

impl<A: Actor> Core<A> {
    pub(super) fn host(&self, position: Position, seen: Option<u64>, snapshot: Option<std::sync::Arc<[u8]>>) -> Host {
        Host {
            room: self.room.clone(),
            slot: self.slot.clone(),
            address: self.address.clone(),
            position,
            seen: Cell::new(seen),
            snapshot,
            limit: self.actor.time_limit(),
            halt: Cell::new(false),
        }
    }

    /// Loads what is written of a command; `false` when the partition is stopping. What comes for it
    /// meanwhile waits in its journal.
    pub(super) async fn load_journal(&self, position: Position, journal: &Journal) -> bool {
        // Whatever was being written for it when it was not in memory is written first.
        let _noting = self.noting.lock().await;
        loop {
            if self.room.stopping() {
                return false;
            }
            let read = self.room.shared.backend.journal(position).await;
            match read.and_then(|entries| decode_all(&entries)) {
                Ok(entries) => {
                    journal.load(entries);
                    return true;
                }
                Err(error) if error.is_terminal() => {
                    journal.stop(error.to_string());
                    return true;
                }
                Err(error) => {
                    warn!(%position, %error, "a journal could not be read, trying again");
                    self.room.shared.clock.sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// The group before a command was concluded: its effects may begin, or it is given up.
    pub(super) fn concluded(&self, host: &Host, journal: &Journal, concluded: &Concluded<A::State>) {
        match concluded {
            Concluded::Done { wrote } => {
                if wrote.is_some() {
                    host.seen.set(host.seen.get().map(|rev| rev + 1));
                }
                journal.open();
            }
            Concluded::Undone(_) => {
                host.halt.set(true);
                journal.nudge();
            }
        }
    }

    /// Runs a handler for nothing, as far as it gets without anything durable: what a crash just before
    /// the commit would do; only tests ask for it.
    pub(super) async fn rehearse(&self, before: &A::State, about: &About) {
        let shared = &self.room.shared;
        let journal = Journal::new(shared.clone(), true);
        let Ok(command) = decode::<A>(&about.envelope) else { return };
        let mut state = before.clone();
        let mut run = Box::pin(handle(&*self.actor, &mut state, command, about.clone(), journal.clone()));
        let durable = std::future::poll_fn(|cx| {
            let polled = run.as_mut().poll(cx);
            if polled.is_ready() || journal.in_use() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        let _ = shared.clock.limit(self.actor.time_limit(), durable).await;
    }

    /// A command leaves memory until something comes for it.
    pub(super) fn wait(
        &self,
        group: &mut Group<A::State>,
        delivery: Delivery,
        host: &Host,
        journal: &Journal,
        due: i64,
        seconds: f64,
    ) {
        let stored = &delivery.stored;
        let (_, notes) = fill(host, journal, &mut group.commit, journal.rest());
        group.taken.extend(notes.into_iter().map(|delivery| Taken { delivery, fate: Fate::Noted, seconds: 0.0 }));
        group.commit.deferred.push(Deferral {
            position: stored.position,
            home: stored.home,
            due: due.max(group.commit.at + 1),
            // Waiting is no failure, and no reason to suspect it of having ended the process.
            attempts: stored.failures.len() as u32,
            failures: stored.failures.clone(),
            blocks: journal.alone,
        });
        self.room.journaled.borrow_mut().insert(stored.position);
        group.taken.push(Taken { delivery, fate: Fate::Waits, seconds });
        if journal.alone {
            self.block(group);
        }
    }

    /// What came for a command that has just ended ends with it.
    pub(super) fn end_notes(&self, group: &mut Group<A::State>, journal: &Journal) {
        for note in journal.rest().notes {
            group.commit.done.push(noted(&note));
            group.taken.push(Taken { delivery: note, fate: Fate::Noted, seconds: 0.0 });
        }
    }

    /// What came for a command whose run was given up comes again.
    pub(super) fn take_back(self: &Rc<Self>, journal: &Journal) {
        for note in journal.rest().notes {
            self.noted(note);
        }
    }
}

/// What a journal-less failure is called where an error is needed.
pub(super) fn gone() -> Error {
    Error::terminal("the command was cancelled before it began").code("cancelled")
}
