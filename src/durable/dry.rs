//! Running a command against what is written of it, and no further: to see whether this build follows a
//! journal that another one has begun.
//!
//! Invariant: effects never begin. The journal is never opened, so no step is called, and nothing that the
//! handler would write or send leaves this place. What a handler does beside the journal, which it must
//! not, is done here too.

use std::{
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{future::poll_fn, task::AtomicWaker};

use super::{entry::Entry, journal::Journal};
use crate::{
    actor::{Actor, Waits},
    backend::document,
    context::About,
    error::{Error, Result},
    runtime::{
        handle::{Handled, decode, handle},
        shared::Shared,
    },
};

/// A command that is to be run against its journal.
pub(crate) struct Dry {
    /// What its handler is told of it.
    pub(crate) about: About,
    /// The saved state of its actor.
    pub(crate) doc: Vec<u8>,
    /// What is written of it.
    pub(crate) entries: Vec<Entry>,
    /// How long the handler may do something that the journal does not know.
    pub(crate) patience: Duration,
}

/// How far a build follows a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// To its end, and it goes on by waiting for these: what, and its name.
    Waits(Vec<(&'static str, String)>),
    /// To its end, where it returns.
    Ends,
    /// It does something else.
    Mismatch(String),
    /// The command, the state or an entry is none that this build can read.
    Unreadable(String),
    /// The handler panicked.
    Panics(String),
    /// The handler does not go on, and nothing in the journal is what it waits for.
    Hangs,
}

/// Says that the handler can go on.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    poller: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.poller.wake();
    }
}

/// Runs a command of `actor` against its journal.
pub(crate) async fn follow<A: Actor>(actor: &A, shared: &Arc<Shared>, dry: Dry) -> Followed {
    let unreadable = |error: Error| Followed::Unreadable(error.to_string());
    let (command, alone) = match decode::<A>(&dry.about.envelope) {
        Ok(command) => {
            let alone = A::waits(&command) == Waits::Alone;
            (command, alone)
        }
        Err(error) => return unreadable(error),
    };
    let journal = Journal::new(shared.clone(), alone);
    journal.load(dry.entries);
    // A shared command sees the state that it began with, any other one the state that waits with it.
    let state: Result<A::State> = match journal.snapshot().filter(|_| !alone) {
        Some(doc) => document::decode(&doc),
        None => document::decode(&dry.doc),
    };
    let mut state = match state {
        Ok(state) => state,
        Err(error) => return unreadable(error),
    };
    let run = handle(actor, &mut state, command, dry.about, journal.clone());
    let mut run = std::pin::pin!(run);
    let bell = Arc::new(Bell::default());
    loop {
        if let Some(handled) = quiet(run.as_mut(), &journal, &bell, dry.patience, shared).await {
            return ended(&journal, handled);
        }
        if journal.tell_next() {
            continue;
        }
        return stands(&journal);
    }
}

/// Polls until the handler returns, or has done all that it can do without being told more.
async fn quiet<F: Future>(
    mut run: Pin<&mut F>,
    journal: &Rc<Journal>,
    bell: &Arc<Bell>,
    patience: Duration,
    shared: &Arc<Shared>,
) -> Option<F::Output> {
    let waker = Waker::from(bell.clone());
    let polled = poll_fn(|cx| {
        bell.poller.register(cx.waker());
        bell.rung.store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = run.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Poll::Ready(Some(output));
        }
        let rests = !bell.rung.load(Ordering::SeqCst) && !journal.is_behind();
        if rests || journal.broken().is_some() { Poll::Ready(None) } else { Poll::Pending }
    });
    shared.clock.limit(patience, polled).await.flatten()
}

/// What it means that the handler returned.
fn ended(journal: &Rc<Journal>, handled: Handled) -> Followed {
    match handled.reply {
        Err(error) if error.has_code("panic") => return Followed::Panics(error.to_string()),
        Err(error) if error.has_code(UNREADABLE) => return Followed::Unreadable(error.to_string()),
        _ => {}
    }
    if journal.has_untold() {
        return Followed::Mismatch(journal.mismatch(UNTOLD).to_string());
    }
    journal.check_end().map_or_else(|error| Followed::Mismatch(error.to_string()), |()| Followed::Ends)
}

/// What it means that the handler does not go on.
fn stands(journal: &Rc<Journal>) -> Followed {
    // What follows from that is no news.
    if let Some(failure) = journal.begins_to_undo().filter(|failure| failure.code == UNREADABLE) {
        return Followed::Unreadable(failure.message);
    }
    if let Some(error) = journal.broken() {
        return Followed::Mismatch(error.to_string());
    }
    if journal.has_untold() {
        return Followed::Mismatch(journal.mismatch(UNTOLD).to_string());
    }
    let waits = journal.awaits();
    if waits.is_empty() {
        return Followed::Hangs;
    }
    // A handler that rests has begun all that it had begun before.
    match journal.check_end() {
        Ok(()) => Followed::Waits(waits),
        Err(error) => Followed::Mismatch(error.to_string()),
    }
}

const UNTOLD: &str = "the journal has the end of an operation that this build does not begin";
const UNREADABLE: &str = "journal_unreadable";
