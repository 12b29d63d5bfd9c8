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
        let slot: u32 = self.nodes[0].cli(&["cluster", "keyslot", key]).parse().expect("a slot");
        let owns = |node: &Redis| {
            // A line of `cluster nodes` about the node asked: "… myself,master … connected 0-5460 …"
            let known = node.cli(&["cluster", "nodes"]);
            let mine = known.lines().find(|line| line.contains("myself")).expect("it knows itself");
            mine.split_whitespace().skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                first.parse().is_ok_and(|first: u32| first <= slot) && last.parse().is_ok_and(|last: u32| slot <= last)
            })
        };
        self.nodes.iter().position(owns).expect("every slot has an owner")
    }
}
