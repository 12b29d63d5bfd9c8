//! A private Redis cluster: three primaries, no replicas.

use super::{
    super::eventually,
    redis::{Redis, RedisSetup, redis_cli},
};

/// A running cluster; killed when dropped.
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts one of Redis 7 and waits until every node serves.
    pub fn start() -> Self {
        // A node that does not answer is noticed within seconds, not only after fifteen.
        Self::of(&RedisSetup::redis().set("cluster-node-timeout", "5000"))
    }

    /// Starts one of such servers and waits until every node serves.
    pub fn of(setup: &RedisSetup) -> Self {
        let nodes: Vec<Redis> = (0..3).map(|_| Redis::start(setup.clone().cluster())).collect();
        let addresses: Vec<String> = nodes.iter().map(Redis::address).collect();
        let mut arguments = vec!["--cluster", "create"];
        arguments.extend(addresses.iter().map(String::as_str));
        arguments.extend(["--cluster-replicas", "0", "--cluster-yes"]);
        redis_cli(nodes[0].port(), &arguments).unwrap_or_else(|error| panic!("no cluster: {error}"));
        let cluster = Self { nodes };
        cluster.wait_ok();
        cluster
    }

    /// Waits until every node knows of an owner for every slot.
    pub fn wait_ok(&self) {
        for node in &self.nodes {
            eventually("the cluster to be ok", || {
                let info = node.try_cli(&["cluster", "info"]).ok()?;
                let says = |line: &str| info.lines().any(|other| other.trim_end() == line);
                (says("cluster_state:ok") && says("cluster_slots_ok:16384")).then_some(())
            });
        }
    }

    /// Such as `redis-cluster://127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003`.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Redis::address).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// One node, to be killed or started again.
    pub fn node(&mut self, index: usize) -> &mut Redis {
        &mut self.nodes[index]
    }

    /// The index of the node that owns a key's slot.
    pub fn owner(&self, key: &str) -> usize {
        let slot = self.slot(key);
        let owns = |node: &Redis| {
            // A line of `cluster nodes` about the node asked: "… myself,master … connected 0-5460 …"
            let known = node.try_cli(&["cluster", "nodes"]).unwrap_or_default();
            let mine = known.lines().find(|line| line.contains("myself")).unwrap_or_default();
            mine.split_whitespace().skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                first.parse().is_ok_and(|first: u32| first <= slot) && last.parse().is_ok_and(|last: u32| slot <= last)
            })
        };
        self.nodes.iter().position(owns).expect("every slot has an owner")
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> u32 {
        let slots = self.nodes.iter().find_map(|node| node.try_cli(&["cluster", "keyslot", key]).ok());
        slots.and_then(|slot| slot.parse().ok()).expect("a slot")
    }

    /// Begins to move a key's slot to another node: from now on both may be asked for it.
    pub fn begin_move(&self, key: &str, to: usize) -> Move<'_> {
        let (slot, from) = (self.slot(key).to_string(), self.owner(key));
        assert!(from != to, "it is there already");
        let ids = [from, to].map(|node| self.nodes[node].cli(&["cluster", "myid"]));
        self.nodes[to].cli(&["cluster", "setslot", &slot, "importing", &ids[0]]);
        self.nodes[from].cli(&["cluster", "setslot", &slot, "migrating", &ids[1]]);
        Move { cluster: self, slot, from, to, id: ids[1].clone(), split: Vec::new() }
    }
}

/// A slot on its way to another node.
pub struct Move<'a> {
    cluster: &'a RedisCluster,
    slot: String,
    from: usize,
    to: usize,
    id: String,
    /// Keys that were on both sides: those that use it have split it.
    pub split: Vec<String>,
}

impl Move<'_> {
    /// Moves at most so many keys; `false` when none was left.
    pub fn some(&mut self, keys: usize) -> bool {
        let found = self.cluster.nodes[self.from].cli(&["cluster", "getkeysinslot", &self.slot, &keys.to_string()]);
        let port = self.cluster.nodes[self.to].port().to_string();
        let keys: Vec<&str> = found.lines().filter(|key| !key.is_empty()).collect();
        for key in &keys {
            let migrate = |more: &[&str]| {
                let mut arguments = vec!["migrate", "127.0.0.1", &port, "", "0", "5000"];
                arguments.extend(more);
                arguments.extend(["keys", key]);
                self.cluster.nodes[self.from].try_cli(&arguments)
            };
            if migrate(&[]).is_err_and(|error| error.contains("BUSYKEY")) {
                self.split.push((*key).to_owned());
                // One side has to win, or the slot would never be whole again.
                let _ = migrate(&["replace"]);
            }
        }
        !keys.is_empty()
    }

    /// Moves what is left and tells every node; answers the keys that were on both sides.
    pub fn end(mut self) -> Vec<String> {
        while self.some(100) {}
        let first = [self.to, self.from];
        let others = (0..self.cluster.nodes.len()).filter(|node| !first.contains(node));
        for node in first.into_iter().chain(others) {
            self.cluster.nodes[node].cli(&["cluster", "setslot", &self.slot, "node", &self.id]);
        }
        self.split
    }
}
