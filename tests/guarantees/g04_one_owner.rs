//! G4 one owner: two owners never both commit for one key. The lease's epoch and the state's
//! revision are checked by the store in the same transaction as the commit, so neither clocks nor
//! pauses matter.

use std::sync::Arc;

use greenroom::{
    Actor, Feature,
    backend::{
        Leases,
        embedded::{Embedded, Options},
    },
    clock::Clock,
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};

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
                let lease = store.acquire(3).await.unwrap();
                assert!(lease.epoch > last, "{lease:?}");
                last = lease.epoch;
            }
        }
    });
}
