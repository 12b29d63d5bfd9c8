//! What only shows from inside: which locks are remembered.

use std::time::Duration;

use super::{Lock, list::held};
use crate::{actor::Actor, backend::Backend, query::Query, testing::World};

const HOUR: Duration = Duration::from_secs(3600);

async fn remembered(store: &dyn Backend) -> usize {
    store.query(Lock::KIND, Query::new()).await.unwrap().0.len()
}

#[test]
fn an_unused_lock_is_forgotten_after_a_day_and_its_tokens_rise_all_the_same() {
    World::new(Vec::new).play(async |mut world| {
        let store = world.store();
        let first = world.node().lock("hot").await.unwrap();
        let token = first.token();
        let (seen, cursor) = held(&*store, 10, None).await.unwrap();
        let seen = serde_json::to_value(&seen).unwrap();
        assert_eq!(
            (&seen[0]["lock"], &seen[0]["token"], &seen[0]["waiting"]),
            (&"hot".into(), &token.into(), &0.into())
        );
        assert!(seen[0]["lease_ms"] == 15_000 && cursor.is_none(), "{seen}");
        first.release().await.unwrap();
        world.advance(23 * HOUR).await;
        assert_eq!(remembered(&*store).await, 1);
        assert!(held(&*store, 10, None).await.unwrap().0.is_empty());
        world.advance(HOUR).await;
        assert_eq!(remembered(&*store).await, 0);
        let again = world.node().lock("hot").await.unwrap();
        assert!(again.token() > token);
        again.release().await.unwrap();
        // What is asked of a lock that nobody knows leaves nothing behind.
        assert!(!world.node().break_lock("other").await.unwrap());
        world.advance(50 * HOUR).await;
        assert_eq!(remembered(&*store).await, 0);
    });
}
