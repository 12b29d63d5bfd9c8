//! Three nodes of one store, each with a name of its own and an address that it keeps.

use greenroom::testing::Which;
use tempfile::TempDir;

use crate::support::{Server, build, server::Setup, servers::port};

pub(crate) const NAMES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// The nodes.
pub(crate) struct Nodes {
    setups: Vec<Setup>,
    running: Vec<Option<Server>>,
    addresses: Vec<String>,
    _dir: TempDir,
}

impl Nodes {
    /// Which are not ready for so long before they end.
    pub(crate) fn start(notice: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let program = build::example("sticky");
        let store = Which::Redis.cluster(&Default::default()).expect("servers");
        let addresses: Vec<String> = NAMES.map(|_| format!("127.0.0.1:{}", port::free())).to_vec();
        let setup = |(name, address): (&str, &String)| {
            let setup =
                Setup::on(dir.path()).embedded().program(&program).listen(address).set("store", "kind", "cluster");
            setup
                .set("store", "redis", &store.redis)
                .set("store", "mongo", &store.mongo)
                .set("store", "prefix", &store.prefix)
                .set("store", "database", &store.database)
                .set("store", "partitions", "4")
                .set("gateway", "affinity", name)
                .set("drain", "notice", notice)
        };
        let setups: Vec<Setup> = NAMES.into_iter().zip(&addresses).map(setup).collect();
        let running = setups.iter().map(|setup| Some(setup.start())).collect();
        Self { setups, running, addresses, _dir: dir }
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// SIGTERM, and waits until it has ended.
    pub(crate) fn drain(&mut self, node: usize) {
        let status = self.running[node].take().expect("it runs").terminate();
        assert!(status.success(), "{} was asked to end and ended with {status}", NAMES[node]);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: usize) {
        self.running[node].take().expect("it runs").kill();
    }

    pub(crate) fn restart(&mut self, node: usize) {
        self.running[node] = Some(self.setups[node].start());
    }
}
