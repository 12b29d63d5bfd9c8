//! A partition whose keys are put back to an earlier state under a running Redis, and nodes that start afterwards.

use fred::{
    interfaces::KeysInterface,
    prelude::{Expiration, Value},
};
use greenroom::backend::{Nodes, cluster::Cluster};

use super::{
    protocol::{KEY, pair},
    raw::{LAST, Raw},
    *,
};

#[test]
fn numbers_are_not_given_again_when_a_partition_is_put_back_and_another_node_starts() {
    pair(|pair| async move {
        let _ = Expiration::EX(1);
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        let keys = ["head", "mail:0", "mails"].map(|what| raw.key(what));
        let mut kept = Vec::new();
        for key in &keys {
            kept.push(raw.client.dump::<Value, _>(key).await.unwrap());
        }
        let given = append(&pair.old, message(KEY, "2")).await;
        assert_eq!(raw.number(LAST).await, given.number());
        for (key, value) in keys.iter().zip(kept) {
            let _: Value = raw.client.restore(key, 0, value, true, false, None, None).await.unwrap();
        }
        let node = Cluster::open(pair.options.clone()).unwrap();
        node.join().await.unwrap();
        let node: Arc<dyn Backend> = Arc::new(node);
        node.beat().await.unwrap();
        let next = append(&node, message(KEY, "3")).await;
        assert!(next.number() > given.number(), "{next} was given before: {given}");
    });
}
