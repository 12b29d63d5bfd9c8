//! The file: tables, pragmas, and what is checked when it is opened. The schema is a format that
//! outlives builds, so a change of it raises `FORMAT` and says how old files are brought along.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::Options;
use crate::{
    backend::document,
    error::{Error, Result},
    query::{Index, declared_fields},
    request::MAX_PARTITIONS,
};

/// 2 since there are journals, 3 since there are sessions and fences: [`bring_along`] makes one of a file of
/// an earlier format.
const FORMAT: i64 = 3;

const JOURNAL: &str = "
CREATE TABLE journal(
  position INTEGER NOT NULL, n INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY(position, n)) WITHOUT ROWID;
";

const SESSIONS: &str = "
CREATE TABLE sessions(
  name BLOB PRIMARY KEY, user TEXT, created INTEGER NOT NULL, seen INTEGER NOT NULL, until INTEGER NOT NULL,
  ends INTEGER NOT NULL, rev INTEGER NOT NULL, agent TEXT NOT NULL, data BLOB NOT NULL,
  digest BLOB, issued INTEGER NOT NULL, former BLOB, nonce BLOB, former_until INTEGER, drawer INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions(user, created) WHERE user IS NOT NULL;
CREATE INDEX sessions_drawer ON sessions(drawer, created) WHERE user IS NULL AND digest IS NOT NULL;
CREATE INDEX sessions_until ON sessions(until);
CREATE TABLE session_eras(user TEXT PRIMARY KEY, era INTEGER NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
";

const FENCES: &str = "
CREATE TABLE fences(
  partition INTEGER NOT NULL, lock TEXT NOT NULL, token INTEGER NOT NULL, expires INTEGER NOT NULL,
  PRIMARY KEY(partition, lock)) WITHOUT ROWID;
CREATE INDEX fences_expires ON fences(expires);
";

/// `position` packs partition and number (see [`Position`](crate::envelope::Position)), so each
/// partition is one contiguous range of a plain rowid table: the cheapest order SQLite has.
const TABLES: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE ledger(
  partition INTEGER PRIMARY KEY, accepted INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL,
  dead INTEGER NOT NULL, cancelled INTEGER NOT NULL, bytes INTEGER NOT NULL,
  expired INTEGER NOT NULL, swept INTEGER NOT NULL, epoch INTEGER NOT NULL, clean INTEGER NOT NULL);
CREATE TABLE mailbox(position INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, envelope BLOB NOT NULL);
CREATE TABLE deferred(
  position INTEGER PRIMARY KEY, partition INTEGER NOT NULL, due INTEGER NOT NULL, parked INTEGER NOT NULL,
  attempts INTEGER NOT NULL, failures BLOB, kind TEXT NOT NULL, key TEXT NOT NULL, envelope BLOB NOT NULL);
CREATE INDEX deferred_due ON deferred(partition, due, position);
CREATE INDEX deferred_parked ON deferred(kind, key, position) WHERE parked = 1;
CREATE TABLE results(
  position INTEGER PRIMARY KEY, status INTEGER NOT NULL, attempts INTEGER NOT NULL, ended INTEGER NOT NULL, body BLOB);
CREATE TABLE dead(
  position INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, attempts INTEGER NOT NULL,
  failures BLOB, died INTEGER NOT NULL, envelope BLOB NOT NULL);
CREATE INDEX dead_address ON dead(kind, key, position);
CREATE TABLE idempotency(
  key TEXT PRIMARY KEY, fingerprint INTEGER NOT NULL, position INTEGER NOT NULL, answer TEXT NOT NULL,
  expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX idempotency_expires ON idempotency(expires);
";

/// Opens the one connection that writes, creating the file's tables when it is new.
pub(super) fn open_writer(path: Option<&Path>, options: &Options) -> Result<Connection> {
    if !(1..=MAX_PARTITIONS).contains(&options.partitions) {
        return Err(Error::terminal(format!(
            "{} partitions asked for: expected 1 to {MAX_PARTITIONS}",
            options.partitions
        )));
    }
    let connection = match path {
        Some(path) => Connection::open(path).map_err(|e| open_error(path, e))?,
        None => Connection::open_in_memory()?,
    };
    connection.set_prepared_statement_cache_capacity(256);
    // FULL: a commit is on the disk when it returns. The WAL is folded back every 16 MiB, so that
    // hot pages are written once for many commits.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096;
         PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;",
        )
        .map_err(|e| named(path, e))?;
    let tables = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0));
    if tables.map_err(|e| named(path, e))? == 0 {
        create(&connection, options.partitions)?;
    }
    check(&connection, path, Some(options.partitions))?;
    bring_along(&connection).map_err(|e| named(path, e))?;
    Ok(connection)
}

/// Opens a connection that only reads. It needs write access to the directory, as every reader of
/// a write-ahead log does.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| open_error(path, e))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA query_only = 1; PRAGMA cache_size = -16384;")?;
    Ok(connection)
}

fn named(path: Option<&Path>, error: rusqlite::Error) -> Error {
    match path {
        Some(path) => open_error(path, error),
        None => error.into(),
    }
}

