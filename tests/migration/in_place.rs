//! Nodes of this build start on a store of format 1, while a client appends.

use std::{collections::BTreeMap, sync::Arc};

use fred::{interfaces::ClientLike, types::Value};
use greenroom::{
    Address,
    backend::{
        Append, Appended, Backend,
        cluster::{Cluster, Options},
    },
    testing::Which,
};
use serde_json::json;

use crate::{
    expected::{Expected, LATE, position},
    fixture::{self, command},
    handled::{self, envelope, handled, node},
    offline::{everywhere, options},
    old::Old,
    snapshot::message,
};

/// Messages that the older build accepts before: more than one call carries.
const BEFORE: u64 = 60;
/// Rounds of messages that are accepted meanwhile.
const ROUNDS: usize = 30;

/// Actors that get messages from the test: some that have messages in the fixture, and new ones.
fn addresses() -> Vec<String> {
    let all = (0..16).flat_map(|n| [format!("tally/k{n}"), format!("tally/new{n}")]);
    all.collect()
}

/// The older build appends, in the fixture's manner.
async fn append_before(old: &Old, expected: &mut Expected) {
    for address in addresses() {
        let partition = address.parse::<Address>().unwrap().partition(expected.partitions);
        let mut args: Vec<Value> = ["4", "100000000", "4", ""].map(Value::from).into();
        for number in LATE..LATE + BEFORE {
            let bytes = serde_json::to_vec(&envelope(&address, &number.to_string())).unwrap();
            args.extend([Value::from(""), Value::Bytes(bytes.into())]);
        }
        old.call(partition, "append", args).await.unwrap();
        expected.after.entry(address.clone()).or_insert(Some(json!([])));
        expected.late.insert(address, (LATE..LATE + BEFORE).collect());
    }
}

async fn append_meanwhile(client: Arc<dyn Backend>, late: &mut BTreeMap<String, Vec<u64>>, rounds: usize) {
    let next = late.values().flatten().max().unwrap() + 1;
    for number in (next..).take(rounds) {
        let batch: Vec<Append> = late.keys().map(|address| handled::message(address, number as u32)).collect();
        for (appended, numbers) in client.append(batch).await.into_iter().zip(late.values_mut()) {
            assert!(matches!(appended, Ok(Appended::New(_))), "{appended:?}");
            numbers.push(number);
        }
    }
}

/// Whatever the partitions' format is, what has ended and what waits is found, and everything adds up.
async fn found(backend: &Arc<dyn Backend>, options: &Options, expected: &Expected, format: &str) {
    let found = Cluster::check(options.clone()).unwrap();
    assert!(found.mismatches.is_empty(), "{:?}", found.mismatches);
    for partition in found.partitions {
        assert_eq!(partition.format, format, "{partition:?}");
        let messages = &expected.snapshot[&format!("{} messages", partition.partition)];
        for (at, known) in messages.as_object().unwrap() {
            assert_eq!(message(backend, position(at)).await.as_ref(), Some(known), "{at}");
        }
    }
}

async fn upgraded(which: Which) {
    let mut expected = fixture::expected("format1");
    let options = options(which, &expected);
    fixture::restore("format1", &options).await;
    let old = Old::start(&options).await;
    append_before(&old, &mut expected).await;
    // Another one has begun, and died there.
    let meta = format!("{}:{{meta}}", options.prefix);
    let mark = "format 2: this build is too old for it";
    command(&old.redis, "HSET", vec![meta.into(), "resizing".into(), mark.into()]).await;
    let client: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
    found(&client, &options, &expected, "1").await;
    let mut late = std::mem::take(&mut expected.late);
    append_meanwhile(client.clone(), &mut late, 1).await;
    found(&client, &options, &expected, "1 → 2").await;
    let (first, ()) = futures_util::join!(node(&options), append_meanwhile(client, &mut late, ROUNDS));
    expected.late = late;
    handled(&options, &expected).await;
    first.drain(std::time::Duration::from_secs(5)).await;
    let found = Cluster::check(options.clone()).unwrap();
    assert!(found.mismatches.is_empty() && found.half_done == 0, "{found:?}");
    assert!(found.partitions.iter().all(|found| found.format == "2"), "{found:?}");
    old.redis.quit().await.unwrap();
}

#[test]
fn nodes_upgrade_the_store_while_messages_are_accepted() {
    everywhere(upgraded);
}
