//! Makes the fixture: fills a store of this build with some of everything, leaves it as a killed node would,
//! and writes it down.

mod dump;
mod faults;
mod fill;
mod flows;
mod other;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use greenroom::{
    Address,
    backend::{
        Acquired, Append, Appended, Backend, Commit, Done, Lease, Lookup, Outcome, Stored,
        cluster::{Accept, Cluster, Doing, FORGET, Options, Progress, Resize},
    },
    envelope::Position,
};

use crate::{
    actors::KINDS,
    expected::{Expected, NOW},
    support::servers::{Redis, RedisSetup, Which, shared, unique},
};

/// A new store of two partitions on a server of its own.
fn store() -> (Redis, Options) {
    let (redis, name) = (Redis::start(RedisSetup::redis()), unique());
    let options = Options {
        redis: redis.url(),
        mongo: shared(Which::Mongo),
        database: name.clone(),
        prefix: name,
        partitions: 2,
        mailbox_bytes: 1 << 20,
        accept: Accept::Fsync,
        lease: Duration::from_secs(1),
        forget: FORGET,
    };
    (redis, options)
}

fn resize() -> Resize {
    let kinds = KINDS.map(|(kind, stateful)| (kind.to_owned(), stateful)).to_vec();
    Resize { batch: 3, ..Resize::new(4, kinds) }
}

#[test]
#[ignore = "writes the files that the other tests read"]
fn make_the_store_of_format_1() {
    let (redis, mut options) = store();
    actix::System::new().block_on(async {
        let mut expected = Expected::default();
        flows::fill(&options, &mut expected).await;
        fill::fill(&options, 0..8, &mut expected).await;
        Cluster::resize(options.clone(), resize()).unwrap();
        options.partitions = 4;
        fill::fill(&options, 8..16, &mut expected).await;
        other::bells(&options).await;
        other::other(&options, &mut expected).await;
        faults::leave(&options, &redis, &mut expected).await;
        dump::dump("format1", &options, expected).await;
    });
}

#[test]
#[ignore = "writes the files that the other tests read"]
fn make_the_store_of_format_1_that_is_being_resized() {
    let (_redis, options) = store();
    actix::System::new().block_on(async {
        let mut expected = Expected::default();
        fill::fill(&options, 0..8, &mut expected).await;
        // Messages are in their old partition and in their new one.
        let batches = Arc::new(AtomicUsize::new(0));
        let step = Arc::new(move |progress: Progress| match progress.doing {
            Doing::Removing if batches.fetch_add(1, Ordering::SeqCst) == 2 => Err(greenroom::Error::new("killed")),
            _ => Ok(()),
        });
        let error = Cluster::resize(options.clone(), Resize { step, ..resize() }).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "killed");
        // A resize tells all partitions of the newest holder of each lock.
        let newest = expected.fences.iter().map(|(.., token)| *token).max().unwrap();
        expected.fences.iter_mut().for_each(|(.., token)| *token = newest);
        dump::dump("format1-resizing", &options, expected).await;
    });
}

/// A node that runs nothing.
async fn open(options: &Options) -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
    backend.join().await.unwrap();
    backend.beat().await.unwrap();
    for (kind, stateful) in KINDS {
        backend.declare(kind, stateful, &[]).await.unwrap();
    }
    backend
}

/// The leases of all partitions.
async fn take(backend: &Arc<dyn Backend>) -> HashMap<u16, Lease> {
    let mut leases = HashMap::new();
    for partition in 0..backend.partitions() {
        match backend.acquire(partition).await.unwrap() {
            Acquired::Taken(lease) => drop(leases.insert(partition, lease)),
            Acquired::Held(node) => panic!("partition {partition} is held by node {node}"),
        }
    }
    leases
}

async fn append(backend: &Arc<dyn Backend>, append: Append) -> Position {
    match backend.append(vec![append]).await.pop().unwrap().unwrap() {
        Appended::New(position) => position,
        seen => panic!("not new: {seen:?}"),
    }
}

/// A message that waits.
async fn stored(backend: &Arc<dyn Backend>, position: Position) -> Stored {
    match backend.lookup(position).await.unwrap() {
        Lookup::Waiting(stored) => stored,
        other => panic!("{position} does not wait: {other:?}"),
    }
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn commit(to: &str) -> Commit {
    Commit::of(address(to), NOW)
}

fn done(stored: &Stored) -> Done {
    Done {
        position: stored.position,
        home: stored.home,
        outcome: Outcome::Completed(serde_json::from_str("1").unwrap()),
        size: stored.size,
        attempts: 1,
        keep: true,
        journal: false,
    }
}

/// A state of a tally.
fn tally(seen: &[u32]) -> Vec<u8> {
    greenroom::backend::document::encode(&seen, 10_000).unwrap()
}
