//! What is paused: rows of `meta`, so that the file keeps its format.
//!
//! Invariant: such a row is called `paused/` and what it pauses, and holds since when.

use rusqlite::{Connection, params};

use super::{
    Embedded, chores,
    writer::{Abort, Group},
};
use crate::{
    backend::{Fut, MOST_PAUSED, Paused, Pauses, Scope, pauses::too_many},
    error::Result,
};

const PREFIX: &str = "paused/";
/// The first name after all that begin so.
const END: &str = "paused0";

fn name(scope: &Scope) -> String {
    format!("{PREFIX}{scope}")
}

/// `None` when there are too many.
fn pause(group: &mut Group<'_>, scope: &Scope, at: i64) -> Result<Option<bool>, Abort> {
    let paused = group
        .db
        .prepare_cached("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![name(scope), at])?;
    let count: i64 = group
        .db
        .prepare_cached("SELECT count(*) FROM meta WHERE name >= ? AND name < ?")?
        .query_row([PREFIX, END], |row| row.get(0))?;
    if paused == 1 && count > MOST_PAUSED as i64 {
        group.db.prepare_cached("DELETE FROM meta WHERE name = ?")?.execute([name(scope)])?;
        return Ok(None);
    }
    Ok(Some(paused == 1))
}

fn resume(group: &mut Group<'_>, scope: &Scope) -> Result<bool, Abort> {
    Ok(group.db.prepare_cached("DELETE FROM meta WHERE name = ?")?.execute([name(scope)])? == 1)
}

fn list(db: &Connection) -> Result<Vec<Paused>> {
    let mut read = db.prepare_cached("SELECT name, value FROM meta WHERE name >= ? AND name < ? ORDER BY name")?;
    let rows = read.query_map([PREFIX, END], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let mut paused = Vec::new();
    for row in rows {
        let (name, since) = row?;
        // What names nothing pauses nothing.
        paused.extend(name[PREFIX.len()..].parse().ok().map(|scope: Scope| Paused { scope, since }));
    }
    paused.sort_by(|one: &Paused, other| one.scope.cmp(&other.scope));
    Ok(paused)
}

impl Pauses for Embedded {
    fn pause(&self, scope: Scope, at: i64) -> Fut<'_, Result<bool>> {
        Box::pin(async move {
            chores::write(self.writer()?, move |group| pause(group, &scope, at)).await?.ok_or_else(too_many)
        })
    }

    fn resume(&self, scope: Scope) -> Fut<'_, Result<bool>> {
        Box::pin(async move { chores::write(self.writer()?, move |group| resume(group, &scope)).await })
    }

    fn paused(&self) -> Fut<'_, Result<Vec<Paused>>> {
        Box::pin(self.read(list))
    }
}
