//! A running command's journal: what is written of it, what its handler has been told of that, and
//! what it has begun since. This file is the handler's side; [`progress`](super::progress) is the side of
//! whoever runs it.
//!
//! Invariant (G5): the handler is told of what ended one by one, in the order written, and only of what
//! is written. So it takes the same way whenever it is run again, whatever runs at once inside of it.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use futures_util::future::poll_fn;
use serde_json::value::RawValue;

use super::{
    entry::Entry,
    known::Known,
    op::{Op, Stage, Then, Told},
};
use crate::{
    backend::Sent,
    error::{Error, Result},
    runtime::{room::Delivery, shared::Shared},
};

/// What is to be written next.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Entry>,
    pub(crate) outbox: Vec<Sent>,
    /// Messages that brought entries, and end with them.
    pub(crate) notes: Vec<Delivery>,
}

/// The journal of a command that is running here.
pub(crate) struct Journal {
    pub(crate) shared: Arc<Shared>,
    /// Whether the key waits while the command does.
    pub(crate) alone: bool,
    /// What came before is committed, so effects may begin.
    pub(super) open: Cell<bool>,
    pub(super) inner: RefCell<Inner>,
}

/// What only the two sides of a journal may touch.
#[derive(Default)]
pub(super) struct Inner {
    pub(super) written: Vec<Entry>,
    /// Entries written that the handler knows of.
    pub(super) told: usize,
    pub(super) known: HashMap<u32, Known>,
    pub(super) changes: Vec<String>,
    /// What the handler does, to be written next.
    pub(super) next: Batch,
    /// What came for it, to be written next: it is kept when the handler starts over.
    pub(super) came: Batch,
    /// Whether something of the next batch must be written before the handler goes on.
    pub(super) urgent: bool,
    pub(super) bytes: usize,
    pub(super) ops: Vec<Op>,
    pub(super) signals: HashMap<String, VecDeque<Box<RawValue>>>,
    pub(super) cancelled: bool,
    pub(super) undoing: bool,
    pub(super) broken: Option<Error>,
    pub(super) driver: Option<Waker>,
}

