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
