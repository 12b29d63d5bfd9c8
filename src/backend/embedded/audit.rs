//! Counting everything that is there and holding the ledger against it (G11). Each accepted number
//! of a partition must be in exactly one place: mailbox, deferred, dead letters, or results (until
//! those expire, which is counted). So what is missing or double can be named.

use rusqlite::{Connection, params};

use super::read::{range, snapshot};
use crate::{
    backend::{Audit, Ledger, Mismatch},
    envelope::Position,
    error::Result,
};

const NAMED: usize = 100;

/// The ledger of each partition as stored.
pub(super) fn ledgers(db: &Connection) -> Result<Vec<Ledger>> {
    let mut read =
        db.prepare_cached("SELECT accepted, completed, failed, dead, cancelled, bytes FROM ledger ORDER BY partition")?;
    let rows = read.query_map([], |row| {
        let n = |column| row.get::<_, i64>(column).map(|n| n as u64);
        let (completed, failed, dead, cancelled) = (n(1)?, n(2)?, n(3)?, n(4)?);
        Ok(Ledger { accepted: n(0)?, completed, failed, dead, cancelled, lost: 0, bytes: n(5)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Compares, in one snapshot.
pub(super) fn audit(db: &Connection) -> Result<Audit> {
    let _snapshot = snapshot(db)?;
    let (mut sum, mut in_flight, mut mismatches) = (Ledger::default(), 0, Vec::new());
    for (partition, ledger) in ledgers(db)?.into_iter().enumerate() {
        in_flight += audit_partition(db, partition as u16, ledger, &mut mismatches)?;
        sum = sum.plus(ledger);
    }
    let Ledger { accepted, completed, failed, dead, cancelled, .. } = sum;
    let balanced = mismatches.is_empty() && accepted == completed + failed + dead + cancelled + in_flight;
    Ok(Audit { accepted, completed, failed, dead, cancelled, lost: 0, in_flight, balanced, mismatches })
}

fn audit_partition(db: &Connection, partition: u16, ledger: Ledger, found: &mut Vec<Mismatch>) -> Result<u64> {
    let (first, last) = range(partition);
    let count = |sql: &str| -> Result<u64> {
        Ok(db.prepare_cached(sql)?.query_row(params![first, last], |row| row.get::<_, i64>(0))? as u64)
    };
    let waiting = count("SELECT count(*) FROM mailbox WHERE position BETWEEN ? AND ?")?
        + count("SELECT count(*) FROM deferred WHERE position BETWEEN ? AND ?")?;
    let dead = count("SELECT count(*) FROM dead WHERE position BETWEEN ? AND ?")?;
    let results = |status: u8| {
        count(&format!("SELECT count(*) FROM results WHERE status = {status} AND position BETWEEN ? AND ?"))
    };
    let kept = [results(0)?, results(1)?, results(2)?];
    let expired: i64 = db
        .prepare_cached("SELECT expired FROM ledger WHERE partition = ?")?
        .query_row([partition], |row| row.get(0))?;
    let ended = ledger.completed + ledger.failed + ledger.cancelled;
    let mut differences = Vec::new();
    if waiting as i64 != ledger.in_flight() {
        differences.push(format!("{waiting} messages wait, the ledger says {}", ledger.in_flight()));
    }
    if dead != ledger.dead {
        differences.push(format!("{dead} dead letters, the ledger says {}", ledger.dead));
    }
    let there = kept.iter().sum::<u64>() + expired as u64;
    if there != ended {
        differences.push(format!("{there} results kept or expired, the ledger says {ended} ended"));
    }
    for (name, kept, counted) in [
        ("completed", kept[0], ledger.completed),
        ("failed", kept[1], ledger.failed),
        ("cancelled", kept[2], ledger.cancelled),
    ] {
        if kept > counted {
            differences.push(format!("{kept} results say {name}, the ledger says {counted}"));
        }
    }
    let (missing, double) = name(db, partition, ledger.accepted)?;
    if !double.is_empty() {
        found.push(Mismatch { partition, what: "messages are in two places".into(), messages: double });
    }
    if !missing.is_empty() {
        differences.push("accepted messages are nowhere".into());
    }
    if !differences.is_empty() {
        found.push(Mismatch { partition, what: differences.join("; "), messages: missing });
    }
    Ok(waiting)
}

/// Accepted messages that are nowhere, and those in more than one place, at most [`NAMED`] each.
fn name(db: &Connection, partition: u16, accepted: u64) -> Result<(Vec<Position>, Vec<Position>)> {
    let (first, last) = range(partition);
    let swept: i64 =
        db.prepare_cached("SELECT swept FROM ledger WHERE partition = ?")?.query_row([partition], |row| row.get(0))?;
    let mut read = db.prepare_cached(
        "SELECT position FROM mailbox WHERE position BETWEEN ?1 AND ?2
         UNION ALL SELECT position FROM deferred WHERE position BETWEEN ?1 AND ?2
         UNION ALL SELECT position FROM dead WHERE position BETWEEN ?1 AND ?2
         UNION ALL SELECT position FROM results WHERE position BETWEEN ?1 AND ?2
         ORDER BY 1",
    )?;
    let (mut missing, mut double) = (Vec::new(), Vec::new());
    // Up to the last swept result, absence is expiry.
    let mut expected = Position::from_packed(swept.max(first)).number() + 1;
    let mut rows = read.query(params![first, last])?;
    let mut before = None;
    while let Some(row) = rows.next()? {
        let position = Position::from_packed(row.get(0)?);
        if before.replace(position) == Some(position) && double.len() < NAMED {
            double.push(position);
        }
        while expected < position.number() && missing.len() < NAMED {
            missing.push(Position::new(partition, expected));
            expected += 1;
        }
        expected = expected.max(position.number() + 1);
    }
    while expected <= accepted && missing.len() < NAMED {
        missing.push(Position::new(partition, expected));
        expected += 1;
    }
    Ok((missing, double))
}
