//! Calls whose fate a test decides: lost, late, twice, cut.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use greenroom::backend::cluster::{
    Injector,
    inject::{Fate, Store},
};

use super::store::{append, joined, mailbox, options, run};
use crate::support::servers::{Redis, RedisSetup};

/// Gives the next call of one function a fate.
#[derive(Debug, Default)]
struct Next {
    fate: Mutex<Option<(&'static str, Fate)>>,
    calls: AtomicU32,
}

impl Injector for Next {
    fn fate(&self, store: Store, call: &str) -> Fate {
        assert_eq!(store, Store::Redis);
        let mut next = self.fate.lock().unwrap();
        self.calls.fetch_add(u32::from(next.is_some_and(|(name, _)| name == call)), Ordering::SeqCst);
        match *next {
            Some((name, fate)) if name == call => {
                *next = None;
                fate
            }
            _ => Fate::Pass,
        }
    }
}

#[test]
fn each_fate_of_an_append_leaves_what_it_says() {
    let redis = Redis::start(RedisSetup::redis());
    run(async {
        let next = Arc::new(Next::default());
        let options = greenroom::backend::cluster::Options { faults: Some(next.clone()), ..options(&redis.url()) };
        let store = joined(&options).await;
        let with = async |fate| {
            *next.fate.lock().unwrap() = Some(("append", fate));
            append(&store, 0, 1).await
        };
        assert_eq!(with(Fate::Pass).await, Ok(1));
        assert!(with(Fate::LoseRequest).await.is_err());
        assert_eq!(mailbox(&store, 0).await, [1]);
        assert!(with(Fate::LoseAnswer).await.is_err());
        assert_eq!(mailbox(&store, 0).await, [1, 2]);
        assert_eq!(with(Fate::Repeat).await, Ok(4));
        assert_eq!(with(Fate::Delay(std::time::Duration::from_millis(20))).await, Ok(5));
        assert!(with(Fate::Cut).await.is_err());
        // It may have happened; and the connection is replaced.
        let after = append(&store, 0, 1).await.unwrap();
        assert!([6, 7].contains(&after), "{after}");
        assert_eq!(next.calls.load(Ordering::SeqCst), 6);
    });
}

#[test]
fn what_only_reads_is_asked_again_when_its_answer_is_lost() {
    let redis = Redis::start(RedisSetup::redis());
    run(async {
        let next = Arc::new(Next::default());
        let options = greenroom::backend::cluster::Options { faults: Some(next.clone()), ..options(&redis.url()) };
        let store = joined(&options).await;
        append(&store, 0, 1).await.unwrap();
        for fate in [Fate::LoseRequest, Fate::LoseAnswer, Fate::Cut] {
            *next.fate.lock().unwrap() = Some(("XRANGE", fate));
            assert_eq!(mailbox(&store, 0).await, [1], "{fate:?}");
        }
    });
}
