//! Commits: all or nothing, refused when stale or when a message is gone, counted in the ledger.

use greenroom::{
    backend::{DeadFilter, Deferral, Lookup, Refused, Sent, StateWrite, Status},
    error::Failure,
};
use mongodb::bson::{Document, doc};

use super::*;

fn state(from: u64, text: &str) -> Option<StateWrite> {
    Some(StateWrite { from, doc: saved(text), fields: Vec::new() })
}

fn failure(attempt: u32) -> Failure {
    Failure {
        code: "error".into(),
        message: "no".into(),
        causes: vec!["why".into()],
        terminal: false,
        attempt,
        at: NOW,
    }
}

#[test]
fn state_result_and_outbox_become_true_together() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        let position = append(&backend, message("thing/a", "1")).await;
        let stored = first(&backend, partition, start(partition)).await;
        let mut all = commit("thing/a");
        all.state = state(0, "doc");
        all.done.push(done(&stored));
        all.outbox.push(Sent { envelope: envelope("thing/b", "2").into(), due: None });
        all.outbox.push(Sent { envelope: envelope("thing/b", "3").into(), due: Some(NOW + 5) });
        assert_eq!(backend.commit(lease, vec![all].into()).await, [Ok(())]);
        arrived(&backend, 3).await;
        let loaded = backend.load(vec![address("thing/a")]).await.unwrap();
        assert_eq!((loaded[0].rev, loaded[0].doc.as_slice()), (1, saved("doc").as_slice()));
        let Lookup::Ended(ended) = backend.lookup(position).await.unwrap() else { panic!("not ended") };
        assert_eq!((ended.status, ended.reply.unwrap().get()), (Status::Completed, "1"));
        let to = address("thing/b").partition(4);
        let sent = backend.read(to, start(to), 10).await.unwrap();
        assert_eq!(sent.iter().filter(|s| s.envelope.as_ref().unwrap().to == address("thing/b")).count(), 1);
        let audit = backend.audit().await.unwrap();
        assert_eq!((audit.accepted, audit.completed, audit.in_flight, audit.balanced), (3, 1, 2, true), "{audit:?}");
    });
}

#[test]
fn a_refused_commit_leaves_nothing_and_does_not_hurt_its_group() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        append(&backend, message("thing/a", "1")).await;
        append(&backend, message("thing/a", "2")).await;
        let both = backend.read(partition, start(partition), 2).await.unwrap();
        // Ends the first message, and defers a message that is gone: neither may happen.
        let mut refused = commit("thing/a");
        refused.done = vec![done(&both[0])];
        refused.deferred = vec![Deferral {
            position: Position::new(partition, 999),
            home: Home::Mailbox,
            due: NOW + 5,
            attempts: 1,
            failures: vec![failure(1)],
            blocks: true,
        }];
        refused.outbox.push(Sent { envelope: envelope("thing/b", "9").into(), due: None });
        let mut fine = commit("thing/a");
        fine.done.push(done(&both[1]));
        let answers = backend.commit(lease, vec![refused, fine].into()).await;
        assert_eq!(answers, [Err(Refused::Gone(Position::new(partition, 999))), Ok(())]);
        assert_eq!(backend.load(vec![address("thing/a")]).await.unwrap()[0].rev, 0);
        assert_eq!(first(&backend, partition, start(partition)).await.position, both[0].position);
        let audit = backend.audit().await.unwrap();
        assert_eq!((audit.accepted, audit.completed, audit.balanced), (2, 1, true), "{audit:?}");
    });
}

#[test]
fn a_message_ends_once() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        append(&backend, message("thing/a", "1")).await;
        let stored = first(&backend, partition, start(partition)).await;
        let mut ends = commit("thing/a");
        ends.done.push(done(&stored));
        assert_eq!(backend.commit(lease, vec![ends.clone()].into()).await, [Ok(())]);
        assert_eq!(backend.commit(lease, vec![ends].into()).await, [Err(Refused::Gone(stored.position))]);
    });
}

#[test]
fn a_message_that_has_ended_is_not_cancelled_with_the_one_that_recalls_it() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        append(&backend, message("thing/a", "1")).await;
        append(&backend, message("thing/a", "2")).await;
        let both = backend.read(partition, start(partition), 2).await.unwrap();
        let mut ends = commit("thing/a");
        ends.done.push(done(&both[0]));
        assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
        let mut recalls = commit("thing/a");
        recalls.done = vec![done(&both[1]), Done { outcome: Outcome::Cancelled, ..done(&both[0]) }];
        assert_eq!(backend.commit(lease, vec![recalls].into()).await, [Err(Refused::Gone(both[0].position))]);
        let audit = backend.audit().await.unwrap();
        assert_eq!((audit.completed, audit.cancelled, audit.in_flight, audit.balanced), (1, 0, 1, true), "{audit:?}");
    });
}

