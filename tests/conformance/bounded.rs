//! What the cluster store keeps in Redis, and what one call may be: memory is free when messages end, keys are
//! forgotten as fast as they come, and a group may have more receivers than a function has arguments.

use fred::{
    interfaces::{ClientLike, HashesInterface},
    types::{ClusterHash, CustomCommand},
};
use greenroom::backend::{Idempotency, Sent, cluster::Cluster};

use super::{
    protocol::{KEY, pair},
    raw::Raw,
    *,
};

#[test]
fn memory_is_free_when_messages_have_ended_though_some_between_them_wait() {
    // A mailbox is hashes of 512 messages.
    const WAVES: u64 = 6;
    const EACH: u64 = 300;
    pair(|pair| async move {
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        let used = async || {
            let mut bytes = 0;
            for slab in 0..=WAVES * EACH / 512 {
                let memory = CustomCommand::new_static("MEMORY", ClusterHash::Offset(1), false);
                let args = vec!["USAGE".to_owned(), raw.key(&format!("mail:{slab}"))];
                bytes += raw.client.custom::<Option<u64>, _>(memory, args).await.unwrap().unwrap_or(0);
            }
            bytes
        };
        let (mut most, mut after) = (0, pair.message.position);
        for _ in 0..WAVES {
            let batch = (0..EACH).map(|_| message(KEY, "1")).collect();
            pair.old.append(batch).await.into_iter().for_each(|appended| drop(appended.unwrap()));
            most = most.max(used().await);
            let read = pair.old.read(pair.lease.partition, after, 2 * EACH as usize).await.unwrap();
            assert_eq!(read.len() as u64, EACH);
            after = read[read.len() - 1].position;
            let mut ends = commit("thing/b");
            ends.done = read[1..].iter().map(done).collect();
            assert_eq!(pair.old.commit(pair.lease, vec![ends].into()).await, [Ok(())]);
        }
        let left = used().await;
        assert!(left * 4 < most, "{left} bytes are left of {most}");
        assert_eq!(pair.old.audit().await.unwrap().in_flight, WAVES + 1);
    });
}

#[test]
fn keys_are_forgotten_as_fast_as_they_come() {
    pair(|pair| async move {
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        let mut after = pair.message.position;
        for page in 0..15 {
            let one = |n: u64| {
                let (key, answer) = (format!("{page}-{n}"), String::new());
                let idempotency = Idempotency { key, fingerprint: 1, answer, expires: NOW + 10 };
                Append { idempotency: Some(idempotency), ..message("thing/a", "1") }
            };
            let appended = pair.old.append((0..100).map(one).collect()).await;
            assert!(appended.iter().all(Result::is_ok));
            let read = pair.old.read(pair.lease.partition, after, 200).await.unwrap();
            after = read[read.len() - 1].position;
            let mut ends = commit("thing/b");
            ends.done = read.iter().map(done).collect();
            assert_eq!(pair.old.commit(pair.lease, vec![ends].into()).await, [Ok(())]);
        }
        let kept = async || raw.client.hlen::<u64, _>(raw.key("idem")).await.unwrap();
        assert_eq!(kept().await, 1500);
        pair.old.expire(0, NOW + 11).await.unwrap();
        assert_eq!(kept().await, 0);
    });
}

#[test]
fn a_commit_may_send_to_more_partitions_than_a_call_of_a_function_has_arguments() {
    const RECEIVERS: u16 = 4_096;
    let options = Which::Redis.cluster(&Options { partitions: RECEIVERS, mailbox_bytes: BUDGET }).unwrap();
    actix::System::new().block_on(async {
        let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
        backend.join().await.unwrap();
        backend.beat().await.unwrap();
        backend.declare("thing", true, &[]).await.unwrap();
        let lease = take(&backend, 0).await;
        let mut keys = std::collections::HashMap::new();
        for n in 0.. {
            let key = format!("thing/{n}");
            keys.insert(address(&key).partition(RECEIVERS), key);
            if keys.len() == usize::from(RECEIVERS) {
                break;
            }
        }
        let mut sends = commit(&keys[&0]);
        sends.outbox = keys.values().map(|to| Sent { envelope: envelope(to, "1").into(), due: None }).collect();
        assert_eq!(backend.commit(lease, vec![sends].into()).await, [Ok(())]);
        let raw = Raw::of(&options, 0).await;
        // Each of the others, and the serial.
        assert_eq!(raw.client.hlen::<u64, _>(raw.key("sent")).await.unwrap(), u64::from(RECEIVERS));
    });
}
