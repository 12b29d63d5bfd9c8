//! What commands have: until they end, however that is.

use super::*;

#[test]
fn a_command_has_its_lock_until_it_ends_however_it_ends() {
    use How::*;
    let ways = [Completes, Fails, Dies, Hangs, Releases, Again, Changes];
    for (shared, how) in [false, true].into_iter().flat_map(|shared| ways.map(|how| (shared, how))) {
        let room = Room::default();
        world(&room).play(async |mut world| {
            let first = tell(&mut world, "1", if shared { Do::Share(how) } else { Do::Hold(how) }).await;
            let second = tell(&mut world, "2", Do::Hold(Completes)).await;
            // Long after the first has left memory and after the lock has looked for it more than once.
            world.advance(25 * SECOND).await;
            assert_eq!(room.order(), ["1"], "{how:?}");
            assert!(!is_free(world.node()).await);
            if how == Changes {
                room.1.store(true, Ordering::SeqCst);
                world.restart().await;
            }
            world.signal(first, "go", ()).await;
            world.advance(if how == Hangs { 5 * SECOND } else { SECOND }).await;
            assert_eq!(room.order(), ["1", "2"], "{how:?} shared: {shared}");
            world.signal(second, "go", ()).await;
            world.settle().await;
            assert!(is_free(world.node()).await);
            if how == Releases {
                world.signal(first, "end", ()).await;
            }
            world.no_loss().await;
            let status = match how {
                Completes | Releases | Again => State::Completed,
                Fails => State::Failed,
                Dies | Hangs | Changes => State::DeadLettered,
            };
            let view = world.view(first).await;
            assert_eq!(view.status, status, "{how:?}: {view:?}");
            assert_eq!(world.view(second).await.status, State::Completed);
        });
    }
}

#[test]
fn a_cancelled_command_lets_go_whether_it_has_the_lock_or_waits() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = tell(&mut world, "1", Do::Hold(How::Completes)).await;
        let waits = tell(&mut world, "2", Do::Hold(How::Completes)).await;
        let asked = tell(&mut world, "a", Do::Ask("3".into(), Box::new(Do::Hold(How::Completes)))).await;
        let last = tell(&mut world, "4", Do::Hold(How::Completes)).await;
        world.cancel(waits).await;
        world.settle().await;
        assert_eq!(world.view(waits).await.status, State::Cancelled);
        world.cancel(first).await;
        world.settle().await;
        // The one that was cancelled is passed over; the next is one that somebody else wants no more.
        assert_eq!(room.order(), ["1", "3"]);
        world.cancel(asked).await;
        world.settle().await;
        assert_eq!(room.order(), ["1", "3", "4"]);
        world.signal(last, "go", ()).await;
        world.settle().await;
        assert!(is_free(world.node()).await);
        world.no_loss().await;
    });
}

#[test]
fn a_command_that_ends_without_running_is_noticed_by_the_lock() {
    let room = Room::default();
    world(&room).settings(|settings| settings.crash_limit = 2).play(async |mut world| {
        let first = tell(&mut world, "1", Do::Stay).await;
        let second = tell(&mut world, "2", Do::Hold(How::Completes)).await;
        // Both have left memory.
        world.advance(2 * SECOND).await;
        // It dies whenever its handler has finished, until it is given up without being run.
        world.crash_whenever(Some(Point::Handled));
        world.signal(first, "go", ()).await;
        world.settle().await;
        world.crash_whenever(None);
        assert_eq!(world.view(first).await.status, State::DeadLettered);
        assert!(world.crashes() >= 2 && room.order().is_empty());
        world.advance(11 * SECOND).await;
        assert_eq!(room.order(), ["2"]);
        world.signal(second, "go", ()).await;
        world.settle().await;
        assert_eq!(world.view(second).await.status, State::Completed);
    });
}

