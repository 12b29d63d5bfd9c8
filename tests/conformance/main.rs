//! What every backend must do: one suite, run against each. A backend that passes keeps the
//! guarantees as far as a store can.

mod bounded;
mod calls;
mod commits;
mod damaged;
mod decided;
mod deferred;
mod documents;
mod fences;
mod forgotten;
mod format;
mod journals;
mod limits;
mod losses;
mod mailbox;
mod outbox;
mod partial;
mod protocol;
mod raw;
mod resize;
mod restored;
mod sessions;
mod standing;
mod states;
mod unsavable;

use std::{future::Future, sync::Arc};

use greenroom::{
    Address,
    backend::{
        Acquired, Append, Appended, Backend, Commit, Done, Home, Lease, Outcome, Stored,
        embedded::{Embedded, Options},
    },
    envelope::{Envelope, Position},
    testing::Which,
};

/// A time all suites agree on, in milliseconds since the Unix epoch.
const NOW: i64 = 1_767_225_600_000;
/// Small enough to be filled by a test.
const BUDGET: u64 = 64 * 1024;

/// Runs `suite` against every backend there is.
fn each<F: Future<Output = ()>>(suite: impl Fn(Arc<dyn Backend>) -> F) {
    let options = Options { partitions: 4, mailbox_bytes: BUDGET };
    let data = tempfile::tempdir().unwrap();
    let file: Arc<dyn Backend> = Arc::new(Embedded::open(data.path(), options.clone()).unwrap());
    let mut backends = vec![("embedded on a file".to_owned(), file)];
    for which in Which::ALL {
        backends.push((format!("{which:?}"), which.open(&options).unwrap()));
    }
    for (name, backend) in backends {
        println!("against {name}");
        actix::System::new().block_on(async {
            backend.join().await.unwrap();
            backend.beat().await.unwrap();
            backend.declare("thing", true, &[]).await.unwrap();
            suite(backend).await;
        });
    }
}

/// Takes a partition that nobody else has.
async fn take(backend: &Arc<dyn Backend>, partition: u16) -> Lease {
    match backend.acquire(partition).await.unwrap() {
        Acquired::Taken(lease) => lease,
        Acquired::Held(node) => panic!("partition {partition} is held by node {node}"),
    }
}

fn envelope(to: &str, command: &str) -> Envelope {
    Envelope {
        to: to.parse().unwrap(),
        command: serde_json::from_str(command).unwrap(),
        accepted: NOW,
        request: true,
        trace: None,
        reply: None,
        cause: None,
        asked: None,
        then: None,
        slot: None,
        note: None,
    }
}

fn message(to: &str, command: &str) -> Append {
    Append { envelope: envelope(to, command), due: None, idempotency: None, fence: None }
}

async fn append(backend: &Arc<dyn Backend>, append: Append) -> Position {
    match backend.append(vec![append]).await.pop().unwrap().unwrap() {
        Appended::New(position) => position,
        seen => panic!("not new: {seen:?}"),
    }
}

/// The first message of the partition after `after`.
async fn first(backend: &Arc<dyn Backend>, partition: u16, after: Position) -> Stored {
    backend.read(partition, after, 1).await.unwrap().remove(0)
}

/// Waits until what was sent has been accepted by its receivers, `accepted` messages in all.
async fn arrived(backend: &Arc<dyn Backend>, accepted: u64) {
    for _ in 0..100_000 {
        if backend.audit().await.unwrap().accepted == accepted {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("not arrived: {:?}", backend.audit().await);
}

/// A state as an actor saves it.
fn saved(text: &str) -> Vec<u8> {
    greenroom::backend::document::encode(&text, 1000).unwrap()
}

fn start(partition: u16) -> Position {
    Position::new(partition, 0)
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

fn commit(to: &str) -> Commit {
    Commit::of(address(to), NOW)
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// A deferred twin of a message that was read from the mailbox.
fn deferred(stored: &Stored) -> (Position, Home) {
    (stored.position, Home::Deferred)
}
