//! The servers and the nodes on them: all of them ours alone.

use tempfile::TempDir;

use crate::support::{
    Server, build,
    server::Setup,
    servers::{self, Mongo, Redis, RedisSetup, mongo, port},
};

pub(crate) const NODES: usize = 3;

/// Running nodes on running servers; gone when dropped.
pub(crate) struct Stage {
    nodes: Vec<Option<Server>>,
    setups: Vec<Setup>,
    _servers: (Redis, Mongo),
    _dir: TempDir,
}

impl Stage {
    /// Three nodes on one store.
    pub(crate) fn start() -> Self {
        Self::of(NODES)
    }

    /// So many nodes on one store.
    pub(crate) fn of(nodes: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (redis, mongo) = (Redis::start(RedisSetup::redis()), Mongo::private());
        let common = Setup::on(dir.path())
            .program(&build::example("tapes"))
            .set("store", "kind", "cluster")
            .set("store", "redis", &format!("redis://{}", redis.address()))
            .set("store", "mongo", &mongo::direct(&mongo.address()))
            .set("store", "database", &servers::unique())
            .set("gateway", "workers", "1")
            .set("runtime", "arbiters", "1")
            // Longer than the load balancer takes to see that a node is not ready.
            .set("drain", "notice", "1s")
            .set("live", "spread", "3s");
        let setups: Vec<Setup> =
            (0..nodes).map(|_| common.clone().listen(&format!("127.0.0.1:{}", port::free()))).collect();
        let nodes = setups.iter().map(|setup| Some(setup.start())).collect();
        Self { nodes, setups, _servers: (redis, mongo), _dir: dir }
    }

    /// Such as `127.0.0.1:8081`, of each node.
    pub(crate) fn addresses(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|slot| self.node(slot).base().trim_start_matches("http://").to_owned()).collect()
    }

    pub(crate) fn node(&self, slot: usize) -> &Server {
        self.nodes[slot].as_ref().expect("it runs")
    }

    /// Asks a node to end, and waits until it did.
    pub(crate) fn terminate(&mut self, slot: usize) {
        let node = self.nodes[slot].take().expect("it runs");
        let status = node.terminate();
        assert!(status.success(), "node {slot} was asked to end and ended with {status}");
    }

    pub(crate) fn kill(&mut self, slot: usize) {
        self.nodes[slot].take().expect("it runs").kill();
    }

    pub(crate) fn start_again(&mut self, slot: usize) {
        self.nodes[slot] = Some(self.setups[slot].start());
    }

    /// Nothing was given up, and the ledger balances.
    pub(crate) fn has_no_loss(&self) {
        let audit = self.node(0).client().post("/admin/audit", &serde_json::Value::Null).expect(200).json();
        assert_eq!((&audit["balanced"], &audit["dead"], &audit["failed"]), (&true.into(), &0.into(), &0.into()));
    }
}