#[test]
fn a_stale_owner_or_revision_is_refused() {
    each(|backend| async move {
        let old = take(&backend, 0).await;
        let new = take(&backend, 0).await;
        assert!(new.epoch > old.epoch && old.clean && !new.clean);
        // Where there are others, it is known that the last owner lives.
        assert_eq!(new.mine, backend.lease_time().is_some());
        backend.open(new, vec![address("thing/a")]).await.unwrap();
        let write = |from, text: &str| {
            let mut commit = commit("thing/a");
            commit.state = state(from, text);
            Arc::new(vec![commit])
        };
        assert_eq!(backend.commit(new, write(0, "one")).await, [Ok(())]);
        assert_eq!(backend.commit(old, write(0, "old")).await, [Err(Refused::Stale)]);
        assert_eq!(backend.commit(old, write(1, "old")).await, [Err(Refused::Stale)]);
        assert_eq!(backend.commit(new, write(0, "again")).await, [Err(Refused::Stale)]);
        assert_eq!(backend.commit(new, write(5, "ahead")).await, [Err(Refused::Stale)]);
        assert_eq!(backend.commit(new, write(1, "two")).await, [Ok(())]);
        assert!(backend.begin(old, vec![]).await.unwrap_err().is_terminal());
        let loaded = backend.load(vec![address("thing/a")]).await.unwrap();
        assert_eq!((loaded[0].rev, loaded[0].doc.as_slice()), (2, saved("two").as_slice()));
        // A stale owner lets go of nothing.
        backend.release(old).await.unwrap();
        assert!(!take(&backend, 0).await.clean);
    });
}

#[test]
fn dead_letters_keep_message_and_causes_and_can_be_redriven_or_discarded() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        for n in 1..=2 {
            append(&backend, message("thing/a", &n.to_string())).await;
        }
        let both = backend.read(partition, start(partition), 2).await.unwrap();
        let mut dies = commit("thing/a");
        dies.done =
            both.iter().map(|s| Done { outcome: Outcome::Dead(vec![failure(1)]), attempts: 3, ..done(s) }).collect();
        assert_eq!(backend.commit(lease, vec![dies].into()).await, [Ok(())]);
        let dead =
            backend.dead(DeadFilter { kind: Some("thing".into()), ..DeadFilter::default() }, None, 10).await.unwrap();
        assert_eq!(dead.len(), 2);
        assert_eq!((dead[0].attempts, dead[0].failures.as_slice()), (3, [failure(1)].as_slice()));
        assert_eq!(backend.dead(DeadFilter::default(), Some(dead[0].position), 10).await.unwrap().len(), 1);
        assert_eq!(backend.redrive(vec![both[0].position, both[0].position], NOW).await.unwrap(), 1);
        assert_eq!(backend.discard(vec![both[1].position], NOW).await.unwrap(), 1);
        let Lookup::Ended(ended) = backend.lookup(both[1].position).await.unwrap() else { panic!("not ended") };
        assert_eq!(ended.status, Status::Cancelled);
        let due = backend.due(partition, NOW, None, Default::default(), 10).await.unwrap();
        assert_eq!(due.messages.len(), 1);
        assert_eq!((due.messages[0].attempts, due.messages[0].failures.len()), (0, 0));
        let audit = backend.audit().await.unwrap();
        assert_eq!((audit.dead, audit.cancelled, audit.in_flight, audit.balanced), (0, 1, 1, true), "{audit:?}");
    });
}

#[test]
fn what_was_begun_is_counted_and_cannot_be_cancelled() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        let (one, two) =
            (append(&backend, message("thing/a", "1")).await, append(&backend, message("thing/a", "2")).await);
        assert_eq!(backend.begin(lease, vec![(one, Home::Mailbox)]).await.unwrap(), [1]);
        assert_eq!(backend.begin(lease, vec![(one, Home::Mailbox)]).await.unwrap(), [2]);
        assert!(!backend.cancel(lease, one, NOW).await.unwrap());
        assert!(backend.cancel(lease, two, NOW).await.unwrap());
        assert!(!backend.cancel(lease, two, NOW).await.unwrap());
        assert_eq!(backend.begin(lease, vec![(two, Home::Mailbox)]).await.unwrap(), [0]);
        assert!(backend.audit().await.unwrap().balanced);
    });
}

