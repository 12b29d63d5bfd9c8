//! Writes a store down.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use fred::{interfaces::ClientLike, types::Value};
use futures_util::TryStreamExt;
use greenroom::backend::{
    Backend,
    cluster::{Cluster, Options},
};
use mongodb::bson::{Document, doc, serialize_to_vec};

use crate::{
    expected::Expected,
    fixture::{Entry, command, connect, directory},
    snapshot::snapshot,
};

pub(super) async fn dump(options: &Options, mut expected: Expected) {
    expected.partitions = options.partitions;
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
    std::fs::write(directory("format1").join("redis.jsonl"), lines).unwrap();
    for partition in 0..options.partitions {
        let name = |what: &str| -> Value { format!("{}:{{{partition:04}}}:{what}", options.prefix).into() };
        let sequences = |value: Value| -> BTreeMap<u16, u64> {
            let all = value.into_map().unwrap().inner();
            let pairs = all.into_iter().filter_map(|(key, value)| Some((key.as_str()?.parse().ok()?, value.as_u64()?)));
            pairs.collect()
        };
        expected.sent.insert(partition, sequences(command(&redis, "HGETALL", vec![name("sent")]).await));
        expected.seen.insert(partition, sequences(command(&redis, "HGETALL", vec![name("seen")]).await));
        let left = command(&redis, "XRANGE", vec![name("outbox"), "-".into(), "+".into()]).await.into_array();
        let left = left.into_iter().map(|entry| {
            let fields = entry.into_array()[1].clone().into_array();
            (fields[1].as_u64().unwrap() as u16, fields[3].as_u64().unwrap())
        });
        expected.outbox.insert(partition, left.collect());
        let fields = ["owner".into(), "epoch".into(), "clean".into()];
        let args = [name("lease")].into_iter().chain(fields).collect();
        let lease = command(&redis, "HMGET", args).await.into_array();
        let at = |index: usize| lease[index].as_u64().unwrap();
        expected.leases.insert(partition, (at(0), at(1), at(2) == 1));
    }
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
    std::fs::write(directory("format1").join("mongodb.jsonl"), lines).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(Cluster::inspect(options.clone()).unwrap());
    expected.snapshot = snapshot(&backend, &expected).await;
    let json = serde_json::to_string_pretty(&expected).unwrap();
    std::fs::write(directory("format1").join("expected.json"), json + "\n").unwrap();
    database.drop().await.unwrap();
}
