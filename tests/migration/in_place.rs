//! Nodes of this build start on a store of format 1, while a client appends.

use std::{collections::BTreeMap, sync::Arc};

use fred::{interfaces::ClientLike, types::Value};
use greenroom::{
    Address,
    backend::{Append, Appended, Backend, cluster::Cluster},
    testing::Which,
};
use serde_json::json;

use crate::{
    expected::{Expected, LATE},
    fixture::{self, command},
    handled::{envelope, handled, message, node},
    offline::{everywhere, options},
    old::Old,
};

/// Messages that the older build accepts before: more than one call carries.
const BEFORE: u64 = 60;
/// Rounds of messages that are accepted meanwhile.
const ROUNDS: u64 = 30;

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

async fn append_meanwhile(client: Arc<dyn Backend>, late: &mut BTreeMap<String, Vec<u64>>) {
    for number in (LATE + BEFORE..).take(ROUNDS as usize) {
        let batch: Vec<Append> = late.keys().map(|address| message(address, number as u32)).collect();
        for (appended, numbers) in client.append(batch).await.into_iter().zip(late.values_mut()) {
            assert!(matches!(appended, Ok(Appended::New(_))), "{appended:?}");
            numbers.push(number);
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
    // What has ended, and what waits, is found before anything is carried.
    let known = Cluster::check(options.clone()).unwrap();
    assert!(known.mismatches.is_empty() && known.partitions.iter().all(|found| found.format == "1"), "{known:?}");
    let mut late = std::mem::take(&mut expected.late);
    let (first, ()) = futures_util::join!(node(&options), append_meanwhile(client, &mut late));
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
