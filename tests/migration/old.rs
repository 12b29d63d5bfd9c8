//! The functions of the build that made the fixtures (`old.lua`: those about partitions, as they were), for what a
//! node of it would still do.

use fred::{
    clients::Client,
    interfaces::{ClientLike, FunctionInterface},
    types::{CustomCommand, Value, config::ServerConfig},
};
use greenroom::backend::cluster::Options;

use crate::fixture::connect;

const LIBRARY: &str = include_str!("old.lua");

/// A node of that build.
pub(crate) struct Old {
    pub(crate) redis: Client,
    prefix: String,
}

impl Old {
    pub(crate) async fn start(options: &Options) -> Self {
        let redis = connect(&options.redis).await;
        let functions = LIBRARY.replace("greenroom_1", "greenroom_163a33b");
        let loaded: Value = match redis.client_config().server {
            ServerConfig::Clustered { .. } => redis.function_load_cluster(true, functions).await.unwrap(),
            _ => redis.function_load(true, functions).await.unwrap(),
        };
        drop(loaded);
        Self { redis, prefix: options.prefix.clone() }
    }

    /// The name of a key of a partition.
    pub(crate) fn key(&self, partition: u16, name: &str) -> String {
        format!("{}:{{{partition:04}}}{name}", self.prefix)
    }

    /// Calls a function of a partition.
    pub(crate) async fn call(&self, partition: u16, name: &str, args: Vec<Value>) -> Result<Value, String> {
        let key = self.key(partition, "");
        let mut all: Vec<Value> = vec![format!("greenroom_163a33b_{name}").into(), "1".into(), key.as_str().into()];
        all.extend(args);
        let command = CustomCommand::new_static("FCALL", fred::util::redis_keyslot(key.as_bytes()), false);
        self.redis.custom(command, all).await.map_err(|error| error.details().to_owned())
    }
}
