//! The store as killed nodes leave it: commits of which only the state is written, an outbox that is not
//! delivered, an entry that is delivered and not removed, leases that nobody let go.

use std::{collections::BTreeSet, sync::Arc};

use fred::{interfaces::ClientLike, types::Value};
use greenroom::backend::{
    Backend, Deferral, Done, Home, JournalWrite, Refused, Sent, StateWrite, Stored, cluster::Options,
};
use serde_json::json;

use super::{address, append, commit, done, open, stored, take, tally};
use crate::{
    expected::{Expected, NOW},
    fixture::{command, connect},
    handled::{becomes, envelope, message},
    support::servers::Redis,
};

/// A key of a partition that nothing else uses.
fn key(what: &str, partition: u16) -> String {
    (0..).map(|n| format!("tally/{what}{n}")).find(|to| address(to).partition(4) == partition).unwrap()
}

fn sent(to: &str, command: u32, due: Option<i64>) -> Sent {
    Sent { envelope: envelope(to, &command.to_string()).into(), due }
}

fn state(from: u64, seen: &[u32]) -> Option<StateWrite> {
    Some(StateWrite { from, doc: if seen.is_empty() { Vec::new() } else { tally(seen) }, fields: Vec::new() })
}

async fn appended(backend: &Arc<dyn Backend>, to: &str, commands: &[u32]) -> Vec<Stored> {
    let mut all = Vec::new();
    for command in commands {
        let position = append(backend, message(to, *command)).await;
        all.push(stored(backend, position).await);
    }
    all
}

/// The numbers of the connections of a server.
fn connections(server: &Redis) -> BTreeSet<u64> {
    let list = server.cli(&["client", "list"]);
    list.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok()).collect()
}

