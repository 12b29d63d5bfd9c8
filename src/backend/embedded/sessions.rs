//! Sessions in the file: rows under their names.
//!
//! Invariant: a row without a digest is one that was replaced, and only remembered; what is over by its
//! time is not there as far as anybody sees, whether or not it was swept away yet.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Embedded, chores, schema,
    writer::{Abort, Group},
};
use crate::{
    backend::{
        Fut,
        sessions::{
            ChangedSession, Digest, ERA_KEPT, Former, FoundSession, Issued, OpenedSession, SessionKey, SessionName,
            SessionRecord, Sessions, Use,
        },
    },
    error::Result,
};

const COLUMNS: &str =
    "name, user, created, seen, until, ends, rev, agent, data, digest, issued, former, nonce, former_until, drawer";

fn record(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let former = match (row.get(11)?, row.get(12)?, row.get(13)?) {
        (Some(digest), Some(nonce), Some(until)) => Some(Former { digest, nonce, until }),
        _ => None,
    };
    Ok(SessionRecord {
        user: row.get(1)?,
        created: row.get(2)?,
        seen: row.get(3)?,
        until: row.get(4)?,
        ends: row.get(5)?,
        rev: row.get::<_, i64>(6)? as u64,
        agent: row.get(7)?,
        data: row.get(8)?,
        issued: Issued { digest: row.get(9)?, at: row.get(10)?, former },
    })
}

fn find(db: &Connection, name: SessionName, now: i64) -> rusqlite::Result<FoundSession> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE name = ? AND until > ?");
    let found = db.prepare_cached(&sql)?.query_row(params![name.0, now], |row| {
        Ok(match row.get::<_, Option<Digest>>(9)? {
            Some(_) => FoundSession::Live(record(row)?),
            None => FoundSession::Replaced,
        })
    });
    Ok(found.optional()?.unwrap_or(FoundSession::Nothing))
}

fn live(db: &Connection, name: SessionName, now: i64) -> rusqlite::Result<Option<SessionRecord>> {
    Ok(match find(db, name, now)? {
        FoundSession::Live(record) => Some(record),
        _ => None,
    })
}

fn era(db: &Connection, user: &str) -> rusqlite::Result<i64> {
    let era = db.prepare_cached("SELECT era FROM session_eras WHERE user = ?")?.query_row([user], |row| row.get(0));
    Ok(era.optional()?.unwrap_or(0))
}

/// Ends the oldest sessions of a user, or of nobody in a drawer, until there is room for one more; how many.
/// What was replaced is none.
fn room(db: &Connection, drawer: u16, user: Option<&str>, most: usize, now: i64) -> rusqlite::Result<usize> {
    let (whose, more) = match user {
        Some(_) => ("user = ?1 AND until > ?3", 0),
        None => ("user IS NULL AND drawer = ?2 AND digest IS NOT NULL AND until > ?3", most / 10),
    };
    let live: i64 = db
        .prepare_cached(&format!("SELECT count(*) FROM sessions WHERE {whose}"))?
        .query_row(params![user, drawer, now], |row| row.get(0))?;
    let over = live + 1 - most as i64;
    if over <= 0 {
        return Ok(0);
    }
    let oldest = format!("SELECT name FROM sessions WHERE {whose} ORDER BY created, name LIMIT ?4");
    db.prepare_cached(&format!("DELETE FROM sessions WHERE name IN ({oldest})"))?.execute(params![
        user,
        drawer,
        now,
        over + more as i64
    ])
}

