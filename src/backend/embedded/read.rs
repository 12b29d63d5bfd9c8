//! Reading messages and states, on connections of their own that never block the writer.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{apply::NEVER, schema};
use crate::{
    address::Address,
    backend::{Dead, DeadFilter, Due, Home, Loaded, Lookup, Moment, Request, Status, Stored, message::Undecodable},
    envelope::{Envelope, Position},
    error::{Failure, Result},
};

/// Connections for reading, opened when needed.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: tokio::sync::Semaphore,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), permits: tokio::sync::Semaphore::new(4) }
    }

    /// Runs `read` on the blocking pool.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await?;
        let readers = self.clone();
        tokio::task::spawn_blocking(move || readers.run_here(read)).await?
    }

    /// Runs `read` on this thread.
    pub(super) fn run_here<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path)?,
        };
        let answer = read(&connection);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        answer
    }
}

/// A read transaction; in memory, the writer's own transaction is the snapshot.
pub(super) fn snapshot(db: &Connection) -> Result<Option<rusqlite::Transaction<'_>>> {
    Ok(if db.is_autocommit() { Some(db.unchecked_transaction()?) } else { None })
}

/// When the oldest message in a mailbox was accepted.
pub(super) fn oldest(db: &Connection, partitions: u16) -> Result<Option<i64>> {
    let mut oldest = None;
    for partition in 0..partitions {
        let first = mailbox(db, partition, Position::new(partition, 0), Position::new(partition, u64::MAX), 1)?.pop();
        let accepted = first.and_then(|stored| stored.envelope.ok()).map(|envelope| envelope.accepted);
        oldest = [oldest, accepted].into_iter().flatten().min();
    }
    Ok(oldest)
}

/// The first and last position of a partition.
pub(super) fn range(partition: u16) -> (i64, i64) {
    (Position::new(partition, 0).packed(), Position::new(partition, u64::MAX).packed())
}

fn decode(bytes: Vec<u8>) -> Result<Arc<Envelope>, Undecodable> {
    serde_json::from_slice(&bytes)
        .map(Arc::new)
        .map_err(|e| Undecodable { reason: format!("the stored bytes are no envelope: {e}"), bytes })
}

fn failures(bytes: Option<Vec<u8>>) -> Vec<Failure> {
    // A list that cannot be read is forgotten: the message itself matters more.
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// `position, attempts, envelope` of the mailbox.
fn fresh(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let bytes = blob(row, 2)?;
    Ok(Stored {
        position: Position::from_packed(row.get(0)?),
        home: Home::Mailbox,
        size: bytes.len(),
        attempts: row.get(1)?,
        failures: Vec::new(),
        due: 0,
        parked: false,
        envelope: decode(bytes),
    })
}

/// Bytes of a column whatever its type: tampered rows end in the dead letters, not in an error.
fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    use rusqlite::types::ValueRef;
    Ok(match row.get_ref(column)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    })
}

const DEFERRED: &str = "SELECT position, due, parked, attempts, failures, envelope FROM deferred";

fn deferred(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let bytes = blob(row, 5)?;
    let due: i64 = row.get(1)?;
    Ok(Stored {
        position: Position::from_packed(row.get(0)?),
        home: Home::Deferred,
        size: bytes.len(),
        due: if due == NEVER { 0 } else { due },
        parked: row.get(2)?,
        attempts: row.get(3)?,
        failures: failures(row.get(4)?),
        envelope: decode(bytes),
    })
}