pub(super) async fn leave(options: &Options, server: &Redis, expected: &mut Expected) {
    let before = connections(server);
    let old = open(options).await;
    let leases = take(&old).await;
    // Forgotten actors: of one the commit is done, of the other it will not be.
    let (gone, going) = (key("gone", 0), key("going", 2));
    for to in [&gone, &going] {
        let lease = leases[&address(to).partition(4)];
        let all = appended(&old, to, &[1]).await;
        let mut writes = commit(to);
        writes.state = state(0, &[1]);
        writes.done.push(done(&all[0]));
        assert_eq!(old.commit(lease, vec![writes].into()).await, [Ok(())]);
    }
    let forgets = |message: &Stored, to: &str| {
        let mut forgets = commit(to);
        forgets.state = state(1, &[]);
        forgets.done.push(done(message));
        forgets
    };
    let ends = appended(&old, &gone, &[2]).await;
    assert_eq!(old.commit(leases[&0], vec![forgets(&ends[0], &gone)].into()).await, [Ok(())]);
    expected.after.insert(gone, None);
    // A claimed actor that never had a state.
    let claimed = key("claimed", 3);
    let ends = appended(&old, &claimed, &[1]).await;
    let mut nothing = commit(&claimed);
    nothing.done.push(done(&ends[0]));
    assert_eq!(old.commit(leases[&3], vec![nothing].into()).await, [Ok(())]);
    expected.after.insert(claimed, None);
    // What the old owner commits from now on is half done.
    let mut halves = Vec::new();
    let ends = appended(&old, &going, &[2]).await;
    halves.push(forgets(&ends[0], &going));
    expected.after.insert(going, None);
    // Sends to another partition, to its own, and to its own for later.
    for partition in 0..4 {
        let (to, other) = (key("sends", partition), key("other", (partition + 1) % 4));
        let ends = appended(&old, &to, &[1, 2]).await;
        let mut half = commit(&to);
        half.state = state(0, &[1]);
        half.done.push(done(&ends[0]));
        half.outbox.extend([sent(&other, 5, None), sent(&to, 6, None), sent(&to, 300, Some(i64::MAX / 4))]);
        halves.push(half);
        expected.far += 1;
        expected.after.insert(to, Some(json!([1, 2, 6])));
        expected.after.insert(other, Some(json!([5])));
        expected.open.push(ends[1].position.to_string());
    }
    // Defers and parks.
    let to = key("parks", 1);
    let ends = appended(&old, &to, &[1, 2, 3]).await;
    let mut half = commit(&to);
    half.state = state(0, &[1]);
    half.done.push(done(&ends[0]));
    let failures = vec![greenroom::Error::new("half").failure(1, NOW)];
    let (position, home) = (ends[1].position, Home::Mailbox);
    half.deferred.push(Deferral { position, home, due: NOW, attempts: 1, failures, blocks: true });
    half.parked.push((ends[2].position, Home::Mailbox));
    halves.push(half);
    expected.open.extend(ends[1..].iter().map(|stored| stored.position.to_string()));
    expected.after.insert(to, Some(json!([1, 2, 3])));
    // Writes a journal, and keeps it.
    let to = key("records", 2);
    let ends = appended(&old, &to, &[1]).await;
    let mut half = commit(&to);
    half.state = state(0, &[1]);
    half.journals.push(JournalWrite {
        position: ends[0].position,
        entries: vec![b"half".to_vec()],
        own: true,
        wake: false,
    });
    half.done.push(Done { journal: true, ..done(&ends[0]) });
    halves.push(half);
    expected.after.insert(to, Some(json!([1])));

    let new = open(options).await;
    let seen = new.beat().await.unwrap().into_iter().find(|member| member.id == old.me()).unwrap();
    assert!(new.give_up(seen).await.unwrap());
    new.beat().await.unwrap();
    let owned = take(&new).await;
    for half in halves {
        let lease = leases[&half.address.partition(4)];
        assert_eq!(old.commit(lease, vec![half].into()).await, [Err(Refused::Stale)]);
    }
    drop(old);

    // Partition 1 takes nothing from others any more.
    let redis = connect(&options.redis).await;
    let name = |partition: u16, what: &str| format!("{}:{{{partition:04}}}:{what}", options.prefix);
    let kept = format!("{}:kept", options.prefix);
    command(&redis, "RENAME", vec![name(1, "seen").into(), kept.clone().into()]).await;
    command(&redis, "SET", vec![name(1, "seen").into(), "nothing".into()]).await;
    let late = key("late", 1);
    let mut after = Vec::new();
    for partition in [0, 2, 3] {
        let to = key("sender", partition);
        let all = appended(&new, &to, &[1, 2]).await;
        for (from, message) in all.iter().enumerate() {
            let mut sends = commit(&to);
            sends.state = state(from as u64, &[1, 2][..=from]);
            sends.done.push(done(message));
            let command = u32::from(partition) * 10 + from as u32;
            sends.outbox.push(sent(&late, command, None));
            sends.outbox.push(sent("bell/late", command, Some(NOW + 60_000)));
            after.push(command);
            assert_eq!(new.commit(owned[&partition], vec![sends].into()).await, [Ok(())]);
        }
        expected.after.insert(to, Some(json!([1, 2])));
    }
    expected.addresses.push(late);
    // These have begun when the node dies; two partitions it lets go before.
    let begun = appended(&new, &key("begun", 0), &[1]).await;
    new.begin(owned[&0], vec![(begun[0].position, Home::Mailbox)]).await.unwrap();
    expected.open.push(begun[0].position.to_string());
    expected.after.insert(key("begun", 0), Some(json!([1])));
    for partition in [2, 3] {
        new.release(owned[&partition]).await.unwrap();
    }
    drop(new);
    // Ours, and the one that asks.
    becomes("the nodes to be gone", async || connections(server).difference(&before).count() <= 2).await;
    command(&redis, "DEL", vec![name(1, "seen").into()]).await;
    command(&redis, "RENAME", vec![kept.into(), name(1, "seen").into()]).await;
    // Of partition 2 the first arrives, and its answer does not.
    let found = command(&redis, "XRANGE", vec![name(2, "outbox").into(), "-".into(), "+".into()]).await;
    let to_1 = |entry: &Vec<Value>| entry[1].clone().into_array()[1].as_u64() == Some(1);
    let first = found.into_array().into_iter().map(Value::into_array).find(to_1).unwrap();
    let fields = first[1].clone().into_array();
    let libraries = server.cli(&["function", "list"]);
    let at = libraries.find("greenroom_").unwrap();
    let library = &libraries[at..at + "greenroom_".len() + 16];
    let args: Vec<Value> = vec![
        format!("{library}_receive").into(),
        "1".into(),
        name(1, "").trim_end_matches(':').to_owned().into(),
        "0".into(),
        "2".into(),
        fields[3].clone(),
        "0".into(),
        fields[5].clone(),
        fields[7].clone(),
    ];
    command(&redis, "FCALL", args).await;
    redis.quit().await.unwrap();
}
