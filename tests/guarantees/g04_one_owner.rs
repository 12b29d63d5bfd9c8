//! G4 one owner: two owners never both commit for one key. The lease's epoch and the state's
//! revision are checked by the store in the same transaction as the commit, so neither clocks nor
//! pauses matter.

use std::{sync::Arc, time::Duration};

use greenroom::{
    Actor, Context, Feature, Result,
    backend::{
        Acquired, Commit, Commits, Lease, Leases, Refused, StateWrite, States,
        embedded::{Embedded, Options},
    },
    clock::Clock,
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};
use tokio::sync::Notify;

use crate::tape::{Tape, Tell};

async fn node(store: &Arc<Embedded>) -> Node {
    Node::start(Start {
        backend: store.clone(),
        features: vec![Feature::new(Tape::default())],
        settings: Settings { arbiters: 1, ..Settings::default() },
        clock: Clock::System,
    })
    .await
    .unwrap()
}

#[test]
fn an_owner_that_was_superseded_commits_nothing_more() {
    actix::System::new().block_on(async {
        let store = Arc::new(Embedded::in_memory(Options { partitions: 1, ..Options::default() }).unwrap());
        let old = node(&store).await;
        assert_eq!(old.ask(Tape::at("a"), Tell::Write(1)).await.unwrap(), 1);
        // Another owner takes the partition while the old one lives on, unaware.
        let new = node(&store).await;
        assert_eq!(new.ask(Tape::at("a"), Tell::Write(2)).await.unwrap(), 2);
        // The old one still has the actor in memory, as it was: what it is told is handled by the
        // new one, or by nobody, never by both.
        for n in 3..50 {
            old.tell(Tape::at("a"), Tell::Write(n)).await.unwrap();
        }
        assert_eq!(new.ask(Tape::at("a"), Tell::Write(50)).await.unwrap(), 50);
        assert_eq!(new.state::<Tape>("a").await.unwrap(), Some((1..=50).collect()));
        assert!(new.audit().await.unwrap().balanced);
    });
}

#[test]
fn epochs_only_rise_and_survive_restarts() {
    let data = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let mut last = 0;
        for _ in 0..3 {
            let store = Embedded::open(data.path(), Options::default()).unwrap();
            for _ in 0..2 {
                let lease = take(&store, 3).await;
                assert!(lease.epoch > last, "{lease:?}");
                last = lease.epoch;
            }
        }
    });
}

/// Takes a partition that nobody else has.
async fn take(store: &Embedded, partition: u16) -> Lease {
    match store.acquire(partition).await.unwrap() {
        Acquired::Taken(lease) => lease,
        Acquired::Held(node) => panic!("partition {partition} is held by node {node}"),
    }
}

/// Waits in its first command until it is let go, and says when it has begun.
struct Gated(Option<Arc<Notify>>, Arc<Notify>);

impl Actor for Gated {
    const KIND: &'static str = "gated";
    type State = Vec<u64>;
    type Command = u64;
    type Reply = usize;

    async fn handle(&self, tape: &mut Vec<u64>, n: u64, _: &Context<Self>) -> Result<usize> {
        self.1.notify_one();
        if let Some(gate) = &self.0 {
            gate.notified().await;
        }
        tape.push(n);
        Ok(tape.len())
    }
}

#[test]
fn what_an_owner_was_doing_when_it_was_superseded_is_refused() {
    actix::System::new().block_on(async {
        let store = Arc::new(Embedded::in_memory(Options { partitions: 1, ..Options::default() }).unwrap());
        let start = |gate: Option<Arc<Notify>>, began: Arc<Notify>| Start {
            backend: store.clone(),
            features: vec![Feature::new(Gated(gate, began))],
            settings: Settings { arbiters: 1, ..Settings::default() },
            clock: Clock::System,
        };
        let (gate, began) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let old = Node::start(start(Some(gate.clone()), began.clone())).await.unwrap();
        old.tell(Gated::at("a"), 1).await.unwrap();
        began.notified().await;
        let new = Node::start(start(None, Arc::default())).await.unwrap();
        assert_eq!(new.ask(Gated::at("a"), 2).await.unwrap(), 2);
        // The old one wakes up and finishes what it had begun.
        gate.notify_one();
        old.drain(Duration::from_secs(30)).await;
        assert_eq!(new.ask(Gated::at("a"), 3).await.unwrap(), 3);
        assert_eq!(new.state::<Gated>("a").await.unwrap(), Some(vec![1, 2, 3]));
        assert!(new.audit().await.unwrap().balanced);
    });
}

#[test]
fn the_store_refuses_a_stale_epoch_and_a_stale_revision() {
    actix::System::new().block_on(async {
        let store = Embedded::in_memory(Options { partitions: 1, ..Options::default() }).unwrap();
        store.declare("tape", true, &[]).await.unwrap();
        let write = |from, doc: &[u8]| {
            let mut commit = Commit::of("tape/a".parse().unwrap(), 1);
            commit.state = Some(StateWrite { from, doc: doc.to_vec(), fields: Vec::new() });
            Arc::new(vec![commit])
        };
        let (old, new) = (take(&store, 0).await, take(&store, 0).await);
        assert_eq!(store.commit(old, write(0, b"old")).await, [Err(Refused::Stale)]);
        assert_eq!(store.commit(new, write(0, b"new")).await, [Ok(())]);
        assert_eq!(store.commit(new, write(7, b"guess")).await, [Err(Refused::Stale)]);
        assert_eq!(store.commit(old, write(1, b"old")).await, [Err(Refused::Stale)]);
        assert_eq!(store.load(vec!["tape/a".parse().unwrap()]).await.unwrap()[0].doc, b"new");
    });
}