impl Journal {
    pub(crate) fn new(shared: Arc<Shared>, alone: bool) -> Rc<Self> {
        Rc::new(Self { shared, alone, open: Cell::default(), inner: RefCell::default() })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    pub(super) fn wake(&self) {
        let waker = self.inner.borrow_mut().driver.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next operation begins; its number. `None` when it is not the one that is written: then the
    /// command stops, and nobody goes on.
    pub(crate) fn begin(&self, what: &'static str, name: &str) -> Option<u32> {
        let mut inner = self.inner.borrow_mut();
        let op = inner.ops.len() as u32;
        if let Some(known) = inner.known.get(&op).filter(|known| !known.what.is_empty())
            && (known.what != what || known.name != name)
        {
            let said = |what: &str, name: &str| if name.is_empty() { what.into() } else { format!("{what} {name:?}") };
            let (recorded, found) = (said(known.what, &known.name), said(what, name));
            inner.breaks(format!("operation {op}: the journal has {recorded}, this build does {found}"));
            if let Some(driver) = inner.driver.take() {
                driver.wake();
            }
            return None;
        }
        let stage = if inner.known.get(&op).is_some_and(|known| known.ended) { Stage::Ended } else { Stage::New };
        inner.ops.push(Op { what, name: name.to_owned(), stage, waker: None });
        Some(op)
    }

    /// What is written of how an operation began.
    pub(crate) fn begun(&self, op: u32) -> Option<Entry> {
        let inner = self.inner.borrow();
        inner.known.get(&op)?.begun.and_then(|index| inner.written.get(index).cloned())
    }

    /// The last failed attempt of a step, if any is written: its number, and when the next may begin.
    pub(crate) fn retried(&self, op: u32) -> Option<(u32, i64)> {
        let inner = self.inner.borrow();
        match inner.known.get(&op)?.retried.and_then(|index| inner.written.get(index)) {
            Some(Entry::Retried { attempt, until, .. }) => Some((*attempt, *until)),
            _ => None,
        }
    }

    /// Whether it is written how an operation ended.
    pub(crate) fn ended(&self, op: u32) -> bool {
        self.inner
            .borrow()
            .ops
            .get(op as usize)
            .is_some_and(|op| !matches!(op.stage, Stage::New | Stage::Live | Stage::Waits(_)))
    }

    /// Whether the handler took the new way at a change: as it is written, or because nothing that it has
    /// still to repeat is written.
    pub(crate) fn changed(&self, name: &str) -> bool {
        let began = self.has_begun();
        let mut inner = self.inner.borrow_mut();
        if inner.changes.iter().any(|known| known == name) {
            return true;
        }
        let next = inner.ops.len() as u32;
        let untold = || inner.written[inner.told..].iter().any(Entry::tells);
        let repeats = began && (inner.known.keys().any(|op| *op >= next) || untold());
        if !repeats {
            inner.changes.push(name.to_owned());
            inner.add(Entry::Changed { name: name.to_owned() });
        }
        !repeats
    }

    /// Why nothing more may be begun, if so.
    pub(crate) fn refuses(&self) -> Result<()> {
        let inner = self.inner.borrow();
        if inner.cancelled && !inner.undoing {
            return Err(cancelled());
        }
        let settings = &self.shared.settings;
        let entries = inner.written.len() + inner.next.entries.len();
        if !inner.undoing && (entries >= settings.journal_entries || inner.bytes >= settings.journal_bytes) {
            return Err(Error::terminal(format!(
                "the journal of this command is full: {entries} entries of {}, {} bytes of {}: go on as a new command with cx.again, or keep large results elsewhere",
                settings.journal_entries, inner.bytes, settings.journal_bytes
            ))
            .code("journal_full"));
        }
        Ok(())
    }

    /// Whether something is written that the handler began after an operation.
    pub(crate) fn goes_on(&self, op: u32) -> bool {
        self.inner.borrow().known.iter().any(|(next, known)| *next > op && !known.what.is_empty())
    }

    /// Adds an entry that may wait for the next write.
    pub(crate) fn note(&self, entry: Entry) {
        self.inner.borrow_mut().add(entry);
    }

    /// Adds an entry to be written now, and what is sent with it.
    pub(crate) fn write(&self, entry: Entry, sent: Option<Sent>) {
        {
            let mut inner = self.inner.borrow_mut();
            if let Some(op) = entry.ends()
                && let Some(op) = inner.ops.get_mut(op as usize)
                && !matches!(op.stage, Stage::Dropped)
            {
                op.stage = Stage::Ended;
            }
            inner.add(entry);
            inner.next.outbox.extend(sent);
            inner.urgent = true;
        }
        self.wake();
    }

    /// An operation waits from now on.
    pub(crate) fn waits(&self, op: u32, until: Option<(i64, Then)>) {
        if let Some(op) = self.inner.borrow_mut().ops.get_mut(op as usize) {
            op.stage = Stage::Waits(until);
        }
        self.wake();
    }

    /// Something of this process runs for an operation from now on.
    pub(crate) fn lives(&self, op: u32) {
        if let Some(op) = self.inner.borrow_mut().ops.get_mut(op as usize) {
            op.stage = Stage::Live;
        }
    }

    /// Nothing runs for an operation for now: it waits for another one of its own.
    pub(crate) fn pauses(&self, op: u32) {
        if let Some(op) = self.inner.borrow_mut().ops.get_mut(op as usize) {
            op.stage = Stage::New;
        }
    }

    /// Waits until `done` says so; whatever happens to the operation asks again.
    pub(crate) async fn until<T>(&self, op: u32, done: impl Fn(&Self) -> Option<T>) -> T {
        poll_fn(|cx| {
            if self.inner.borrow().broken.is_none()
                && let Some(done) = done(self)
            {
                return Poll::Ready(done);
            }
            if let Some(op) = self.inner.borrow_mut().ops.get_mut(op as usize) {
                op.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// What an operation was told, if it was.
    pub(crate) fn told(&self, op: u32) -> Option<Told> {
        match self.inner.borrow().ops.get(op as usize).map(|op| &op.stage) {
            Some(Stage::Told(told)) => Some(told.clone()),
            _ => None,
        }
    }

    /// Nobody waits for an operation any more.
    pub(crate) fn dropped(&self, op: u32) {
        if let Ok(mut inner) = self.inner.try_borrow_mut()
            && let Some(op) = inner.ops.get_mut(op as usize)
        {
            op.stage = Stage::Dropped;
        }
    }

    /// Takes a signal that came before anybody waited for it.
    pub(crate) fn take_signal(&self, op: u32, name: &str) {
        let mut inner = self.inner.borrow_mut();
        if let Some(value) = inner.signals.get_mut(name).and_then(VecDeque::pop_front)
            && let Some(op) = inner.ops.get_mut(op as usize)
        {
            op.stage = Stage::Told(Told::Signal(value));
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        let inner = self.inner.borrow();
        inner.cancelled && !inner.undoing
    }

    /// What follows undoes what was done.
    pub(crate) fn undo(&self, entry: Entry) {
        let mut inner = self.inner.borrow_mut();
        inner.undoing = true;
        if !inner.written.iter().any(|entry| matches!(entry, Entry::Undoing { .. })) {
            inner.add(entry);
        }
    }

    pub(crate) fn is_undoing(&self) -> bool {
        self.inner.borrow().undoing
    }
}

impl Inner {
    pub(super) fn take(&mut self) -> Batch {
        let (mut batch, came) = (std::mem::take(&mut self.next), std::mem::take(&mut self.came));
        batch.entries.extend(came.entries);
        batch.outbox.extend(came.outbox);
        batch.notes.extend(came.notes);
        batch
    }

    pub(super) fn add(&mut self, entry: Entry) {
        self.bytes += entry.encode().len();
        self.next.entries.push(entry);
    }

    pub(super) fn breaks(&mut self, why: String) {
        let build = self.written.iter().find_map(|entry| match entry {
            Entry::Began { build, .. } => Some(build.clone()),
            _ => None,
        });
        let build = build.unwrap_or_else(|| "unknown".into());
        self.broken.get_or_insert_with(|| {
            Error::terminal(format!("{why} (the journal was begun by build {build})")).code(MISMATCH)
        });
    }
}

/// The code of commands whose journal cannot be followed: dead letters at once, since another build can.
pub(crate) const MISMATCH: &str = "journal_mismatch";

/// What every wait of a cancelled command answers.
pub(crate) fn cancelled() -> Error {
    Error::terminal("the command was cancelled").code("cancelled")
}

/// Errors are told to several.
pub(super) trait CloneError {
    fn clone_error(&self) -> Option<Error>;
}

impl CloneError for Option<Error> {
    fn clone_error(&self) -> Option<Error> {
        self.as_ref().map(|error| error.failure(0, 0).to_error())
    }
}
