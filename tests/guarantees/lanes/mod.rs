//! Lanes: what one tenant floods, or somebody pauses, keeps nobody else's commands waiting, and changes no key's
//! order (G2, G6, G10).

mod pausing;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use greenroom::{
    backend::NotAppended,
    prelude::*,
    runtime::{node::Accept, view::State},
    testing::{Point, World},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Do {
    Write(u64),
    Flaky(u64, u32),
    Later(u64, u64),
    Wait(u64),
}

/// Works for the tenant that its key begins with; those of `gated` wait at a gate.
#[derive(Clone)]
struct Job {
    gate: Arc<Semaphore>,
    gated: Arc<Mutex<Vec<&'static str>>>,
    /// Keys in the order in which commands of them were handled.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Job {
    fn gated(tenants: &[&'static str]) -> Self {
        let gated = Arc::new(Mutex::new(tenants.to_vec()));
        Self { gate: Arc::new(Semaphore::new(0)), gated, seen: Arc::default() }
    }

    fn open(&self) {
        self.gated.lock().unwrap().clear();
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn handled(&self, tenant: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|key| Job::tenant(key) == Some(tenant)).count()
    }

    fn world(&self) -> World {
        let job = self.clone();
        World::new(move || vec![Feature::new(job.clone())]).options(|options| options.partitions = 1)
    }
}

impl Actor for Job {
    const KIND: &'static str = "job";
    type State = Vec<u64>;
    type Command = Do;
    type Reply = usize;

    fn tenant(key: &str) -> Option<&str> {
        key.split_once('.').map(|(tenant, _)| tenant)
    }

    fn priority(key: &str) -> Priority {
        match Self::tenant(key) {
            Some("vip") => Priority::High,
            Some("batch") => Priority::Low,
            _ => Priority::Normal,
        }
    }

    fn retry(&self) -> Retry {
        Retry::times(4).backoff(Duration::from_secs(10), Duration::from_secs(60))
    }

