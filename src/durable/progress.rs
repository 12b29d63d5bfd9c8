//! A running command's journal, seen by whoever runs it: what is written next, what the handler is told
//! next, and how it stands.
//!
//! Invariant: what is told is what is written, one by one, and nothing that its operation has not begun.

use std::{sync::Arc, task::Waker};

use super::{
    entry::Entry,
    journal::{Batch, CloneError, Journal, MISMATCH},
    known::{self, Known},
    op::{Op, Stage, Then, Told},
};
use crate::{
    address::Address,
    backend::Sent,
    coordination::lock::ends,
    envelope::Position,
    error::{Error, Failure, Result},
    runtime::room::Delivery,
};

/// How a handler that does not go on by itself stands.
pub(crate) struct Standing {
    /// Something of this process runs.
    pub(crate) live: bool,
    /// Something is waited for.
    pub(crate) waits: bool,
    /// When the first of it is due.
    pub(crate) due: Option<i64>,
    /// Some of it may come at any time.
    pub(crate) open_ended: bool,
    /// Something came for it that is not written yet.
    pub(crate) came: bool,
    /// Something is written that it was not told.
    pub(crate) untold: bool,
    pub(crate) urgent: bool,
    pub(crate) broken: Option<Error>,
}

impl Journal {
    /// Takes what is written of it.
    pub(crate) fn load(&self, entries: Vec<Entry>) {
        {
            let mut inner = self.inner.borrow_mut();
            inner.bytes = entries.iter().map(|entry| entry.encode().len()).sum();
            inner.written = entries;
        }
        self.rewind();
    }

    /// Lets the handler start over.
    pub(crate) fn rewind(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.ops.clear();
        inner.signals.clear();
        (inner.told, inner.cancelled, inner.undoing) = (0, false, false);
        inner.next = Batch::default();
        inner.urgent = !inner.came.entries.is_empty();
        (inner.known, inner.changes) = known::index(&inner.written);
    }

    /// Effects may begin.
    pub(crate) fn open(&self) {
        self.open.set(true);
        for op in &mut self.inner.borrow_mut().ops {
            op.wake();
        }
        self.wake();
    }

    /// A message brought an entry.
    pub(crate) fn deliver(&self, entry: Entry, sent: Vec<Sent>, note: Delivery) {
        {
            let mut inner = self.inner.borrow_mut();
            inner.bytes += entry.encode().len();
            inner.came.entries.push(entry);
            inner.came.notes.push(note);
            inner.came.outbox.extend(sent);
            inner.urgent = true;
        }
        self.wake();
    }

    /// Whether somebody wanted it to end before it began.
    pub(crate) fn ended_before_it_began(&self) -> bool {
        let cancelled = self.inner.borrow().written.iter().any(|entry| matches!(entry, Entry::Cancelled { .. }));
        cancelled && !self.has_begun()
    }

    /// Tells the handler of the next thing that is written, if there is one it can know of; whether it
    /// was told anything.
    pub(crate) fn tell_next(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        loop {
            let Some(entry) = inner.written.get(inner.told).cloned() else { return false };
            if let Some(op) = entry.ends() {
                let Some(op) = inner.ops.get_mut(op as usize) else { return false };
                op.tell(match entry {
                    Entry::Ran { outcome, .. } | Entry::Answered { outcome, .. } => Told::Outcome(outcome),
                    Entry::Expired { .. } => Told::Expired,
                    _ => Told::Woke,
                });
                inner.told += 1;
                return true;
            }
            inner.told += 1;
            match entry {
                Entry::Signalled { name, value, .. } => {
                    let waits =
                        |op: &&mut Op| op.what == "signal" && op.name == name && matches!(op.stage, Stage::Waits(_));
                    match inner.ops.iter_mut().find(waits) {
                        Some(op) => {
                            op.tell(Told::Signal(value));
                            return true;
                        }
                        None => inner.signals.entry(name).or_default().push_back(value),
                    }
                }
                Entry::Cancelled { .. } => {
                    inner.cancelled = true;
                    if inner.undoing {
                        continue;
                    }
                    for op in &mut inner.ops {
                        match (&op.stage, op.what) {
                            (Stage::New | Stage::Waits(_), "sleep" | "ask" | "signal") => op.tell(Told::Cancelled),
                            // Its answer is written further on: it came when nobody wanted it any more.
                            (Stage::Ended, "ask") => op.tell(Told::Cancelled),
                            _ => op.wake(),
                        }
                    }
                    return true;
                }
                _ => {}
            }
        }
    }

