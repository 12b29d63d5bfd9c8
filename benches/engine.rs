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

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

/// Notes how long each command was on its way, in microseconds.
struct Stopwatch {
    born: Instant,
    waits: Arc<std::sync::Mutex<Vec<u64>>>,
}

impl Actor for Stopwatch {
    const KIND: &'static str = "stopwatch";
    type State = ();
    type Command = u64;
    type Reply = ();

    async fn handle(&self, _: &mut (), sent: u64, _: &Context<Self>) -> Result<()> {
        let wait = (self.born.elapsed().as_micros() as u64).saturating_sub(sent);
        self.waits.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(wait);
        Ok(())
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

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Bytes in memory per idle activation, its state included.
async fn memory(keys: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (store, node) = start(dir.path()).await;
    // The store's own caches fill first.
    append(&store, "account", 200_000, 1_000).await;
    drained(&store).await;
    let before = resident();
    append(&store, "account", keys + 1_000, keys + 1_000).await;
    drained(&store).await;
    let each = (resident() - before) / keys;
    println!("memory: {each} bytes per idle activation, of which {} are its state", size_of::<Account>() + 250);
    node.drain(Duration::from_secs(5)).await;
}

async fn completed(store: &Embedded) -> u64 {
    store.ledgers().await.unwrap().iter().map(|ledger| ledger.completed).sum()
}

/// The cost of a message with much and with little waiting: one million is appended, then drained.
async fn backlog(messages: u64) {
    let dir = tempfile::tempdir().unwrap();
    let slice = messages / 10;
    let timed = async |store: &Embedded, count| {
        let begun = Instant::now();
        append(store, "job", count, 1_000).await;
        begun.elapsed().as_secs_f64() / count as f64 * 1e6
    };
    let store = Embedded::open(dir.path(), Options { mailbox_bytes: 4 << 30, ..Options::default() }).unwrap();
    append(&store, "job", 1_000, 1_000).await;
    let first = timed(&store, slice).await;
    append(&store, "job", messages - 2 * slice - 1_000, 1_000).await;
    let last = timed(&store, slice).await;
    drop(store);
    let (store, node) = start(dir.path()).await;
    let mut marks = vec![(0u64, Instant::now())];
    while marks.last().unwrap().0 < messages {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = completed(&store).await;
        if now >= marks.last().unwrap().0 + slice || now >= messages {
            marks.push((now, Instant::now()));
        }
    }
    let cost = |two: &[(u64, Instant)]| (two[1].1 - two[0].1).as_secs_f64() / (two[1].0 - two[0].0) as f64 * 1e6;
    let costs: Vec<String> = marks.windows(2).map(|two| format!("{:.1}", cost(two))).collect();
    println!(
        "backlog: append {first:.1} µs a message at 1 k, {last:.1} µs at 1 M; drain from 1 M down to 0, µs a message by tenth: {}",
        costs.join(" ")
    );
    node.drain(Duration::from_secs(5)).await;
}

/// Enqueue → handler at 500 a second.
async fn latency() {
    let dir = tempfile::tempdir().unwrap();
    let waits = Arc::new(std::sync::Mutex::new(Vec::new()));
    let born = Instant::now();
    let store = Arc::new(Embedded::open(dir.path(), Options::default()).unwrap());
    let features = vec![Feature::new(Stopwatch { born, waits: waits.clone() })];
    let start = Start { backend: store.clone(), features, settings: Settings::default(), clock: Clock::System };
    let node = Node::start(start).await.unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    for n in 0..4_000 {
        tick.tick().await;
        let (node, at) = (node.clone(), Stopwatch::at((n % 100).to_string()));
        actix::spawn(async move { node.tell(at, born.elapsed().as_micros() as u64).await.map(drop) });
    }
    drained(&store).await;
    let mut waits = std::mem::take(&mut *waits.lock().unwrap()).split_off(1_000);
    waits.sort_unstable();
    let at = |part: f64| waits[(waits.len() as f64 * part) as usize];
    println!("latency at 500/s: enqueue → handler p50 {} µs, p99 {} µs (with an fsync in between)", at(0.5), at(0.99));
    node.drain(Duration::from_secs(5)).await;
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
        if wanted("memory") {
            memory(100_000).await;
        }
        if wanted("latency") {
            latency().await;
        }
        if wanted("backlog") {
            backlog(1_000_000).await;
        }
    });
}
