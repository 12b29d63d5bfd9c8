//! Reading a partition's deferred messages as they fall due: timers, retries, commands that go on.
//!
//! As in the mailbox ([`reader`](super::reader)), what has no room is passed over and its lane remembers from
//! where; so a million timers of one tenant that fall due at once keep nobody else's waiting. Unlike a mailbox
//! this order is not only added to at its end: what comes for a command that waits makes it due now, and a
//! message may have been long on its way. So while something waits for room, whatever is deferred lets this
//! look again at the last seconds, and now and then at everything.
//!
//! Invariant: a message that is handed out is in `handed` until its fate is committed, and is not handed out
//! again before.

use std::{collections::HashSet, rc::Rc};

use tracing::warn;

use super::{
    distribute::{Arrival, distribute},
    lane::{Order, Timed},
    reader::{AGAIN, BATCH},
    room::Room,
};
use crate::{backend::Moment, envelope::Position, error::Result};

/// How far back something may have become due without having been looked at.
const LATE: i64 = 5_000;
/// Looking at everything takes at most this part of the time.
const PART: i64 = 20;

/// How the deferred messages are being read.
#[derive(Default)]
struct Reading {
    /// Something may be due that was not met yet.
    more: bool,
    /// Everything is to be looked at, and not before when.
    owed: bool,
    not_before: i64,
    /// When the next one is due.
    next: Option<i64>,
}

/// Reads deferred messages as they fall due, as far as there is memory for them.
pub(crate) async fn due(room: Rc<Room>) {
    let mut reading = Reading { more: true, ..Reading::default() };
    while !room.stopping() {
        let now = room.shared.clock.now();
        let freed = room.freed.due.notified();
        let deferred = room.signals.deferred.notified();
        reading.more |= reading.next.is_some_and(|next| next <= now);
        let walked = if reading.more || reading.owed && reading.not_before <= now {
            look(&room, &mut reading, now).await
        } else if let Some((start, fits)) = { room.lanes.borrow_mut().next::<Timed>() } {
            walk(&room, Some(start), now, Some(fits)).await.map(|_| ())
        } else {
            let owed = reading.owed.then_some(reading.not_before);
            let next = reading.next.into_iter().chain(owed).min().map(|at| at.max(now + 1));
            tokio::select! {
                () = deferred => reading.more = true,
                () = freed => {}
                () = room.shared.clock.until(next.unwrap_or(i64::MAX)), if next.is_some() => {}
            }
            Ok(())
        };
        if let Err(error) = walked {
            warn!(partition = room.lease.partition, %error, "deferred messages could not be read, trying again");
            room.shared.clock.sleep(AGAIN).await;
        }
    }
}

/// Looks for what has become due: at everything, unless too much of that was passed over before.
async fn look(room: &Rc<Room>, reading: &mut Reading, now: i64) -> Result<()> {
    let everything = reading.not_before <= now || !room.lanes.borrow().any_unread::<Timed>();
    let start = (!everything).then_some(Moment { due: now - LATE, tie: 0 });
    // What comes meanwhile is looked for after it.
    (reading.more, reading.next, reading.owed) = (false, None, !everything);
    match walk(room, start, now, None).await {
        Ok(next) => reading.next = next,
        Err(error) => {
            reading.more = true;
            return Err(error);
        }
    }
    if everything {
        let ended = room.shared.clock.now();
        reading.not_before = ended + (ended - now) * PART;
    }
    Ok(())
}

/// Goes through what is due from `start` on; as long as there is room for more, where `fits` says for how
/// much. When the next one is due, if it came to the end.
async fn walk(room: &Rc<Room>, start: Option<Moment>, now: i64, fits: Option<usize>) -> Result<Option<i64>> {
    let backend = room.shared.backend.clone();
    let walk = room.lanes.borrow_mut().walk::<Timed>(start, true);
    let (mut from, mut fits) = (start, fits);
    loop {
        let handed = room.handed.borrow().clone();
        room.lanes.borrow_mut().ask::<Timed>();
        let limit = fits.map_or(BATCH, |fits| fits.clamp(16, BATCH));
        let page = backend.due(room.lease.partition, now, from, handed.clone(), limit).await;
        let mut known = room.lanes.borrow_mut().left::<Timed>();
        known.extend(handed);
        let page = page?;
        let end = page.messages.iter().map(|stored| backend.moment(stored)).max();
        // However short the page is: the store ends one where it likes.
        let more = page.next.is_some_and(|next| next <= now) && end.is_some() && end != from;
        let taken = admit(room, walk, page.messages, &known);
        fits = fits.map(|fits| fits.saturating_sub(taken.len()));
        if !taken.is_empty() {
            distribute(room, taken).await;
        }
        if !more || room.stopping() {
            room.lanes.borrow_mut().walked::<Timed>(walk, None);
            return Ok(page.next);
        }
        from = end;
        if fits == Some(0) {
            room.lanes.borrow_mut().walked::<Timed>(walk, end);
            return Ok(None);
        }
    }
}

fn admit(
    room: &Rc<Room>,
    walk: super::lanes::Walk<<Timed as Order>::At>,
    page: Vec<crate::backend::Stored>,
    known: &HashSet<Position>,
) -> Vec<Arrival> {
    let mut lanes = room.lanes.borrow_mut();
    let mut taken = Vec::new();
    for stored in page {
        // Not what its actor has fetched by itself, and not what it had when this page was asked for: handed out
        // once more, one that waits again by now would not be seen when it is due.
        if known.contains(&stored.position) || lanes.holds(stored.position) {
            continue;
        }
        let belongs = room.belongs(&lanes, &stored);
        if !lanes.admit::<Timed>(walk, belongs, room.shared.backend.moment(&stored)) {
            continue;
        }
        room.handed.borrow_mut().insert(stored.position);
        lanes.hold(&stored, belongs);
        taken.push(Arrival { stored, suspicious: true });
    }
    drop(lanes);
    taken
}
