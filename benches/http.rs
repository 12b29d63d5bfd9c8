//! What a client sees: accepted requests and request-response over HTTP, against a bare actix-web
//! handler that stores the same bytes in the same way, in one run, loaded by `wrk` (Debian package).
//! `cargo bench --bench http [-- STORE] [SECONDS]`. The store is `embedded`, where the bare handler
//! commits to SQLite in group commit, or `fsync` or `memory`, which is how the cluster store accepts
//! (`tests/servers start && . .parts/run/env`): there the bare handler appends to the same Redis, by the
//! same function and in the same batches. A benchmark that cannot measure stops with the reason: an
//! `unwrap` is that.

#[path = "load/counter.rs"]
mod counter;
#[allow(dead_code, reason = "the benchmark of the cluster store uses the rest")]
#[path = "load/servers.rs"]
mod servers;
#[path = "load/wrk.rs"]
mod wrk;

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use counter::Add;
use greenroom::{
    backend::{
        Append, Backend,
        cluster::{Accept, Cluster},
        embedded::{Embedded, Options},
    },
    clock::Clock,
    envelope::Envelope,
    gateway::{Gateway, Settings as Http},
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};
use servers::{Redis, options};
use wrk::Load;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Job = (Vec<u8>, tokio::sync::oneshot::Sender<()>);

/// The baseline's writer: inserts whatever waits in one transaction, like ours.
fn raw_writer(path: PathBuf) -> mpsc::Sender<Job> {
    let (send, receive) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096;
             CREATE TABLE mailbox(position INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, envelope BLOB NOT NULL)",
        )
        .unwrap();
        while let Ok(first) = receive.recv() {
            let jobs: Vec<Job> = std::iter::once(first).chain(receive.try_iter().take(2047)).collect();
            db.execute_batch("BEGIN IMMEDIATE").unwrap();
            for (bytes, _) in &jobs {
                db.prepare_cached("INSERT INTO mailbox(attempts, envelope) VALUES (0, ?)")
                    .unwrap()
                    .execute([bytes])
                    .unwrap();
            }
            db.execute_batch("COMMIT").unwrap();
            for (_, done) in jobs {
                let _ = done.send(());
            }
        }
    });
    send
}

/// Where the baseline stores.
#[derive(Clone)]
enum Bare {
    Sqlite(mpsc::Sender<Job>),
    /// Without a node, or with one that handles what comes.
    Cluster(Arc<dyn Backend>),
}

async fn bare(store: web::Data<Bare>, key: web::Path<String>, body: web::Json<Add>) -> HttpResponse {
    let envelope = Envelope {
        to: greenroom::Address::new("counter", &key).unwrap(),
        command: serde_json::value::to_raw_value(&*body).unwrap(),
        accepted: Clock::System.now(),
        request: true,
        trace: Some(greenroom::trace::Trace::start()),
        reply: None,
        cause: None,
        asked: None,
        then: None,
        slot: None,
        note: None,
    };
    let append = Append { envelope, due: None, idempotency: None, fence: None };
    match &**store {
        Bare::Sqlite(writer) => {
            let (done, committed) = tokio::sync::oneshot::channel();
            writer.send((serde_json::to_vec(&append.envelope).unwrap(), done)).unwrap();
            committed.await.unwrap();
        }
        Bare::Cluster(store) => {
            for appended in store.append(vec![append]).await {
                appended.unwrap();
            }
        }
    }
    HttpResponse::Accepted().json(serde_json::json!({ "status": "accepted" }))
}

/// Serves the baseline; where.
fn serve(bare_store: Bare) -> String {
    let server = HttpServer::new(move || {
        App::new().app_data(web::Data::new(bare_store.clone())).route("/counters/{key}", web::post().to(bare))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let address = server.addrs()[0];
    actix::spawn(server.run());
    format!("http://{address}")
}

/// Waits until everything accepted is handled.
async fn drained(node: &Node) {
    while node.ledger().await.unwrap().in_flight() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(5);
    let is = |store: &str| std::env::args().any(|arg| arg == store);
    actix::System::new().block_on(async {
        let data = tempfile::tempdir().unwrap();
        let redis = match (is("fsync"), is("memory")) {
            (true, _) => Some((Redis::start("always"), Accept::Fsync)),
            (_, true) => Some((Redis::start("everysec"), Accept::Memory)),
            _ => None,
        };
        let open = |(redis, accept): &(Redis, Accept), what| -> Arc<dyn Backend> {
            Arc::new(Cluster::open(options(redis, *accept, what)).unwrap())
        };
        let (store, mut bares): (Arc<dyn Backend>, _) = match &redis {
            Some(redis) => {
                let store = open(redis, "http");
                let bares = vec![
                    ("bare handler", serve(Bare::Cluster(open(redis, "bare")))),
                    ("bare handler, handled too", serve(Bare::Cluster(store.clone()))),
                ];
                (store, bares)
            }
            None => {
                let options = Options { mailbox_bytes: 8 << 30, ..Options::default() };
                let bare = Bare::Sqlite(raw_writer(data.path().join("raw.db")));
                (Arc::new(Embedded::open(data.path(), options).unwrap()), vec![("bare handler", serve(bare))])
            }
        };
        let features = vec![counter::feature()];
        let settings = Settings { arbiters: 1, ..Settings::default() };
        let start = Start { backend: store, features: features.clone(), settings, clock: Clock::System };
        let node = Node::start(start).await.unwrap();
        let http = Http { listen: "127.0.0.1:0".parse().unwrap(), workers: 1, ..Http::default() };
        let gateway = Gateway::start(node.clone(), &features, http).unwrap();
        let ours = format!("http://{}", gateway.address());

        println!("| | connections | requests/s | p50 ms | p99 ms |\n|---|---|---|---|---|");
        let row = |name: &str, connections: usize, [rate, p50, p99]: [f64; 3]| {
            println!("| {name} | {connections} | {rate:.0} | {p50:.2} | {p99:.2} |");
        };
        let load = |keys, wait, connections| Load { path: "/counters/{key}", keys, wait, connections, seconds };
        for round in 1..=3 {
            for connections in [64, 256] {
                let mut shares = Vec::new();
                for (name, bare) in &bares {
                    let bare = load(1000, false, connections).on(bare).await;
                    row(name, connections, bare);
                    shares.push(bare[0]);
                    drained(&node).await;
                }
                let accepted = load(1000, false, connections).on(&ours).await;
                let shares: Vec<String> =
                    shares.iter().map(|bare| format!("{:.0} %", 100.0 * accepted[0] / bare)).collect();
                row(&format!("accept (202): {} of bare", shares.join(", ")), connections, accepted);
                drained(&node).await;
            }
            // Each round begins with another one, so that none is always on the fuller server.
            bares.reverse();
            for (name, keys, connections) in [
                ("counter, 1,000 keys, wait", 1000, 1),
                ("counter, 1,000 keys, wait", 1000, 64),
                ("counter, 1,000 keys, wait", 1000, 256),
                ("one hot key, wait", 1, 64),
            ] {
                row(name, connections, load(keys, true, connections).on(&ours).await);
            }
            println!("| round {round} | | | | |");
        }
        gateway.stop(false).await;
    });
}