    /// Whether something has ended that the handler was not told.
    pub(crate) fn has_untold(&self) -> bool {
        let inner = self.inner.borrow();
        inner.written[inner.told..].iter().any(|entry| entry.ends().is_some())
    }

    /// Operations that have begun and not ended, as the handler stands: what, and its name. With those that
    /// wait until effects may begin.
    pub(crate) fn awaits(&self) -> Vec<(&'static str, String)> {
        let inner = self.inner.borrow();
        inner.ops.iter().filter(|op| op.is_awaited()).map(|op| (op.what, op.name.clone())).collect()
    }

    /// Whether the handler has not come as far as what is written: it has not begun what it is to be told
    /// of next, or, told of everything, what it began before.
    pub(crate) fn is_behind(&self) -> bool {
        let inner = self.inner.borrow();
        let begun = inner.ops.len() as u32;
        match inner.written[inner.told..].iter().find(|entry| entry.tells()) {
            Some(next) => next.ends().is_some_and(|op| op >= begun),
            None => {
                let missed = |(op, known): (&u32, &Known)| *op >= begun && !known.what.is_empty();
                inner.known.iter().any(missed) || !inner.ops.iter().any(Op::is_awaited)
            }
        }
    }

    /// What is written of it cannot be followed, because of this.
    pub(crate) fn broken(&self) -> Option<Error> {
        self.inner.borrow().broken.clone_error()
    }

    /// The failure because of which the handler begins to undo what it did, unless that is written already.
    pub(crate) fn begins_to_undo(&self) -> Option<Failure> {
        self.inner.borrow().next.entries.iter().find_map(|entry| match entry {
            Entry::Undoing { failure, .. } => Some(failure.clone()),
            _ => None,
        })
    }

    /// What is to be written, if it must be written now.
    pub(crate) fn batch(&self) -> Option<Batch> {
        let mut inner = self.inner.borrow_mut();
        std::mem::take(&mut inner.urgent).then(|| inner.take())
    }

    /// What there is to write, in whatever hurry.
    pub(crate) fn rest(&self) -> Batch {
        let mut inner = self.inner.borrow_mut();
        inner.urgent = false;
        inner.take()
    }

    /// Entries are written.
    pub(crate) fn landed(&self, entries: Vec<Entry>) {
        self.inner.borrow_mut().written.extend(entries);
    }

    /// Whether it is written that the command began: what came for it may have been written before.
    pub(crate) fn has_begun(&self) -> bool {
        self.inner.borrow().written.iter().any(|entry| matches!(entry, Entry::Began { .. }))
    }

    /// Whether anything is there that the handler began.
    pub(crate) fn in_use(&self) -> bool {
        let inner = self.inner.borrow();
        !inner.written.is_empty() || !inner.ops.is_empty() || inner.broken.is_some()
    }

    /// How the handler stands.
    pub(crate) fn standing(&self, waker: &Waker) -> Standing {
        let mut inner = self.inner.borrow_mut();
        inner.driver = Some(waker.clone());
        let (mut live, mut waits, mut open_ended, mut due) = (false, false, false, None::<i64>);
        for op in &inner.ops {
            match &op.stage {
                Stage::Live => live = true,
                Stage::Waits(until) => {
                    waits = true;
                    open_ended |= !matches!(until, Some((_, Then::Wake | Then::Nudge)));
                    due = due.into_iter().chain(until.map(|(until, _)| until)).min();
                }
                Stage::Ended => waits = true,
                Stage::New | Stage::Told(_) | Stage::Dropped => {}
            }
        }
        let untold = inner.written[inner.told..].iter().any(|entry| entry.ends().is_some());
        let (came, urgent, broken) = (!inner.came.entries.is_empty(), inner.urgent, inner.broken.clone_error());
        Standing { live, waits, due, open_ended, came, untold, urgent, broken }
    }

