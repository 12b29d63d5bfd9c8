//! The clients: each follows one tape over a WebSocket, comes back when it is told to or cut off, and goes
//! on after the last id it was given. It checks that the numbers come one after the other.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::{net::TcpStream, sync::Semaphore, task::LocalSet, time::sleep};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::{
    pushers::Pushed,
    support::{Random, eventually},
    times::Times,
};

/// Clients that connect for the first time at once.
const AT_ONCE: usize = 100;
/// What a client that was cut off waits before it comes back, at random, and again when it was refused.
const BACKOFF: u64 = 1_000;

/// Why a client had to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// It was told to.
    Moved,
    /// Its connection ended without a word.
    Cut,
}

/// All clients.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    url: String,
    pushed: Pushed,
    over: AtomicBool,
    connected: AtomicUsize,
    /// The last number that each was given.
    seen: Vec<AtomicU64>,
    refused: AtomicU64,
    first: Semaphore,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    back: BTreeMap<Left, Times>,
    waits: Times,
    latency: Times,
    violations: Vec<String>,
}

impl Crowd {
    /// So many clients, on one tape after the other.
    pub(crate) fn start(url: &str, clients: usize, pushed: &Pushed) -> Self {
        let shared = Arc::new(Shared {
            url: url.replace("http://", "ws://"),
            pushed: pushed.clone(),
            over: AtomicBool::new(false),
            connected: AtomicUsize::new(0),
            seen: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            refused: AtomicU64::new(0),
            first: Semaphore::new(AT_ONCE),
            told: Mutex::default(),
        });
        let all = shared.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let local = LocalSet::new();
            for index in 0..clients {
                local.spawn_local(Client::new(all.clone(), index).run());
            }
            runtime.block_on(local);
        });
        Self { shared, thread: Some(thread) }
    }

    /// Waits until all are connected and up to date.
    pub(crate) fn wait_connected(&self) {
        let all = self.shared.seen.len();
        eventually("all clients to be connected", || (self.shared.connected.load(SeqCst) == all).then_some(()));
    }

    /// Waits until each was given all numbers of its tape.
    pub(crate) fn wait_seen(&self, accepted: &[u64]) {
        let seen = &self.shared.seen;
        eventually("all clients to be given everything", || {
            let all = seen.iter().enumerate().all(|(i, seen)| seen.load(SeqCst) >= accepted[i % accepted.len()]);
            all.then_some(())
        });
    }

    /// How long it took from the end of a connection to being up to date on another, since last asked.
    pub(crate) fn back(&self, left: Left) -> Times {
        self.told(|told| told.back.remove(&left).unwrap_or_default())
    }

    /// How long clients were told to wait, since last asked.
    pub(crate) fn waits(&self) -> Times {
        self.told(|told| std::mem::take(&mut told.waits))
    }

    /// From pushing to being given, for clients that were up to date, since last asked.
    pub(crate) fn take_latency(&self) -> Times {
        self.told(|told| std::mem::take(&mut told.latency))
    }

    fn told<T>(&self, take: impl FnOnce(&mut Told) -> T) -> T {
        take(&mut self.shared.told.lock().unwrap())
    }

    /// Connections that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(SeqCst)
    }

    /// Ends it; how many numbers were given, and what was wrong.
    pub(crate) fn stop(&mut self) -> (u64, Vec<String>) {
        self.shared.over.store(true, SeqCst);
        self.thread.take().expect("it runs").join().expect("the clients");
        let given = self.shared.seen.iter().map(|seen| seen.load(SeqCst)).sum();
        (given, self.told(|told| std::mem::take(&mut told.violations)))
    }
}

impl Shared {
    fn wrong(&self, what: impl fmt::Display) {
        self.told.lock().unwrap().violations.push(what.to_string());
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Client {
    shared: Arc<Shared>,
    index: usize,
    random: Random,
    /// The id after which it goes on.
    after: String,
}

impl Client {
    fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self { shared, index, random: Random::seeded(index as u64), after: String::new() }
    }

    fn tape(&self) -> usize {
        self.index % self.shared.pushed.len()
    }

    fn over(&self) -> bool {
        self.shared.over.load(SeqCst)
    }

    async fn run(mut self) {
        let shared = self.shared.clone();
        let mut first = Some(shared.first.acquire().await.expect("open"));
        let mut left: Option<(Left, Instant)> = None;
        while !self.over() {
            let Ok(socket) = self.connect().await else {
                self.shared.refused.fetch_add(1, SeqCst);
                self.pause().await;
                continue;
            };
            let why = self.follow(socket, &mut left, &mut first).await;
            let at = Instant::now();
            // Time counts from when it first had to leave.
            left = left.or(Some((if why.is_some() { Left::Moved } else { Left::Cut }, at)));
            match why {
                Some(wait) => {
                    self.shared.told.lock().unwrap().waits.add(wait);
                    sleep(wait).await;
                }
                None => self.pause().await,
            }
        }
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.random.below(BACKOFF))).await;
    }

    async fn connect(&self) -> Result<Socket, ()> {
        let url = format!("{}/tapes/{}/live?after={}", self.shared.url, self.tape(), self.after);
        let config = WebSocketConfig::default().read_buffer_size(1 << 10).write_buffer_size(0);
        connect_async_with_config(url, Some(config), true).await.map(|(socket, _)| socket).map_err(drop)
    }

    /// Follows until the connection ends; how long to wait if it was told.
    async fn follow(
        &mut self,
        mut socket: Socket,
        left: &mut Option<(Left, Instant)>,
        first: &mut Option<tokio::sync::SemaphorePermit<'_>>,
    ) -> Option<Duration> {
        let (mut ready, mut wait) = (false, None);
        loop {
            // Now and then it looks whether it is over.
            let next = tokio::time::timeout(Duration::from_secs(1), socket.next()).await;
            if self.over() {
                break;
            }
            match next {
                Err(_) => {}
                Ok(Some(Ok(Message::Text(text)))) => {
                    let said: Value = serde_json::from_str(&text).expect("JSON");
                    match said["event"].as_str() {
                        Some("n") => self.take(said["data"].as_u64().expect("a number"), ready),
                        Some("ready") => {
                            ready = true;
                            self.shared.connected.fetch_add(1, SeqCst);
                            first.take();
                            if let Some((why, at)) = left.take() {
                                self.shared.told.lock().unwrap().back.entry(why).or_default().add(at.elapsed());
                            }
                        }
                        Some("moving") => wait = said["data"]["wait_ms"].as_u64().map(Duration::from_millis),
                        _ => self.shared.wrong(format_args!("client {}: {text}", self.index)),
                    }
                    if let Some(id) = said["id"].as_str() {
                        id.clone_into(&mut self.after);
                    }
                }
                Ok(Some(Ok(Message::Close(_)))) | Ok(None) | Ok(Some(Err(_))) => break,
                Ok(Some(Ok(_))) => {}
            }
        }
        if ready {
            self.shared.connected.fetch_sub(1, SeqCst);
        }
        wait
    }

    fn take(&self, number: u64, ready: bool) {
        let before = self.shared.seen[self.index].swap(number, SeqCst);
        if number != before + 1 {
            self.shared.wrong(format_args!("client {} was given {number} after {before}", self.index));
        }
        if ready {
            let pushed = self.shared.pushed[self.tape()].lock().unwrap()[number as usize - 1];
            self.shared.told.lock().unwrap().latency.add(pushed.elapsed());
        }
    }
}
