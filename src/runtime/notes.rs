//! What comes for a command that has begun: answers, signals, the wish to cancel it. It comes as a
//! message of its own, in the key's mailbox, and ends by becoming an entry of that command's journal.
//!
//! Invariant: a note is not handled, so it never waits behind the command it is for; and what it brings is
//! written in the very commit that ends it.

use std::rc::Rc;

use tracing::warn;

use super::{
    activation::Core,
    journaled::{decode_all, gone},
    reader::after,
    room::Delivery,
    told::{How, answer, note_to},
};
use crate::{
    actor::Actor,
    address::Address,
    backend::{Commit, Done, JournalWrite, Lookup, Outcome, Refused, Sent, Stored},
    durable::{
        drive::noted,
        entry::{Entry, Outcome as Ended},
        progress::open_calls,
    },
    envelope::{Asked, Envelope, Note, Position, Then},
    error::Result,
};

/// Parked messages looked at for one that is recalled.
const LOOK: usize = 10_000;

/// What becomes of a note.
enum Verdict {
    /// It is written by whoever runs this command.
    Live(Position, Entry, Vec<Sent>),
    /// It is written here.
    Write(Write),
}

#[derive(Default)]
struct Write {
    journals: Vec<JournalWrite>,
    outbox: Vec<Sent>,
    /// A message that ends with it: one that is recalled before it began.
    recalled: Option<Stored>,
}

impl<A: Actor> Core<A> {
    /// Takes a note in.
    pub(super) fn noted(self: &Rc<Self>, note: Delivery) {
        let Some(envelope) = note.stored.envelope.as_ref().ok().cloned() else { return };
        let now = self.room.shared.clock.now();
        if let Some((to, entry)) = entry(&envelope, now)
            && let Some(journal) = self.live.borrow().get(&to)
        {
            let sent = match entry {
                Entry::Cancelled { .. } => recalls(journal.open_calls(), to, &envelope, now),
                _ => Vec::new(),
            };
            return journal.deliver(entry, sent, note);
        }
        let core = self.clone();
        self.room.begin_work();
        actix::spawn(async move {
            core.note_now(note, &envelope).await;
            core.room.end_work();
        });
    }

