//! The Redis client behind an interface of our own: call a function on a partition, read a stream,
//! listen. A command is sent at most once; one whose answer was lost may have happened or not, and
//! says so.

mod letters;

use std::time::Duration;

use bytes::Bytes;
use fred::{
    clients::SubscriberClient,
    error::{Error as FredError, ErrorKind},
    prelude::{
        Builder, Client, ClientLike, ClusterInterface, Config, EventInterface, FredResult, FunctionInterface,
        KeysInterface, PubsubInterface, ReconnectPolicy, ServerConfig,
    },
    types::{CustomCommand, Value, config::Server},
};
use tokio::sync::mpsc;
use tracing::{info, warn};

pub(super) use super::answer::{int, list, pairs, raw};
use crate::error::{Error, Result};

/// The functions, all of them in one library, which says `greenroom_1` where its name goes.
const LIBRARY: &str = concat!(
    include_str!("functions/base.lua"),
    include_str!("functions/upgrade.lua"),
    include_str!("functions/warm.lua"),
    include_str!("functions/accept.lua"),
    include_str!("functions/journal.lua"),
    include_str!("functions/commit.lua"),
    include_str!("functions/owner.lua"),
    include_str!("functions/upkeep.lua"),
    include_str!("functions/look.lua"),
    include_str!("functions/resize.lua"),
    include_str!("functions/nodes.lua"),
    include_str!("functions/session.lua"),
    include_str!("functions/limits.lua"),
    include_str!("functions/names.lua"),
);

/// What the library and its functions are called: by what is in it, so that nodes of two builds work
/// side by side while one replaces the other.
fn library() -> String {
    format!("greenroom_{:016x}", xxhash_rust::xxh3::xxh3_64(LIBRARY.as_bytes()))
}

/// How long an answer may take before it counts as lost.
const ANSWER: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The partition has another owner.
    Stale,
    /// The others have given this node up.
    Lost,
    /// The server has not confirmed the partition, or has lost some of it: it did not happen.
    Cold,
    /// The numbers that were reserved are used up: it did not happen.
    Reserve,
    /// Redis refused it (out of memory, read only, disk full): it did not happen.
    Refused(String),
    /// The connection failed: it may have happened.
    Unknown(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stale => f.write_str("another owner has taken over"),
            Self::Lost => f.write_str("the other nodes have given this one up"),
            Self::Cold => {
                f.write_str("Redis may have lost what it had not synced, and the partition is not confirmed yet")
            }
            Self::Reserve => f.write_str("no numbers are reserved for the partition"),
            Self::Refused(why) => write!(f, "Redis refused: {why}"),
            Self::Unknown(why) => write!(f, "Redis did not answer: {why}"),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Stale => Error::terminal(fault.to_string()).code("stale_lease"),
            Fault::Lost => Error::terminal(fault.to_string()).code("node_lost"),
            _ => Error::new(fault.to_string()).code("redis"),
        }
    }
}

fn fault(error: FredError) -> Fault {
    let details = error.details().to_owned();
    if details.starts_with("STALE") {
        return Fault::Stale;
    }
    if details.starts_with("LOST") {
        return Fault::Lost;
    }
    if details.starts_with("COLD") {
        return Fault::Cold;
    }
    if details.starts_with("RESERVE") {
        return Fault::Reserve;
    }
    // Whether it happened is not remembered.
    if details.starts_with("OVER") {
        return Fault::Unknown(details);
    }
    match error.kind() {
        ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::Protocol | ErrorKind::Parse => {
            Fault::Unknown(error.to_string())
        }
        _ => Fault::Refused(error.to_string()),
    }
}