fn open(
    db: &Connection,
    key: SessionKey,
    new: &SessionRecord,
    most: usize,
    asked: Option<i64>,
) -> Result<OpenedSession, Abort> {
    if let (Some(user), Some(asked)) = (&new.user, asked)
        && era(db, user)? != asked
    {
        return Ok(OpenedSession::Revoked);
    }
    let over = room(db, key.drawer, new.user.as_deref(), most, new.seen)?;
    let Issued { digest, at, former } = new.issued;
    db.prepare_cached(&format!(
        "INSERT INTO sessions({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))?
    .execute(params![
        key.name.0,
        new.user,
        new.created,
        new.seen,
        new.until,
        new.ends,
        new.rev as i64,
        new.agent,
        new.data,
        digest,
        at,
        former.map(|former| former.digest),
        former.map(|former| former.nonce),
        former.map(|former| former.until),
        key.drawer
    ])?;
    Ok(OpenedSession::Opened(over))
}

fn write(db: &Connection, name: SessionName, rev: u64, data: &[u8], used: Use) -> Result<ChangedSession, Abort> {
    let Some(record) = live(db, name, used.now)? else { return Ok(ChangedSession::Gone) };
    if record.rev != rev {
        return Ok(ChangedSession::Conflict(record));
    }
    db.prepare_cached("UPDATE sessions SET data = ?2, rev = rev + 1, seen = ?3, until = ?4 WHERE name = ?1")?
        .execute(params![name.0, data, used.now, used.until])?;
    Ok(ChangedSession::Changed)
}

fn touch(db: &Connection, name: SessionName, used: Use) -> Result<bool, Abort> {
    let touched = db
        .prepare_cached(
            "UPDATE sessions SET seen = ?2, until = ?3 WHERE name = ?1 AND until > ?2 AND digest IS NOT NULL",
        )?
        .execute(params![name.0, used.now, used.until])?;
    Ok(touched == 1)
}

fn renew(db: &Connection, name: SessionName, old: Digest, new: Issued, used: Use) -> Result<ChangedSession, Abort> {
    let Some(record) = live(db, name, used.now)? else { return Ok(ChangedSession::Gone) };
    if record.issued.digest != old {
        return Ok(ChangedSession::Conflict(record));
    }
    db.prepare_cached(
        "UPDATE sessions SET digest = ?2, issued = ?3, former = ?4, nonce = ?5, former_until = ?6, seen = ?7, until = ?8
         WHERE name = ?1",
    )?
    .execute(params![
        name.0,
        new.digest,
        new.at,
        new.former.map(|former| former.digest),
        new.former.map(|former| former.nonce),
        new.former.map(|former| former.until),
        used.now,
        used.until
    ])?;
    Ok(ChangedSession::Changed)
}

fn end(
    db: &Connection,
    name: SessionName,
    user: Option<&str>,
    mark: i64,
    now: i64,
) -> Result<Option<SessionRecord>, Abort> {
    let Some(record) = live(db, name, now)? else { return Ok(None) };
    if user.is_some() && record.user.as_deref() != user {
        return Ok(None);
    }
    if mark > 0 {
        db.prepare_cached(
            "UPDATE sessions SET user = NULL, digest = NULL, former = NULL, nonce = NULL, former_until = NULL,
             agent = '', data = x'', until = ?2 WHERE name = ?1",
        )?
        .execute(params![name.0, now.saturating_add(mark)])?;
    } else {
        db.prepare_cached("DELETE FROM sessions WHERE name = ?")?.execute([name.0])?;
    }
    Ok(Some(record))
}

fn end_all(db: &Connection, user: &str, but: Option<SessionName>, now: i64) -> Result<usize, Abort> {
    db.prepare_cached("DELETE FROM sessions WHERE user = ? AND until <= ?")?.execute(params![user, now])?;
    let ended = db
        .prepare_cached("DELETE FROM sessions WHERE user = ?1 AND (?2 IS NULL OR name <> ?2)")?
        .execute(params![user, but.map(|but| but.0)])?;
    let era = now.max(era(db, user)? + 1);
    db.prepare_cached("INSERT OR REPLACE INTO session_eras VALUES (?, ?, ?)")?.execute(params![
        user,
        era,
        now.saturating_add(ERA_KEPT)
    ])?;
    Ok(ended)
}

fn of(db: &Connection, user: &str, now: i64) -> Result<Vec<(SessionName, SessionRecord)>> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE user = ? AND until > ? ORDER BY created, name");
    let mut read = db.prepare_cached(&sql)?;
    let rows = read.query_map(params![user, now], |row| {
        Ok((SessionName(row.get(0)?), SessionRecord { data: Vec::new(), ..record(row)? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Sweeps away what is over, some at a time.
pub(super) fn forget(group: &mut Group<'_>, now: i64) -> Result<(), Abort> {
    for (table, key) in [("sessions", "name"), ("session_eras", "user")] {
        group
            .db
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE until <= ? LIMIT 10000)"
            ))?
            .execute([now])?;
    }
    Ok(())
}

impl Sessions for Embedded {
    fn session(&self, key: SessionKey, now: i64) -> Fut<'_, Result<FoundSession>> {
        Box::pin(self.read(move |db| Ok(find(db, key.name, now)?)))
    }

    fn open_session(
        &self,
        key: SessionKey,
        record: SessionRecord,
        most: usize,
        era: Option<i64>,
    ) -> Fut<'_, Result<OpenedSession>> {
        Box::pin(
            async move { chores::write(self.writer()?, move |group| open(group.db, key, &record, most, era)).await },
        )
    }

    fn write_session(&self, key: SessionKey, rev: u64, data: Vec<u8>, used: Use) -> Fut<'_, Result<ChangedSession>> {
        Box::pin(async move {
            chores::write(self.writer()?, move |group| write(group.db, key.name, rev, &data, used)).await
        })
    }

    fn touch_session(&self, key: SessionKey, used: Use) -> Fut<'_, Result<bool>> {
        Box::pin(async move { chores::write(self.writer()?, move |group| touch(group.db, key.name, used)).await })
    }

    fn renew_session(&self, key: SessionKey, old: Digest, new: Issued, used: Use) -> Fut<'_, Result<ChangedSession>> {
        Box::pin(
            async move { chores::write(self.writer()?, move |group| renew(group.db, key.name, old, new, used)).await },
        )
    }

    fn end_session(
        &self,
        key: SessionKey,
        user: Option<String>,
        mark: i64,
        now: i64,
    ) -> Fut<'_, Result<Option<SessionRecord>>> {
        Box::pin(async move {
            chores::write(self.writer()?, move |group| end(group.db, key.name, user.as_deref(), mark, now)).await
        })
    }

    fn end_sessions(&self, user: String, but: Option<SessionName>, now: i64) -> Fut<'_, Result<usize>> {
        Box::pin(async move { chores::write(self.writer()?, move |group| end_all(group.db, &user, but, now)).await })
    }

    fn sessions_of(&self, user: String, now: i64) -> Fut<'_, Result<Vec<(SessionName, SessionRecord)>>> {
        let inspected = self.writing.is_none();
        Box::pin(self.read(move |db| match inspected && !schema::has_table(db, "sessions")? {
            true => Ok(Vec::new()),
            false => of(db, &user, now),
        }))
    }

    fn session_era(&self, user: String) -> Fut<'_, Result<i64>> {
        Box::pin(self.read(move |db| Ok(era(db, &user)?)))
    }
}
