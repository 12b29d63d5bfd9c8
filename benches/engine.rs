//! What the engine costs without HTTP, against the raw SQLite cycle it is built on, in one run.
//! `cargo bench --bench engine [-- NAME]`; every line says what it is compared with.
//! A benchmark that cannot measure stops with the reason: an `unwrap` is that.

#[path = "load/mod.rs"]
mod load;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom::{
    backend::{
        Backend,
        embedded::{Embedded, Options},
    },
    runtime::node::Node,
};

use load::{append, drained, envelope, wanted};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

fn open(dir: &Path) -> Arc<dyn Backend> {
    Arc::new(Embedded::open(dir, Options { mailbox_bytes: 4 << 30, ..Options::default() }).unwrap())
}

async fn start(dir: &Path) -> (Arc<dyn Backend>, Node) {
    let store = open(dir);
    (store.clone(), load::start(store).await)
}

/// Appends and processes at once.
async fn through(kind: &str, messages: u64, keys: u64) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let (store, node) = start(dir.path()).await;
    append(&store, kind, 2_000, keys, true).await;
    drained(&store).await;
    let begun = Instant::now();
    append(&store, kind, messages, keys, true).await;
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
    append(&store, "account", 200_000, 1_000, true).await;
    drained(&store).await;
    let before = resident();
    append(&store, "account", keys + 1_000, keys + 1_000, true).await;
    drained(&store).await;
    let each = (resident() - before) / keys;
    println!("memory: {each} bytes per idle activation, of which {} are its state", size_of::<load::Account>() + 250);
    node.drain(Duration::from_secs(5)).await;
}

async fn completed(store: &Arc<dyn Backend>) -> u64 {
    store.ledgers().await.unwrap().iter().map(|ledger| ledger.completed).sum()
}

/// The cost of a message with much and with little waiting: one million is appended, then drained.
async fn backlog(messages: u64) {
    let dir = tempfile::tempdir().unwrap();
    let slice = messages / 10;
    let timed = async |store: &Arc<dyn Backend>, count| {
        let begun = Instant::now();
        append(store, "job", count, 1_000, true).await;
        begun.elapsed().as_secs_f64() / count as f64 * 1e6
    };
    let store = open(dir.path());
    append(&store, "job", 1_000, 1_000, true).await;
    let first = timed(&store, slice).await;
    append(&store, "job", messages - 2 * slice - 1_000, 1_000, true).await;
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
            let dir = tempfile::tempdir().unwrap();
            let store = Embedded::open(dir.path(), Options::default()).unwrap();
            let (p50, p99) = load::latency(Arc::new(store)).await;
            println!("latency at 500/s: enqueue → handler p50 {p50} µs, p99 {p99} µs (with an fsync in between)");
        }
        if wanted("backlog") {
            backlog(1_000_000).await;
        }
    });
}
