//! Real servers: private ones, which a test may kill, and the ones that all tests share.
//!
//! The programs are those of `.parts/bin`, where `make setup` puts them. One that is missing fails
//! the test: a promise that was not tested is not kept.

pub mod cluster;
pub mod members;
pub mod mongo;
pub mod pair;
pub mod parts;
pub mod port;
pub mod process;
pub mod proxy;
pub mod redis;

pub use cluster::RedisCluster;
pub use members::Members;
pub use mongo::Mongo;
pub use pair::Pair;
pub use proxy::{Proxy, Way};
pub use redis::{Redis, RedisSetup};

/// A server that all tests share, started by `tests/servers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Redis 7, `appendfsync always`.
    Redis,
    /// Valkey 9, `appendfsync always`.
    Valkey,
    /// Three primaries: `redis-cluster://host:port,host:port,host:port`.
    Cluster,
    /// A replica set of one; `MONGODB_URI` names another.
    Mongo,
}

/// The URL of a shared server. Whoever uses it keeps to names made with [`unique`], and neither
/// stops nor configures it.
pub fn shared(which: Which) -> String {
    let variable = match which {
        Which::Redis => "GREENROOM_TEST_REDIS",
        Which::Valkey => "GREENROOM_TEST_VALKEY",
        Which::Cluster => "GREENROOM_TEST_CLUSTER",
        Which::Mongo => "GREENROOM_TEST_MONGO",
    };
    let other = (which == Which::Mongo).then(|| std::env::var("MONGODB_URI").ok()).flatten();
    other.or_else(|| std::env::var(variable).ok()).unwrap_or_else(|| {
        panic!(
            "{variable} is not set, so there is no {which:?} to test with. Run `make test`, or by hand \
             `make setup && tests/servers start && . .parts/run/env`"
        )
    })
}

/// A name nobody else uses, ever: a prefix of keys, a name of a database.
pub fn unique() -> String {
    format!("t{}", uuid::Uuid::now_v7().simple())
}
