//! A partition whose keys are put back to an earlier state under a running Redis, and nodes that start afterwards.

use fred::{interfaces::KeysInterface, prelude::Value};
use greenroom::backend::{Deferral, Lookup, Nodes, Refused, StateWrite, cluster::Cluster};

use super::{
    protocol::{KEY, pair},
    raw::{LAST, Raw},
    *,
};

#[test]
fn numbers_are_not_given_again_when_a_partition_is_put_back_and_another_node_starts() {
    pair(|pair| async move {
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

/// As when it lost the call that deferred a message, and the commit that ends it is finished from the saved state.
#[test]
fn what_a_saved_commit_ends_is_ended_wherever_the_server_has_it() {
    pair(|pair| async move {
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        let witness = append(&pair.old, message(KEY, "2")).await;
        let read = pair.old.read(pair.lease.partition, pair.message.position, 1).await.unwrap().remove(0);
        assert_eq!(read.position, witness);
        let before = raw.client.dump::<Value, _>(raw.key("mail:0")).await.unwrap();
        let mut defers = commit(KEY);
        defers.deferred.push(Deferral {
            position: pair.message.position,
            home: Home::Mailbox,
            due: NOW + 5,
            attempts: 0,
            failures: Vec::new(),
            blocks: true,
        });
        assert_eq!(pair.old.commit(pair.lease, vec![defers].into()).await, [Ok(())]);
        let lease = pair.take_over().await;
        let mut both = commit(KEY);
        both.state = Some(StateWrite { from: 0, doc: saved("both"), fields: Vec::new() });
        both.done = vec![done(&read), Done { home: Home::Deferred, ..done(&pair.message) }];
        assert_eq!(pair.old.commit(pair.lease, vec![both].into()).await, [Err(Refused::Stale)]);
        for gone in ["deferred", "timers", "parked"] {
            let _: i64 = raw.client.del(raw.key(gone)).await.unwrap();
        }
        let _: Value = raw.client.restore(raw.key("mail:0"), 0, before, true, false, None, None).await.unwrap();
        pair.new.open(lease, vec![address(KEY)]).await.unwrap();
        for ended in [witness, pair.message.position] {
            assert!(matches!(pair.new.lookup(ended).await.unwrap(), Lookup::Ended(_)), "{ended}");
        }
        let audit = pair.new.audit().await.unwrap();
        assert_eq!((audit.completed, audit.in_flight, audit.balanced), (2, 0, true), "{audit:?}");
    });
}
