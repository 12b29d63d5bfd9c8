//! Records in Redis that cannot be read: what is beside them goes on, and they are buried or stay, but are never lost.

use fred::interfaces::{HashesInterface, SortedSetsInterface};
use fred::prelude::Value;
use greenroom::backend::{DeadFilter, Lookup, Sent};

use super::{
    protocol::{KEY, pair},
    raw::Raw,
    *,
};

/// An array that ends before its first value.
const NO_RECORD: &[u8] = &[0xdc, 0x00, 0x06];

#[test]
fn a_deferred_message_that_cannot_be_read_is_buried_and_breaks_no_group() {
    pair(|pair| async move {
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        let later = append(&pair.old, Append { due: Some(NOW + 5), ..message(KEY, "2") }).await;
        let number = later.number().to_string();
        let _: Value = raw.client.hset(raw.key("deferred"), (number, NO_RECORD)).await.unwrap();
        let due = pair.old.due(pair.lease.partition, NOW + 5, None, Default::default(), 10).await.unwrap();
        let [stored] = due.messages.as_slice() else { panic!("{due:?}") };
        assert!(stored.envelope.is_err() && stored.position == later);
        let mut ends = commit(KEY);
        ends.done.push(done(&pair.message));
        ends.outbox.push(Sent { envelope: envelope(KEY, "3").into(), due: None });
        let mut buries = commit("unreadable/message");
        buries
            .done
            .push(Done { outcome: Outcome::Dead(vec![greenroom::Error::new("no").failure(0, NOW)]), ..done(stored) });
        assert_eq!(pair.old.commit(pair.lease, vec![ends, buries].into()).await, [Ok(()), Ok(())]);
        assert!(matches!(pair.old.lookup(later).await.unwrap(), Lookup::Dead(_)));
        let audit = pair.old.audit().await.unwrap();
        assert_eq!((audit.completed, audit.dead, audit.in_flight, audit.balanced), (1, 1, 1, true), "{audit:?}");
    });
}

#[test]
fn a_dead_letter_that_cannot_be_read_stays_and_its_neighbours_are_put_back() {
    pair(|pair| async move {
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        append(&pair.old, message(KEY, "2")).await;
        let both = pair.old.read(pair.lease.partition, start(pair.lease.partition), 2).await.unwrap();
        let mut dies = commit(KEY);
        let dead =
            |stored| Done { outcome: Outcome::Dead(vec![greenroom::Error::new("no").failure(1, NOW)]), ..done(stored) };
        dies.done = both.iter().map(dead).collect();
        assert_eq!(pair.old.commit(pair.lease, vec![dies].into()).await, [Ok(())]);
        let first = both[0].position.number().to_string();
        let _: Value = raw.client.hset(raw.key("dead"), (first, NO_RECORD)).await.unwrap();
        let all = both.iter().map(|stored| stored.position).collect();
        assert_eq!(pair.old.redrive(all, NOW).await.unwrap(), 1);
        let audit = pair.old.audit().await.unwrap();
        assert_eq!((audit.dead, audit.in_flight, audit.balanced), (1, 1, true), "{audit:?}");
        assert_eq!(
            pair.old.dead(DeadFilter::default(), None, 10).await.unwrap().len(),
            0,
            "there is nothing to show of it"
        );
    });
}

#[test]
fn the_index_of_an_outbox_has_no_more_than_is_there() {
    pair(|pair| async move {
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        let to = protocol::receivers(pair.lease.partition).remove(0);
        for _ in 0..3 {
            let mut sends = commit("thing/b");
            sends.outbox = (0..400).map(|_| Sent { envelope: envelope(&to, "1").into(), due: None }).collect();
            let before = pair.old.audit().await.unwrap().accepted;
            assert_eq!(pair.old.commit(pair.lease, vec![sends].into()).await, [Ok(())]);
            arrived(&pair.old, before + 400).await;
            while pair.old.runnable(NOW).await.unwrap() > pair.old.audit().await.unwrap().in_flight {
                tokio::task::yield_now().await;
            }
        }
        // As many as one call that is lost on the way leaves there.
        let stale: Vec<(f64, String)> = (1000..1200).map(|b| (f64::from(b), b.to_string())).collect();
        let _: Value = raw.client.zadd(raw.key("outs"), None, None, false, false, stale).await.unwrap();
        for _ in 0..8 {
            pair.old.expire(0, 0).await.unwrap();
        }
        assert_eq!(raw.client.zcard::<u64, _>(raw.key("outs")).await.unwrap(), 1);
    });
}
