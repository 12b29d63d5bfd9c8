//! Cancelling everything of a kind or of a key that waits: a partition after the other, a bounded number of
//! messages at a time, each as if it were cancelled by itself.
//!
//! Invariant: what is counted as cancelled has ended as that, once, in the ledger; and nothing that was accepted
//! after the wish is touched.

use std::rc::Rc;

use actix::ResponseFuture;
use serde::{Deserialize, Serialize};

use super::{
    journaled::decode_all,
    node::Node,
    outside::ask_to_end,
    partition::Partition,
    reader::after,
    room::{Room, Signal},
};
use crate::{
    address::Address,
    backend::{Home, Moment, Scope, Stored},
    durable::entry::Entry,
    envelope::Position,
    error::{Error, Result},
};

/// Messages looked at in one go.
const LOOK: usize = 500;
/// How often an owner is asked that does not answer, or is another one by then.
const TRIES: usize = 3;

/// What became of the wish to cancel all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Messages that are cancelled.
    pub cancelled: usize,
    /// Commands that had begun, or that others wait for, and are told to end.
    pub asked: usize,
    /// Whether more of them may be left: ask again.
    pub more: bool,
}

/// What to cancel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sweep {
    pub(crate) scope: Scope,
    pub(crate) partition: u16,
    /// When that was wished, in milliseconds since the Unix epoch.
    pub(crate) at: i64,
    pub(crate) from: Place,
}

/// How far a partition was gone through: its mailbox, then what has a time, then what is parked. Messages move
/// in this direction only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    Mailbox(Position),
    Timed(Option<Moment>),
    Parked(Option<Address>, Position),
    End,
}

/// Some of a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) swept: Swept,
    pub(crate) next: Place,
}

impl actix::Message for Sweep {
    type Result = Result<Part>;
}

impl actix::Handler<Sweep> for Partition {
    type Result = ResponseFuture<Result<Part>>;

    fn handle(&mut self, sweep: Sweep, _: &mut Self::Context) -> Self::Result {
        Box::pin(go_on(self.room().clone(), sweep))
    }
}

async fn go_on(room: Rc<Room>, sweep: Sweep) -> Result<Part> {
    let (page, next) = page(&room, &sweep).await?;
    let wanted = |stored: &Stored| {
        stored.envelope.as_ref().is_ok_and(|envelope| {
            envelope.note.is_none() && envelope.accepted <= sweep.at && sweep.scope.covers(&envelope.to)
        })
    };
    let page: Vec<Stored> = page.into_iter().filter(wanted).collect();
    // Somebody is told of its end: by whoever ends it.
    let asked = |stored: &Stored| stored.envelope.as_ref().is_ok_and(|envelope| envelope.tells());
    let (mut begun, waiting): (Vec<Stored>, Vec<Stored>) = page.into_iter().partition(asked);
    let mut swept = Swept::default();
    let cancelled = cancel(&room, &waiting).await?;
    for (stored, cancelled) in waiting.into_iter().zip(cancelled) {
        if cancelled {
            swept.cancelled += 1;
            room.forget(&stored);
        } else if room.is_journaled(stored.position) {
            begun.push(stored);
        }
    }
    for stored in begun {
        let told = room.is_journaled(stored.position) && was_told(&room, stored.position).await?;
        if !told && ask_to_end(&room.shared, stored.position, &stored).await? {
            swept.asked += 1;
        }
    }
    Ok(Part { swept, next })
}

async fn was_told(room: &Room, position: Position) -> Result<bool> {
    let entries = decode_all(&room.shared.backend.journal(position).await?).unwrap_or_default();
    Ok(entries.iter().any(|entry| matches!(entry, Entry::Cancelled { .. })))
}

/// The next messages, and where to go on after them.
async fn page(room: &Room, sweep: &Sweep) -> Result<(Vec<Stored>, Place)> {
    let (backend, partition) = (&room.shared.backend, sweep.partition);
    match &sweep.from {
        Place::Mailbox(from) => {
            let end = Position::new(partition, u64::MAX);
            let page = backend.reread(partition, *from, end, LOOK).await?;
            let next = page.last().map(|last| after(last.position));
            let late =
                page.last().is_some_and(|last| last.envelope.as_ref().is_ok_and(|last| last.accepted > sweep.at));
            Ok((page, next.filter(|_| !late).map_or(Place::Timed(None), Place::Mailbox)))
        }
        Place::Timed(from) => {
            let mut due = backend.due(partition, i64::MAX - 1, *from, Default::default(), LOOK).await?;
            let last = due.messages.iter().map(|stored| backend.moment(stored)).max();
            let next = last.filter(|last| due.next.is_some() && Some(*last) != *from);
            // Those are gone through key by key.
            due.messages.retain(|stored| !stored.parked);
            Ok((
                due.messages,
                next.map_or(Place::Parked(None, Position::new(partition, 0)), |last| Place::Timed(Some(last))),
            ))
        }
        Place::Parked(before, from) => {
            let Some(address) = blocked(room, sweep, before.clone()).await? else {
                return Ok((Vec::new(), Place::End));
            };
            if !sweep.scope.covers(&address) {
                return Ok((Vec::new(), Place::Parked(Some(address), Position::new(partition, 0))));
            }
            let page = backend.parked(&address, *from, LOOK).await?;
            let next = match page.last() {
                Some(last) => Place::Parked(before.clone(), after(last.position)),
                None => Place::Parked(Some(address), Position::new(partition, 0)),
            };
            Ok((page, next))
        }
        Place::End => Ok((Vec::new(), Place::End)),
    }
}