/// Connections to Redis: those that write, chosen by partition so that what is sent for one partition
/// keeps its order, and one that reads.
pub(super) struct Redis {
    lanes: Vec<Client>,
    reader: Client,
    subscriber: SubscriberClient,
    prefix: String,
    /// The name of the library of functions.
    library: String,
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
    /// Connects, and loads the functions. Terminal error when the address cannot be understood.
    pub(super) async fn connect(url: &str, prefix: &str, lanes: usize) -> Result<Self> {
        let config = Config::from_url(&several(url))
            .map_err(|e| Error::terminal(format!("the Redis address cannot be understood: {e}")).code("bad_config"))?;
        let mut builder = Builder::from_config(config);
        builder
            .with_performance_config(|performance| {
                performance.default_command_timeout = ANSWER;
                performance.broadcast_channel_capacity = 65_536;
            })
            .with_connection_config(|connection| {
                // Sent twice, an append would be two messages.
                connection.max_command_attempts = 1;
                connection.connection_timeout = Duration::from_secs(3);
                connection.internal_command_timeout = Duration::from_secs(3);
                connection.max_command_buffer_len = 100_000;
                connection.unresponsive.max_timeout = Some(Duration::from_secs(4));
                connection.unresponsive.interval = Duration::from_secs(1);
            })
            .set_policy(ReconnectPolicy::new_constant(0, 100));
        let open = |e: FredError| Error::new(format!("connecting to Redis: {e}")).code("redis");
        let connect = async |client: Client| -> Result<Client> {
            tokio::time::timeout(Duration::from_secs(10), client.init())
                .await
                .map_err(|_| Error::new("connecting to Redis: no answer within 10 s").code("redis"))?
                .map_err(open)?;
            Ok(client)
        };
        let mut connected = Vec::new();
        for _ in 0..lanes.max(1) {
            connected.push(connect(builder.build().map_err(open)?).await?);
        }
        let reader = connect(builder.build().map_err(open)?).await?;
        let subscriber = builder.build_subscriber_client().map_err(open)?;
        subscriber.init().await.map_err(open)?;
        // Reconnecting, it subscribes again; whoever listens looks for what it missed.
        let _resubscribes = subscriber.manage_subscriptions();
        let redis = Self { lanes: connected, reader, subscriber, prefix: prefix.to_owned(), library: library() };
        redis.load().await?;
        Ok(redis)
    }

    /// Whether keys are spread over several servers by their hash tags.
    pub(super) fn clustered(&self) -> bool {
        matches!(self.reader.client_config().server, ServerConfig::Clustered { .. })
    }

    async fn load(&self) -> Result<()> {
        let functions = LIBRARY.replace("greenroom_1", &self.library);
        let loaded: FredResult<Value> = if self.clustered() {
            self.reader.function_load_cluster(true, functions).await
        } else {
            self.reader.function_load(true, functions).await
        };
        loaded.map(drop).map_err(|e| {
            Error::new(format!("loading Greenroom's functions into Redis (7.0 or newer is needed): {e}")).code("redis")
        })
    }

    /// What all keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The prefix of a partition's keys.
    pub(super) fn key(&self, partition: u16) -> String {
        format!("{}:{{{partition:04}}}", self.prefix)
    }

    /// The prefix of the keys about nodes.
    pub(super) fn nodes_key(&self) -> String {
        format!("{}:{{nodes}}", self.prefix)
    }

    /// What is said once of the whole store.
    pub(super) fn meta_key(&self) -> String {
        format!("{}:{{meta}}", self.prefix)
    }

    /// Which writing connection a partition uses.
    pub(super) fn lane(&self, partition: u16) -> usize {
        usize::from(partition) % self.lanes.len()
    }

    /// How many writing connections there are.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Calls a function that changes a partition.
    pub(super) async fn call(&self, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(&self.lanes[self.lane(partition)], self.key(partition), function, args).await
    }

    /// Calls a function that only reads a partition.
    pub(super) async fn look(&self, partition: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(&self.reader, self.key(partition), function, args).await
    }

    /// Calls a function that changes what is not a partition's.
    pub(super) async fn call_at(&self, lane: u16, key: String, name: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(&self.lanes[self.lane(lane)], key, name, args).await
    }

    /// Calls a function that only reads that.
    pub(super) async fn look_at(&self, key: String, name: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(&self.reader, key, name, args).await
    }

