//! Journals of running commands: rows under their message's position, in the file that holds the
//! message.
//!
//! Invariant: what has a row here is a message that waits, a dead letter, or a result that is kept.
//! Whatever writes, ends or forgets one of these does the same to its journal in the same transaction;
//! a message without journal costs no look in here.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Embedded,
    apply::NEVER,
    read::{range, snapshot},
    schema,
    writer::{Abort, Group},
};
use crate::{
    backend::{Commit, Fut, JournalWrite, Journals, Refused},
    envelope::Position,
    error::Result,
};

/// Appends the entries of a commit whose messages still wait. Before anything ends by the same commit,
/// so that a message's last entries are written too.
pub(super) fn write(group: &mut Group<'_>, commit: &Commit) -> Result<Result<(), Refused>, Abort> {
    for written in &commit.journals {
        // What came for a dead letter is there when it is redriven.
        if waits(group, written.position)? || (!written.own && is_dead(group, written.position)?) {
            append(group, written)?;
        } else if written.own {
            return Ok(Err(Refused::Gone(written.position)));
        }
    }
    Ok(Ok(()))
}

/// Makes those due that were waited for. After everything else, so that a message that begins to wait
/// by the same commit is woken too.
pub(super) fn wake(group: &mut Group<'_>, commit: &Commit) -> Result<(), Abort> {
    for written in commit.journals.iter().filter(|written| written.wake) {
        // What is parked behind another message has no time, and gets none.
        let woken = group
            .db
            .prepare_cached("UPDATE deferred SET due = ?2 WHERE position = ?1 AND due > ?2 AND due < ?3")?
            .execute(params![written.position.packed(), commit.at, NEVER])?;
        if woken > 0 {
            group.deferred(written.position.partition());
        }
    }
    Ok(())
}

fn waits(group: &Group<'_>, position: Position) -> Result<bool, Abort> {
    let waits = group
        .db
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM deferred WHERE position = ?1) OR EXISTS(SELECT 1 FROM mailbox WHERE position = ?1)",
        )?
        .query_row([position.packed()], |row| row.get(0))?;
    Ok(waits)
}

fn is_dead(group: &Group<'_>, position: Position) -> Result<bool, Abort> {
    let mut dead = group.db.prepare_cached("SELECT EXISTS(SELECT 1 FROM dead WHERE position = ?)")?;
    Ok(dead.query_row([position.packed()], |row| row.get(0))?)
}

fn append(group: &Group<'_>, written: &JournalWrite) -> Result<(), Abort> {
    let position = written.position.packed();
    let last: Option<i64> = group
        .db
        .prepare_cached("SELECT n FROM journal WHERE position = ? ORDER BY n DESC LIMIT 1")?
        .query_row([position], |row| row.get(0))
        .optional()?;
    let mut insert = group.db.prepare_cached("INSERT INTO journal VALUES (?, ?, ?)")?;
    for (n, entry) in (last.unwrap_or(0) + 1..).zip(&written.entries) {
        insert.execute(params![position, n, entry])?;
    }
    Ok(())
}

/// Forgets the journal of a message.
pub(super) fn forget(group: &Group<'_>, position: i64) -> Result<(), Abort> {
    group.db.prepare_cached("DELETE FROM journal WHERE position = ?")?.execute([position])?;
    Ok(())
}

/// Forgets the journals of results that were forgotten, all of one partition.
pub(super) fn forget_all(group: &Group<'_>, partition: u16, positions: &[i64]) -> Result<(), Abort> {
    let (first, last) = range(partition);
    let any: bool = group
        .db
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM journal WHERE position BETWEEN ? AND ?)")?
        .query_row([first, last], |row| row.get(0))?;
    if any {
        for position in positions {
            forget(group, *position)?;
        }
    }
    Ok(())
}

fn read(db: &Connection, position: Position) -> Result<Vec<Vec<u8>>> {
    let mut read = db.prepare_cached("SELECT entry FROM journal WHERE position = ? ORDER BY n")?;
    let entries = read.query_map([position.packed()], |row| row.get(0))?;
    Ok(entries.collect::<Result<_, _>>()?)
}

/// Begins with what waits, which is little: results that are kept may have many journals.
fn waiting(db: &Connection, partition: u16) -> Result<Vec<Position>> {
    let _snapshot = snapshot(db)?;
    let (first, last) = range(partition);
    let of = |table: &str| {
        format!(
            "SELECT position FROM {table} WHERE position BETWEEN ?1 AND ?2
             AND EXISTS(SELECT 1 FROM journal WHERE journal.position = {table}.position)"
        )
    };
    let all = ["mailbox", "deferred", "dead"].map(of).join(" UNION ALL ");
    let mut read = db.prepare_cached(&format!("{all} ORDER BY 1"))?;
    let positions = read.query_map([first, last], |row| row.get(0).map(Position::from_packed))?;
    Ok(positions.collect::<Result<_, _>>()?)
}

impl Journals for Embedded {
    fn journal(&self, position: Position) -> Fut<'_, Result<Vec<Vec<u8>>>> {
        let inspected = self.writing.is_none();
        Box::pin(self.read(move |db| match inspected && !schema::has_table(db, "journal")? {
            true => Ok(Vec::new()),
            false => read(db, position),
        }))
    }

    fn journaled(&self, partition: u16) -> Fut<'_, Result<Vec<Position>>> {
        let inspected = self.writing.is_none();
        Box::pin(self.read(move |db| match inspected && !schema::has_table(db, "journal")? {
            true => Ok(Vec::new()),
            false => waiting(db, partition),
        }))
    }
}
