//! Calls whose fate a test decides: lost, late, twice, cut.

use std::sync::{Arc, Mutex};

use greenroom::backend::{
    Mailbox,
    cluster::{
        Injector,
        inject::{Fate, Store},
    },
};

use super::store::{append, joined, mailbox, options, run};
use crate::support::servers::{Redis, RedisSetup};

/// Gives the next call of one function a fate.
#[derive(Debug, Default)]
struct Next {
    fate: Mutex<Option<(&'static str, Fate)>>,
}

impl Next {
    fn give(&self, name: &'static str, fate: Fate) {
        *self.fate.lock().unwrap() = Some((name, fate));
    }

    fn is_used(&self) {
        assert_eq!(*self.fate.lock().unwrap(), None, "no such call was made");
    }
}

impl Injector for Next {
    fn fate(&self, store: Store, call: &str) -> Fate {
        let mut next = self.fate.lock().unwrap();
        match *next {
            Some((name, fate)) if store == Store::Redis && name == call => {
                *next = None;
                fate
            }
            _ => Fate::Pass,
        }
    }
}

#[test]
fn an_append_happens_once_whatever_becomes_of_its_call() {
    let redis = Redis::start(RedisSetup::redis());
    run(async {
        let next = Arc::new(Next::default());
        let options = greenroom::backend::cluster::Options { faults: Some(next.clone()), ..options(&redis.url()) };
        let store = joined(&options).await;
        let mut numbers = vec![append(&store, 0, 1).await.unwrap()];
        let late = Fate::Delay(std::time::Duration::from_millis(20));
        for fate in [Fate::Pass, Fate::LoseRequest, Fate::LoseAnswer, Fate::Repeat, late, Fate::Cut] {
            next.give("append", fate);
            numbers.push(append(&store, 0, 1).await.unwrap_or_else(|error| panic!("{fate:?}: {error}")));
            next.is_used();
        }
        assert_eq!(mailbox(&store, 0).await, numbers);
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
            next.give("due", fate);
            store.due(0, 1, None, Default::default(), 10).await.unwrap_or_else(|error| panic!("{fate:?}: {error}"));
            next.is_used();
        }
    });
}
