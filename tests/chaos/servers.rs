//! The servers under the nodes: a Redis that answers when it is on the disk, a MongoDB replica set,
//! each behind a proxy that is the network. All of them ours alone.

use std::path::Path;

use crate::{
    LEASE,
    support::{
        build,
        server::Setup,
        servers::{self, Mongo, Proxy, Redis, RedisSetup, mongo},
    },
    vendor::Vendor,
};

/// Running servers; gone when dropped.
pub(crate) struct Servers {
    pub(crate) redis: Redis,
    pub(crate) mongo: Mongo,
    pub(crate) to_redis: Proxy,
    pub(crate) to_mongo: Proxy,
    /// Whom payments call; not behind anything.
    pub(crate) vendor: Vendor,
    database: String,
}

impl Servers {
    pub(crate) fn start(seed: u64) -> Self {
        let redis = Redis::start(RedisSetup::redis());
        let mongo = Mongo::private();
        let (to_redis, to_mongo) = (Proxy::start(&redis.address()), Proxy::start(&mongo.address()));
        Self { redis, mongo, to_redis, to_mongo, vendor: Vendor::start(seed), database: servers::unique() }
    }

    /// How a node on these servers is started.
    pub(crate) fn setup(&self, data: &Path) -> Setup {
        Setup::on(data)
            .program(&build::example("bank"))
            .set("store", "kind", "cluster")
            .set("store", "redis", &self.to_redis.url("redis"))
            .set("store", "mongo", &mongo::direct(&self.to_mongo.address()))
            .set("store", "database", &self.database)
            .set("store", "lease", &format!("{}ms", LEASE.as_millis()))
            .set("bank", "vendor", self.vendor.address())
            .set("gateway", "workers", "1")
            .set("runtime", "arbiters", "1")
            // No process dies of a message here, and each dies more often than any would.
            .set("runtime", "crash_limit", "1000")
            .set("drain", "deadline", "10s")
    }

    /// Ends every fault of a server.
    pub(crate) fn heal(&self) {
        self.to_redis.heal();
        self.to_mongo.heal();
    }
}
