//! A store of format 1 as the build that made it sees it: what the migrated store must equal.

use std::sync::Arc;

use greenroom::{
    backend::{
        Backend,
        cluster::{Cluster, Options},
        embedded,
    },
    testing::Which,
};

use crate::{
    actors::KINDS,
    fixture,
    handled::{handled, remembered},
    snapshot::{same, snapshot},
};

async fn play(which: Which) {
    let expected = fixture::expected("format1");
    let embedded = embedded::Options { partitions: expected.partitions, mailbox_bytes: 1 << 20 };
    let options: Options = which.cluster(&embedded).unwrap();
    fixture::restore("format1", &options).await;
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

#[test]
fn the_store_that_was_left_is_whole_and_handled_to_its_end() {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        actix::System::new().block_on(play(which));
    }
}
