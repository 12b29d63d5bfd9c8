//! Every call to MongoDB, with every fate that it may have: what was decided happens once, and nothing else.

use std::sync::Mutex;

use greenroom::{
    Query,
    backend::{
        Loaded, Lookup, Refused, StateWrite, Status,
        cluster::{
            Cluster, Injector,
            inject::{Fate, Store},
        },
    },
    error::Result,
};
use mongodb::bson::{Document, doc};

use super::*;

/// The fate of the next call of each name.
#[derive(Debug, Default)]
struct Armed(Mutex<Vec<(&'static str, Fate)>>);

impl Injector for Armed {
    fn fate(&self, store: Store, call: &str) -> Fate {
        let mut armed = self.0.lock().unwrap();
        let next = armed.iter().position(|(name, _)| store == Store::Mongo && *name == call);
        next.map_or(Fate::Pass, |next| armed.remove(next).1)
    }
}

const FATES: [Fate; 5] =
    [Fate::LoseRequest, Fate::LoseAnswer, Fate::Delay(std::time::Duration::from_millis(5)), Fate::Repeat, Fate::Cut];

/// As the runtime does: what may or may not have happened is asked for again.
async fn again<T>(mut ask: impl AsyncFnMut() -> Result<T>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(!error.is_terminal(), "{error}"),
        }
    }
}

async fn committed(backend: &Arc<dyn Backend>, lease: Lease, all: Commit) {
    loop {
        match backend.commit(lease, vec![all.clone()].into()).await.remove(0) {
            Ok(()) => return,
            Err(refused) => assert!(matches!(refused, Refused::Unavailable(_)), "{refused:?}"),
        }
    }
}

/// A key of partition 1 that begins so, as does the one of its companion.
fn key(begins: &str) -> String {
    let is_there = |key: &str| address(&format!("thing/{key}")).partition(4) == 1;
    let mut keys = (0..).map(|n| format!("{begins}-{n}"));
    keys.find(|key| is_there(key) && is_there(&format!("{key}-answers"))).unwrap()
}

/// An actor is opened, changed, looked at, found and forgotten; another one answers without a state.
async fn life(backend: &Arc<dyn Backend>, lease: Lease, key: &str) {
    let (saves, answers) = (format!("thing/{key}"), format!("thing/{key}-answers"));
    let things = backend.mongo().unwrap().collection::<Document>("thing");
    let count = async |key: &str| things.count_documents(doc! { "_id": key }).await.unwrap();
    let handle = async |to: &str| {
        let position = append(backend, message(to, "1")).await;
        first(backend, lease.partition, Position::new(lease.partition, position.number() - 1)).await
    };
    again(async || backend.declare("thing", true, &[]).await).await;
    let stored = handle(&saves).await;
    let opened = again(async || backend.open(lease, vec![address(&saves)]).await).await;
    assert_eq!(opened, [Loaded::default()]);
    let mut all = commit(&saves);
    all.seen = Some(0);
    all.state = Some(StateWrite { from: 0, doc: saved("one"), fields: Vec::new() });
    all.done.push(done(&stored));
    committed(backend, lease, all).await;
    let loaded = again(async || backend.load(vec![address(&saves)]).await).await.remove(0);
    assert_eq!((loaded.rev, loaded.doc), (1, saved("one")), "once");
    let Lookup::Ended(ended) = backend.lookup(stored.position).await.unwrap() else { panic!("not ended") };
    assert_eq!(ended.status, Status::Completed);
    let (rows, _) = again(async || backend.query("thing", Query::new().prefix(key)).await).await;
    assert_eq!(rows, [(key.to_owned(), saved("one"))]);

    let stored = handle(&answers).await;
    let mut answer = commit(&answers);
    answer.seen = Some(0);
    answer.done.push(done(&stored));
    committed(backend, lease, answer).await;
    assert_eq!(count(&format!("{key}-answers")).await, 1, "claimed");

    let mut forgets = commit(&saves);
    forgets.state = Some(StateWrite { from: 1, doc: Vec::new(), fields: Vec::new() });
    committed(backend, lease, forgets).await;
    again(async || backend.expire(0, i64::MAX).await).await;
    assert_eq!((count(key).await, count(&format!("{key}-answers")).await), (0, 0));
    again(async || backend.ready().await).await;
}

#[test]
fn whatever_becomes_of_a_call_to_mongodb_all_happens_once() {
    let armed = Arc::new(Armed::default());
    let options = Which::Redis.cluster(&Options { partitions: 4, mailbox_bytes: 1 << 30 }).unwrap();
    let options = greenroom::backend::cluster::Options {
        forget: std::time::Duration::ZERO,
        faults: Some(armed.clone()),
        ..options
    };
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options).unwrap());
    actix::System::new().block_on(async {
        backend.join().await.unwrap();
        backend.beat().await.unwrap();
        let mut leases = Vec::new();
        for partition in 0..4 {
            leases.push(take(&backend, partition).await);
        }
        // A lost answer of a write is found by looking, of which the fate is the second.
        let calls = ["declare", "find", "update", "look", "query", "claim", "forgotten", "forget", "ready"];
        for (n, (call, fate)) in calls.iter().flat_map(|call| FATES.map(|fate| (*call, fate))).enumerate() {
            println!("{call}: {fate:?}");
            let before = (call == "look").then_some(("update", Fate::LoseAnswer));
            *armed.0.lock().unwrap() = before.into_iter().chain([(call, fate)]).collect();
            let key = (0..).map(|m| format!("case{n}-{m}")).find(|key| {
                [key.clone(), format!("{key}-answers")]
                    .iter()
                    .all(|key| address(&format!("thing/{key}")).partition(4) == 1)
            });
            life(&backend, leases[1], &key.unwrap()).await;
            assert!(armed.0.lock().unwrap().is_empty(), "{call} was not called");
        }
        // And of the one that gives epochs: each is newer than the last, whatever was lost.
        for (n, fate) in FATES.into_iter().enumerate() {
            println!("reserve: {fate:?}");
            armed.0.lock().unwrap().push(("reserve", fate));
            let Acquired::Taken(lease) = again(async || backend.acquire(1).await).await else { panic!("held") };
            assert!(armed.0.lock().unwrap().is_empty(), "reserve was not called");
            assert!(lease.epoch > leases[1].epoch, "{lease:?}");
            leases[1] = lease;
            life(&backend, lease, &key(&format!("after{n}"))).await;
        }
        let audit = backend.audit().await.unwrap();
        assert!(audit.balanced && audit.in_flight == 0, "{audit:?}");
    });
}

#[test]
fn an_address_whose_reads_may_be_stale_is_refused_at_the_start_and_by_doctor() {
    let options = Which::Redis.cluster(&Options { partitions: 4, mailbox_bytes: BUDGET }).unwrap();
    let mongo = format!("{}&readPreference=secondaryPreferred", options.mongo);
    let options = greenroom::backend::cluster::Options { mongo, ..options };
    for error in [Cluster::open(options.clone()).err().unwrap(), Cluster::examine(options).unwrap_err()] {
        assert!(error.is_terminal() && error.has_code("bad_config"), "{error}");
        assert!(error.to_string().contains("readPreference"), "{error}");
    }
}