    /// Calls a function about nodes.
    pub(super) async fn nodes(&self, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(&self.reader, self.nodes_key(), function, args).await
    }

    /// Calls a function about limits, of one of the prefixes they are spread over.
    pub(super) async fn limit(&self, shard: usize, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let key = format!("{}:{{limit-{shard:02}}}", self.prefix);
        self.invoke(&self.reader, key, function, args).await
    }

    /// Calls a function about the whole store, on the first writing connection.
    pub(super) async fn meta(&self, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        self.invoke(&self.lanes[0], self.meta_key(), function, args).await
    }

    /// Calls a function that only reads what is said of the whole store.
    pub(super) async fn look_meta(&self, function: &str) -> Result<Value, Fault> {
        self.invoke(&self.reader, self.meta_key(), function, Vec::new()).await
    }

    async fn invoke(&self, client: &Client, key: String, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let name = format!("{}_{function}", self.library);
        let answer = client.fcall(name.clone(), keys(&key), args.clone()).await;
        match answer {
            // A server that is new, or was emptied: nothing has happened yet.
            Err(error) if error.details().contains("Function not found") => {
                info!("Redis does not know Greenroom's functions (any more): loading them");
                self.load().await.map_err(|e| Fault::Refused(e.to_string()))?;
                client.fcall(name, keys(&key), args).await.map_err(fault)
            }
            other => other.map_err(fault),
        }
    }

    /// A value.
    pub(super) async fn value(&self, key: String) -> Result<Option<Bytes>, Fault> {
        self.reader.get(key).await.map_err(fault)
    }

    /// Fields of a hash.
    pub(super) async fn fields(&self, key: String, fields: &[&str]) -> Result<Value, Fault> {
        use fred::prelude::HashesInterface;
        self.reader.hmget(key, fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>()).await.map_err(fault)
    }

    /// Writes something, to see that it can be done.
    pub(super) async fn probe(&self) -> Result<(), Fault> {
        let key = format!("{}:probe", self.nodes_key());
        let set: FredResult<Value> = self.lanes[0].set(key, 1, None, None, false).await;
        set.map(drop).map_err(fault)
    }

    /// The servers that hold keys.
    pub(super) fn servers(&self) -> Vec<Server> {
        match self.reader.cached_cluster_state() {
            Some(cluster) => cluster.unique_primary_nodes(),
            None => self.reader.client_config().server.hosts(),
        }
    }

    /// Any command of one server, for looking at how it is set up.
    pub(super) async fn ask_server(
        &self,
        server: &Server,
        command: &'static str,
        args: &[&str],
    ) -> Result<Value, Fault> {
        let command = CustomCommand::new_static(command, None::<u16>, false);
        let args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
        if self.clustered() {
            self.reader.with_cluster_node(server).custom(command, args).await.map_err(fault)
        } else {
            self.reader.custom(command, args).await.map_err(fault)
        }
    }

    /// Any command on a writing connection, to the server that holds `key`.
    pub(super) async fn ask_lane(
        &self,
        lane: usize,
        key: &str,
        command: &'static str,
        args: &[&str],
    ) -> Result<Value, Fault> {
        let slot = fred::util::redis_keyslot(key.as_bytes());
        let command = CustomCommand::new_static(command, slot, false);
        let args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
        self.lanes[lane].custom(command, args).await.map_err(fault)
    }
}

/// The keys of a call: one that never exists, and the head. While a Redis Cluster migrates the slot, one of them is
/// missing on either side, so that it refuses the call there, and nothing of it runs on half of the keys.
fn keys(key: &str) -> Vec<String> {
    vec![key.to_owned(), format!("{key}:head")]
}

/// Several hosts, separated by commas, as the client wants to read them.
fn several(url: &str) -> String {
    match url.split_once(',') {
        Some((first, more)) if url.contains("-cluster://") => {
            let more: Vec<String> = more.split(',').map(|host| format!("node={host}")).collect();
            format!("{first}?{}", more.join("&"))
        }
        _ => url.to_owned(),
    }
}
