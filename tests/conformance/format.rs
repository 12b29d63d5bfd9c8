//! Files of earlier builds: brought along when they are opened to be written, and readable before.

use greenroom::backend::{
    Lookup,
    embedded::{Embedded, Options},
};

use super::{
    journals::{entries, own, writes},
    *,
};

/// What format 1 said. Never changed: such files are out there.
const FORMAT_1: &str = "
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

/// A store of four partitions as the first builds left it, with one message that waits.
fn old(data: &std::path::Path) -> Position {
    let db = rusqlite::Connection::open(data.join("greenroom.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    db.execute_batch(FORMAT_1).unwrap();
    db.execute("INSERT INTO meta VALUES ('format', 1)", []).unwrap();
    db.execute("INSERT INTO meta VALUES ('partitions', 4)", []).unwrap();
    db.execute("INSERT INTO meta VALUES ('secret', ?)", [[7u8; 32]]).unwrap();
    let position = Position::new(address("thing/a").partition(4), 1);
    let bytes = serde_json::to_vec(&envelope("thing/a", "5")).unwrap();
    for partition in 0..4 {
        let (accepted, size) = if partition == position.partition() { (1, bytes.len()) } else { (0, 0) };
        db.execute(
            "INSERT INTO ledger VALUES (?, ?, 0, 0, 0, 0, ?, 0, 0, 0, 1)",
            rusqlite::params![partition, accepted, size as i64],
        )
        .unwrap();
    }
    db.execute("INSERT INTO mailbox VALUES (?, 0, ?)", rusqlite::params![position.packed(), bytes]).unwrap();
    position
}

fn format(data: &std::path::Path) -> i64 {
    let db = rusqlite::Connection::open(data.join("greenroom.db")).unwrap();
    db.query_row("SELECT value FROM meta WHERE name = 'format'", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_file_of_format_1_is_brought_along_when_it_is_opened_to_be_written() {
    let data = tempfile::tempdir().unwrap();
    let position = old(data.path());
    let options = Options { partitions: 4, mailbox_bytes: BUDGET };
    actix::System::new().block_on(async {
        let inspected: Arc<dyn Backend> = Arc::new(Embedded::inspect(data.path()).unwrap());
        assert!(matches!(inspected.lookup(position).await.unwrap(), Lookup::Waiting(_)));
        assert!(entries(&inspected, position).await.is_empty());
        assert!(inspected.journaled(position.partition()).await.unwrap().is_empty());
        assert!(inspected.audit().await.unwrap().balanced);
        assert_eq!(format(data.path()), 1, "looking changes nothing");
        let refused = Embedded::open(data.path(), Options { partitions: 8, ..options.clone() }).map(drop).unwrap_err();
        assert!(refused.to_string().contains("created with 4 partitions"), "{refused}");
        assert_eq!(format(data.path()), 1, "neither does what is refused");
        let store: Arc<dyn Backend> = Arc::new(Embedded::open(data.path(), options.clone()).unwrap());
        assert_eq!((format(data.path()), store.secret()), (3, [7; 32]));
        // A file of format 2 lacks only what came with 3.
        super::fences::kept_in_order(&store).await;
        let lease = take(&store, position.partition()).await;
        let stored = first(&store, position.partition(), start(position.partition())).await;
        assert_eq!(stored.envelope.unwrap().command.get(), "5");
        assert_eq!(store.commit(lease, writes("thing/a", vec![own(position, &["a"])])).await, [Ok(())]);
        // Whoever was looking before sees it too.
        assert_eq!(entries(&inspected, position).await, ["a"]);
        assert_eq!(inspected.journaled(position.partition()).await.unwrap(), [position]);
        drop(store);
        let again: Arc<dyn Backend> = Arc::new(Embedded::open(data.path(), options).unwrap());
        assert_eq!(entries(&again, position).await, ["a"]);
        assert!(again.audit().await.unwrap().balanced);
    });
}

#[test]
fn a_file_of_a_later_format_is_refused_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    old(data.path());
    let db = rusqlite::Connection::open(data.path().join("greenroom.db")).unwrap();
    db.execute("UPDATE meta SET value = 4 WHERE name = 'format'", []).unwrap();
    let options = Options { partitions: 4, mailbox_bytes: BUDGET };
    for refused in [Embedded::open(data.path(), options).map(drop), Embedded::inspect(data.path()).map(drop)] {
        let refused = refused.unwrap_err();
        assert!(refused.is_terminal() && refused.to_string().contains("has format 4"), "{refused}");
    }
}
