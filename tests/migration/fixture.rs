//! Puts a store of a fixture into servers, under names of the test's own: the keys of a fixture are without
//! their prefix, and nothing in their values names it.

use std::{path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{Builder, ClusterHash, CustomCommand, Value, config::Config},
};
use greenroom::backend::cluster::Options;
use mongodb::bson::{Document, deserialize_from_slice};
use serde::{Deserialize, Serialize};

use crate::{expected::Expected, support::build::root};

/// A key of Redis.
#[derive(Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its name after the prefix.
    pub(crate) key: String,
    /// How long it stays, in milliseconds; 0 when for ever.
    pub(crate) ttl: u64,
    /// What `DUMP` says of it.
    pub(crate) dump: String,
}

/// Where the files of a fixture are.
pub(crate) fn directory(name: &str) -> PathBuf {
    root().join("tests/migration").join(name)
}

/// What must be found in it.
pub(crate) fn expected(name: &str) -> Expected {
    serde_json::from_slice(&std::fs::read(directory(name).join("expected.json")).unwrap()).unwrap()
}

/// Puts the fixture of this name into the servers and under the names that `options` say, which no other test
/// uses.
pub(crate) async fn restore(name: &str, options: &Options) {
    let redis = connect(&options.redis).await;
    for line in std::fs::read_to_string(directory(name).join("redis.jsonl")).unwrap().lines() {
        let entry: Entry = serde_json::from_str(line).unwrap();
        let args: Vec<Value> = vec![
            format!("{}{}", options.prefix, entry.key).into(),
            entry.ttl.to_string().into(),
            Value::Bytes(STANDARD.decode(entry.dump).unwrap().into()),
        ];
        command(&redis, "RESTORE", args).await;
    }
    redis.quit().await.unwrap();
    let database = mongodb::Client::with_uri_str(&options.mongo).await.unwrap().database(&options.database);
    for line in std::fs::read_to_string(directory(name).join("mongodb.jsonl")).unwrap().lines() {
        let (collection, document): (String, String) = serde_json::from_str(line).unwrap();
        let document: Document = deserialize_from_slice(&STANDARD.decode(document).unwrap()).unwrap();
        database.collection::<Document>(&collection).insert_one(document).await.unwrap();
    }
}

/// A connection to Redis.
pub(crate) async fn connect(url: &str) -> Client {
    // Further hosts of a cluster are parameters to this client.
    let url = match url.split_once(',') {
        Some((first, more)) => {
            let more: Vec<String> = more.split(',').map(|host| format!("node={host}")).collect();
            format!("{first}?{}", more.join("&"))
        }
        None => url.to_owned(),
    };
    let client = Builder::from_config(Config::from_url(&url).unwrap())
        .with_performance_config(|performance| performance.default_command_timeout = Duration::from_secs(30))
        .build()
        .unwrap();
    client.init().await.unwrap();
    client
}

/// Sends a command whose first argument is a key.
pub(crate) async fn command(redis: &Client, name: &'static str, args: Vec<Value>) -> Value {
    let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
    redis.custom(command, args.clone()).await.unwrap_or_else(|error| panic!("{name} {:?}: {error}", args.first()))
}
