//! Nodes against each other, in one process: a store in memory, shared by as many nodes as a test
//! wants, each with its own idea of who is there.

mod cancelling;
mod deferring;
mod finishing;
mod noting;
mod paging;
mod pausing;
mod replaying;
mod rolling;
mod sharing;
mod town;
mod turning;
mod unsavable;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot};

use crate::{
    backend::{
        Backend,
        embedded::{Embedded, Options},
    },
    clock::Clock,
    prelude::*,
    runtime::{
        faults::{Faults, Plan},
        node::Start,
        settings::Settings,
    },
    testing::recorder::{Arrives, Hold, Recorder, backend},
};

/// Adds, after passing a gate that some tests keep shut.
#[derive(Clone)]
struct Counter {
    gate: Arc<Semaphore>,
    /// What was begun, in order.
    begun: Arc<Mutex<Vec<u64>>>,
    /// Held by a test that wants the thread of [`BLOCK`] blocked.
    block: Arc<Mutex<()>>,
}

/// Blocks its thread, as no handler may.
const BLOCK: u64 = 666;

impl Counter {
    fn open() -> Self {
        Self { gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), begun: Arc::default(), block: Arc::default() }
    }

    fn shut() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::open() }
    }

    fn let_through(&self, commands: usize) {
        self.gate.add_permits(commands);
    }

    fn begun(&self) -> Vec<u64> {
        self.begun.lock().unwrap().clone()
    }
}

impl Actor for Counter {
    const KIND: &'static str = "counter";
    type State = u64;
    type Command = u64;
    type Reply = u64;

    async fn handle(&self, total: &mut u64, add: u64, _: &Context<Self>) -> Result<u64> {
        self.begun.lock().unwrap().push(add);
        if add == BLOCK {
            drop(self.block.lock().unwrap());
        }
        self.gate.acquire().await?.forget();
        *total += add;
        Ok(*total)
    }
}

/// A node alone with a store whose answers a test may hold back.
async fn held(hold: &Arc<Hold>, feature: Feature, clock: Clock) -> Node {
    held_on(&memory(), Arc::default(), hold, feature, clock).await
}

fn memory() -> Arc<Embedded> {
    Arc::new(Embedded::in_memory(Options { partitions: 1, ..Options::default() }).unwrap())
}

/// One that may die, and leave its store to the next one.
async fn held_on(store: &Arc<Embedded>, plan: Arc<Plan>, hold: &Arc<Hold>, feature: Feature, clock: Clock) -> Node {
    let settings = Settings { arbiters: 0, ..Settings::default() };
    held_with(store.clone(), settings, plan, hold, feature, clock).await
}

/// One with these bounds.
async fn held_with(
    store: Arc<dyn Backend>,
    settings: Settings,
    plan: Arc<Plan>,
    hold: &Arc<Hold>,
    feature: Feature,
    clock: Clock,
) -> Node {
    let (history, hold) = (Arc::default(), Some(hold.clone()));
    let recorder = Recorder { store, history, plan: plan.clone(), company: None, hold };
    let start = Start { backend: backend(recorder), features: vec![feature], settings, clock };
    Node::start_with(start, Faults::planned(plan), 1).await.unwrap()
}

/// Holds back the next answer of its kind; what lets it go.
fn hold_back(answer: &Arrives) -> oneshot::Sender<()> {
    let (send, sent) = oneshot::channel();
    *answer.lock().unwrap() = Some(sent);
    send
}

/// Whether one that is held back has been asked for.
fn is_asked(answer: &Arrives) -> bool {
    answer.lock().unwrap().is_none()
}

/// Runs a test in a system of its own.
fn play<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    actix::System::new().block_on(async { test().await });
}

/// Lets others work until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::task::yield_now().await;
    }
}