fn open_error(path: &Path, error: rusqlite::Error) -> Error {
    Error::from(error).into_terminal().context(format!("opening {}", path.display()))
}

fn create(connection: &Connection, partitions: u16) -> Result<()> {
    let secret: [u8; 32] = {
        let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(a.as_bytes());
        secret[16..].copy_from_slice(b.as_bytes());
        secret
    };
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(JOURNAL)?;
    transaction.execute_batch(SESSIONS)?;
    transaction.execute_batch(FENCES)?;
    transaction.execute("INSERT INTO meta VALUES ('format', ?)", [FORMAT])?;
    transaction.execute("INSERT INTO meta VALUES ('partitions', ?)", [partitions])?;
    transaction.execute("INSERT INTO meta VALUES ('secret', ?)", [secret])?;
    for partition in 0..partitions {
        transaction.execute("INSERT INTO ledger VALUES (?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)", [partition])?;
    }
    transaction.commit()?;
    Ok(())
}

/// Makes a checked file of an earlier format one of this format.
fn bring_along(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for (format, tables) in [(2, [JOURNAL, ""]), (3, [SESSIONS, FENCES])] {
        let rise = "UPDATE meta SET value = ?1 WHERE name = 'format' AND value = ?1 - 1";
        if transaction.execute(rise, [format])? == 1 {
            transaction.execute_batch(&tables.concat())?;
        }
    }
    transaction.commit()
}

/// Whether the file has this table: one of an earlier format that is only read may not.
pub(super) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM sqlite_master WHERE name = ?)")?
        .query_row([name], |row| row.get(0))
}

/// Reads partitions and secret, after checking that this build understands the file.
pub(super) fn check(connection: &Connection, path: Option<&Path>, partitions: Option<u16>) -> Result<(u16, [u8; 32])> {
    let file = path.map_or_else(|| "the store".to_owned(), |path| path.display().to_string());
    let number = |name: &str| -> Result<i64> {
        connection.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| row.get(0)).map_err(|e| {
            Error::from(e).into_terminal().context(format!("{file} is no Greenroom store: reading {name}"))
        })
    };
    let format = number("format")?;
    // Whoever writes brings it along, whoever only reads can read both.
    if !(1..=FORMAT).contains(&format) {
        return Err(Error::terminal(format!("{file} has format {format}; this build reads formats 1 to {FORMAT}")));
    }
    let stored = number("partitions")? as u16;
    if let Some(asked) = partitions.filter(|asked| *asked != stored) {
        return Err(Error::terminal(format!(
            "{file} was created with {stored} partitions, the configuration says {asked}: set store.partitions = {stored}"
        )));
    }
    let secret = connection.query_row("SELECT value FROM meta WHERE name = 'secret'", [], |row| row.get(0))?;
    Ok((stored, secret))
}

/// The table of a kind's states. `kind` is a checked name, so it can stand in SQL.
pub(super) fn state_table(kind: &str) -> String {
    format!("\"state_{kind}\"")
}

/// The column of an index field.
pub(super) fn column(field: &str) -> String {
    format!("\"f_{}\"", field.replace('"', ""))
}

/// Creates a kind's table, and columns and indexes that are not there yet, filled from what is saved.
/// Within the caller's transaction.
pub(super) fn declare(connection: &Connection, kind: &str, indexes: &[Index]) -> rusqlite::Result<()> {
    let (table, fields) = (state_table(kind), declared_fields(indexes));
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {table}(key TEXT PRIMARY KEY, rev INTEGER NOT NULL, doc BLOB NOT NULL) WITHOUT ROWID"
    ))?;
    let mut missing = Vec::new();
    for field in &fields {
        let known: Option<i64> = connection
            .query_row(
                "SELECT 1 FROM pragma_table_info(?) WHERE name = ?",
                params![table.trim_matches('"'), column(field).trim_matches('"')],
                |row| row.get(0),
            )
            .optional()?;
        if known.is_none() {
            connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {}", column(field)))?;
            missing.push(field.clone());
        }
    }
    if !missing.is_empty() {
        fill(connection, &table, &missing)?;
    }
    for index in indexes {
        let name = format!("\"index_{kind}_{}\"", index.fields().join("_").replace('"', ""));
        let columns: Vec<String> = index.fields().iter().map(|f| column(f)).collect();
        connection
            .execute_batch(&format!("CREATE INDEX IF NOT EXISTS {name} ON {table}({}, key)", columns.join(", ")))?;
    }
    Ok(())
}

fn fill(connection: &Connection, table: &str, fields: &[String]) -> rusqlite::Result<()> {
    let set: Vec<String> = fields.iter().map(|f| format!("{} = ?", column(f))).collect();
    let mut update = connection.prepare(&format!("UPDATE {table} SET {} WHERE key = ?", set.join(", ")))?;
    let mut read = connection.prepare(&format!("SELECT key, doc FROM {table}"))?;
    let mut rows = read.query([])?;
    while let Some(row) = rows.next()? {
        let (key, doc): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let mut values: Vec<rusqlite::types::Value> =
            document::values(&doc, fields).into_iter().map(super::query::sql).collect();
        values.push(key.into());
        update.execute(rusqlite::params_from_iter(values))?;
    }
    Ok(())
}
