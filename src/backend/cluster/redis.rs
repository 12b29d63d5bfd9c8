//! The Redis client behind an interface of our own: call a function on a partition, read a stream,
//! listen. One whose answer was lost may have happened or not, and says so; it is made again only where
//! that does no harm.
//!
//! ```text
//! call ─► send ─► which server has the key (servers, table) ─► its link ─► live ─► one client of fred
//!          ▲                                                    │
//!          └─ MOVED, ASK, TRYAGAIN, LOADING … : it did not happen, so again, for a while
//! ```
//!
//! Of fred only the protocol of one connection is used; why is said in ARCHITECTURE.md.

mod address;
mod fault;
mod functions;
mod keys;
mod letters;
mod link;
mod live;
mod send;
mod servers;
mod table;
mod tls;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fred::types::Value;
use tokio::time::Instant;

use self::{
    address::Address,
    letters::Letterbox,
    send::Request,
    servers::{Node, Servers, Way},
};
pub(super) use self::{fault::Fault, send::Repeat};
pub(super) use super::answer::{int, list, pairs, raw};
use super::durability::Durable;
use super::{Options, inject::Injector};
use crate::error::{Error, Result};

/// How long connecting to everything may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Connections to Redis: those that write, chosen by partition so that what is sent for one partition
/// keeps its order, one that reads, one for heartbeats, and one that letters come over. Of each there is one
/// for each server.
pub(super) struct Redis {
    servers: Arc<Servers>,
    letterbox: Arc<Letterbox>,
    prefix: String,
    /// The name of the library of functions.
    library: String,
    faults: Option<Arc<dyn Injector>>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.close();
    }
}

/// An argument of a function.
pub(super) fn arg(value: impl Into<Bytes>) -> Value {
    Value::Bytes(value.into())
}

/// A number as an argument.
pub(super) fn number(value: impl ToString) -> Value {
    Value::String(value.to_string().into())
}

impl Redis {
    /// Connects to every master, and loads the functions. Terminal error when the address cannot be
    /// understood.
    pub(super) async fn connect(options: &Options, lanes: usize) -> Result<Self> {
        let address = Address::parse(&options.redis, &options.redis_tls)?;
        let finding = tokio::time::timeout(CONNECT, Servers::find(address, lanes.max(1)));
        let late = |_| Error::new(format!("connecting to Redis: no answer within {CONNECT:?}")).code("redis");
        let servers = Arc::new(finding.await.map_err(late)??);
        let until = Instant::now() + CONNECT;
        for node in servers.all() {
            for way in (0..servers.lanes()).map(Way::Lane).chain([Way::Reader]) {
                let opened = node.link(way).live(until).await;
                opened.map_err(|why| Error::new(format!("connecting to {}: {why}", node.name())).code("redis"))?;
            }
        }
        let letterbox = Letterbox::start(servers.clone());
        let (prefix, library) = (options.prefix.clone(), functions::library());
        let redis = Self { servers, letterbox, prefix, library, faults: options.faults.clone() };
        redis.load().await?;
        Ok(redis)
    }

    /// Calls a function that changes a partition.
    pub(super) async fn call(&self, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let way = Way::Lane(self.lane(partition));
        self.invoke(way, &self.key(partition), function, args, Repeat::Once, None).await
    }

    /// Calls a function that changes what has this prefix, and answers when that is as durable as promised.
    pub(super) async fn write(
        &self,
        lane: usize,
        key: &str,
        (function, args): (&str, Vec<Value>),
        repeat: Repeat,
        durable: &Durable,
    ) -> Result<Value, Fault> {
        self.invoke(Way::Lane(lane), key, function, args, repeat, Some(durable)).await
    }

    /// Calls a function that only reads a partition.
    pub(super) async fn look(&self, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(Way::Reader, &self.key(partition), function, args, Repeat::Safe, None).await
    }

    /// Calls a function that changes what is not a partition's.
    pub(super) async fn call_at(&self, lane: u16, key: String, name: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(Way::Lane(self.lane(lane)), &key, name, args, Repeat::Once, None).await
    }

    /// Calls a function that only reads that.
    pub(super) async fn look_at(&self, key: String, name: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(Way::Reader, &key, name, args, Repeat::Safe, None).await
    }

