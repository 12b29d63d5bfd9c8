//! The rarer writes: counting attempts, leases, cancelling, redriving, expiring. Each is a closure
//! over the group's transaction.

use rusqlite::{OptionalExtension, params};
use tokio::sync::oneshot;

use super::{
    apply::{NEVER, remove, status_code, table},
    journal,
    read::range,
    writer::{Abort, Group, Op, Writer},
};
use crate::{
    backend::{Home, Lease, Status},
    envelope::Position,
    error::{Error, Result},
};

struct Task<T, F> {
    run: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&mut Group<'_>) -> Result<T, Abort> + Send> Op for Task<T, F> {
    fn apply(&mut self, group: &mut Group<'_>) -> Result<(), Abort> {
        self.done = Some((self.run)(group)?);
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), String>) {
        let answer = match (result, self.done) {
            (Ok(()), Some(done)) => Ok(done),
            (Ok(()), None) => Err(Error::new("not applied")),
            (Err(why), _) => Err(Error::new(format!("the store cannot write: {why}"))),
        };
        // Nobody waits any more; what is done stays done.
        let _ = self.reply.send(answer);
    }
}

/// Runs `run` in a group and answers once it is durable.
pub(super) async fn write<T: Send + 'static>(
    writer: &Writer,
    run: impl FnMut(&mut Group<'_>) -> Result<T, Abort> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    writer.send(Box::new(Task { run, done: None, reply }));
    answer.await?
}

/// Takes a partition over: its epoch rises.
pub(super) fn acquire(group: &mut Group<'_>, partition: u16) -> Result<Lease, Abort> {
    let book = group.book(partition);
    let clean = std::mem::replace(&mut book.clean, false);
    book.epoch += 1;
    // A store of one process is only taken anew by another process, or from a thread that is blocked.
    Ok(Lease { partition, epoch: book.epoch, clean, mine: false, last: book.ledger.accepted })
}

/// Lets a partition go, unless somebody has taken it since.
pub(super) fn release(group: &mut Group<'_>, lease: Lease) -> Result<(), Abort> {
    let book = group.book(lease.partition);
    if book.epoch == lease.epoch {
        book.clean = true;
    }
    Ok(())
}

/// Counts a begun attempt of each message.
pub(super) fn begin(
    group: &mut Group<'_>,
    lease: Lease,
    messages: &[(Position, Home)],
) -> Result<Option<Vec<u32>>, Abort> {
    if group.book(lease.partition).epoch != lease.epoch {
        return Ok(None);
    }
    let mut counts = Vec::with_capacity(messages.len());
    for (position, home) in messages {
        let sql = format!("UPDATE {} SET attempts = attempts + 1 WHERE position = ? RETURNING attempts", table(*home));
        let count = group.db.prepare_cached(&sql)?.query_row([position.packed()], |row| row.get(0)).optional()?;
        counts.push(count.unwrap_or(0));
    }
    Ok(Some(counts))
}

/// Ends a message that no attempt has begun of, and that has no journal, as cancelled.
pub(super) fn cancel(group: &mut Group<'_>, position: Position, now: i64) -> Result<bool, Abort> {
    for home in [Home::Mailbox, Home::Deferred] {
        let size: Option<i64> = group
            .db
            .prepare_cached(&format!(
                "SELECT length(envelope) FROM {} WHERE position = ?1 AND attempts = 0
                 AND NOT EXISTS(SELECT 1 FROM journal WHERE position = ?1)",
                table(home)
            ))?
            .query_row([position.packed()], |row| row.get(0))
            .optional()?;
        if let Some(size) = size
            && remove(group, home, position.packed())?
        {
            cancelled(group, position, 0, now)?;
            let bytes = &mut group.book(position.partition()).ledger.bytes;
            *bytes = bytes.saturating_sub(size as u64);
            return Ok(true);
        }
    }
    Ok(false)
}

