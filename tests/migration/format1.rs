//! What only the keys of format 1 say: sequences between partitions, outboxes, leases.

use std::collections::BTreeMap;

use fred::{clients::Client, types::Value};
use greenroom::backend::cluster::Options;

use crate::{expected::Expected, fixture::command};

/// Reads it into `expected`.
pub(crate) async fn read(redis: &Client, options: &Options, expected: &mut Expected) {
    for partition in 0..expected.partitions {
        let name = |what: &str| -> Value { format!("{}:{{{partition:04}}}:{what}", options.prefix).into() };
        expected.sent.insert(partition, sequences(command(redis, "HGETALL", vec![name("sent")]).await));
        expected.seen.insert(partition, sequences(command(redis, "HGETALL", vec![name("seen")]).await));
        let left = command(redis, "XRANGE", vec![name("outbox"), "-".into(), "+".into()]).await.into_array();
        let left = left.into_iter().map(|entry| {
            let fields = entry.into_array()[1].clone().into_array();
            (fields[1].as_u64().unwrap() as u16, fields[3].as_u64().unwrap())
        });
        expected.outbox.insert(partition, left.collect());
        let fields = ["owner".into(), "epoch".into(), "clean".into()];
        let args = [name("lease")].into_iter().chain(fields).collect();
        let lease = command(redis, "HMGET", args).await.into_array();
        let at = |index: usize| lease[index].as_u64().unwrap_or(0);
        expected.leases.insert(partition, (at(0), at(1), at(2) == 1));
    }
}

/// Of each partition the last sequence; other fields are none.
fn sequences(hash: Value) -> BTreeMap<u16, u64> {
    let all = hash.into_map().unwrap().inner();
    all.into_iter().filter_map(|(key, value)| Some((key.as_str()?.parse().ok()?, value.as_u64()?))).collect()
}