    /// The times of operations that have come.
    pub(crate) fn fire(&self, now: i64) {
        let due: Vec<(u32, Then)> = {
            let mut inner = self.inner.borrow_mut();
            let mut due = Vec::new();
            for (number, op) in inner.ops.iter_mut().enumerate() {
                if let Stage::Waits(Some((until, then))) = op.stage
                    && until <= now
                {
                    due.push((number as u32, then));
                    if then == Then::Nudge {
                        op.stage = Stage::Live;
                        op.wake();
                    }
                }
            }
            due
        };
        for (op, then) in due {
            match then {
                Then::Wake => self.write(Entry::Woke { op, at: now }, None),
                Then::Expire => self.write(Entry::Expired { op, at: now }, None),
                Then::Nudge => {}
            }
        }
    }

    /// The handler has ended: whether it did all that is written.
    pub(crate) fn check_end(&self) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        let done = inner.ops.len() as u32;
        let missed =
            inner.known.iter().filter(|(op, known)| **op >= done && !known.what.is_empty()).min_by_key(|k| k.0);
        if let Some((op, known)) = missed {
            let text =
                format!("operation {op}: the journal has {} {:?}, this build ends before it", known.what, known.name);
            inner.breaks(text);
        }
        inner.broken.clone_error().map_or(Ok(()), Err)
    }

    /// What the idempotency keys of steps begin with, if that is written.
    pub(crate) fn key(&self) -> Option<String> {
        self.inner.borrow().written.iter().find_map(|entry| match entry {
            Entry::Began { key, .. } => Some(key.clone()),
            _ => None,
        })
    }

    /// What lets go of the command's locks, if it ends now.
    pub(crate) fn lets_go(&self, position: Position, at: i64) -> Vec<Sent> {
        ends::releases(self.inner.borrow().written.iter(), self.key(), position, at)
    }

    /// The state that a shared command began with, if that is written.
    pub(crate) fn snapshot(&self) -> Option<Arc<[u8]>> {
        self.inner.borrow().written.iter().find_map(|entry| match entry {
            Entry::Snapshot(doc) => Some(doc.clone()),
            _ => None,
        })
    }

    /// Calls that were not answered: where to, and the number of each.
    pub(crate) fn open_calls(&self) -> Vec<(Address, u32)> {
        let inner = self.inner.borrow();
        open_calls(inner.written.iter().chain(&inner.next.entries).chain(&inner.came.entries))
    }

    /// The error of a command whose journal cannot be followed.
    pub(crate) fn mismatch(&self, why: &str) -> Error {
        let mut inner = self.inner.borrow_mut();
        inner.breaks(why.to_owned());
        inner.broken.clone_error().unwrap_or_else(|| Error::terminal(why).code(MISMATCH))
    }

    /// Lets whoever runs it look again.
    pub(crate) fn nudge(&self) {
        self.wake();
    }

    /// Stops the command: its journal cannot be followed.
    pub(crate) fn stop(&self, why: String) {
        self.inner.borrow_mut().breaks(why);
        self.wake();
    }
}

/// Calls of a journal that were not answered, without those that undo: nobody calls them back.
pub(crate) fn open_calls<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<(Address, u32)> {
    let (mut open, mut undoing) = (Vec::new(), false);
    for entry in entries {
        match entry {
            Entry::Undoing { .. } => undoing = true,
            Entry::Called { op, to, .. } if !undoing => open.push((to.clone(), *op)),
            Entry::Answered { op, .. } => open.retain(|(_, known)| known != op),
            _ => {}
        }
    }
    open
}
