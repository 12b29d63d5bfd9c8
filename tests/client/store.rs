//! The store of a test: the Redis it starts, the MongoDB that all share, and messages to partitions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use greenroom::{
    Address,
    backend::{
        Append, Appended, Backend, Mailbox,
        cluster::{Cluster, FORGET, Options},
    },
    envelope::{Envelope, Position},
};

use crate::support::servers::{Which, shared, unique};

/// Partitions of every store here.
pub(crate) const PARTITIONS: u16 = 16;

/// How a new store on this Redis is opened.
pub(crate) fn options(redis: &str) -> Options {
    let name = unique();
    Options {
        redis: redis.to_owned(),
        mongo: shared(Which::Mongo),
        database: name.clone(),
        prefix: name,
        partitions: PARTITIONS,
        mailbox_bytes: 64 << 20,
        accept: Default::default(),
        lease: Duration::from_secs(3),
        forget: FORGET,
        redis_tls: Default::default(),
        faults: None,
    }
}

/// An address in a partition.
pub(crate) fn address(partition: u16) -> Address {
    let mut all = (0..10_000).map(|n| format!("thing/{n}").parse::<Address>().unwrap());
    all.find(|address| address.partition(PARTITIONS) == partition).unwrap()
}

/// A message to a partition.
pub(crate) fn message(partition: u16, number: u64) -> Append {
    let envelope = Envelope {
        to: address(partition),
        command: serde_json::from_str(&number.to_string()).unwrap(),
        accepted: 1_767_225_600_000,
        request: true,
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

/// Appends one message; its number in the partition, or what went wrong.
pub(crate) async fn append(store: &Cluster, partition: u16, number: u64) -> Result<u64, String> {
    match store.append(vec![message(partition, number)]).await.pop() {
        Some(Ok(Appended::New(position))) => Ok(position.number()),
        other => Err(format!("{other:?}")),
    }
}

/// What is in a partition's mailbox, in order.
pub(crate) async fn mailbox(store: &Cluster, partition: u16) -> Vec<u64> {
    let (mut found, mut after) = (Vec::new(), Position::new(partition, 0));
    loop {
        let page = store.read(partition, after, 500).await.unwrap();
        let Some(last) = page.last() else { return found };
        after = last.position;
        found.extend(page.iter().map(|stored| stored.position.number()));
    }
}

/// Somebody who appends to a partition, one message after the other, until told to stop.
pub(crate) struct Appender {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Log>,
    log: Arc<std::sync::Mutex<Log>>,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Numbers of what was accepted.
    pub(crate) numbers: Vec<u64>,
    /// What was not.
    pub(crate) errors: Vec<String>,
    /// How long each took.
    pub(crate) took: Vec<Duration>,
}

impl Appender {
    /// One who begins now.
    pub(crate) fn start(store: &Arc<Cluster>, partition: u16) -> Self {
        let (stop, log) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (store, stopped, shared) = (store.clone(), stop.clone(), Arc::clone(&log));
        let task = tokio::spawn(async move {
            let shared: Arc<std::sync::Mutex<Log>> = shared;
            for number in 1.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let began = Instant::now();
                let answer = append(&store, partition, number).await;
                let mut log = shared.lock().unwrap();
                log.took.push(began.elapsed());
                match answer {
                    Ok(number) => log.numbers.push(number),
                    Err(error) => log.errors.push(error),
                }
            }
            let log = shared.lock().unwrap();
            log.clone()
        });
        Self { stop, task, log }
    }

    /// What became of it so far.
    pub(crate) fn so_far(&self) -> Log {
        self.log.lock().unwrap().clone()
    }

    /// Waits until so many more are accepted.
    pub(crate) async fn more(&self, count: usize) {
        let until = self.so_far().numbers.len() + count;
        let deadline = Instant::now() + crate::support::PATIENCE;
        while self.so_far().numbers.len() < until {
            assert!(Instant::now() < deadline, "nothing is accepted any more: {:?}", self.so_far().errors.last());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets it finish.
    pub(crate) async fn stop(self) -> Log {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

/// A runtime for a test that is not of actix.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

/// Opens a store of which nobody needs more than the mailboxes.
pub(crate) fn open(options: &Options) -> Arc<Cluster> {
    let store = Cluster::open(options.clone());
    Arc::new(store.unwrap_or_else(|error| panic!("{error}")))
}

/// It has all that a node wants of a store.
pub(crate) async fn joined(options: &Options) -> Arc<Cluster> {
    let store = open(options);
    let backend: &dyn Backend = &*store;
    backend.join().await.unwrap();
    backend.beat().await.unwrap();
    store
}
