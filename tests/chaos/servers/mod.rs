//! The servers under the nodes, as a scenario has them, each behind a proxy that is the network where it can be.
//! All of them ours alone.
//!
//! ```text
//! faults   what happens to them      shard   what happens to one of several masters
//! ```

mod faults;
mod shard;

use std::path::Path;

pub(crate) use faults::{Loss, Suffered};
pub(crate) use shard::owners;

use crate::{
    LEASE,
    fault::Which,
    scenario::{Layout, Scenario},
    support::{
        build,
        server::Setup,
        servers::{self, Members, Mongo, Pair, Proxy, Redis, RedisCluster, RedisSetup, mongo},
    },
    vendor::Vendor,
};

/// Running servers; gone when dropped.
pub(crate) struct Servers {
    redis: Keeper,
    mongo: States,
    /// Whom payments call; not behind anything.
    pub(crate) vendor: Vendor,
    scenario: Scenario,
    database: String,
}

/// Redis, as it stands there.
enum Keeper {
    One(Redis, Proxy),
    Pair(Pair, Proxy),
    Cluster(RedisCluster),
}

/// MongoDB, as it stands there.
enum States {
    One(Mongo, Proxy),
    Members(Members),
}

impl Servers {
    pub(crate) fn start(seed: u64, scenario: Scenario) -> Self {
        let setup = RedisSetup::redis().set("appendfsync", scenario.fsync);
        let redis = match scenario.redis {
            Layout::One => {
                let redis = Redis::start(setup);
                let way = Proxy::start(&redis.address());
                Keeper::One(redis, way)
            }
            Layout::Pair => {
                let pair = Pair::start(&setup);
                let way = Proxy::start(&pair.master.address());
                Keeper::Pair(pair, way)
            }
            // One that stands still for some seconds is not yet taken for dead: it has no replica.
            Layout::Cluster => Keeper::Cluster(RedisCluster::of(&setup.set("cluster-node-timeout", "15000"))),
        };
        let mongo = if scenario.members {
            States::Members(Members::start())
        } else {
            let mongo = Mongo::private();
            let way = Proxy::start(&mongo.address());
            States::One(mongo, way)
        };
        Self { redis, mongo, vendor: Vendor::start(seed), scenario, database: servers::unique() }
    }

    /// How a node on these servers is started.
    pub(crate) fn setup(&self, data: &Path) -> Setup {
        let redis = match &self.redis {
            Keeper::One(_, way) | Keeper::Pair(_, way) => way.url("redis"),
            Keeper::Cluster(cluster) => cluster.url(),
        };
        let mongo = match &self.mongo {
            States::One(_, way) => mongo::direct(&way.address()),
            States::Members(members) => members.url(),
        };
        Setup::on(data)
            .program(&build::example("bank"))
            .set("store", "kind", "cluster")
            .set("store", "redis", &redis)
            .set("store", "mongo", &mongo)
            .set("store", "accept", self.scenario.accept)
            .set("store", "database", &self.database)
            .set("store", "lease", &format!("{}ms", LEASE.as_millis()))
            .set("bank", "vendor", self.vendor.address())
            .set("gateway", "workers", "1")
            .set("runtime", "arbiters", "1")
            // No process dies of a message here, and each dies more often than any would.
            .set("runtime", "crash_limit", "1000")
            .set("drain", "deadline", "10s")
    }

    /// The network before a server, where there is one.
    fn way(&self, which: Which) -> Option<&Proxy> {
        match (which, &self.redis, &self.mongo) {
            (Which::Redis, Keeper::One(_, way) | Keeper::Pair(_, way), _) => Some(way),
            (Which::Mongo, _, States::One(_, way)) => Some(way),
            _ => None,
        }
    }

    /// Ends every fault of a network.
    pub(crate) fn heal(&self) {
        [Which::Redis, Which::Mongo].into_iter().filter_map(|which| self.way(which)).for_each(Proxy::heal);
    }

    /// Messages that have not ended, as Redis has them: their keys and what is stored.
    pub(crate) fn waiting(&self) -> String {
        let masters: Vec<&Redis> = match &self.redis {
            Keeper::One(redis, _) => vec![redis],
            Keeper::Pair(pair, _) => vec![&pair.master],
            Keeper::Cluster(cluster) => cluster.nodes().iter().collect(),
        };
        let mut found = String::new();
        for redis in masters {
            for pattern in ["*:mail:*", "*:deferred", "*:out:*"] {
                for key in redis.cli(&["--scan", "--pattern", pattern]).lines() {
                    let held = redis.cli(&["hgetall", key]);
                    let head = redis.cli(&["hgetall", &format!("{}:head", key.split_once('}').map_or("", |(p, _)| p))]);
                    found += &format!("{key}: {}\nhead: {}\n", held.replace('\n', " "), head.replace('\n', " "));
                }
            }
        }
        found
    }

    /// The masters, if there are several.
    pub(crate) fn shards(&self) -> Option<&RedisCluster> {
        match &self.redis {
            Keeper::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }
}