    /// Writes a note for a command that is not in memory.
    async fn note_now(self: &Rc<Self>, note: Delivery, envelope: &Envelope) {
        // One at a time, and none while a journal is being loaded.
        let noting = self.noting.lock().await;
        let verdict = loop {
            if self.room.stopping() {
                return;
            }
            match self.verdict(envelope).await {
                Ok(Verdict::Write(write)) => {
                    let live = self.live.borrow();
                    // One that began while this looked takes it itself.
                    if !write.journals.iter().any(|write| live.contains_key(&write.position)) {
                        break write;
                    }
                }
                Ok(Verdict::Live(position, entry, sent)) => {
                    if let Some(journal) = self.live.borrow().get(&position) {
                        return journal.deliver(entry, sent, note);
                    }
                }
                Err(error) => {
                    warn!(address = %self.address, %error, "what came for a command could not be written, trying again");
                    self.room.shared.clock.sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        };
        let journaled: Vec<Position> = verdict.journals.iter().map(|write| write.position).collect();
        // From now on one that begins reads its journal first, and for that waits until this is written.
        let fresh: Vec<Position> =
            journaled.into_iter().filter(|at| self.room.journaled.borrow_mut().insert(*at)).collect();
        let mut commit = Commit::of(self.address.clone(), self.room.shared.clock.now());
        commit.done.push(noted(&note));
        if let Some(stored) = &verdict.recalled {
            commit.done.push(Done {
                position: stored.position,
                home: stored.home,
                outcome: Outcome::Cancelled,
                size: stored.size,
                attempts: stored.attempts,
                keep: true,
                journal: self.room.is_journaled(stored.position),
            });
        }
        (commit.journals, commit.outbox) = (verdict.journals, verdict.outbox);
        let committed = self.room.committer.commit(commit).await;
        if let Some(stored) = verdict.recalled {
            if committed.is_ok() {
                self.room.remember_cancelled(stored.position);
                self.room.shared.ended(stored.position);
            }
            if self.room.cancelling.unmark(stored.position).is_some() {
                self.nudge();
            }
        }
        match committed {
            Ok(()) => {
                self.room.signals.deferred.notify_one();
            }
            // It ended before, or what it recalls has begun: then it comes again.
            Err(Refused::Gone(gone)) if gone != note.stored.position => {
                self.room.journaled.borrow_mut().retain(|known| !fresh.contains(known));
                drop(noting);
                return self.noted(note);
            }
            Err(Refused::Gone(_)) => {}
            Err(_) => return self.room.lose(),
        }
        self.room.let_go(note.stored.position);
        self.room.shared.ended(note.stored.position);
        self.finished(1);
        drop(noting);
        self.forget_ended(fresh).await;
    }

    /// Commands for which something came that have ended have no journal that anything is written to.
    async fn forget_ended(&self, commands: Vec<Position>) {
        for command in commands {
            let found = self.room.shared.backend.lookup(command).await;
            if matches!(found, Ok(Lookup::Ended(_) | Lookup::Expired | Lookup::Unknown | Lookup::Lost)) {
                self.room.journaled.borrow_mut().remove(&command);
            }
        }
    }

    /// What becomes of a note now.
    async fn verdict(&self, envelope: &Envelope) -> Result<Verdict> {
        let now = self.room.shared.clock.now();
        let backend = &self.room.shared.backend;
        match envelope.note.as_deref() {
            Some(Note::Recall { by, op }) => {
                let asked = |asked: &Asked| (asked.position, asked.op) == (*by, *op);
                return self.recall(|envelope| envelope.asked.as_deref().is_some_and(asked), now).await;
            }
            Some(Note::Withdraw { told, tag }) => {
                let then = |then: &Then| (&then.to, then.tag) == (told, *tag);
                return self.recall(|envelope| envelope.then.as_deref().is_some_and(then), now).await;
            }
            _ => {}
        }
        let Some((to, entry)) = entry(envelope, now) else { return Ok(Verdict::Write(Write::default())) };
        // Partitions may have been resized since it was asked for.
        let to = if self.room.is_journaled(to) { to } else { backend.locate(to).await? };
        if let Some(journal) = self.live.borrow().get(&to) {
            let sent = match entry {
                Entry::Cancelled { .. } => recalls(journal.open_calls(), to, envelope, now),
                _ => Vec::new(),
            };
            return Ok(Verdict::Live(to, entry, sent));
        }
        let outbox = match entry {
            Entry::Cancelled { .. } => {
                let entries = decode_all(&backend.journal(to).await?).unwrap_or_default();
                recalls(open_calls(entries.iter()), to, envelope, now)
            }
            _ => Vec::new(),
        };
        let write = JournalWrite { position: to, entries: vec![entry.encode()], own: false, wake: true };
        Ok(Verdict::Write(Write { journals: vec![write], outbox, recalled: None }))
    }

    /// The first parked message that is the one looked for.
    async fn find_parked(&self, which: impl Fn(&Stored) -> bool) -> Result<Option<Stored>> {
        let (mut from, mut looked) = (Position::new(0, 0), 0);
        while looked < LOOK {
            let page = self.room.shared.backend.parked(&self.address, from, LOOK - looked).await?;
            let Some(last) = page.last() else { break };
            (from, looked) = (after(last.position), looked + page.len());
            if let Some(found) = page.into_iter().find(&which) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Cancels a command that another actor asked for: at once if it has not begun.
    async fn recall(&self, which: impl Fn(&Envelope) -> bool, now: i64) -> Result<Verdict> {
        let asked = |stored: &Stored| stored.envelope.as_ref().is_ok_and(|envelope| which(envelope));
        let queued =
            self.queue.borrow().iter().find(|queued| asked(&queued.stored)).map(|queued| queued.stored.clone());
        let mut found = queued;
        if found.is_none() {
            let running: Vec<Position> = self.room.running.borrow().keys().copied().collect();
            let live: Vec<Position> = self.live.borrow().keys().copied().collect();
            for position in live.into_iter().chain(running) {
                if let Lookup::Waiting(stored) = self.room.shared.backend.lookup(position).await?
                    && asked(&stored)
                {
                    found = Some(stored);
                    break;
                }
            }
        }
        if found.is_none() {
            found = self.find_parked(asked).await?;
        }
        let Some(stored) = found else { return Ok(Verdict::Write(Write::default())) };
        let position = stored.position;
        if let Some(journal) = self.live.borrow().get(&position) {
            let outbox = recalls(journal.open_calls(), position, &Envelope::empty(self.address.clone()), now);
            return Ok(Verdict::Live(position, Entry::Cancelled { at: now }, outbox));
        }
        if self.room.is_journaled(position) {
            let entries = decode_all(&self.room.shared.backend.journal(position).await?).unwrap_or_default();
            let outbox = recalls(open_calls(entries.iter()), position, &Envelope::empty(self.address.clone()), now);
            let entry = Entry::Cancelled { at: now };
            let write = JournalWrite { position, entries: vec![entry.encode()], own: false, wake: true };
            return Ok(Verdict::Write(Write { journals: vec![write], outbox, recalled: None }));
        }
        if self.room.running.borrow().contains_key(&position) {
            // It is about to end by itself.
            return Ok(Verdict::Write(Write::default()));
        }
        // Until that is decided, it does not begin.
        self.room.cancelling.mark(position);
        let outbox = answer(&stored, How::Cancelled(&gone().failure(0, now)), now).collect();
        Ok(Verdict::Write(Write { journals: Vec::new(), outbox, recalled: Some(stored) }))
    }
}

/// The entry that a note becomes, and of whose journal.
fn entry(envelope: &Envelope, at: i64) -> Option<(Position, Entry)> {
    Some(match envelope.note.as_deref()? {
        Note::Answer { to, op, reply, failure, from } => {
            let outcome = match (reply, failure) {
                (_, Some(failure)) => Ended::Err(failure.clone()),
                (Some(reply), None) => Ended::Ok(reply.clone()),
                (None, None) => Ended::Ok(serde_json::value::RawValue::NULL.to_owned()),
            };
            (*to, Entry::Answered { op: *op, outcome, from: *from, at })
        }
        Note::Signal { to, name, value } => (*to, Entry::Signalled { name: name.clone(), value: value.clone(), at }),
        Note::Cancel { to } => (*to, Entry::Cancelled { at }),
        Note::Recall { .. } | Note::Withdraw { .. } => return None,
    })
}

/// Tells those whom a cancelled command has asked that it wants no answer.
fn recalls(open: Vec<(Address, u32)>, by: Position, because: &Envelope, at: i64) -> Vec<Sent> {
    let one = |(to, op): (Address, u32)| Sent {
        envelope: note_to(to, Note::Recall { by, op }, at, because).into(),
        due: None,
    };
    open.into_iter().map(one).collect()
}