/// The next actor that has parked messages.
async fn blocked(room: &Room, sweep: &Sweep, before: Option<Address>) -> Result<Option<Address>> {
    if let Some(key) = &sweep.scope.key {
        return before.is_none().then(|| Address::new(&sweep.scope.kind, key)).transpose();
    }
    let mut found = room.shared.backend.blocked(sweep.partition, before, LOOK).await?;
    // Where it is none of these, the last one says where to go on.
    let covered = found.iter().position(|address| sweep.scope.covers(address));
    Ok(match covered {
        Some(index) => Some(found.swap_remove(index)),
        None => found.pop(),
    })
}

/// Cancels messages of which no attempt has begun, without racing their handlers (see [`cancel`](super::cancel)):
/// which of them it did.
async fn cancel(room: &Rc<Room>, waiting: &[Stored]) -> Result<Vec<bool>> {
    let positions: Vec<Position> = waiting.iter().map(|stored| stored.position).collect();
    room.cancelling.settled(&positions).await;
    if room.stopping() {
        return Err(Error::new("the partition is changing hands"));
    }
    let (mut asked, mut answers) = (Vec::new(), vec![false; positions.len()]);
    for (index, position) in positions.iter().enumerate() {
        if !room.running.borrow().contains_key(position) {
            room.cancelling.mark(*position);
            asked.push(index);
        }
    }
    if asked.is_empty() {
        return Ok(answers);
    }
    // The lease is not let go before the verdict.
    room.begin_work();
    let marked: Vec<Position> = asked.iter().map(|index| positions[*index]).collect();
    let verdict = room.shared.backend.cancel_all(room.lease, marked.clone(), room.shared.clock.now()).await;
    for (index, cancelled) in asked.into_iter().zip(verdict.iter().flatten()) {
        answers[index] = *cancelled;
        if *cancelled {
            room.remember_cancelled(positions[index]);
            room.handed.borrow_mut().remove(&positions[index]);
            room.shared.ended(positions[index]);
        }
    }
    if verdict.is_err() && room.shared.backend.lease_time().is_some() {
        // Some may have happened, or happen yet: under another epoch they cannot.
        room.lose();
    }
    for position in marked {
        if let Some(address) = room.cancelling.unmark(position)
            && let Some(slot) = room.slots.borrow().get(&address)
        {
            slot.send(Signal::Wake);
        }
    }
    room.end_work();
    verdict.map(|_| answers)
}

impl Room {
    /// A message that waited in the mailbox is gone from there.
    fn forget(&self, stored: &Stored) {
        let mut lanes = self.lanes.borrow_mut();
        if stored.home == Home::Mailbox && stored.position <= lanes.front && !lanes.holds(stored.position) {
            let belongs = self.belongs(&lanes, stored);
            lanes.cancelled(belongs, stored.size);
        }
    }
}

impl Node {
    /// Cancels everything of a kind, or of one key of it, that waits and of which no attempt has begun: what is
    /// in mailboxes, timers, and what waits behind a retry; paused or not. Commands that have begun and wait
    /// for something are told to end, as [`cancel`](Self::cancel) does. What was accepted after this was called
    /// is not touched. Retryable error when a partition changes hands again and again: what was cancelled until
    /// then stays so. Terminal error when there is no such kind.
    pub async fn cancel_all(&self, kind: &str, key: Option<&str>) -> Result<Swept> {
        self.cancel_some(kind, key, usize::MAX).await
    }

    /// The same, until about so many are cancelled or told to end.
    pub async fn cancel_some(&self, kind: &str, key: Option<&str>, most: usize) -> Result<Swept> {
        let scope = self.scope(kind, key)?;
        let partitions = self.shared.backend.partitions();
        let (first, last) = match key {
            Some(key) => {
                Address::new(kind, key).map(|address| (address.partition(partitions), address.partition(partitions)))?
            }
            None => (0, partitions.saturating_sub(1)),
        };
        let (mut all, at) = (Swept::default(), self.shared.clock.now());
        for partition in first..=last {
            let start = Place::Mailbox(Position::new(partition, 0));
            let mut sweep = Sweep { scope: scope.clone(), partition, at, from: start };
            while !matches!(sweep.from, Place::End) {
                if all.cancelled + all.asked >= most {
                    return Ok(Swept { more: true, ..all });
                }
                let Part { swept, next } = self.sweep(&sweep).await?;
                all.cancelled += swept.cancelled;
                all.asked += swept.asked;
                sweep.from = next;
            }
        }
        Ok(all)
    }

    /// Some of a partition, wherever it is open.
    async fn sweep(&self, sweep: &Sweep) -> Result<Part> {
        let position = Position::new(sweep.partition, 0);
        let mut why = None;
        for _ in 0..TRIES {
            let part = match &self.post {
                Some(post) if !self.arbiters.has(position) => post.sweep(sweep).await,
                _ => self.arbiters.sweep(sweep.clone()).await,
            };
            match part {
                Ok(part) => return Ok(part),
                Err(error) if error.is_terminal() => return Err(error),
                Err(error) => why = Some(error),
            }
            self.shared.clock.sleep(std::time::Duration::from_millis(300)).await;
        }
        Err(why.unwrap_or_else(|| Error::new("the partition is changing hands")))
    }
}
