//! What a session costs: requests a second of a handler that takes one against the same handler without, in
//! one run, on either store, loaded by `wrk` (Debian package); and bytes of a session in Redis.
//! `cargo bench --bench sessions [-- embedded | cluster | memory]`; MongoDB is the one that
//! `GREENROOM_TEST_MONGO` names (`tests/servers start && . .parts/run/env`). A benchmark that cannot measure
//! stops with the reason: an `unwrap` is that.

#[allow(dead_code, reason = "the benchmark of the cluster store uses the rest")]
#[path = "load/servers.rs"]
mod servers;

use std::{fmt::Write, process::Command, sync::Arc};

use actix_web::{HttpResponse, web};
use fred::{prelude::*, types::InfoKind};
use greenroom::{
    Feature,
    backend::{
        Backend,
        cluster::{Accept, Cluster},
        embedded::{Embedded, Options},
        sessions::{Former, Issued, SessionKey, SessionName, SessionRecord, Use, drawer_of},
    },
    clock::Clock,
    coordination::session::{LoggedIn, Session},
    gateway::{Gateway, Problem, Settings as Http},
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};
use servers::{Redis, options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients of the load.
const CLIENTS: usize = 1000;
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

async fn plain() -> HttpResponse {
    HttpResponse::Ok().body("ann")
}

/// Takes one, and there is none: no cookie, no store.
async fn anonymous(session: Session) -> HttpResponse {
    HttpResponse::Ok().body(session.user().unwrap_or_default())
}

async fn read(session: LoggedIn) -> HttpResponse {
    HttpResponse::Ok().body(session.user().to_owned())
}

async fn write(session: LoggedIn) -> Result<HttpResponse, Problem> {
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(HttpResponse::Ok().body(session.user().to_owned()))
}

async fn login(session: Session, user: web::Path<String>) -> Result<HttpResponse, Problem> {
    session.set("theme", "dark")?;
    session.login(&user).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn feature() -> Feature {
    Feature::default().routes(|routes| {
        routes
            .route("/plain", web::get().to(plain))
            .route("/anonymous", web::get().to(anonymous))
            .route("/read", web::get().to(read))
            .route("/write", web::post().to(write))
            .route("/login/{user}", web::post().to(login));
    })
}

/// Requests a second, and p50 and p99 in ms.
async fn load(url: &str, method: &str, path: &str, script: &std::path::Path, connections: usize) -> [f64; 3] {
    let command = format!(
        "wrk -t1 -c{connections} -d4s --timeout 10s --latency -s {} {url}{path} -- {method} {}",
        script.display(),
        if path == "/read" || path == "/write" { "cookies" } else { "none" }
    );
    let output = web::block(move || Command::new("sh").args(["-c", &command]).output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("RESULT")).unwrap_or_else(|| panic!("wrk said: {text}"));
    let numbers: Vec<f64> = line.split(' ').skip(1).map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers[3], 0.0, "wrk saw errors: {text}");
    [numbers[0], numbers[1], numbers[2]]
}

/// Sends the cookies of all clients, one after the other.
fn script(cookies: &[String]) -> String {
    let mut script = String::from("cookies = {\n");
    for cookie in cookies {
        writeln!(script, "  \"{cookie}\",").unwrap();
    }
    script
        + "}\nlocal at, method, with = 0, 'GET', false
function init(args)
  method, with = args[1], args[2] == 'cookies'
  wrk.headers['Sec-Fetch-Site'] = 'same-origin'
end
function request()
  at = at % #cookies + 1
  if with then wrk.headers['Cookie'] = cookies[at] end
  return wrk.format(method)
end
function done(summary, latency)
  local e = summary.errors
  print(string.format('RESULT %f %f %f %d', summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
"
}

fn log_in(url: &str, user: usize) -> String {
    let answer = ureq::post(format!("{url}/login/user-{user}"))
        .header("user-agent", AGENT)
        .header("sec-fetch-site", "same-origin")
        .send_empty()
        .unwrap();
    let set = answer.headers().get("set-cookie").unwrap().to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// Prints the rate of each handler, and its part of that of the handler without a session.
async fn requests(name: &str, store: Arc<dyn Backend>) {
    let settings = Settings { arbiters: 1, ..Settings::default() };
    let features = vec![feature()];
    let start = Start { backend: store.clone(), features: features.clone(), settings, clock: Clock::System };
    let node = Node::start(start).await.unwrap();
    let http = Http { listen: "127.0.0.1:0".parse().unwrap(), workers: 1, ..Http::default() };
    let gateway = Gateway::start(node.clone(), &features, http).unwrap();
    let url = format!("http://{}", gateway.address());
    let logging = url.clone();
    let cookies = web::block(move || (0..CLIENTS).map(|user| log_in(&logging, user)).collect::<Vec<_>>());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cookies.lua");
    std::fs::write(&file, script(&cookies.await.unwrap())).unwrap();
    let rows = [
        ("without", "GET", "/plain"),
        ("none there", "GET", "/anonymous"),
        ("read", "GET", "/read"),
        ("write", "POST", "/write"),
    ];
    for round in 1..=3 {
        for connections in [1, 64] {
            let mut bare = 0.0;
            for (what, method, path) in rows {
                let [rate, p50, p99] = load(&url, method, path, &file, connections).await;
                bare = if path == "/plain" { rate } else { bare };
                let part = 100.0 * rate / bare;
                println!(
                    "| {name} | {round} | {connections} | {what} | {rate:.0} | {part:.0} % | {p50:.2} | {p99:.2} |"
                );
            }
        }
    }
    gateway.stop(false).await;
}

fn record(user: String, now: i64, data: &str) -> SessionRecord {
    SessionRecord {
        user: Some(user),
        created: now,
        seen: now,
        until: now + 43_200_000,
        ends: now + 1_209_600_000,
        rev: 1,
        agent: AGENT.into(),
        data: data.into(),
        issued: Issued { digest: uuid::Uuid::new_v4().into_bytes(), at: now, former: None },
    }
}

/// Prints the bytes of a session in Redis, everything about it counted.
async fn memory() {
    const SESSIONS: usize = 50_000;
    println!("| | bytes a session |\n|---|---|");
    for (what, each, data) in [
        ("one a user, no data", 1, "{}"),
        ("one a user, 100 bytes of data", 1, &*format!("{{\"cart\":\"{}\"}}", "x".repeat(89))),
        ("ten a user, 100 bytes of data", 10, &*format!("{{\"cart\":\"{}\"}}", "x".repeat(89))),
    ] {
        let redis = Redis::start("no");
        let client = redis.client().await;
        let used = async || -> f64 {
            let info: String = client.info(Some(InfoKind::Memory)).await.unwrap();
            let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).unwrap();
            let overhead = info.lines().find_map(|line| line.strip_prefix("used_memory_overhead:")).unwrap();
            let number = |text: &str| text.trim().parse::<f64>().unwrap();
            number(line) + number(overhead)
        };
        let store = Cluster::open(options(&redis, Accept::Memory, "sessions")).unwrap();
        let (now, before) = (Clock::System.now(), used().await);
        let key = |n: usize| {
            let mut name = [7; 12];
            name[..8].copy_from_slice(&(n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            SessionKey { drawer: drawer_of(&format!("user-{}", n / each)), name: SessionName(name) }
        };
        let backend: &dyn Backend = &store;
        let mut digests = Vec::new();
        for n in (0..SESSIONS).step_by(500) {
            let some = (n..n + 500).map(|n| {
                let record = record(format!("user-{}", n / each), now, data);
                digests.push(record.issued.digest);
                backend.open_session(key(n), record, 100, None)
            });
            for opened in futures_util::future::join_all(some).await {
                opened.unwrap();
            }
        }
        println!("| {what} | {:.0} |", (used().await - before) / SESSIONS as f64);
        for n in (0..SESSIONS).step_by(500) {
            let some = (n..n + 500).map(|n| {
                let former = Former { digest: digests[n], nonce: [9; 16], until: now + 60_000 };
                let new = Issued { digest: uuid::Uuid::new_v4().into_bytes(), at: now, former: Some(former) };
                backend.renew_session(key(n), digests[n], new, Use { now, until: now + 43_200_000 })
            });
            for renewed in futures_util::future::join_all(some).await {
                renewed.unwrap();
            }
        }
        println!("| {what}, its secret replaced | {:.0} |", (used().await - before) / SESSIONS as f64);
    }
}

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    actix::System::new().block_on(async {
        if wanted("embedded") || wanted("cluster") {
            println!("| store | round | connections | session | requests/s | of without | p50 ms | p99 ms |");
            println!("|---|---|---|---|---|---|---|---|");
        }
        if wanted("embedded") {
            let data = tempfile::tempdir().unwrap();
            requests("embedded", Arc::new(Embedded::open(data.path(), Options::default()).unwrap())).await;
        }
        if wanted("cluster") {
            let redis = Redis::start("always");
            requests("cluster", Arc::new(Cluster::open(options(&redis, Accept::Fsync, "http")).unwrap())).await;
        }
        if wanted("memory") {
            memory().await;
        }
    });
}
