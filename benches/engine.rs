//! What the engine costs without HTTP, against the raw SQLite cycle it is built on, in one run.
//! `cargo bench --bench engine [-- NAME]`; every line says what it is compared with.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom::{
    Actor, Address, Context, Feature, Result,
    backend::{
        Append, Books, Mailbox,
        embedded::{Embedded, Options},
    },
    clock::Clock,
    envelope::Envelope,
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};
use serde::{Deserialize, Serialize};

/// A command of about 200 bytes with its envelope.
#[derive(Serialize, Deserialize)]
struct Add {
    amount: u64,
    note: String,
}

fn add() -> Add {
    Add { amount: 1, note: "x".repeat(100) }
}

/// About 300 bytes of state.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Account {
    total: u64,
    note: String,
}

struct Stateful;

impl Actor for Stateful {
    const KIND: &'static str = "account";
    type State = Account;
    type Command = Add;
    type Reply = u64;

    async fn handle(&self, account: &mut Account, add: Add, _: &Context<Self>) -> Result<u64> {
        account.total += add.amount;
        if account.note.is_empty() {
            account.note = "y".repeat(250);
        }
        Ok(account.total)
    }
}

struct Stateless;

impl Actor for Stateless {
    const KIND: &'static str = "job";
    type State = ();
    type Command = Add;
    type Reply = u64;

    async fn handle(&self, _: &mut (), add: Add, _: &Context<Self>) -> Result<u64> {
        Ok(add.amount)
    }
}

fn envelope(kind: &str, key: u64, request: bool) -> Append {
    let envelope = Envelope {
        to: Address::new(kind, &key.to_string()).unwrap(),
        command: serde_json::value::to_raw_value(&add()).unwrap(),
        accepted: Clock::System.now(),
        request,
        trace: None,
        reply: None,
        cause: None,
    };
    Append { envelope, due: None, idempotency: None }
}

/// The raw cycle: append, read, delete, upsert in groups, one writer, two transactions a group.
fn raw(dir: &Path, messages: u64, keys: u64, group: u64) -> f64 {
    let db = rusqlite::Connection::open(dir.join("raw.db")).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096; PRAGMA cache_size = -65536;
         CREATE TABLE mailbox(position INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, envelope BLOB NOT NULL);
         CREATE TABLE state(key TEXT PRIMARY KEY, rev INTEGER NOT NULL, doc BLOB NOT NULL) WITHOUT ROWID;",
    )
    .unwrap();
    let bytes = serde_json::to_vec(&envelope("account", 1, true).envelope).unwrap();
    let doc = vec![7u8; 310];
    let begun = Instant::now();
    let mut position = 0i64;
    for _ in 0..messages / group {
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let first = position + 1;
        for _ in 0..group {
            position += 1;
            db.prepare_cached("INSERT INTO mailbox VALUES (?, 0, ?)").unwrap().execute((position, &bytes)).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        let mut read = db
            .prepare_cached("SELECT position, envelope FROM mailbox WHERE position >= ? ORDER BY position LIMIT ?")
            .unwrap();
        let found: Vec<(i64, Vec<u8>)> = read
            .query_map((first, group as i64), |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(|row| row.unwrap())
            .collect();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        for (position, _) in &found {
            db.prepare_cached("DELETE FROM mailbox WHERE position = ?").unwrap().execute([position]).unwrap();
            let key = (*position as u64 % keys).to_string();
            db.prepare_cached(
                "INSERT INTO state VALUES (?, 1, ?) ON CONFLICT(key) DO UPDATE SET rev = rev + 1, doc = excluded.doc",
            )
            .unwrap()
            .execute((key, &doc))
            .unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }
    messages as f64 / begun.elapsed().as_secs_f64()
}

async fn start(dir: &Path) -> (Arc<Embedded>, Node) {
    let store = Arc::new(Embedded::open(dir, Options { mailbox_bytes: 4 << 30, ..Options::default() }).unwrap());
    let node = Node::start(Start {
        backend: store.clone(),
        features: vec![Feature::new(Stateful).actor(Stateless)],
        settings: Settings::default(),
        clock: Clock::System,
    })
    .await
    .unwrap();
    (store, node)
}

async fn append(store: &Embedded, kind: &str, messages: u64, keys: u64) {
    let mut sent = 0;
    let mut waiting = std::collections::VecDeque::new();
    while sent < messages {
        let batch = (sent..(sent + 100).min(messages)).map(|n| envelope(kind, n % keys, true)).collect();
        waiting.push_back(store.append(batch));
        sent += 100;
        if waiting.len() >= 16
            && let Some(oldest) = waiting.pop_front()
        {
            for appended in oldest.await {
                appended.unwrap();
            }
        }
    }
    for rest in waiting {
        rest.await;
    }
}

async fn drained(store: &Embedded) {
    loop {
        let open: i64 = store.ledgers().await.unwrap().iter().map(|ledger| ledger.in_flight()).sum();
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Appends and processes at once.
async fn through(kind: &str, messages: u64, keys: u64) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let (store, node) = start(dir.path()).await;
    append(&store, kind, 2_000, keys).await;
    drained(&store).await;
    let begun = Instant::now();
    append(&store, kind, messages, keys).await;
    drained(&store).await;
    let rate = messages as f64 / begun.elapsed().as_secs_f64();
    node.drain(Duration::from_secs(5)).await;
    rate
}

fn wanted(name: &str) -> bool {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str()))
}

fn main() {
    let system = actix::System::new();
    system.block_on(async {
        if wanted("cycle") {
            for round in 1..=3 {
                let dir = tempfile::tempdir().unwrap();
                let raw = raw(dir.path(), 100_000, 1_000, 100);
                let many = through("account", 100_000, 1_000).await;
                let none = through("job", 100_000, 1_000).await;
                let hot = through("account", 100_000, 1).await;
                println!(
                    "cycle {round}: raw {raw:.0}/s; stateful {many:.0}/s ({:.0} %); stateless {none:.0}/s ({:.0} %); one hot key {hot:.0}/s ({:.0} %)",
                    100.0 * many / raw, 100.0 * none / raw, 100.0 * hot / raw
                );
            }
        }
    });
}
