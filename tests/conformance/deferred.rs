//! Deferred messages: timers, retries, and what is parked behind them.

use std::collections::HashSet;

use greenroom::backend::Deferral;

use super::*;

#[test]
fn timers_come_in_the_order_they_are_due_and_never_early() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let mut timers = Vec::new();
        for due in [30, 10, 20] {
            timers
                .push(append(&backend, Append { due: Some(NOW + due), ..message("thing/a", &due.to_string()) }).await);
        }
        let none = HashSet::new();
        let early = backend.due(partition, NOW + 9, None, none.clone(), 10).await.unwrap();
        assert_eq!((early.messages.len(), early.next), (0, Some(NOW + 10)));
        let two = backend.due(partition, NOW + 25, None, none.clone(), 10).await.unwrap();
        assert_eq!(two.messages.iter().map(|s| s.position).collect::<Vec<_>>(), [timers[1], timers[2]]);
        assert_eq!(two.next, Some(NOW + 30));
        // What was handed out is not handed out again; a page ends where asked.
        let handed = HashSet::from([timers[1]]);
        let rest = backend.due(partition, NOW + 99, None, handed, 1).await.unwrap();
        assert_eq!((rest.messages[0].position, rest.next), (timers[2], Some(NOW + 30)));
        // A time that has come is no reason to wait.
        append(&backend, Append { due: Some(NOW), ..message("thing/a", "0") }).await;
        assert_eq!(backend.read(partition, start(partition), 10).await.unwrap().len(), 1);
    });
}

#[test]
fn a_retry_keeps_its_story_and_what_waits_behind_it_keeps_its_order() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        for n in 1..=3 {
            append(&backend, message("thing/a", &n.to_string())).await;
        }
        let all = backend.read(partition, start(partition), 3).await.unwrap();
        let failure = greenroom::Error::new("no").failure(1, NOW);
        let mut retries = commit("thing/a");
        retries.deferred.push(Deferral {
            position: all[0].position,
            home: Home::Mailbox,
            due: NOW + 100,
            attempts: 1,
            failures: vec![failure.clone()],
            blocks: true,
        });
        retries.parked = vec![(all[1].position, Home::Mailbox), (all[2].position, Home::Mailbox)];
        assert_eq!(backend.commit(lease, vec![retries].into()).await, [Ok(())]);
        assert!(
            backend
                .read(partition, start(partition), 3)
                .await
                .unwrap()
                .iter()
                .all(|s| all.iter().all(|a| a.position != s.position))
                || backend.read(partition, all[2].position, 3).await.unwrap().is_empty()
        );
        assert!(backend.open(lease, vec![address("thing/a")]).await.unwrap()[0].parked);
        assert_eq!(backend.blocked(partition, None, 10).await.unwrap(), [address("thing/a")]);
        assert!(backend.blocked(partition, Some(address("thing/a")), 10).await.unwrap().is_empty());
        let parked = backend.parked(&address("thing/a"), start(partition), 10).await.unwrap();
        assert_eq!(
            parked.iter().map(|s| s.position).collect::<Vec<_>>(),
            all.iter().map(|s| s.position).collect::<Vec<_>>()
        );
        assert_eq!(
            (parked[0].attempts, parked[0].failures.as_slice(), parked[0].due),
            (1, [failure].as_slice(), NOW + 100)
        );
        // Only the retry has a time of its own.
        let due = backend.due(partition, NOW + 1_000_000, None, HashSet::new(), 10).await.unwrap();
        assert_eq!((due.messages.len(), due.next), (1, None));
        assert_eq!(backend.begin(lease, vec![deferred(&all[0])]).await.unwrap(), [2]);
        let mut ends = commit("thing/a");
        ends.done = parked.iter().map(done).collect();
        assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
        assert!(!backend.open(lease, vec![address("thing/a")]).await.unwrap()[0].parked);
        assert!(backend.audit().await.unwrap().balanced);
    });
}
