//! Calls of which a part cannot be done, that come late, or that ask for what no number can say: all of it
//! happens, or nothing (A2, A7, A8, C2 and C11 of the cluster store's faults).

use greenroom::backend::{Lookup, Refused};

use super::{
    protocol::{KEY, pair},
    raw::{LAST, Raw, SERIAL},
    *,
};

#[test]
fn of_a_commit_that_ends_two_messages_nothing_happens_when_one_has_ended() {
    each(|backend| async move {
        let lease = take(&backend, address(KEY).partition(4)).await;
        for n in ["1", "2"] {
            append(&backend, message(KEY, n)).await;
        }
        let found = backend.read(lease.partition, start(lease.partition), 10).await.unwrap();
        let mut one = commit("thing/b");
        one.done = vec![done(&found[0])];
        assert_eq!(backend.commit(lease, vec![one].into()).await, [Ok(())]);
        let before = backend.audit().await.unwrap();
        let mut both = commit("thing/c");
        both.done = found.iter().map(done).collect();
        let refused = backend.commit(lease, vec![both].into()).await;
        assert_eq!(refused, [Err(Refused::Gone(found[0].position))]);
        assert_eq!(backend.audit().await.unwrap(), before);
        assert!(matches!(backend.lookup(found[1].position).await.unwrap(), Lookup::Waiting(_)));
    });
}

#[test]
fn what_a_park_has_claimed_is_still_compared_with_what_was_decided_before() {
    pair(|pair| async move {
        let (lease, second) = pair.replace_opened().await;
        // It says nothing of a state, and yet what it would claim is not the state that the owner knows.
        let mut parks = commit(KEY);
        parks.parked.push((second.position, Home::Mailbox));
        assert_eq!(pair.new.commit(lease, vec![parks].into()).await, [Err(Refused::Stale)]);
        let mut answers = commit(KEY);
        answers.seen = Some(0);
        answers.done.push(done(&second));
        assert_eq!(pair.new.commit(lease, vec![answers].into()).await, [Err(Refused::Stale)]);
        assert!(matches!(pair.new.lookup(second.position).await.unwrap(), Lookup::Waiting(_)));
    });
}

#[test]
fn a_group_that_comes_after_a_later_one_is_refused() {
    pair(|pair| async move {
        for (rev, text) in [(0, "one"), (1, "two")] {
            let mut state = commit(KEY);
            state.state = Some(greenroom::backend::StateWrite { from: rev, doc: saved(text), fields: Vec::new() });
            assert_eq!(pair.old.commit(pair.lease, vec![state].into()).await, [Ok(())]);
        }
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        let serial = raw.number(SERIAL).await;
        assert!(serial > 1);
        let args = vec![pair.lease.epoch.to_string(), (serial - 1).to_string(), String::new()];
        let late = raw.call("commit", args).await;
        assert!(late.unwrap_err().details().starts_with("STALE"));
    });
}

/// As the first copy of a call that was sent again over another connection: it has waited in the network.
#[test]
fn an_append_that_comes_after_a_later_one_or_that_is_not_remembered_is_refused() {
    pair(|pair| async move {
        let raw = Raw::of(&pair.options, pair.lease.partition).await;
        let append = async |token: &str, serial: u64, again: &str| {
            let envelope = serde_json::to_string(&envelope(KEY, "7")).unwrap();
            let bytes = envelope.len().to_string();
            let all = ["9", token, &serial.to_string(), again, "100000", "4", "", &bytes, "", &envelope];
            raw.call("append", all.map(str::to_owned).to_vec()).await.map(drop)
        };
        let over = |said: Result<(), fred::prelude::Error>| said.unwrap_err().details().starts_with("OVER");
        let before = raw.number(LAST).await;
        for serial in 1..=3 {
            append("777", serial, "0").await.unwrap();
        }
        append("777", 3, "1").await.unwrap();
        assert!(over(append("777", 2, "0").await) && over(append("777", 1, "1").await));
        assert_eq!(raw.number(LAST).await, before + 3);
        // A call that was forgotten may have happened, the first one too.
        assert!(over(append("778", 1, "1").await));
        assert_eq!(raw.number(LAST).await, before + 3);
    });
}

#[test]
fn a_result_that_is_young_keeps_no_older_one_from_being_forgotten() {
    each(|backend| async move {
        let lease = take(&backend, address(KEY).partition(4)).await;
        for n in ["1", "2", "3"] {
            append(&backend, message(KEY, n)).await;
        }
        let found = backend.read(lease.partition, start(lease.partition), 10).await.unwrap();
        for (stored, at) in found.iter().rev().zip([NOW, NOW, NOW + 10_000]) {
            let mut ends = Commit::of(address(KEY), at);
            ends.done = vec![done(stored)];
            assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
        }
        assert_eq!(backend.expire(NOW + 1, NOW).await.unwrap(), 2);
        let looked: Vec<_> = [0, 1, 2].map(|n| found[n].position).into();
        assert!(matches!(backend.lookup(looked[0]).await.unwrap(), Lookup::Ended(_)));
        assert!(matches!(backend.lookup(looked[1]).await.unwrap(), Lookup::Expired));
        assert!(matches!(backend.lookup(looked[2]).await.unwrap(), Lookup::Expired));
    });
}

#[test]
fn what_is_due_at_the_end_of_time_is_not_due_before() {
    each(|backend| async move {
        let partition = address(KEY).partition(4);
        take(&backend, partition).await;
        append(&backend, Append { due: Some(i64::MAX), ..message(KEY, "1") }).await;
        let due = backend.due(partition, NOW * 2, None, Default::default(), 10).await.unwrap();
        assert!(due.messages.is_empty(), "{due:?}");
        assert!(due.next.is_none_or(|next| next > NOW * 2), "{due:?}");
    });
}
