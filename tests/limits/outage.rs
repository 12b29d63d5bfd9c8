//! A store that does not answer: what a limit says holds then, nobody waits long, and it ends by itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom::{
    Feature, Node,
    backend::cluster::{Cluster, Options},
    clock::Clock,
    coordination::limit::{Limit, Unavailable},
    runtime::{node::Start, settings::Settings},
    testing::Which,
};

use crate::support::{
    PATIENCE,
    servers::{Redis, RedisSetup},
};

#[test]
fn what_a_limit_says_holds_while_its_store_is_out() {
    let redis = Redis::start(RedisSetup::redis());
    let options = Which::Redis.cluster(&Default::default()).unwrap();
    let options = Options { redis: redis.url(), lease: Duration::from_secs(60), ..options };
    actix::System::new().block_on(async {
        let hour = Duration::from_secs(3600);
        let feature = Feature::default()
            .limit("strict", Limit::rate(3, hour).at_once(1))
            .limit("kind", Limit::rate(3, hour).unavailable(Unavailable::Local));
        let settings = Settings { arbiters: 1, ..Settings::default() };
        let backend = Arc::new(Cluster::open(options).unwrap());
        let node = Node::start(Start { backend, features: vec![feature], settings, clock: Clock::System });
        let node = node.await.unwrap();
        let limits = node.limits();
        assert!(limits.try_take("strict", 3).await.unwrap().allowed());
        assert!(limits.try_take("kind", 3).await.unwrap().allowed());
        assert!(!limits.try_take("kind", 1).await.unwrap().allowed());

        redis.pause();
        let began = Instant::now();
        let unknown = async |what: &str| limits.try_take(what, 1).await;
        assert!(unknown("strict/other").await.unwrap_err().has_code("limit_unavailable"));
        // Whose store is out counts from a full bucket of its own, no more than it says.
        let mut given = 0;
        for _ in 0..10 {
            given += unknown("kind/other").await.unwrap().given;
        }
        assert_eq!(given, 3);
        assert!(limits.try_enter("strict").await.unwrap_err().has_code("limit_unavailable"));
        // Each part of the store is waited for once, for two seconds.
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(!limits.store_answers());
        let again = Instant::now();
        for _ in 0..1000 {
            let _ = unknown("kind/other").await;
        }
        assert!(again.elapsed() < Duration::from_secs(5), "{:?}", again.elapsed());

        redis.resume();
        let began = Instant::now();
        loop {
            match (unknown("strict/third").await, limits.try_enter("strict").await) {
                (Ok(_), Ok(Some(_))) => break,
                _ => assert!(began.elapsed() < PATIENCE, "it does not end"),
            }
            actix::clock::sleep(Duration::from_millis(50)).await;
        }
        assert!(!unknown("kind").await.unwrap().allowed(), "what was used before counts");
        let view = limits.list().into_iter().find(|limit| limit.name == "kind").unwrap();
        assert!(view.unanswered > 0 && view.refused > 0);
        node.drain(Duration::from_secs(5)).await;
    });
}
