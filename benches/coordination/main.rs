//! What coordination costs: `fair`, what a flood of one tenant does to another; `takeover`, what a backlog does
//! to whoever takes it over; `lock`, locks against Redis' `SET NX`; `bulk` and `batch`, many commands at once.
//! `cargo bench --bench coordination [-- NAME]`, also `-- 'NAME on Redis'`; on the embedded store, and on Redis and
//! MongoDB where `GREENROOM_TEST_MONGO` names one (`tests/servers start && . .parts/run/env`). A benchmark that
//! cannot measure stops with the reason: an `unwrap` is that.

mod bulk;
mod fair;
#[path = "../load/mod.rs"]
mod load;
mod lock;
#[allow(dead_code, reason = "the benchmark of the cluster store uses the rest")]
#[path = "../load/servers.rs"]
mod servers;

use std::{path::Path, sync::Arc};

use greenroom::{
    Feature, Node,
    backend::{
        Backend,
        cluster::{Accept, Cluster},
        embedded::{Embedded, Options},
    },
    clock::Clock,
    runtime::{node::Start, settings::Settings},
};
use load::wanted;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Opens a store of this name.
type Open<'a> = &'a dyn Fn(&str) -> Arc<dyn Backend>;

async fn start(backend: Arc<dyn Backend>, features: Vec<Feature>) -> Node {
    Node::start(Start { backend, features, settings: Settings::default(), clock: Clock::System }).await.unwrap()
}

/// What half, and what a hundredth of them are above.
fn p50_p99(mut all: Vec<u64>) -> (u64, u64) {
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() * 99 / 100])
}

fn file(dir: &Path, name: &str) -> Arc<dyn Backend> {
    let options = Options { mailbox_bytes: 4 << 30, ..Options::default() };
    Arc::new(Embedded::open(&dir.join(name), options).unwrap())
}

async fn all(store: &str, open: Open<'_>, backlog: u64) {
    if wanted(&format!("fair on {store}")) {
        fair::fair(store, open).await;
    }
    if wanted(&format!("takeover on {store}")) {
        fair::takeover(store, open, backlog).await;
    }
    if wanted(&format!("bulk on {store}")) {
        bulk::bulk(store, open).await;
    }
    if wanted(&format!("batch on {store}")) {
        bulk::batch(store, open).await;
    }
}

fn main() {
    actix::System::new().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| file(dir.path(), name);
        all("the embedded store", &open, 1_000_000).await;
        if wanted("lock on the embedded store") {
            lock::lock("the embedded store", &open).await;
        }
        if std::env::var_os("GREENROOM_TEST_MONGO").is_none() {
            return;
        }
        for (fsync, accept) in [("everysec", Accept::Memory), ("always", Accept::Fsync)] {
            let redis = servers::Redis::start(fsync);
            let store = format!("Redis ({fsync})");
            let open = |name: &str| -> Arc<dyn Backend> {
                Arc::new(Cluster::open(servers::options(&redis, accept, &format!("{name}-{fsync}"))).unwrap())
            };
            all(&store, &open, 200_000).await;
            if wanted(&format!("lock on {store}")) {
                lock::raw(&store, &redis).await;
                lock::lock(&store, &open).await;
            }
        }
    });
}
