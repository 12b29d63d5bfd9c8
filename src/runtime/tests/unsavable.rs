//! Commands whose state MongoDB will never take, on the real one.

use mongodb::bson::doc;

use super::*;
use crate::{backend::Backend, runtime::view::Found, testing::Which};

/// Starts a node on Redis and MongoDB, which takes no counter above 100 (of the kind's documents, a validator
/// says so).
async fn limited(arbiters: usize) -> (Arc<dyn Backend>, Node) {
    let store = Which::Redis.open(&Options { partitions: 4, ..Options::default() }).unwrap();
    let feature = Feature::default().actor(Counter::open());
    let settings = Settings { arbiters, ..Settings::default() };
    let start = Start { backend: store.clone(), features: vec![feature], settings, clock: Clock::System };
    let node = Node::start_with(start, Faults::default(), 1).await.unwrap();
    let limit = doc! { "collMod": "counter", "validator": { "state": { "$not": { "$gt": 100 } } } };
    store.mongo().unwrap().run_command(limit).await.unwrap();
    (store, node)
}

#[test]
fn of_several_commands_the_one_that_makes_the_state_unsavable_fails_and_all_others_go_on() {
    play(async || {
        let (store, node) = limited(0).await;
        let told = |key: &'static str, add: u64| node.tell(Counter::at(key), add);
        let all = [told("a", 1), told("b", 1), told("a", 2), told("a", 1000), told("a", 3), told("b", 1), told("c", 5)];
        let ids: Vec<_> = futures_util::future::join_all(all).await.into_iter().map(Result::unwrap).collect();
        for (key, total) in [("a", 6), ("b", 2), ("c", 5)] {
            assert_eq!(node.ask(Counter::at(key), 0).await.unwrap(), total, "{key}");
        }
        let Found::Here(view) = node.request(ids[3]).await.unwrap() else { panic!("not here") };
        let error = view.error.unwrap();
        assert_eq!(error.code, "state_unsavable");
        assert!(error.message.contains("Document failed validation"), "{}", error.message);
        let audit = store.audit().await.unwrap();
        assert_eq!((audit.completed, audit.failed, audit.dead), (9, 1, 0), "{audit:?}");
        assert!(audit.balanced);
        node.drain(Duration::from_secs(10)).await;
    });
}
