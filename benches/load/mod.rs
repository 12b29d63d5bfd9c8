//! What the benchmarks of the engine have in common: the actors, the load, and waiting for its end. A
//! benchmark that cannot measure stops with the reason: here and in those that use it, an `unwrap` is
//! that.

// Each benchmark uses its own part of it.
#![allow(dead_code)]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use greenroom::{
    Actor, Address, Context, Feature, Result,
    backend::{Append, Backend},
    clock::Clock,
    envelope::Envelope,
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};
use serde::{Deserialize, Serialize};

/// A command of about 200 bytes with its envelope.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Add {
    amount: u64,
    note: String,
}

/// About 300 bytes of state.
#[derive(Default, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    total: u64,
    note: String,
}

/// Adds to its state, which it writes.
pub(crate) struct Stateful;

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

/// Does nothing.
pub(crate) struct Stateless;

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
pub(crate) struct Stopwatch {
    born: Instant,
    waits: Arc<Mutex<Vec<u64>>>,
}

impl Actor for Stopwatch {
    const KIND: &'static str = "stopwatch";
    type State = ();
    type Command = u64;
    type Reply = ();

    async fn handle(&self, _: &mut (), sent: u64, _: &Context<Self>) -> Result<()> {
        let wait = (self.born.elapsed().as_micros() as u64).saturating_sub(sent);
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
        Ok(())
    }
}

/// A message to one of these.
pub(crate) fn envelope(kind: &str, key: u64, request: bool) -> Append {
    let envelope = Envelope {
        to: Address::new(kind, &key.to_string()).unwrap(),
        command: serde_json::value::to_raw_value(&Add { amount: 1, note: "x".repeat(100) }).unwrap(),
        accepted: Clock::System.now(),
        request,
        trace: None,
        reply: None,
        cause: None,
        asked: None,
        then: None,
        slot: None,
        note: None,
    };
    Append { envelope, due: None, idempotency: None, fence: None }
}

/// A node with the actors that need nothing.
pub(crate) async fn start(backend: Arc<dyn Backend>) -> Node {
    start_with(backend, vec![Feature::new(Stateful).actor(Stateless)]).await
}

async fn start_with(backend: Arc<dyn Backend>, features: Vec<Feature>) -> Node {
    Node::start(Start { backend, features, settings: Settings::default(), clock: Clock::System }).await.unwrap()
}

/// Appends in batches of 100, 16 of them on their way at once.
pub(crate) async fn append(store: &Arc<dyn Backend>, kind: &str, messages: u64, keys: u64, request: bool) {
    let mut sent = 0;
    let mut waiting = std::collections::VecDeque::new();
    while sent < messages {
        let batch = (sent..(sent + 100).min(messages)).map(|n| envelope(kind, n % keys, request)).collect();
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

/// Waits until nothing is in flight.
pub(crate) async fn drained(store: &Arc<dyn Backend>) {
    loop {
        let open: i64 = store.ledgers().await.unwrap().iter().map(|ledger| ledger.in_flight()).sum();
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Enqueue → handler at 500 a second: p50 and p99, in µs.
pub(crate) async fn latency(store: Arc<dyn Backend>) -> (u64, u64) {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let born = Instant::now();
    let node = start_with(store.clone(), vec![Feature::new(Stopwatch { born, waits: waits.clone() })]).await;
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    for n in 0..4_000 {
        tick.tick().await;
        let (node, at) = (node.clone(), Stopwatch::at((n % 100).to_string()));
        actix::spawn(async move { node.tell(at, born.elapsed().as_micros() as u64).await.map(drop) });
    }
    drained(&store).await;
    node.drain(Duration::from_secs(5)).await;
    let mut waits = std::mem::take(&mut *waits.lock().unwrap()).split_off(1_000);
    waits.sort_unstable();
    let at = |part: f64| waits[(waits.len() as f64 * part) as usize];
    (at(0.5), at(0.99))
}

/// Whether this part was asked for: all are when none is named.
pub(crate) fn wanted(name: &str) -> bool {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str()))
}
