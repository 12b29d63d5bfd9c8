//! A process that takes one lock again and again and writes under it, never asking whether it is lost: only
//! the store stands between it and whoever has the lock then. Its clock is wrong by as much as it is told.
//!
//! `hammer WHO SKEW_MS REDIS MONGO NAME`: prints `held TOKEN`, `wrote TOKEN` and `fenced TOKEN`; ends in order
//! when its input ends.

mod log;

use std::{io::Read, sync::Arc, time::Duration};

use greenroom::{
    backend::cluster::{Accept, Cluster, FORGET, Options},
    clock::{Clock, Virtual},
    prelude::*,
    runtime::{
        node::{self, Start},
        settings::Settings,
    },
    testing::Random,
};
use log::{Line, Log};

/// A clock that goes as the system's does, but shows something else.
fn skewed(by: i64) -> Clock {
    let hands = Virtual::at(Clock::System.now() + by);
    let moved = hands.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(1));
            moved.advance_to(Clock::System.now() + by);
        }
    });
    Clock::Virtual(hands)
}

async fn hammer(node: Node, who: String, mut random: Random) {
    loop {
        let Ok(guard) = node.lock("hot").lease(Duration::from_secs(1)).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let token = guard.token();
        println!("held {token}");
        for _ in 0..8 {
            let line = Line { who: who.clone(), token };
            let accept = node::Accept {
                to: Log::at("log").address().unwrap(),
                command: serde_json::value::to_raw_value(&line).unwrap(),
                due: None,
                trace: None,
                idempotency: None,
                fence: Some(guard.fence()),
                wait: false,
            };
            match node.accept(accept).await {
                Ok(_) => println!("wrote {token}"),
                Err(greenroom::backend::NotAppended::Fenced { .. }) => println!("fenced {token}"),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(20 + random.below(30))).await;
        }
        // It may be lost: whoever has it then is served all the same.
        let _ = guard.release().await;
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [who, skew, redis, mongo, name] = arguments.as_slice() else { panic!("who, skew, redis, mongo, name") };
    let options = Options {
        redis: redis.clone(),
        mongo: mongo.clone(),
        database: name.clone(),
        prefix: name.clone(),
        partitions: 4,
        mailbox_bytes: 64 << 20,
        accept: Accept::Fsync,
        lease: Duration::from_secs(1),
        forget: FORGET,
        redis_tls: Default::default(),
        faults: None,
    };
    let (clock, who) = (skewed(skew.parse().unwrap()), who.clone());
    let random = Random::new(who.bytes().map(u64::from).sum());
    let (ends, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ends.send(());
    });
    actix::System::new().block_on(async {
        let backend = Arc::new(Cluster::open(options).unwrap());
        let settings = Settings { arbiters: 1, ..Settings::default() };
        let start = Start { backend, features: vec![Feature::new(Log)], settings, clock };
        let node = Node::start(start).await.unwrap();
        tokio::select! {
            () = hammer(node.clone(), who, random) => {}
            _ = ended => {}
        }
        node.drain(Duration::from_secs(5)).await;
    });
}
