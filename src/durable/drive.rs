//! Running a handler that waits for durable things: it is polled until it is quiet, told of the next
//! thing that is written, and polled again; what it begins and what came for it is written meanwhile.
//!
//! Invariant: one write is on its way at a time, and effects begin only when what came before is committed.

use std::{
    cell::Cell,
    future::Future,
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

use super::{
    entry::Entry,
    journal::{Batch, Journal},
    progress::Standing,
};
use crate::{
    address::Address,
    backend::{Commit, Done, JournalWrite, Outcome, Refused},
    envelope::Position,
    error::Error,
    runtime::{
        faults::Point,
        room::{Delivery, Room, SlotState},
    },
};

/// Where a command runs.
pub(crate) struct Host {
    pub(crate) room: Rc<Room>,
    pub(crate) slot: Rc<SlotState>,
    pub(crate) address: Address,
    pub(crate) position: Position,
    /// The revision of the state it sees; `None` when others may change it meanwhile.
    pub(crate) seen: Cell<Option<u64>>,
    /// The state that a shared command began with.
    pub(crate) snapshot: Option<Arc<[u8]>>,
    /// How long it may do nothing that is written.
    pub(crate) limit: Duration,
    /// It is to stop as if the process had died.
    pub(crate) halt: Cell<bool>,
}

/// How a run ended.
pub(crate) enum Ended<T> {
    /// The handler returned.
    Done(T),
    /// It waits for something; at the latest until then it need not be in memory.
    Waits(i64),
    /// It is to be run again from its beginning (only tests ask for it).
    Again,
    /// The message is no longer there.
    Gone,
    /// Another owner has taken over.
    Lost,
    /// The node stops, or what came before was not committed.
    Stopped,
    /// It does something else than its journal has.
    Broken(Error),
    /// It took too long.
    Late,
}

/// When something is due that waits for something from outside: the last moment of the year 9999.
pub(crate) const FAR: i64 = 253_402_300_799_999;

/// Says that somebody was woken.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    driver: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.driver.wake();
    }
}

