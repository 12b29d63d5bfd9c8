//! What is had outside of commands: for as long as it is renewed.

use super::*;

/// A lock taken by a process outside of any actor, in the background.
fn take(node: &Node, lease: Duration) -> tokio::task::JoinHandle<Result<Guard>> {
    let locking = node.lock("hot").lease(lease);
    tokio::spawn(async move { locking.await })
}

#[test]
fn guards_are_given_in_order_and_renewed_and_commands_wait_in_the_same_queue() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = take(world.node(), 3 * SECOND).await.unwrap().unwrap();
        let waits = take(world.node(), 3 * SECOND);
        world.settle().await;
        let command = tell(&mut world, "1", Do::Hold(How::Completes)).await;
        let last = take(world.node(), 3 * SECOND);
        world.settle().await;
        // Many leases long.
        world.advance(60 * SECOND).await;
        assert!(!first.is_lost() && !waits.is_finished() && room.order().is_empty());
        first.release().await.unwrap();
        world.settle().await;
        let second = waits.await.unwrap().unwrap();
        assert!(room.order().is_empty() && !last.is_finished());
        // Dropped, it is let go as well.
        let token = second.token();
        drop(second);
        world.settle().await;
        assert_eq!(room.order(), ["1"]);
        world.signal(command, "go", ()).await;
        world.settle().await;
        let last = last.await.unwrap().unwrap();
        assert!(last.token() > room.0.lock().unwrap().tokens[0] && room.0.lock().unwrap().tokens[0] > token);
        last.release().await.unwrap();
        let soon = world.node().lock("hot").lease(Duration::from_millis(5)).await.unwrap_err();
        assert!(soon.to_string().contains("expected between"), "{soon}");
    });
}

#[test]
fn whoever_waited_and_is_gone_has_no_place() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = take(world.node(), 3 * SECOND).await.unwrap().unwrap();
        // One that gives up says so; one whose process dies does not.
        let patient = world.node().lock("hot").lease(3 * SECOND).within(SECOND);
        let gave_up = tokio::spawn(async move { patient.await });
        world.settle().await;
        world.advance(2 * SECOND).await;
        assert!(gave_up.await.unwrap().unwrap_err().has_code("deadline"));
        let dies = take(world.node(), 3 * SECOND);
        world.settle().await;
        world.crash().await;
        dies.abort();
        let next = take(world.node(), 3 * SECOND);
        world.settle().await;
        assert!(!next.is_finished());
        // Their leases begin anew with the new owner, and then end; nobody renews them.
        world.advance(7 * SECOND).await;
        assert!(next.await.unwrap().is_ok() && first.is_lost());
    });
}

#[test]
fn a_guard_that_is_not_heard_knows_that_it_is_lost_before_another_has_the_lock() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = take(world.node(), 3 * SECOND).await.unwrap().unwrap();
        let lost = Arc::new(AtomicBool::new(false));
        let first = Arc::new(first);
        tokio::spawn({
            let (first, lost) = (first.clone(), lost.clone());
            async move {
                first.lost().await;
                lost.store(true, Ordering::SeqCst);
            }
        });
        // The store answers the process of the guard no more; others it does.
        world.crash().await;
        let next = take(world.node(), 3 * SECOND);
        let mut held_on = 0;
        while !next.is_finished() {
            world.advance(Duration::from_millis(50)).await;
            if next.is_finished() {
                assert!(first.is_lost() && lost.load(Ordering::SeqCst), "two have it");
            }
            held_on += 1;
            assert!(held_on < 1000, "it is never given");
        }
        let token = next.await.unwrap().unwrap().token();
        assert!(token > first.token());
        assert!(Arc::into_inner(first).unwrap().release().await.unwrap_err().has_code("lock_lost"));
    });
}

#[test]
fn a_broken_lock_is_lost_at_once_and_what_was_lost_cannot_be_written() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = take(world.node(), 30 * SECOND).await.unwrap().unwrap();
        first.tell(Log::at("log"), first.token()).await.unwrap();
        // What is under no lock is as ever.
        world.node().tell(Log::at("log"), 7).await.unwrap();
        let next = take(world.node(), 30 * SECOND);
        world.settle().await;
        assert!(world.node().break_lock("hot").await.unwrap());
        world.settle().await;
        assert!(first.is_lost());
        let next = next.await.unwrap().unwrap();
        next.tell(Log::at("log"), next.token()).await.unwrap();
        assert!(first.tell(Log::at("log"), 1).await.unwrap_err().has_code("lock_lost"));
        // Were it not known here, the store would refuse it.
        let late = greenroom::runtime::node::Accept {
            to: Address::new("log", "log").unwrap(),
            command: serde_json::value::to_raw_value(&1).unwrap(),
            due: None,
            trace: None,
            idempotency: None,
            fence: Some(Fence { lock: "hot".into(), token: first.token() }),
            wait: false,
        };
        let refused = world.node().accept(late).await.map(|accepted| accepted.request).unwrap_err();
        assert!(refused.to_string().contains(&next.token().to_string()), "{refused}");
        world.settle().await;
        assert_eq!(world.state::<Log>("log").await.unwrap(), [first.token(), 7, next.token()]);
        assert!(!world.node().break_lock("free").await.unwrap());
    });
}

#[test]
fn a_dead_letter_that_is_redriven_finds_its_lock_lost() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = tell(&mut world, "1", Do::Hold(How::Changes)).await;
        world.advance(2 * SECOND).await;
        room.1.store(true, Ordering::SeqCst);
        world.restart().await;
        world.signal(first, "go", ()).await;
        world.settle().await;
        assert_eq!(world.view(first).await.status, State::DeadLettered);
        let second = tell(&mut world, "2", Do::Hold(How::Completes)).await;
        room.1.store(false, Ordering::SeqCst);
        world.redrive_all().await;
        world.settle().await;
        let view = world.view(first).await;
        assert_eq!((view.status, code(&view)), (State::Failed, "lock_lost"));
        world.signal(second, "go", ()).await;
        world.settle().await;
        assert_eq!(world.view(second).await.status, State::Completed);
    });
}