#[test]
fn whatever_crashes_nobody_is_inside_with_another_and_the_token_stays() {
    let points = Point::ALL.into_iter().filter(|point| *point != Point::Accepted);
    // Starting again takes its time where servers are.
    let nths: &[u32] = if Which::from_env().unwrap() == Which::Embedded { &[1, 2, 5] } else { &[2] };
    for (point, nth) in points.flat_map(|point| nths.iter().map(move |nth| (point, *nth))) {
        let room = Room::default();
        world(&room).play(async |mut world| {
            let mut told = Vec::new();
            for key in ["1", "2", "3"] {
                told.push(world.tell(Holder::at(key), Do::Hold(How::Completes)).await.unwrap());
            }
            world.crash_at_nth(point, nth);
            // A signal that is sent while the process dies may have to be sent again.
            for _ in 0..3 {
                for request in &told {
                    world.settle().await;
                    if !world.view(*request).await.status.ended() {
                        world.signal(*request, "go", ()).await;
                    }
                }
                world.advance(10 * SECOND).await;
            }
            assert_eq!(room.0.lock().unwrap().tokens.len(), 3, "{point:?} {nth}");
            for request in told {
                let view = world.view(request).await;
                assert_eq!(view.status, State::Completed, "{point:?} {nth}: {view:?}");
            }
            assert!(is_free(world.node()).await);
            world.no_loss().await;
            world.no_duplicate();
        });
    }
}

#[test]
fn a_handler_with_locks_can_be_repeated() {
    let room = Room::default();
    world(&room).always_replay().play(async |mut world| {
        let first = tell(&mut world, "1", Do::Hold(How::Releases)).await;
        let second = tell(&mut world, "2", Do::Within(60)).await;
        world.signal(first, "go", ()).await;
        world.signal(first, "end", ()).await;
        world.settle().await;
        for request in [first, second] {
            let view = world.view(request).await;
            assert_eq!(view.status, State::Completed, "{view:?}");
        }
    });
}

#[test]
fn a_deadline_gives_the_place_up_also_when_the_lock_comes_just_then() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = tell(&mut world, "1", Do::Hold(How::Completes)).await;
        let late = tell(&mut world, "2", Do::Within(3)).await;
        let third = tell(&mut world, "3", Do::Hold(How::Completes)).await;
        world.advance(3 * SECOND).await;
        world.signal(first, "go", ()).await;
        world.settle().await;
        // The second has not ended and has nothing.
        assert!(!world.view(late).await.status.ended());
        assert_eq!(room.order(), ["1", "3"]);
        world.signal(late, "end", ()).await;
        world.settle().await;
        assert_eq!(code(&world.view(late).await), "deadline");
        world.signal(third, "go", ()).await;
        world.settle().await;
        assert!(is_free(world.node()).await);
    });
}

#[test]
fn waiting_for_ever_is_refused_where_it_can_happen() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let both = |a: &str, b: &str, within| Do::Both(a.into(), b.into(), within);
        let same = tell(&mut world, "1", both("a", "a", Some(1))).await;
        let rash = tell(&mut world, "2", both("b", "c", None)).await;
        for request in [same, rash] {
            world.signal(request, "go", ()).await;
        }
        world.settle().await;
        assert_eq!(code(&world.view(same).await), "cycle");
        assert_eq!(code(&world.view(rash).await), "needs_deadline");
        // Two that take them in different order: one gives up, and the other goes on.
        let (one, other) = (
            tell(&mut world, "3", both("x", "y", Some(5))).await,
            tell(&mut world, "4", both("y", "x", Some(9))).await,
        );
        for request in [one, other] {
            world.signal(request, "go", ()).await;
        }
        world.advance(6 * SECOND).await;
        assert_eq!(code(&world.view(one).await), "deadline");
        assert_eq!(world.view(other).await.status, State::Completed);
        // Whoever waits for an answer under a lock is known to whoever is asked.
        let under = tell(&mut world, "5", Do::AskUnder("6".into())).await;
        let view = world.view(under).await;
        assert_eq!((view.status, code(&view)), (State::Failed, "cycle"));
        assert!(is_free(world.node()).await);
    });
}
