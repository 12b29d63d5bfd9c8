//! What a client sees: accepted requests and request-response over HTTP, against a bare actix-web
//! handler that commits the same bytes to SQLite in group commit, in one run, loaded by `wrk`
//! (Debian package). `cargo bench --bench http [-- SECONDS]`. A benchmark that cannot measure stops
//! with the reason: an `unwrap` is that.

use std::{
    process::Command,
    sync::{Arc, mpsc},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use greenroom::{
    Actor, Context, Feature, Result,
    backend::{
        Append,
        embedded::{Embedded, Options},
    },
    clock::Clock,
    envelope::Envelope,
    gateway::{Gateway, Intake, Problem, Settings as Http},
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Counter;

#[derive(Serialize, Deserialize)]
struct Add {
    add: u64,
    note: String,
}

impl Actor for Counter {
    const KIND: &'static str = "counter";
    type State = u64;
    type Command = Add;
    type Reply = u64;

    async fn handle(&self, total: &mut u64, add: Add, _: &Context<Self>) -> Result<u64> {
        *total += add.add;
        Ok(*total)
    }
}

async fn add(intake: Intake, key: web::Path<String>, body: web::Json<Add>) -> Result<HttpResponse, Problem> {
    intake.accept(Counter::at(key.into_inner()), body.into_inner()).answer(serde_json::json!({})).await
}

type Job = (Vec<u8>, tokio::sync::oneshot::Sender<()>);

/// The baseline's writer: inserts whatever waits in one transaction, like ours.
fn raw_writer(path: std::path::PathBuf) -> mpsc::Sender<Job> {
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

async fn bare(writer: web::Data<mpsc::Sender<Job>>, key: web::Path<String>, body: web::Json<Add>) -> HttpResponse {
    let envelope = Envelope {
        to: greenroom::Address::new("counter", &key).unwrap(),
        command: serde_json::value::to_raw_value(&*body).unwrap(),
        accepted: Clock::System.now(),
        request: true,
        trace: Some(greenroom::trace::Trace::start()),
        reply: None,
        cause: None,
        asked: None,
        note: None,
    };
    let append = Append { envelope, due: None, idempotency: None };
    let (done, committed) = tokio::sync::oneshot::channel();
    writer.send((serde_json::to_vec(&append.envelope).unwrap(), done)).unwrap();
    committed.await.unwrap();
    HttpResponse::Accepted().json(serde_json::json!({ "status": "accepted" }))
}

/// requests/s, p50 and p99 in milliseconds.
async fn load(base: &str, path: &str, keys: u64, wait: &str, connections: u32, seconds: u64) -> [f64; 3] {
    let command =
        format!("wrk -t1 -c{connections} -d{seconds}s --latency -s bench/post.lua {base} -- {path} {keys} {wait}");
    let output =
        actix_web::web::block(move || Command::new("sh").args(["-c", &command]).output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("RESULT")).unwrap_or_else(|| panic!("wrk said: {text}"));
    let numbers: Vec<f64> = line.split(' ').skip(1).map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers[3], 0.0, "wrk saw errors: {text}");
    [numbers[0], numbers[1], numbers[2]]
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(5);
    actix::System::new().block_on(async {
        let data = tempfile::tempdir().unwrap();
        let store =
            Arc::new(Embedded::open(data.path(), Options { mailbox_bytes: 8 << 30, ..Options::default() }).unwrap());
        let feature = Feature::new(Counter).routes(|routes| {
            routes.route("/counters/{key}", web::post().to(add));
        });
        let settings = Settings { arbiters: 1, ..Settings::default() };
        let start = Start { backend: store, features: vec![feature.clone()], settings, clock: Clock::System };
        let node = Node::start(start).await.unwrap();
        let http = Http { listen: "127.0.0.1:0".parse().unwrap(), workers: 1, ..Http::default() };
        let gateway = Gateway::start(node.clone(), &[feature], http).unwrap();
        let ours = format!("http://{}", gateway.address());

        let writer = raw_writer(data.path().join("raw.db"));
        let server = HttpServer::new(move || {
            App::new().app_data(web::Data::new(writer.clone())).route("/counters/{key}", web::post().to(bare))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let baseline = format!("http://{}", server.addrs()[0]);
        actix::spawn(server.run());

        println!("| | connections | requests/s | p50 ms | p99 ms |\n|---|---|---|---|---|");
        let row = |name: &str, connections: u32, [rate, p50, p99]: [f64; 3]| {
            println!("| {name} | {connections} | {rate:.0} | {p50:.2} | {p99:.2} |");
        };
        for round in 1..=3 {
            for connections in [64, 256] {
                let bare = load(&baseline, "/counters", 1000, "no", connections, seconds).await;
                row("bare handler, same bytes, group commit", connections, bare);
                let accepted = load(&ours, "/counters", 1000, "no", connections, seconds).await;
                row(&format!("accept (202): {:.0} % of bare", 100.0 * accepted[0] / bare[0]), connections, accepted);
                loop {
                    if node.ledger().await.unwrap().in_flight() == 0 {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
            for (name, keys, connections) in [
                ("counter, 1,000 keys, wait", 1000, 1),
                ("counter, 1,000 keys, wait", 1000, 64),
                ("counter, 1,000 keys, wait", 1000, 256),
                ("one hot key, wait", 1, 64),
            ] {
                row(name, connections, load(&ours, "/counters", keys, "wait", connections, seconds).await);
            }
            println!("| round {round} | | | | |");
        }
        gateway.stop(false).await;
    });
}
