//! A store of format 1 as the build that made it sees it: what the migrated store must equal.

use std::{sync::Arc, time::Duration};

use fred::interfaces::ClientLike;
use greenroom::{
    backend::{
        Backend,
        cluster::{Cluster, Options, Resize},
        embedded,
    },
    testing::Which,
};

use crate::{
    actors::KINDS,
    expected::Expected,
    fixture, format1,
    handled::{handled, remembered},
    snapshot::{same, snapshot},
};

/// Sequences, outboxes and leases are as they were.
async fn between(options: &Options, expected: &Expected) {
    let mut found = Expected { partitions: expected.partitions, ..Expected::default() };
    let redis = fixture::connect(&options.redis).await;
    format1::read(&redis, options, &mut found).await;
    redis.quit().await.unwrap();
    let parts = |of: &Expected| (of.sent.clone(), of.seen.clone(), of.outbox.clone(), of.leases.clone());
    assert_eq!(parts(&found), parts(expected));
}

async fn play(which: Which) {
    let expected = fixture::expected("format1");
    let embedded = embedded::Options { partitions: expected.partitions, mailbox_bytes: 1 << 20 };
    let options: Options = which.cluster(&embedded).unwrap();
    fixture::restore("format1", &options).await;
    between(&options, &expected).await;
    let backend: Arc<dyn Backend> = Arc::new(Cluster::inspect(options.clone()).unwrap());
    assert!(backend.audit().await.unwrap().balanced);
    same(&snapshot(&backend, &expected).await, &expected.snapshot);
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
    for (kind, stateful) in KINDS {
        backend.declare(kind, stateful, &[]).await.unwrap();
    }
    remembered(&backend, &expected).await;
    same(&snapshot(&backend, &expected).await, &expected.snapshot);
    drop(backend);
    handled(&options, &expected).await;
}

async fn resized(which: Which) {
    let expected = fixture::expected("format1-resizing");
    let embedded = embedded::Options { partitions: expected.partitions, mailbox_bytes: 1 << 20 };
    let options = Options { lease: Duration::from_millis(500), ..which.cluster(&embedded).unwrap() };
    fixture::restore("format1-resizing", &options).await;
    between(&options, &expected).await;
    let refused = Cluster::inspect(options.clone()).map(drop).unwrap_err();
    assert!(refused.has_code("resizing"), "{refused}");
    let kinds = KINDS.map(|(kind, stateful)| (kind.to_owned(), stateful)).to_vec();
    assert!(Cluster::resize(options.clone(), Resize::new(4, kinds)).unwrap().continued);
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
    assert!(backend.audit().await.unwrap().balanced);
    remembered(&backend, &expected).await;
    drop(backend);
    handled(&options, &expected).await;
}

#[test]
fn the_store_that_was_being_resized_is_resized_and_handled_to_its_end() {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        actix::System::new().block_on(resized(which));
    }
}

#[test]
fn the_store_that_was_left_is_whole_and_handled_to_its_end() {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        actix::System::new().block_on(play(which));
    }
}
