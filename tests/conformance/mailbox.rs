//! Mailboxes: order, idempotency, budget, restart.

use greenroom::backend::{
    Appended, Idempotency, Lookup, Mailbox, NotAppended,
    embedded::{Embedded, Options},
};

use super::*;

#[test]
fn messages_are_read_in_the_order_they_were_accepted() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let mut positions = Vec::new();
        for n in 0..300 {
            positions.push(append(&backend, message("thing/a", &n.to_string())).await);
        }
        assert!(positions.is_sorted());
        let (mut read, mut after) = (Vec::new(), start(partition));
        loop {
            let batch = backend.read(partition, after, 7).await.unwrap();
            let Some(last) = batch.last() else { break };
            after = last.position;
            read.extend(
                batch.iter().map(|stored| stored.envelope.as_ref().unwrap().command.get().parse::<u32>().unwrap()),
            );
        }
        assert_eq!(read, (0..300).collect::<Vec<_>>());
    });
}

#[test]
fn a_repeat_under_the_same_key_changes_nothing_and_gets_the_first_answer() {
    each(|backend| async move {
        let keyed = |fingerprint, answer: &str, now| {
            let mut append = message("thing/a", "1");
            append.envelope.accepted = now;
            append.idempotency =
                Some(Idempotency { key: "k".into(), fingerprint, answer: answer.into(), expires: now + 1000 });
            append
        };
        let first = append(&backend, keyed(1, "one", NOW)).await;
        let again = backend.append(vec![keyed(1, "two", NOW + 999)]).await.pop().unwrap();
        assert_eq!(again, Ok(Appended::Seen(first, "one".into())));
        let other = backend.append(vec![keyed(2, "two", NOW)]).await.pop().unwrap();
        assert_eq!(other, Err(NotAppended::Mismatch));
        assert_eq!(backend.ledgers().await.unwrap().iter().map(|l| l.accepted).sum::<u64>(), 1);
        // Once forgotten, the key is new.
        assert_ne!(append(&backend, keyed(2, "two", NOW + 1000)).await, first);
    });
}

#[test]
fn a_repeat_in_the_same_batch_is_seen_too() {
    each(|backend| async move {
        let mut keyed = message("thing/a", "1");
        keyed.idempotency =
            Some(Idempotency { key: "k".into(), fingerprint: 1, answer: "one".into(), expires: NOW + 1 });
        let answers = backend.append(vec![keyed.clone(), keyed]).await;
        assert!(matches!(answers[0], Ok(Appended::New(_))), "{answers:?}");
        assert!(matches!(answers[1], Ok(Appended::Seen(..))), "{answers:?}");
    });
}

#[test]
fn a_full_mailbox_refuses_and_takes_again_when_there_is_room() {
    each(|backend| async move {
        let big = format!("\"{}\"", "x".repeat(8000));
        let partition = address("thing/a").partition(4);
        let mut accepted = 0;
        let refused = loop {
            match backend.append(vec![message("thing/a", &big)]).await.pop().unwrap() {
                Ok(_) => accepted += 1,
                Err(refused) => break refused,
            }
            assert!(accepted < 100, "never full");
        };
        assert!(matches!(refused, NotAppended::Full { bytes, budget: BUDGET } if bytes <= BUDGET), "{refused:?}");
        let lease = take(&backend, partition).await;
        let stored = first(&backend, partition, start(partition)).await;
        let mut ends = commit("thing/a");
        ends.done.push(done(&stored));
        assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
        append(&backend, message("thing/a", &big)).await;
        let audit = backend.audit().await.unwrap();
        assert_eq!((audit.accepted, audit.balanced), (accepted + 1, true), "{audit:?}");
    });
}

#[test]
fn what_was_accepted_is_there_after_a_restart_with_its_id() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { partitions: 4, mailbox_bytes: BUDGET };
    actix::System::new().block_on(async {
        let open = || -> Arc<dyn Backend> { Arc::new(Embedded::open(data.path(), options.clone()).unwrap()) };
        let before = open();
        let (position, secret) = (append(&before, message("thing/a", "7")).await, before.secret());
        drop(before);
        let after = open();
        assert_eq!(after.secret(), secret);
        let Lookup::Waiting(stored) = after.lookup(position).await.unwrap() else { panic!("not waiting") };
        assert_eq!(stored.envelope.unwrap().command.get(), "7");
        assert!(append(&after, message("thing/a", "8")).await > position);
    });
}

#[test]
fn a_store_in_use_or_of_another_shape_is_refused_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let held = Embedded::open(data.path(), Options::default()).unwrap();
    let error = Embedded::open(data.path(), Options::default()).err().unwrap();
    assert!(error.is_terminal() && error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(held);
    let error = Embedded::open(data.path(), Options { partitions: 8, ..Options::default() }).err().unwrap();
    assert!(error.to_string().contains("created with 16 partitions"), "{error}");
    assert_eq!(Embedded::inspect(data.path()).unwrap().partitions(), 16);
}
