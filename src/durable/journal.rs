//! A running command's journal: what is written of it, what its handler has been told of that, and
//! what it has begun since.
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

use super::entry::{Entry, Outcome};
use crate::{
    backend::Sent,
    error::{Error, Result},
    runtime::{room::Delivery, shared::Shared},
};

/// What an operation was told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// A step's or a call's outcome.
    Outcome(Outcome),
    /// The time has come.
    Woke,
    /// The time came first.
    Expired,
    /// The signal.
    Signal(Box<RawValue>),
    /// The command is to end.
    Cancelled,
}

/// What happens when an operation's time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is written that it ended.
    Wake,
    /// It is written that its time came first.
    Expire,
    /// It looks again; nobody else need know.
    Nudge,
}

enum Stage {
    /// Nobody has asked for it yet.
    New,
    /// Something of this process runs for it.
    Live,
    /// It waits for something from outside, or for this time.
    Waits(Option<(i64, Then)>),
    /// Its end is known, and perhaps not written or told yet.
    Ended,
    /// It was told.
    Told(Told),
    /// Nobody wants to know any more.
    Dropped,
}

struct Op {
    what: &'static str,
    name: String,
    stage: Stage,
    waker: Option<Waker>,
}

/// What the journal knew of an operation when the handler was started.
#[derive(Default)]
struct Known {
    what: &'static str,
    name: String,
    begun: Option<usize>,
    retried: Option<usize>,
    ended: bool,
}

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
    open: Cell<bool>,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    written: Vec<Entry>,
    /// Entries written that the handler knows of.
    told: usize,
    known: HashMap<u32, Known>,
    changes: Vec<String>,
    /// What the handler does, to be written next.
    next: Batch,
    /// What came for it, to be written next: it is kept when the handler starts over.
    came: Batch,
    /// Whether something of the next batch must be written before the handler goes on.
    urgent: bool,
    bytes: usize,
    ops: Vec<Op>,
    signals: HashMap<String, VecDeque<Box<RawValue>>>,
    cancelled: bool,
    undoing: bool,
    broken: Option<Error>,
    driver: Option<Waker>,
}

impl Journal {
    pub(crate) fn new(shared: Arc<Shared>, alone: bool) -> Rc<Self> {
        Rc::new(Self { shared, alone, open: Cell::default(), inner: RefCell::default() })
    }

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
        let Inner { written, known, changes, .. } = &mut *inner;
        known.clear();
        changes.clear();
        for (index, entry) in written.iter().enumerate() {
            if let Some((op, what, name)) = entry.begins() {
                let known = known.entry(op).or_default();
                (known.what, known.name) = (what, name);
                match entry {
                    Entry::Retried { .. } => known.retried = Some(index),
                    Entry::Ran { .. } => {}
                    _ => known.begun = Some(index),
                }
            }
            if let Some(op) = entry.ends() {
                known.entry(op).or_default().ended = true;
            }
            if let Entry::Changed { name } = entry {
                changes.push(name.clone());
            }
        }
    }

    /// Effects may begin.
    pub(crate) fn open(&self) {
        self.open.set(true);
        for op in &mut self.inner.borrow_mut().ops {
            op.waker.take().map(Waker::wake);
        }
        self.wake();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    fn wake(&self) {
        let waker = self.inner.borrow_mut().driver.take();
        waker.map(Waker::wake);
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
            inner.driver.take().map(Waker::wake);
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
        let mut inner = self.inner.borrow_mut();
        if inner.changes.iter().any(|known| known == name) {
            return true;
        }
        let next = inner.ops.len() as u32;
        let repeats = inner.known.keys().any(|op| *op >= next) || inner.written[inner.told..].iter().any(Entry::tells);
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

    /// Whether somebody wanted it to end before it began.
    pub(crate) fn ended_before_it_began(&self) -> bool {
        let inner = self.inner.borrow();
        let cancelled = inner.written.iter().any(|entry| matches!(entry, Entry::Cancelled { .. }));
        cancelled && !inner.written.iter().any(|entry| matches!(entry, Entry::Began { .. }))
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
                            _ => {
                                op.waker.take().map(Waker::wake);
                            }
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
    pub(crate) fn begins_to_undo(&self) -> Option<crate::error::Failure> {
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

    /// Whether anything was ever written.
    pub(crate) fn is_written(&self) -> bool {
        !self.inner.borrow().written.is_empty()
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
        Standing { live, waits, due, open_ended, untold, urgent: inner.urgent, broken: inner.broken.clone_error() }
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
                        op.waker.take().map(Waker::wake);
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

    /// The state that a shared command began with, if that is written.
    pub(crate) fn snapshot(&self) -> Option<Arc<[u8]>> {
        self.inner.borrow().written.iter().find_map(|entry| match entry {
            Entry::Snapshot(doc) => Some(doc.clone()),
            _ => None,
        })
    }

    /// Calls that were not answered: where to, and the number of each.
    pub(crate) fn open_calls(&self) -> Vec<(crate::address::Address, u32)> {
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

/// Calls of a journal that were not answered.
pub(crate) fn open_calls<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<(crate::address::Address, u32)> {
    let mut open = Vec::new();
    for entry in entries {
        match entry {
            Entry::Called { op, to, .. } => open.push((to.clone(), *op)),
            Entry::Answered { op, .. } => open.retain(|(_, known)| known != op),
            _ => {}
        }
    }
    open
}

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
    /// Something is written that it was not told.
    pub(crate) untold: bool,
    pub(crate) urgent: bool,
    pub(crate) broken: Option<Error>,
}

impl Op {
    fn is_awaited(&self) -> bool {
        match self.stage {
            Stage::New => self.waker.is_some(),
            Stage::Live | Stage::Waits(_) | Stage::Ended => true,
            Stage::Told(_) | Stage::Dropped => false,
        }
    }

    fn tell(&mut self, told: Told) {
        if !matches!(self.stage, Stage::Dropped) {
            self.stage = Stage::Told(told);
        }
        self.waker.take().map(Waker::wake);
    }
}

impl Inner {
    fn take(&mut self) -> Batch {
        let (mut batch, came) = (std::mem::take(&mut self.next), std::mem::take(&mut self.came));
        batch.entries.extend(came.entries);
        batch.outbox.extend(came.outbox);
        batch.notes.extend(came.notes);
        batch
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.encode().len();
        self.next.entries.push(entry);
    }

    fn breaks(&mut self, why: String) {
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
trait CloneError {
    fn clone_error(&self) -> Option<Error>;
}

impl CloneError for Option<Error> {
    fn clone_error(&self) -> Option<Error> {
        self.as_ref().map(|error| error.failure(0, 0).to_error())
    }
}
