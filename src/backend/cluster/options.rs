//! How the stores of a cluster are opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{durability::Accept, inject::Injector};

/// How the stores are opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Redis: `redis://host:6379`, `redis-cluster://host:7000`, `redis-sentinel://…`, `rediss://…`.
    pub redis: String,
    /// MongoDB: `mongodb://host:27017` and all its options.
    pub mongo: String,
    /// The MongoDB database.
    pub database: String,
    /// What all Redis keys begin with.
    pub prefix: String,
    /// Partitions of a new store; an existing one must have as many, and keeps them until it is
    /// [resized](Cluster::resize).
    pub partitions: u16,
    /// Byte budget of one partition's mailbox (G10).
    pub mailbox_bytes: u64,
    /// How durable a message is before it is accepted.
    pub accept: Accept,
    /// How long a node may be silent before the others take its partitions.
    pub lease: Duration,
    /// How long the document of a forgotten actor stays, and how long its partition must have had the same
    /// owner then: longer than a write of an earlier owner can be on its way. [`FORGET`] unless in tests.
    pub forget: Duration,
    /// How Redis is reached with TLS, where its address says so.
    pub redis_tls: Tls,
    /// Decides the fate of single calls to the stores, in tests.
    #[doc(hidden)]
    pub faults: Option<Arc<dyn Injector>>,
}

/// What proves who Redis is, and who this node is. PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificates that Redis' certificate must descend from, instead of those the system trusts.
    pub ca: Option<PathBuf>,
    /// This node's own certificate, if Redis asks for one.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// How long the document of a forgotten actor stays.
pub const FORGET: Duration = Duration::from_secs(600);
