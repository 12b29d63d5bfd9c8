//! What ann's hundred thousand commands do to bob, who asks for one now and then: with tenants, and, to see what
//! they are for, without.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use greenroom::{
    Actor, Address, Context, Feature, Node, Result,
    backend::{Append, Backend},
};
use mongodb::bson::doc;
use tokio::sync::oneshot;

use super::{Open, load, p50_p99, start};

const FLOOD: u64 = 100_000;
/// So many send parts of it at once.
const CALLERS: u64 = 20;
/// Bob asks this often.
const EVERY: Duration = Duration::from_millis(5);
/// How often he asks while nobody else does.
const IDLE: u64 = 2_000;
const NAP: Duration = Duration::from_millis(1);

/// Counts, as long as that takes.
#[derive(Clone)]
struct Mail<const FAIR: bool> {
    takes: Duration,
    sent: Arc<AtomicU64>,
}

impl<const FAIR: bool> Actor for Mail<FAIR> {
    const KIND: &'static str = if FAIR { "fair" } else { "plain" };
    type State = u64;
    type Command = u64;
    type Reply = u64;

    fn tenant(key: &str) -> Option<&str> {
        if FAIR { key.split('/').next() } else { None }
    }

    async fn handle(&self, count: &mut u64, _: u64, cx: &Context<Self>) -> Result<u64> {
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        if cx.key().starts_with("ann") {
            self.sent.fetch_add(1, Ordering::SeqCst);
        }
        *count += 1;
        Ok(*count)
    }
}

/// Has bob ask, on a thread of his own as ann's client is not his, until it is said; from before each question until
/// its answer, which is after the commit, in µs.
async fn bob<const FAIR: bool>(node: &Node, over: impl Fn(u64) -> bool + Send + 'static) -> Vec<u64> {
    let (node, (done, waits)) = (node.clone(), oneshot::channel());
    let ask = move |n| {
        let node = node.clone();
        async move { node.ask(Mail::<FAIR>::at(format!("bob/{}", n % 50)), n).await.unwrap() }
    };
    std::thread::spawn(move || done.send(actix::System::new().block_on(asks(ask, over))));
    waits.await.unwrap()
}

/// Asks now and then, whatever became of what was asked before.
async fn asks<F: Future + 'static>(ask: impl Fn(u64) -> F, over: impl Fn(u64) -> bool) -> Vec<u64> {
    let waits = Arc::<Mutex<Vec<u64>>>::default();
    let (mut asked, mut tick) = (Vec::new(), tokio::time::interval(EVERY));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut n = 0;
    while !over(n) {
        tick.tick().await;
        let (answer, waits) = (ask(n), waits.clone());
        asked.push(actix::spawn(async move {
            let begun = Instant::now();
            answer.await;
            waits.lock().unwrap().push(begun.elapsed().as_micros() as u64);
        }));
        n += 1;
    }
    for asked in join_all(asked).await {
        asked.unwrap();
    }
    std::mem::take(&mut *waits.lock().unwrap())
}

/// How late a thread wakes that only sleeps, until it is said: what the machine itself adds, in µs.
fn late(over: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<u64>> {
    std::thread::spawn(move || {
        let mut late = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let begun = Instant::now();
            std::thread::sleep(NAP);
            late.push((begun.elapsed() - NAP).as_micros() as u64);
        }
        late
    })
}

/// How long MongoDB takes to write a document to its journal for somebody who does only that as often as bob asks,
/// until it is said, in µs: what no answer of an actor with a state can be quicker than.
fn raw(over: impl Fn(u64) -> bool + Send + 'static) -> std::thread::JoinHandle<Vec<u64>> {
    let writes = async move {
        let client = mongodb::Client::with_uri_str(&super::servers::mongo()).await.unwrap();
        let db = client.database(&format!("bench-raw-{}", std::process::id()));
        let write = |n: u64| {
            let (db, id) = (db.clone(), (n % 50) as i64);
            let update = doc! { "q": { "_id": id }, "u": { "$inc": { "n": 1 } }, "upsert": true };
            let concern = doc! { "w": "majority", "j": true };
            let update = doc! { "update": "raw", "updates": [update], "writeConcern": concern };
            async move { db.run_command(update).await.unwrap() }
        };
        let took = asks(write, over).await;
        db.drop().await.unwrap();
        took
    };
    std::thread::spawn(move || actix::System::new().block_on(writes))
}

/// One flood of ann's, until all of it is handled: how long it took to be accepted, and to be handled.
async fn flood<const FAIR: bool>(node: &Node, mail: &Mail<FAIR>) -> (Duration, Duration) {
    let begun = Instant::now();
    let wanted = mail.sent.load(Ordering::SeqCst) + FLOOD;
    let callers = (0..CALLERS).map(|caller| {
        let node = node.clone();
        let all = (0..FLOOD / CALLERS).map(move |n| n * CALLERS + caller);
        async move { node.tell_all(all.map(|n| (Mail::<FAIR>::at(format!("ann/{}", n % 1_000)), n))).await }
    });
    for told in join_all(callers).await.into_iter().flat_map(Result::unwrap) {
        told.unwrap();
    }
    let accepted = begun.elapsed();
    while mail.sent.load(Ordering::SeqCst) < wanted {
        tokio::time::sleep(NAP).await;
    }
    (accepted, begun.elapsed())
}