impl Bell {
    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.driver.register(cx.waker());
        if self.rung.swap(false, Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Polls until the handler returns or does nothing more by itself.
async fn quiet<F: Future>(mut run: Pin<&mut F>, bell: &Arc<Bell>) -> Option<F::Output> {
    let waker = Waker::from(bell.clone());
    poll_fn(|cx| {
        bell.driver.register(cx.waker());
        for _ in 0..64 {
            bell.rung.store(false, Ordering::SeqCst);
            if let Poll::Ready(output) = run.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(Some(output));
            }
            if !bell.rung.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
        }
        // Others have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// A write on its way; whether it has anything that the handler is told of.
type Writing<'a> = Pin<Box<dyn Future<Output = Result<bool, Refused>> + 'a>>;

/// Runs a handler until it ends or may leave memory.
pub(crate) async fn drive<F: Future>(host: &Host, journal: &Rc<Journal>, mut run: Pin<&mut F>) -> Ended<F::Output> {
    let shared = &host.room.shared;
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let linger = || if host.room.is_paused(&host.address) { 0 } else { shared.settings.linger.as_millis() as i64 };
    let limit = host.limit.as_millis().min(i64::MAX as u128) as i64;
    let mut writing: Option<Writing<'_>> = None;
    let mut since = shared.clock.now();
    loop {
        // Only in tests is there somebody who is dead and woken.
        if shared.faults.crashed() {
            return std::future::pending().await;
        }
        if let Some(output) = quiet(run.as_mut(), &bell).await {
            return after(writing, Ended::Done(output)).await;
        }
        if journal.tell_next() {
            since = shared.clock.now();
            continue;
        }
        let now = shared.clock.now();
        journal.fire(now);
        let standing = journal.standing(&waker);
        if let Some(error) = standing.broken {
            return after(writing, Ended::Broken(error)).await;
        }
        let idle = !standing.live && writing.is_none();
        if idle && standing.waits && standing.came && !standing.untold && host.room.is_paused(&host.address) {
            // What came is written as it leaves, and is for when it is resumed.
            return Ended::Waits(now);
        }
        if writing.is_none() {
            if host.halt.get() || (host.room.stopping() && !standing.live && journal.in_use()) {
                return Ended::Stopped;
            }
            if journal.is_open()
                && let Some(batch) = journal.batch()
            {
                writing = Some(Box::pin(write(host, journal, batch)));
            }
        }
        let idle = !standing.live && writing.is_none();
        let next = match next(&standing, idle, since, linger(), limit) {
            Next::At(at) if at <= now => return end(&standing, journal),
            Next::At(at) => Some(at),
            Next::Never => None,
        };
        let next = next.into_iter().chain(standing.due).min();
        let wait = Duration::from_millis(next.map_or(0, |at| (at - now).max(1) as u64));
        tokio::select! {
            biased;
            written = async { match writing.as_mut() { Some(writing) => writing.await, None => std::future::pending().await } } => {
                writing = None;
                match written {
                    Ok(told) if told && shared.faults.replays() => return Ended::Again,
                    Ok(_) => {}
                    Err(Refused::Gone(_)) => return Ended::Gone,
                    Err(_) => return Ended::Lost,
                }
            }
            () = poll_fn(|cx| bell.poll(cx)) => {}
            () = shared.clock.sleep(wait), if next.is_some() => {}
            () = host.room.halted.notified() => {}
        }
    }
}

/// Ends a run that has a write on its way: its entries must not arrive after the end, and the notes that end with it
/// leave memory.
async fn after<T>(writing: Option<Writing<'_>>, ended: Ended<T>) -> Ended<T> {
    let Some(writing) = writing else { return ended };
    if writing.await.is_ok() { ended } else { Ended::Lost }
}

enum Next {
    /// Then it is over, one way or the other.
    At(i64),
    Never,
}

/// When a quiet handler is given up, or may leave memory.
fn next(standing: &Standing, idle: bool, since: i64, linger: i64, limit: i64) -> Next {
    if !idle || standing.urgent {
        return Next::Never;
    }
    if standing.untold || !standing.waits {
        return Next::At(since.saturating_add(limit));
    }
    match standing.due {
        // What is waited for for long need not be waited for in memory.
        Some(due) if due - since > linger && !standing.open_ended => Next::At(since),
        _ => Next::At(since.saturating_add(linger)),
    }
}

fn end<T>(standing: &Standing, journal: &Journal) -> Ended<T> {
    if standing.untold {
        journal.stop("the journal has the end of an operation that this build does not begin".into());
        if let Err(error) = journal.check_end() {
            return Ended::Broken(error);
        }
    }
    if standing.waits { Ended::Waits(standing.due.unwrap_or(FAR)) } else { Ended::Late }
}

/// Writes a batch; whether it has anything that the handler is told of.
async fn write(host: &Host, journal: &Rc<Journal>, batch: Batch) -> Result<bool, Refused> {
    let shared = &host.room.shared;
    shared.faults.at(Point::Journal).await;
    let mut commit = Commit::of(host.address.clone(), shared.clock.now());
    commit.seen = host.seen.get();
    let (entries, notes) = fill(host, journal, &mut commit, batch);
    host.room.committer.commit(commit).await?;
    host.room.journaled.borrow_mut().insert(host.position);
    shared.faults.at(Point::Journaled).await;
    for note in notes {
        host.finished(&note);
    }
    shared.changed(host.position);
    let told = entries.iter().any(Entry::tells);
    journal.landed(entries);
    Ok(told)
}

/// Puts a batch into a commit; its entries, and the messages that end with it.
pub(crate) fn fill(
    host: &Host,
    journal: &Journal,
    commit: &mut Commit,
    mut batch: Batch,
) -> (Vec<Entry>, Vec<Delivery>) {
    let shared = &host.room.shared;
    if !journal.has_begun() && !batch.entries.is_empty() {
        let key = shared.step_key(host.position);
        let began = Entry::Began { key, build: shared.settings.build.to_string(), at: commit.at };
        let first = [Some(began), host.snapshot.clone().map(Entry::Snapshot)];
        batch.entries.splice(0..0, first.into_iter().flatten());
    }
    if !batch.entries.is_empty() {
        let entries = batch.entries.iter().map(Entry::encode).collect();
        commit.journals.push(JournalWrite { position: host.position, entries, own: true, wake: false });
    }
    commit.outbox.append(&mut batch.outbox);
    commit.done.extend(batch.notes.iter().map(noted));
    (batch.entries, batch.notes)
}

/// How a message ends that only brought something.
pub(crate) fn noted(note: &Delivery) -> Done {
    Done {
        position: note.stored.position,
        home: note.stored.home,
        outcome: Outcome::Completed(serde_json::value::RawValue::NULL.to_owned()),
        size: note.stored.size,
        attempts: note.stored.attempts,
        keep: false,
        journal: false,
    }
}

impl Host {
    /// A message that only brought something has ended.
    fn finished(&self, note: &Delivery) {
        self.room.let_go(note.stored.position);
        self.slot.pending.set(self.slot.pending.get().saturating_sub(1));
        self.room.shared.ended(note.stored.position);
    }
}