#[test]
fn results_expire_and_are_then_known_to_have_been() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        let position = append(&backend, message("thing/a", "1")).await;
        let mut ends = commit("thing/a");
        ends.done.push(done(&first(&backend, partition, start(partition)).await));
        backend.commit(lease, vec![ends].into()).await;
        assert_eq!(backend.expire(NOW, NOW).await.unwrap(), 0);
        assert_eq!(backend.expire(NOW + 1, NOW).await.unwrap(), 1);
        assert!(matches!(backend.lookup(position).await.unwrap(), Lookup::Expired));
        assert!(matches!(backend.lookup(Position::new(partition, 2)).await.unwrap(), Lookup::Unknown));
        let audit = backend.audit().await.unwrap();
        assert!(audit.balanced, "{audit:?}");
    });
}

#[test]
fn a_cancelled_message_that_would_have_been_parked_holds_up_nothing() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        for n in 1..=3 {
            append(&backend, message("thing/a", &n.to_string())).await;
        }
        let all = backend.read(partition, start(partition), 3).await.unwrap();
        backend.open(lease, vec![address("thing/a")]).await.unwrap();
        assert!(backend.cancel(lease, all[1].position, NOW).await.unwrap());
        let mut both = commit("thing/a");
        both.state = state(0, "one");
        both.done.push(done(&all[0]));
        both.parked = vec![(all[1].position, Home::Mailbox), (all[2].position, Home::Mailbox)];
        // A store that makes all of it true at once may refuse it for the one that is gone.
        let answers = backend.commit(lease, vec![both.clone()].into()).await;
        if answers == [Err(Refused::Gone(all[1].position))] {
            both.parked.remove(0);
            assert_eq!(backend.commit(lease, vec![both].into()).await, [Ok(())]);
        } else {
            assert_eq!(answers, [Ok(())]);
        }
        assert!(matches!(backend.lookup(all[0].position).await.unwrap(), Lookup::Ended(_)));
        let parked = backend.parked(&address("thing/a"), start(partition), 10).await.unwrap();
        assert_eq!(parked.iter().map(|stored| stored.position).collect::<Vec<_>>(), [all[2].position]);
        let audit = backend.audit().await.unwrap();
        assert_eq!((audit.completed, audit.cancelled, audit.in_flight, audit.balanced), (1, 1, 1, true), "{audit:?}");
    });
}

#[test]
fn what_a_group_sends_to_its_own_partition_is_read_where_one_hash_of_numbers_ends() {
    // Numbers lie in hashes of 512. The group begins in the first one, and its second commit empties that.
    const LAST: u64 = 510;
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        for number in 1..=LAST {
            append(&backend, message("thing/a", "1")).await;
            if number < LAST {
                let mut ends = commit("thing/a");
                ends.done.push(done(&first(&backend, partition, Position::new(partition, number - 1)).await));
                assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
            }
        }
        let sent = || Sent { envelope: envelope("thing/a", "2").into(), due: None };
        let mut sends = commit("thing/a");
        sends.outbox = vec![sent(), sent(), sent()];
        let mut ends = commit("thing/b");
        ends.done.push(done(&first(&backend, partition, Position::new(partition, LAST - 1)).await));
        ends.outbox.push(sent());
        assert_eq!(backend.commit(lease, vec![sends, ends].into()).await, [Ok(()), Ok(())]);
        let lease = take(&backend, partition).await;
        let found = backend.reread(lease.partition, start(partition), Position::new(partition, LAST + 9), 10).await;
        let numbers: Vec<u64> = found.unwrap().iter().map(|stored| stored.position.number()).collect();
        assert_eq!(numbers, [LAST + 1, LAST + 2, LAST + 3, LAST + 4]);
        assert!(backend.audit().await.unwrap().balanced);
    });
}

#[test]
fn a_claim_reads_no_state() {
    each(|backend| async move {
        let Some(database) = backend.mongo() else { return };
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        append(&backend, message("thing/a", "1")).await;
        let stored = first(&backend, partition, start(partition)).await;
        let mut writes = commit("thing/a");
        let large = greenroom::backend::document::encode(&"x".repeat(1 << 20), 2 << 20).unwrap();
        writes.state = Some(StateWrite { from: 0, doc: large, fields: Vec::new() });
        assert_eq!(backend.commit(lease, vec![writes].into()).await, [Ok(())]);
        let lease = take(&backend, partition).await;
        // MongoDB itself says how much it answers.
        database.run_command(doc! { "profile": 2 }).await.unwrap();
        let mut ends = commit("thing/a");
        ends.done.push(done(&stored));
        assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
        database.run_command(doc! { "profile": 0 }).await.unwrap();
        let said = database.collection::<Document>("system.profile");
        let of = doc! { "op": "query", "ns": format!("{}.thing", database.name()) };
        let mut answers = said.find(of).await.unwrap();
        let mut lengths = Vec::new();
        while answers.advance().await.unwrap() {
            lengths.push(answers.current().get_i32("responseLength").unwrap());
        }
        assert!(!lengths.is_empty() && lengths.iter().all(|length| *length < 10_000), "{lengths:?}");
    });
}
