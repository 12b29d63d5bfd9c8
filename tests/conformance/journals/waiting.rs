//! Waiting for something that comes from outside: with the key or alone, and being woken.

use futures_util::FutureExt;

use super::*;

#[test]
fn a_message_that_waits_alone_does_not_hold_up_its_key() {
    stage(2, |stage| async move {
        let [one, two] = &stage.messages[..] else { panic!("two") };
        assert_eq!(stage.backend.begin(stage.lease, vec![(one.position, Home::Mailbox)]).await.unwrap(), [1]);
        stage.defer(waits(one, FAR, false)).await;
        stage.defer(waits(two, FAR, true)).await;
        assert_eq!(stage.blocking().await, [two.position]);
        let (alone, blocks) = (stage.waiting(one).await, stage.waiting(two).await);
        assert_eq!((alone.parked, alone.attempts, alone.due), (false, 0, FAR), "attempts are what the deferral says");
        assert_eq!((blocks.parked, blocks.attempts, blocks.due), (true, 0, FAR));
        assert_eq!(stage.due(NOW).await, (vec![], Some(FAR)));
        // Both may change their minds.
        stage.defer(Deferral { attempts: 2, ..waits(&alone, FAR, true) }).await;
        stage.defer(waits(&blocks, NOW + 5, false)).await;
        assert_eq!(stage.blocking().await, [one.position]);
        assert_eq!((stage.waiting(one).await.parked, stage.waiting(one).await.attempts), (true, 2));
        assert_eq!((stage.waiting(two).await.parked, stage.waiting(two).await.attempts), (false, 0));
        assert_eq!(stage.due(NOW + 5).await, (vec![two.position], Some(FAR)));
        stage.defer(waits(&stage.waiting(one).await, FAR, false)).await;
        assert!(stage.blocking().await.is_empty());
        assert!(stage.backend.blocked(stage.lease.partition, None, 10).await.unwrap().is_empty());
        let loaded = stage.backend.open(stage.lease, vec![address("thing/a")]).await.unwrap();
        assert!(!loaded[0].parked);
        assert_eq!(stage.waiting(one).await.attempts, 0);
    });
}

#[test]
fn what_was_waited_for_wakes_the_message_and_its_reader() {
    stage(4, |stage| async move {
        let [waiting, early, mailbox, behind] = &stage.messages[..] else { panic!("four") };
        stage.defer(waits(waiting, FAR, true)).await;
        stage.defer(waits(early, NOW - 5, false)).await;
        let parks = Commit { parked: vec![(behind.position, Home::Mailbox)], ..commit("thing/a") };
        assert_eq!(stage.commit(parks).await, Ok(()));
        // Entries alone wake nobody.
        let quiet = JournalWrite { wake: false, ..outside(waiting.position, &["quiet"]) };
        assert_eq!(stage.write(quiet).await, Ok(()));
        assert_eq!(stage.due(NOW).await, (vec![early.position], Some(FAR)));
        let signals = stage.backend.signals(stage.lease.partition);
        while signals.deferred.notified().now_or_never().is_some() {}
        assert_eq!(stage.write(outside(waiting.position, &["answer"])).await, Ok(()));
        signals.deferred.notified().await;
        for message in [early, mailbox, behind] {
            assert_eq!(stage.write(outside(message.position, &["answer"])).await, Ok(()));
        }
        // What is parked behind another message has no time of its own, and gets none.
        assert_eq!(stage.due(FAR).await, (vec![early.position, waiting.position], None));
        assert_eq!((stage.waiting(early).await.due, stage.waiting(waiting).await.due), (NOW - 5, NOW));
        assert_eq!(stage.waiting(mailbox).await.home, Home::Mailbox);
        assert_eq!(stage.blocking().await, [waiting.position, behind.position]);
        assert_eq!(entries(&stage.backend, waiting.position).await, ["quiet", "answer"]);
        assert_eq!(entries(&stage.backend, behind.position).await, ["answer"]);
    });
}

#[test]
fn a_message_that_begins_to_wait_with_the_commit_that_wakes_it_does_not_sleep() {
    stage(1, |stage| async move {
        let one = &stage.messages[0];
        let mut both = commit("thing/a");
        both.journals = vec![own(one.position, &["asks"]), outside(one.position, &["answer"])];
        both.deferred.push(waits(one, FAR, true));
        assert_eq!(stage.commit(both).await, Ok(()));
        assert_eq!(stage.due(NOW).await, (vec![one.position], None));
        assert_eq!(entries(&stage.backend, one.position).await, ["asks", "answer"]);
    });
}
