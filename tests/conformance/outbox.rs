//! What has left a partition arrives, however much it is and whatever else is there, with two nodes on real servers.

use std::time::Duration;

use greenroom::backend::Sent;

use super::{
    protocol::{KEY, Pair, pair, receivers},
    *,
};

/// Waits until this many messages have been accepted; whether they are.
async fn accepted(pair: &Pair, messages: u64) -> bool {
    let all = async {
        while pair.new.audit().await.unwrap().accepted < messages {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.is_ok()
}

fn sent(to: &str, bytes: usize) -> Sent {
    Sent { envelope: envelope(to, &format!("\"{}\"", "x".repeat(bytes))).into(), due: None }
}

#[test]
fn what_one_commit_sends_beyond_what_is_kept_in_memory_arrives_without_other_traffic() {
    pair(|pair| async move {
        let to = receivers(pair.lease.partition).remove(0);
        let mut sends = commit(KEY);
        sends.done.push(done(&pair.message));
        sends.outbox = (0..3).map(|_| sent(&to, 600_000)).collect();
        assert_eq!(pair.old.commit(pair.lease, vec![sends].into()).await, [Ok(())]);
        assert!(accepted(&pair, 4).await, "{:?}", pair.new.audit().await);
        let mut many = commit(KEY);
        many.outbox = (0..3000).map(|_| sent(&to, 1000)).collect();
        assert_eq!(pair.old.commit(pair.lease, vec![many].into()).await, [Ok(())]);
        assert!(accepted(&pair, 3004).await, "{:?}", pair.new.audit().await);
    });
}

#[test]
fn what_cannot_be_read_holds_up_no_other_message_and_arrives_as_it_is() {
    use fred::prelude::*;
    pair(|pair| async move {
        let url = pair.options.redis.replacen(',', "?node=", 1).replace(',', "&node=");
        let client = Builder::from_config(Config::from_url(&url).unwrap()).build().unwrap();
        client.init().await.unwrap();
        let key = |what: &str| format!("{}:{{{:04}}}:{what}", pair.options.prefix, pair.lease.partition);
        let to = receivers(pair.lease.partition);
        let [first, second] = [&to[0], &to[1]].map(|to| address(to).partition(4));
        // {to era seq head envelope} with an envelope that is none, and what is no record at all.
        let none = [0x95, first as u8, 1, 1, 0xa0, 0xa2, b'{', b'}'];
        let _: Value = client.hset(key("out:0"), ("1", none.as_slice())).await.unwrap();
        let _: Value = client.hset(key("out:0"), ("2", "nowhere")).await.unwrap();
        let _: Value = client.zadd(key("outs"), None, None, false, false, (0.0, "0")).await.unwrap();
        let _: Value = client.hset(key("sent"), ("serial", 2)).await.unwrap();
        let _: Value = client.hset(key("sent"), (first.to_string(), 1)).await.unwrap();
        let lease = take(&pair.old, pair.lease.partition).await;
        let mut sends = commit(KEY);
        sends.outbox = to.iter().map(|to| sent(to, 1)).collect();
        assert_eq!(pair.old.commit(lease, vec![sends].into()).await, [Ok(())]);
        assert!(accepted(&pair, 4).await, "{:?}", pair.new.audit().await);
        let found = pair.new.read(first, start(first), 10).await.unwrap();
        let readable: Vec<bool> = found.iter().map(|stored| stored.envelope.is_ok()).collect();
        assert_eq!(readable, [false, true]);
        assert_eq!(found[0].envelope.as_ref().unwrap_err().bytes, b"{}");
        assert_eq!(pair.new.read(second, start(second), 10).await.unwrap().len(), 1);
        // What is no record stays: it is nothing that could be sent, and nothing that may go away.
        tokio::time::timeout(Duration::from_secs(10), async {
            while client.hlen::<u64, _>(key("out:0")).await.unwrap() > 1 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(client.hexists::<bool, _, _>(key("out:0"), "2").await.unwrap());
    });
}