    async fn handle(&self, tape: &mut Vec<u64>, work: Do, cx: &Context<Self>) -> Result<usize> {
        let tenant = Self::tenant(cx.key()).unwrap_or_default().to_owned();
        let gated = self.gated.lock().unwrap().iter().any(|gated| *gated == tenant);
        if gated {
            self.gate.acquire().await?.forget();
        }
        match work {
            Do::Flaky(_, fails) if cx.attempt() <= fails => return Err(Error::new("not yet")),
            Do::Later(n, seconds) => {
                cx.tell(cx.me(), Do::Write(n)).after(Duration::from_secs(seconds));
            }
            Do::Wait(n) => {
                cx.signal::<()>("go").await?;
                tape.push(n);
            }
            Do::Write(n) | Do::Flaky(n, _) => tape.push(n),
        }
        self.seen.lock().unwrap().push(cx.key().to_owned());
        Ok(tape.len())
    }
}

/// Tells so many commands of a tenant, spread over some keys, many at once.
async fn flood(node: &Node, tenant: &str, commands: u64, keys: u64) {
    for chunk in (0..commands).collect::<Vec<_>>().chunks(5_000) {
        let told = chunk.iter().map(|n| node.tell(Job::at(format!("{tenant}.{}", n % keys)), Do::Write(*n)));
        join_all(told).await.into_iter().for_each(|told| assert!(told.is_ok(), "{told:?}"));
    }
}

#[test]
fn a_flood_of_one_tenant_keeps_no_other_tenants_command_waiting() {
    let job = Job::gated(&["a"]);
    job.world().play(async |mut world| {
        let node = world.node().clone();
        flood(&node, "a", 100_000, 5_000).await;
        // Nothing of the flood can move, and all the memory that it may have is full of it.
        assert_eq!(node.ask(Job::at("b.1"), Do::Write(1)).await.unwrap(), 1);
        assert_eq!(node.ask(Job::at("batch.1"), Do::Write(1)).await.unwrap(), 1);
        // The next owner finds all of it at once.
        world.crash().await;
        let node = world.node().clone();
        assert_eq!(node.ask(Job::at("b.1"), Do::Write(2)).await.unwrap(), 2);
        assert_eq!((job.handled("a"), job.handled("b")), (0, 2));
    });
}

#[test]
fn a_flood_ends_in_order_when_it_can() {
    const FLOOD: u64 = 8_000;
    let job = Job::gated(&["a"]);
    job.world().play(async |mut world| {
        flood(&world.node().clone(), "a", FLOOD / 2, 500).await;
        world.crash().await;
        flood(&world.node().clone(), "a", FLOOD / 2, 500).await;
        world.tell(Job::at("b.1"), Do::Write(1)).await;
        world.settle().await;
        assert_eq!((job.handled("a"), job.handled("b")), (0, 1));
        job.open();
        world.settle().await;
        assert_eq!(job.handled("a") as u64, FLOOD);
        for key in 0..500 {
            world.in_order(Job::at(format!("a.{key}")));
        }
        world.no_loss().await;
        world.no_duplicate();
    });
}

#[test]
fn what_a_flooded_tenant_is_told_by_signals_is_taken_in_at_once() {
    let job = Job::gated(&[]);
    job.world().settings(|settings| settings.window_messages = 16).play(async |mut world| {
        let waits = world.tell(Job::at("a.waits"), Do::Wait(1)).await.unwrap();
        world.advance(Duration::from_secs(5)).await;
        assert_eq!(world.view(waits).await.status, State::Processing);
        job.gated.lock().unwrap().push("a");
        flood(&world.node().clone(), "a", 500, 100).await;
        let completed = world.node().ledger().await.unwrap().completed;
        world.signal(waits, "go", ()).await;
        world.settle().await;
        let ledger = world.node().ledger().await.unwrap();
        assert_eq!(ledger.completed, completed + 1, "what brings the signal has ended: it is in the journal");
        job.open();
        world.settle().await;
        assert_eq!(world.view(waits).await.status, State::Completed);
        world.no_loss().await;
    });
}

#[test]
fn due_timers_of_one_tenant_keep_no_other_tenants_timer_waiting() {
    let job = Job::gated(&["a"]);
    job.world().settings(|settings| settings.window_messages = 64).play(async |mut world| {
        let node = world.node().clone();
        let later = |key: String, after: i64| Accept {
            to: Address::new("job", &key).unwrap(),
            command: serde_json::value::to_raw_value(&Do::Write(1)).unwrap(),
            due: Some(node.clock().now() + after),
            trace: None,
            idempotency: None,
            fence: None,
            wait: false,
        };
        let timers = (0..3_000).map(|n| node.accept(later(format!("a.{n}"), 1_000 + n % 3)));
        join_all(timers).await.into_iter().for_each(|told| drop(told.unwrap()));
        node.accept(later("b.1".into(), 1_003)).await.unwrap();
        node.accept(later("b.2".into(), 2_000)).await.unwrap();
        world.advance(Duration::from_secs(3)).await;
        assert_eq!((job.handled("a"), job.handled("b")), (0, 2));
        job.open();
        world.advance(Duration::from_secs(1)).await;
        assert_eq!(job.handled("a"), 3_000);
        world.no_loss().await;
        world.no_duplicate();
    });
}

#[test]
fn a_stuck_key_does_not_stop_the_others_of_its_lane() {
    let job = Job::gated(&["a"]);
    job.world().settings(|settings| settings.window_messages = 16).play(async |mut world| {
        let node = world.node().clone();
        // One key runs and does not end; what waits behind it fills the memory of the lane.
        flood(&node, "a", 100, 1).await;
        world.settle().await;
        job.gated.lock().unwrap().clear();
        for n in 0..50 {
            node.tell(Job::at(format!("a.free{n}")), Do::Write(n)).await.unwrap();
        }
        world.advance(Duration::from_secs(5)).await;
        assert_eq!(job.handled("a"), 50);
        job.open();
        world.settle().await;
        assert_eq!(world.state::<Job>("a.0").await.unwrap(), (0..100).collect::<Vec<_>>());
        world.no_loss().await;
    });
}

#[test]
fn a_key_keeps_its_order_through_floods_pauses_and_crashes() {
    for seed in 1..=16 {
        eprintln!("seed {seed}");
        let job = Job::gated(&[]);
        let world = job.world().seed(seed).settings(|settings| {
            settings.window_messages = 8;
            // None of them is what the process dies of.
            settings.crash_limit = u32::MAX;
        });
        world.options(|options| options.partitions = 2).play(async |mut world| {
            let mut random = world.random();
            let tenants = ["a", "b", "vip", "batch"];
            let mut expected: Vec<(String, Vec<u64>)> = Vec::new();
            for n in 0..250 {
                let of = if random.one_in(3) { tenants.len() as u64 } else { 1 };
                let tenant = tenants[random.below(of) as usize];
                let key = format!("{tenant}.{}", random.below(6));
                let command = match random.below(10) {
                    0 => Do::Flaky(n, 1 + random.below(2) as u32),
                    _ => Do::Write(n),
                };
                if random.one_in(12) {
                    world.crash_at_nth(Point::ALL[random.below(8) as usize], 1 + random.below(4) as u32);
                }
                if random.one_in(15) {
                    let scope = (!random.one_in(3)).then(|| format!("{tenant}.{}", random.below(6)));
                    // The process may die meanwhile; then it is as if it had not been wished, or as if it had.
                    match random.one_in(2) {
                        true => world.pause("job", scope.as_deref()).await,
                        false => world.resume("job", scope.as_deref()).await,
                    };
                }
                if world.tell(Job::at(key.clone()), command).await.is_some() {
                    match expected.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, numbers)) => numbers.push(n),
                        None => expected.push((key, vec![n])),
                    }
                }
                if random.one_in(20) {
                    world.advance(Duration::from_secs(random.below(30))).await;
                }
                if random.one_in(60) {
                    world.restart().await;
                }
            }
            world.crash_whenever(None);
            world.settle().await;
            for paused in world.node().paused().await.unwrap() {
                world.resume(&paused.scope.kind, paused.scope.key.as_deref()).await;
            }
            world.advance(Duration::from_secs(3600)).await;
            world.no_loss().await;
            world.no_duplicate();
            for (key, expected) in expected {
                world.in_order(Job::at(key.clone()));
                let tape = world.state::<Job>(&key).await.unwrap_or_default();
                assert!(tape.is_sorted(), "{key} in order: {tape:?}");
                assert!(expected.iter().all(|n| tape.contains(n)), "{key}: {tape:?} lacks some of {expected:?}");
            }
        });
    }
}
