//! Real stores for tests: `GREENROOM_TEST_STORE` says on which one a [`World`](super::World) lives.
//! Each has names of its own on shared servers, so tests do not meet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    backend::{
        Backend,
        cluster::{Accept, Cluster, FORGET, Options},
        embedded::{self, Embedded},
    },
    error::{Error, Result},
};

/// A store to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// SQLite in memory.
    Embedded,
    /// Redis and MongoDB, at `GREENROOM_TEST_REDIS` and `GREENROOM_TEST_MONGO`.
    Redis,
    /// Valkey and MongoDB, at `GREENROOM_TEST_VALKEY`.
    Valkey,
    /// A Redis Cluster and MongoDB, at `GREENROOM_TEST_CLUSTER`.
    RedisCluster,
}

impl Which {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Embedded, Self::Redis, Self::Valkey, Self::RedisCluster];

    /// As `GREENROOM_TEST_STORE` says: `embedded` (when it is not set), `redis`, `valkey` or
    /// `redis-cluster`.
    ///
    /// # Errors
    /// When it says something else.
    pub fn from_env() -> Result<Self> {
        match std::env::var("GREENROOM_TEST_STORE").as_deref() {
            Err(_) | Ok("" | "embedded") => Ok(Self::Embedded),
            Ok("redis") => Ok(Self::Redis),
            Ok("valkey") => Ok(Self::Valkey),
            Ok("redis-cluster") => Ok(Self::RedisCluster),
            Ok(other) => Err(Error::terminal(format!(
                "GREENROOM_TEST_STORE is {other:?}: expected embedded, redis, valkey or redis-cluster"
            ))),
        }
    }

    /// Opens a new, empty store.
    ///
    /// # Errors
    /// When a server is not named or does not answer.
    pub fn open(self, options: &embedded::Options) -> Result<Arc<dyn Backend>> {
        match self {
            Self::Embedded => Ok(Arc::new(Embedded::in_memory(options.clone())?)),
            _ => Ok(Arc::new(Cluster::open(self.cluster(options)?)?)),
        }
    }

    /// How a new, empty store on servers is opened, so that it can be opened again.
    ///
    /// # Errors
    /// When a server is not named, and for the embedded store.
    pub fn cluster(self, options: &embedded::Options) -> Result<Options> {
        let redis = match self {
            Self::Embedded => return Err(Error::terminal("the embedded store has no servers")),
            Self::Redis => named("GREENROOM_TEST_REDIS")?,
            Self::Valkey => named("GREENROOM_TEST_VALKEY")?,
            Self::RedisCluster => named("GREENROOM_TEST_CLUSTER")?,
        };
        let name = unique();
        Ok(Options {
            redis,
            mongo: named("GREENROOM_TEST_MONGO")?,
            database: name.clone(),
            prefix: name,
            partitions: options.partitions,
            mailbox_bytes: options.mailbox_bytes,
            accept: Accept::Fsync,
            lease: Duration::from_secs(3),
            forget: FORGET,
            redis_tls: Default::default(),
            faults: None,
        })
    }
}

fn named(variable: &str) -> Result<String> {
    std::env::var(variable).map_err(|_| {
        Error::terminal(format!("{variable} is not set: run `make test`, or `tests/servers start && . .parts/run/env`"))
    })
}

fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("test-{}-{nanos:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