/// Bob alone, and then while ann floods, once and again until he has asked as often.
async fn one<const FAIR: bool>(store: &str, backend: Arc<dyn Backend>, takes: Duration) {
    let mail = Mail::<FAIR> { takes, sent: Arc::default() };
    let node = start(backend, vec![Feature::new(mail.clone())]).await;
    bob::<FAIR>(&node, |n| n > 200).await;
    let mongo = store.starts_with("Redis");
    let alone = mongo.then(|| raw(|n| n > IDLE).join().unwrap());
    let idle = p50_p99(bob::<FAIR>(&node, |n| n > IDLE).await);
    let (over, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let late = late(over.clone());
    let raw = mongo.then(|| {
        let over = over.clone();
        raw(move |_| over.load(Ordering::SeqCst))
    });
    let floods = actix::spawn({
        let (node, over, asked) = (node.clone(), over.clone(), asked.clone());
        async move {
            let mut floods = Vec::new();
            while asked.load(Ordering::SeqCst) < IDLE {
                floods.push(flood(&node, &mail).await);
            }
            over.store(true, Ordering::SeqCst);
            floods
        }
    });
    let waits =
        bob::<FAIR>(&node, move |n| asked.fetch_max(n, Ordering::SeqCst) > 0 && over.load(Ordering::SeqCst)).await;
    let (count, late) = (waits.len(), p50_p99(late.join().unwrap()));
    let (flooded, floods) = (p50_p99(waits), floods.await.unwrap());
    let mean =
        |of: fn(&(Duration, Duration)) -> Duration| floods.iter().map(of).sum::<Duration>() / floods.len() as u32;
    println!(
        "fair on {store}, {} tenants, {takes:?} each: bob alone p50 {} µs, p99 {} µs; while ann sends {FLOOD} {} times, each in {:.1} s, which take {:.1} s, p50 {} µs, p99 {} µs of {count} ({:.1} times); a thread that only sleeps wakes p99 {} µs late",
        if FAIR { "with" } else { "without" },
        idle.0,
        idle.1,
        floods.len(),
        mean(|flood| flood.0).as_secs_f64(),
        mean(|flood| flood.1).as_secs_f64(),
        flooded.0,
        flooded.1,
        flooded.1 as f64 / idle.1 as f64,
        late.1
    );
    if let Some((alone, raw)) = alone.zip(raw) {
        let (alone, beside) = (p50_p99(alone), p50_p99(raw.join().unwrap()));
        println!(
            "  a write to MongoDB's journal and nothing else: alone p50 {} µs, p99 {} µs; beside all this p50 {} µs, p99 {} µs ({:.1} times)",
            alone.0,
            alone.1,
            beside.0,
            beside.1,
            beside.1 as f64 / alone.1 as f64
        );
    }
    node.drain(Duration::from_secs(10)).await;
}

/// Commands that take no time, so that the store is what is shared; and such as wait for somebody.
pub(crate) async fn fair(store: &str, open: Open<'_>) {
    for takes in [Duration::ZERO, Duration::from_millis(5)] {
        for round in 1..=3 {
            one::<true>(store, open(&format!("fair{}{round}", takes.as_millis())), takes).await;
        }
        one::<false>(store, open(&format!("plain{}", takes.as_millis())), takes).await;
    }
}

fn mail(n: u64, of: &str) -> Append {
    let mut append = load::envelope("fair", n, false);
    append.envelope.to = Address::new("fair", of).unwrap();
    append.envelope.command = serde_json::value::to_raw_value(&n).unwrap();
    append
}

/// A node starts where ann has left so many, which are paused or not, and bob one behind them.
pub(crate) async fn takeover(store: &str, open: Open<'_>, backlog: u64) {
    for (paused, size) in [(true, 0), (true, backlog), (false, 0), (false, backlog)] {
        let backend = open(&format!("takeover{paused}{size}"));
        let feature = || Feature::new(Mail::<true> { takes: Duration::ZERO, sent: Arc::default() });
        let node = start(backend.clone(), vec![feature()]).await;
        node.pause("fair", None).await.unwrap();
        let mut sent = 0;
        while sent < size {
            let batch = (sent..(sent + 1_000).min(size)).map(|n| mail(n, &format!("ann/{}", n % 1_000))).collect();
            for appended in backend.append(batch).await {
                appended.unwrap();
            }
            sent += 1_000;
        }
        let mut last = None;
        for n in 0..16 {
            last = Some(node.tell(Mail::<true>::at(format!("bob/{n}")), n).await.unwrap());
        }
        if !paused {
            // It ends before it could begin with what it has.
            node.drain(Duration::from_secs(1)).await;
            let begun = Instant::now();
            let node = start(backend, vec![feature()]).await;
            node.resume("fair", None).await.unwrap();
            let wait = begun.elapsed();
            ended(&node, last.unwrap()).await;
            println!(
                "takeover on {store} of {size} commands of ann: the node is there after {:.2} s, bob's was handled after {:.2} s",
                wait.as_secs_f64(),
                begun.elapsed().as_secs_f64()
            );
            node.drain(Duration::from_secs(10)).await;
            continue;
        }
        node.drain(Duration::from_secs(1)).await;
        let begun = Instant::now();
        let node = start(backend, vec![feature().actor(load::Stateless)]).await;
        node.ask(load::Stateless::at("bob"), load::Add::default()).await.unwrap();
        println!(
            "takeover on {store} of {size} paused commands: another kind's was handled after {:.2} s",
            begun.elapsed().as_secs_f64()
        );
        node.drain(Duration::from_secs(10)).await;
    }
}

async fn ended(node: &Node, request: greenroom::RequestId) {
    loop {
        if let greenroom::runtime::view::Found::Here(view) = node.request(request).await.unwrap()
            && view.status.ended()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