pub(super) fn mailbox(
    db: &Connection,
    partition: u16,
    after: Position,
    to: Position,
    limit: usize,
) -> Result<Vec<Stored>> {
    let (first, _) = range(partition);
    let mut read = db.prepare_cached(
        "SELECT position, attempts, envelope FROM mailbox WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
    )?;
    let rows = read.query_map(params![after.packed().max(first), to.packed(), limit as i64], fresh)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn due(
    db: &Connection,
    partition: u16,
    now: i64,
    from: Option<Moment>,
    handed: &HashSet<Position>,
    limit: usize,
) -> Result<Due> {
    let mut scan = db.prepare_cached(
        "SELECT position, due FROM deferred WHERE partition = ? AND due < ? AND (due, position) >= (?, ?) ORDER BY due, position LIMIT ?",
    )?;
    let mut one = db.prepare_cached(&format!("{DEFERRED} WHERE position = ?"))?;
    let mut found = Due::default();
    // At most `handed` rows are skipped, so this many always hold the next `limit` and one beyond.
    let from = from.map_or((i64::MIN, 0), |from| (from.due, Position::new(partition, from.tie).packed()));
    let mut rows = scan.query(params![partition, NEVER, from.0, from.1, (handed.len() + limit + 1) as i64])?;
    while let Some(row) = rows.next()? {
        let (position, due) = (Position::from_packed(row.get(0)?), row.get::<_, i64>(1)?);
        if handed.contains(&position) {
            continue;
        }
        if due > now || found.messages.len() == limit {
            found.next = Some(due);
            break;
        }
        found.messages.push(one.query_row([position.packed()], deferred)?);
    }
    Ok(found)
}

pub(super) fn parked(db: &Connection, address: &Address, from: Position, limit: usize) -> Result<Vec<Stored>> {
    let mut read = db.prepare_cached(&format!(
        "{DEFERRED} WHERE kind = ? AND key = ? AND parked = 1 AND position >= ? ORDER BY position LIMIT ?"
    ))?;
    let rows = read.query_map(params![address.kind(), address.key(), from.packed(), limit as i64], deferred)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn blocked(db: &Connection, partition: u16, after: Option<&Address>, limit: usize) -> Result<Vec<Address>> {
    let mut read = db.prepare_cached(
        "SELECT DISTINCT kind, key FROM deferred INDEXED BY deferred_parked
         WHERE parked = 1 AND (kind, key) > (?, ?) AND partition = ? ORDER BY kind, key LIMIT ?",
    )?;
    let (kind, key) = after.map_or(("", ""), |a| (a.kind(), a.key()));
    let rows = read.query_map(params![kind, key, partition, limit as i64], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    rows.map(|row| row.map_err(Into::into).and_then(|(kind, key)| Address::new(&kind, &key))).collect()
}

pub(super) fn load(db: &Connection, addresses: &[Address]) -> Result<Vec<Loaded>> {
    let mut parked =
        db.prepare_cached("SELECT EXISTS(SELECT 1 FROM deferred WHERE kind = ? AND key = ? AND parked = 1)")?;
    addresses
        .iter()
        .map(|address| {
            let sql = format!("SELECT rev, doc FROM {} WHERE key = ?", schema::state_table(address.kind()));
            let saved = db
                .prepare_cached(&sql)?
                .query_row([address.key()], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))
                .optional()?;
            let (rev, doc) = saved.unwrap_or_default();
            let parked = parked.query_row(params![address.kind(), address.key()], |row| row.get(0))?;
            Ok(Loaded { rev: rev as u64, doc, parked, finished: Vec::new() })
        })
        .collect()
}

pub(super) fn lookup(db: &Connection, position: Position) -> Result<Lookup> {
    // One snapshot: a message that moves between two looks would seem to be nowhere.
    let _snapshot = snapshot(db)?;
    let at = position.packed();
    let ended = db
        .prepare_cached("SELECT status, attempts, ended, body FROM results WHERE position = ?")?
        .query_row([at], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<Vec<u8>>>(3)?)))
        .optional()?;
    if let Some((status, attempts, ended, body)) = ended {
        let body = body.unwrap_or_default();
        let (status, reply, error) = match status {
            0 => (Status::Completed, serde_json::from_slice(&body).ok(), None),
            1 => (Status::Failed, None, serde_json::from_slice(&body).ok()),
            _ => (Status::Cancelled, None, None),
        };
        return Ok(Lookup::Ended(Request { status, reply, error, attempts, ended }));
    }
    let waiting = db
        .prepare_cached("SELECT position, attempts, envelope FROM mailbox WHERE position = ?")?
        .query_row([at], fresh)
        .optional()?;
    if let Some(stored) = waiting {
        return Ok(Lookup::Waiting(stored));
    }
    let waiting = db.prepare_cached(&format!("{DEFERRED} WHERE position = ?"))?.query_row([at], deferred).optional()?;
    if let Some(stored) = waiting {
        return Ok(Lookup::Waiting(stored));
    }
    let filter = DeadFilter { position: Some(position), ..DeadFilter::default() };
    if let Some(dead) = dead(db, &filter, None, 1)?.pop() {
        return Ok(Lookup::Dead(dead));
    }
    let accepted: Option<i64> = db
        .prepare_cached("SELECT accepted FROM ledger WHERE partition = ?")?
        .query_row([position.partition()], |row| row.get(0))
        .optional()?;
    let assigned = accepted.is_some_and(|accepted| (1..=accepted as u64).contains(&position.number()));
    Ok(if assigned { Lookup::Expired } else { Lookup::Unknown })
}

pub(super) fn dead(db: &Connection, filter: &DeadFilter, after: Option<Position>, limit: usize) -> Result<Vec<Dead>> {
    let mut read = db.prepare_cached(
        "SELECT position, attempts, failures, died, envelope FROM dead
         WHERE position > ?1 AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR key = ?3) AND (?4 IS NULL OR position = ?4)
         ORDER BY position LIMIT ?5",
    )?;
    let after = after.map_or(-1, Position::packed);
    let rows = read.query_map(
        params![after, filter.kind, filter.key, filter.position.map(Position::packed), limit as i64],
        |row| {
            let (envelope, raw) = match decode(blob(row, 4)?) {
                Ok(envelope) => (Some((*envelope).clone()), None),
                Err(undecodable) => (None, Some(String::from_utf8_lossy(&undecodable.bytes).into_owned())),
            };
            Ok(Dead {
                position: Position::from_packed(row.get(0)?),
                envelope,
                raw,
                attempts: row.get(1)?,
                failures: failures(row.get(2)?),
                died: row.get(3)?,
            })
        },
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn runnable(db: &Connection, now: i64) -> Result<u64> {
    let mut count =
        db.prepare_cached("SELECT (SELECT count(*) FROM mailbox) + (SELECT count(*) FROM deferred WHERE due <= ?)")?;
    Ok(count.query_row([now], |row| row.get::<_, i64>(0))? as u64)
}
