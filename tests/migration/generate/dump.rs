//! Writes a store down.

use std::{fmt::Write, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use fred::{interfaces::ClientLike, types::Value};
use futures_util::TryStreamExt;
use greenroom::{
    Address,
    backend::{
        Backend,
        cluster::{Cluster, Options},
    },
};
use mongodb::bson::{Document, doc, serialize_to_vec};

use crate::{
    expected::Expected,
    fixture::{Entry, command, connect, directory},
    format1,
    snapshot::snapshot,
};

pub(super) async fn dump(name: &str, options: &Options, mut expected: Expected) {
    let files = directory(name);
    std::fs::create_dir_all(&files).unwrap();
    expected.partitions = 4;
    expected.addresses.extend(expected.after.keys().cloned());
    expected.addresses.sort();
    expected.addresses.dedup();
    let redis = connect(&options.redis).await;
    let keys = command(&redis, "KEYS", vec!["*".into()]).await.into_array();
    let mut keys: Vec<String> = keys.into_iter().map(|key| key.into_string().unwrap()).collect();
    keys.sort();
    // As text, the values are looked through: none of them names the prefix.
    command(&redis, "CONFIG", vec!["SET".into(), "rdbcompression".into(), "no".into()]).await;
    for key in &keys {
        let Value::Bytes(bytes) = command(&redis, "DUMP", vec![key.as_str().into()]).await else { panic!("{key}") };
        let prefix = options.prefix.as_bytes();
        assert!(!bytes.windows(prefix.len()).any(|part| part == prefix), "{key} names the prefix");
    }
    command(&redis, "CONFIG", vec!["SET".into(), "rdbcompression".into(), "yes".into()]).await;
    let mut lines = String::new();
    for key in &keys {
        let Value::Bytes(bytes) = command(&redis, "DUMP", vec![key.as_str().into()]).await else { panic!("{key}") };
        let ttl = command(&redis, "PTTL", vec![key.as_str().into()]).await.as_i64().unwrap().max(0) as u64;
        let key = key.strip_prefix(&options.prefix).unwrap().to_owned();
        let entry = Entry { key, ttl, dump: STANDARD.encode(bytes) };
        writeln!(lines, "{}", serde_json::to_string(&entry).unwrap()).unwrap();
    }
    std::fs::write(files.join("redis.jsonl"), lines).unwrap();
    for (to, lock, token) in &mut expected.fences {
        let fences = format!("{}:{{{:04}}}:fences", options.prefix, to.parse::<Address>().unwrap().partition(4));
        let newest = command(&redis, "HGET", vec![fences.into(), lock.as_str().into()]).await.as_u64();
        // Of a store that is being resized it is not yet where it will be.
        *token = newest.unwrap_or(0).max(*token);
    }
    format1::read(&redis, options, &mut expected).await;
    redis.quit().await.unwrap();
    let database = mongodb::Client::with_uri_str(&options.mongo).await.unwrap().database(&options.database);
    let mut lines = String::new();
    let mut collections = database.list_collection_names().await.unwrap();
    collections.sort();
    for name in collections.into_iter().filter(|name| name != "greenroom_probe") {
        let found = database.collection::<Document>(&name).find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        for document in found {
            let bytes = STANDARD.encode(serialize_to_vec(&document).unwrap());
            writeln!(lines, "{}", serde_json::to_string(&(&name, bytes)).unwrap()).unwrap();
        }
    }
    std::fs::write(files.join("mongodb.jsonl"), lines).unwrap();
    // One that is being resized is not looked at.
    if let Ok(store) = Cluster::inspect(options.clone()) {
        let backend: Arc<dyn Backend> = Arc::new(store);
        expected.snapshot = snapshot(&backend, &expected).await;
    }
    let json = serde_json::to_string_pretty(&expected).unwrap();
    std::fs::write(files.join("expected.json"), json + "\n").unwrap();
    database.drop().await.unwrap();
}