    /// Calls a function about nodes. Once more does no harm: each names its node.
    pub(super) async fn nodes(&self, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(Way::Beat, &self.nodes_key(), function, args, Repeat::Safe, None).await
    }

    /// Calls a function about limits, of one of the prefixes they are spread over.
    pub(super) async fn limit(&self, shard: usize, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let key = format!("{}:{{limit-{shard:02}}}", self.prefix);
        self.invoke(Way::Reader, &key, function, args, Repeat::Once, None).await
    }

    /// Calls a function that only reads what is said of the whole store.
    pub(super) async fn look_meta(&self, function: &str) -> Result<Value, Fault> {
        self.invoke(Way::Reader, &self.meta_key(), function, Vec::new(), Repeat::Safe, None).await
    }

    /// Calls a function. It is given two keys: a prefix, which is none that ever exists, and `<prefix>:head`.
    /// So, while a cluster moves their slot, one is always missing, and both servers refuse.
    async fn invoke(
        &self,
        way: Way,
        key: &str,
        function: &str,
        args: Vec<Value>,
        repeat: Repeat,
        durable: Option<&Durable>,
    ) -> Result<Value, Fault> {
        let mut all = Vec::with_capacity(4 + args.len());
        all.extend([number(format_args!("{}_{function}", self.library)), Value::from_static_str("2")]);
        all.extend([Value::from(key), number(format_args!("{key}:head"))]);
        all.extend(args);
        self.send(Request { command: "FCALL", args: all, name: function, key, way, repeat, durable }).await
    }

    /// Makes a call of a command that is Redis' own, about one key.
    async fn command(
        &self,
        way: Way,
        command: &'static str,
        key: &str,
        args: Vec<Value>,
        repeat: Repeat,
    ) -> Result<Value, Fault> {
        let mut all = vec![Value::from(key)];
        all.extend(args);
        self.send(Request { command, args: all, name: command, key, way, repeat, durable: None }).await
    }

    /// A value.
    pub(super) async fn value(&self, key: String) -> Result<Option<Bytes>, Fault> {
        let value = self.command(Way::Reader, "GET", &key, Vec::new(), Repeat::Safe).await?;
        Ok(if value.is_null() { None } else { value.into_bytes() })
    }

    /// Fields of a hash.
    pub(super) async fn fields(&self, key: String, fields: &[&str]) -> Result<Value, Fault> {
        let fields = fields.iter().map(|field| Value::from(*field)).collect();
        self.command(Way::Reader, "HMGET", &key, fields, Repeat::Safe).await
    }

    /// Sets a field of a hash unless it is there.
    pub(super) async fn set_once(&self, key: String, field: &str, value: Value) -> Result<(), Fault> {
        self.command(Way::Reader, "HSETNX", &key, vec![Value::from(field), value], Repeat::Safe).await.map(drop)
    }

    /// Writes something, to see that it can be done.
    pub(super) async fn probe(&self) -> Result<(), Fault> {
        let key = format!("{}:probe", self.nodes_key());
        self.command(Way::Lane(0), "SET", &key, vec![number(1)], Repeat::Safe).await.map(drop)
    }

    /// The servers that hold keys.
    pub(super) fn servers(&self) -> Vec<Master> {
        self.servers.all().into_iter().map(|node| Master { node }).collect()
    }

    /// Whether a server has the slot of a key.
    pub(super) fn has(&self, master: &Master, key: &str) -> bool {
        self.servers.of(key).is_some_and(|node| Arc::ptr_eq(&node, &master.node))
    }
}

/// One server that holds keys, to look at how it is set up.
pub(super) struct Master {
    node: Arc<Node>,
}

impl Master {
    /// Its name, as messages give it.
    pub(super) fn name(&self) -> String {
        self.node.name()
    }

    /// Any command, over the one connection that all these use.
    pub(super) async fn ask(&self, command: &'static str, args: &[&str]) -> Result<Value, Fault> {
        let until = Instant::now() + address::ANSWER;
        let live = self.node.link(Way::Reader).live(until).await.map_err(Fault::Refused)?;
        let args = args.iter().map(|arg| Value::from(*arg)).collect();
        live.ask(command, args, until).await.map_err(|e| match fault::read(&e) {
            fault::Failed::Finally(fault) => fault,
            _ => Fault::Refused(e.to_string()),
        })
    }
}