fn cancelled(group: &mut Group<'_>, position: Position, attempts: u32, now: i64) -> Result<(), Abort> {
    group.db.prepare_cached("INSERT INTO results VALUES (?, ?, ?, ?, NULL)")?.execute(params![
        position.packed(),
        status_code(Status::Cancelled),
        attempts,
        now
    ])?;
    group.book(position.partition()).ledger.cancelled += 1;
    Ok(())
}

/// Moves dead letters back among the deferred, due now, attempts forgotten.
pub(super) fn redrive(group: &mut Group<'_>, positions: &[Position], now: i64) -> Result<usize, Abort> {
    let mut moved = 0;
    for position in positions {
        let partition = position.partition();
        if partition >= group.partitions() {
            continue;
        }
        let inserted = group
            .db
            .prepare_cached(
                "INSERT INTO deferred SELECT position, ?2, ?3, 1, 0, NULL, kind, key, envelope FROM dead WHERE position = ?1",
            )?
            .execute(params![position.packed(), partition, now])?;
        if inserted == 1 {
            let size = bury(group, *position)?.map_or(0, |(size, _)| size);
            group.book(partition).ledger.bytes += size;
            group.deferred(partition);
            moved += 1;
        }
    }
    Ok(moved)
}

/// Ends dead letters as cancelled.
pub(super) fn discard(group: &mut Group<'_>, positions: &[Position], now: i64) -> Result<usize, Abort> {
    let mut discarded = 0;
    for position in positions {
        if position.partition() >= group.partitions() {
            continue;
        }
        if let Some((_, attempts)) = bury(group, *position)? {
            cancelled(group, *position, attempts, now)?;
            discarded += 1;
        }
    }
    Ok(discarded)
}

/// Takes a letter out of the dead ones: its size and attempts.
fn bury(group: &mut Group<'_>, position: Position) -> Result<Option<(u64, u32)>, Abort> {
    let row: Option<(i64, u32)> = group
        .db
        .prepare_cached("DELETE FROM dead WHERE position = ? RETURNING length(envelope), attempts")?
        .query_row([position.packed()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if row.is_some() {
        group.book(position.partition()).ledger.dead -= 1;
    }
    Ok(row.map(|(size, attempts)| (size as u64, attempts)))
}

/// Forgets expired results, with their journals, among the `limit` from `from` on; answers how many, and where to go on
/// (`None`: start over, nothing more to do for now).
pub(super) fn expire(
    group: &mut Group<'_>,
    partition: u16,
    from: i64,
    before: i64,
    limit: usize,
) -> Result<(usize, Option<i64>), Abort> {
    let (first, last) = range(partition);
    let end: Option<i64> = group
        .db
        .prepare_cached(
            "SELECT position FROM results WHERE position BETWEEN ? AND ? ORDER BY position LIMIT 1 OFFSET ?",
        )?
        .query_row(params![from.max(first), last, limit as i64], |row| row.get(0))
        .optional()?;
    let swept: Vec<i64> = group
        .db
        .prepare_cached("DELETE FROM results WHERE position >= ? AND position < ? AND ended < ? RETURNING position")?
        .query_map(params![from.max(first), end.unwrap_or(last), before], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if !swept.is_empty() {
        journal::forget_all(group, partition, &swept)?;
    }
    let book = group.book(partition);
    book.expired += swept.len() as u64;
    book.swept = swept.iter().copied().fold(book.swept, i64::max);
    Ok((swept.len(), end.filter(|_| !swept.is_empty())))
}

/// Forgets idempotency keys and holders of locks whose time is over.
pub(super) fn expire_keys(group: &mut Group<'_>, now: i64) -> Result<(), Abort> {
    for over in [
        "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE expires <= ? LIMIT 10000)",
        "DELETE FROM fences WHERE (partition, lock) IN
         (SELECT partition, lock FROM fences WHERE expires <= ? LIMIT 10000)",
    ] {
        group.db.prepare_cached(over)?.execute([now])?;
    }
    Ok(())
}

/// Writes something, to see that it can be done.
pub(super) fn probe(group: &mut Group<'_>) -> Result<(), Abort> {
    group.db.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('probe', ?)")?.execute([NEVER])?;
    Ok(())
}
