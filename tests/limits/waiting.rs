//! Waiting for tokens and permits in a handler: in order, durably, and over crashes.

use std::time::Duration;

use greenroom::{
    Actor, Feature,
    coordination::limit::Limit,
    testing::{Point, World},
};

use crate::worker::{Diary, Do, Worker};

const SECOND: Duration = Duration::from_secs(1);

fn world(diary: &Diary, limit: Limit) -> World {
    let diary = diary.clone();
    World::new(move || vec![Feature::new(Worker { diary: diary.clone() }).limit("vendor", limit.clone())])
}

#[test]
fn tokens_are_given_in_the_order_of_asking_and_as_they_are_added() {
    let diary = Diary::default();
    world(&diary, Limit::rate(1, 10 * SECOND).burst(2)).play(async |mut world| {
        let begin = diary.by(&world);
        for n in 0..6 {
            world.tell(Worker::at(format!("k{n}")), Do::Take("vendor".into(), 1)).await;
            world.settle().await;
        }
        assert!(world.passed(Point::Deferred) >= 4, "they wait in the store");
        world.advance(60 * SECOND).await;
        assert_eq!(diary.told(), ["k0", "k1", "k2", "k3", "k4", "k5"]);
        let times = diary.times(begin);
        assert_eq!(times[..2], [0, 0]);
        for (n, time) in times[2..].iter().enumerate() {
            let due = 10_000 * (n as i64 + 1);
            assert!((due..due + 10).contains(time), "{times:?}");
        }
        world.no_loss().await;
    });
}

#[test]
fn who_has_a_name_of_his_own_has_a_bucket_of_his_own() {
    let diary = Diary::default();
    world(&diary, Limit::rate(1, 3600 * SECOND)).play(async |mut world| {
        diary.by(&world);
        for (key, limit) in [("a", "vendor/acme"), ("b", "vendor/acme"), ("c", "vendor/other"), ("d", "vendor")] {
            world.tell(Worker::at(key), Do::Take(limit.into(), 1)).await;
            world.settle().await;
        }
        assert_eq!(diary.told(), ["a", "c", "d"]);
        world.advance(3600 * SECOND).await;
        assert_eq!(diary.told(), ["a", "c", "d", "b"]);
    });
}

/// A command that waits is a row in the store: it goes on at its time after any crash, and is not put back.
#[test]
fn a_wait_is_durable_and_keeps_its_place() {
    for point in [Point::Accepted, Point::Handled, Point::Deferred, Point::Journal, Point::Journaled, Point::Committed]
    {
        let diary = Diary::default();
        world(&diary, Limit::rate(1, 60 * SECOND)).play(async |mut world| {
            let begin = diary.by(&world);
            for n in 0..4 {
                world.tell(Worker::at(format!("k{n}")), Do::Take("vendor".into(), 1)).await;
                world.settle().await;
            }
            world.crash_at(point);
            world.advance(90 * SECOND).await;
            world.crash().await;
            world.advance(600 * SECOND).await;
            world.no_loss().await;
            world.no_duplicate();
            let mut keys = diary.told();
            keys.dedup();
            assert_eq!(keys, ["k0", "k1", "k2", "k3"], "{point:?}");
            let times = diary.times(begin);
            assert!(times.last().unwrap() < &181_000, "{point:?}: nobody lost its place: {times:?}");
        });
    }
}

/// A handler that is run again from its start does not take again what it was given.
#[test]
fn tokens_that_were_given_are_not_taken_again() {
    let diary = Diary::default();
    world(&diary, Limit::rate(1, 3600 * SECOND)).always_replay().play(async |mut world| {
        let begin = diary.by(&world);
        world.tell(Worker::at("a"), Do::Take("vendor".into(), 1)).await;
        world.tell(Worker::at("b"), Do::Take("vendor".into(), 1)).await;
        world.advance(3 * 3600 * SECOND).await;
        let times = diary.times(begin);
        assert_eq!((times.len(), times[0]), (2, 0));
        assert!((3_600_000..3_600_100).contains(&times[1]), "{times:?}");
    });
}

#[test]
fn what_could_not_run_for_long_does_not_run_all_at_once() {
    let diary = Diary::default();
    world(&diary, Limit::rate(1, 60 * SECOND)).play(async |mut world| {
        let begin = diary.by(&world);
        for n in 0..5 {
            world.tell(Worker::at(format!("k{n}")), Do::Take("vendor".into(), 1)).await;
            world.settle().await;
        }
        world.crash_for(600 * SECOND).await;
        world.advance(600 * SECOND).await;
        let times = diary.times(begin);
        assert_eq!(times.len(), 5);
        for pair in times.windows(2).skip(1) {
            assert!(pair[1] - pair[0] >= 59_000, "{times:?}");
        }
        world.no_loss().await;
    });
}

#[test]
fn each_call_of_a_step_takes_a_token_also_when_it_is_repeated() {
    let diary = Diary::default();
    world(&diary, Limit::rate(1, 10 * SECOND)).play(async |mut world| {
        let begin = diary.by(&world);
        world.tell(Worker::at("a"), Do::Step("vendor".into(), 3)).await;
        world.advance(100 * SECOND).await;
        assert_eq!(diary.told(), ["a 1", "a 2", "a 3", "a 4"]);
        assert!(world.passed(Point::Deferred) >= 3, "it waits in the store");
        for (n, time) in diary.times(begin).iter().enumerate() {
            assert!((*time - 10_000 * n as i64).abs() < 20, "{:?}", diary.all());
        }
        world.no_loss().await;
    });
}

#[test]
fn one_that_would_wait_too_long_is_told_at_once_and_takes_nothing() {
    let diary = Diary::default();
    world(&diary, Limit::rate(1, 10 * SECOND)).play(async |mut world| {
        let begin = diary.by(&world);
        world.tell(Worker::at("a"), Do::Take("vendor".into(), 1)).await;
        world.settle().await;
        let impatient = world.tell(Worker::at("b"), Do::TakeWithin("vendor".into(), 5_000)).await.unwrap();
        world.settle().await;
        let view = world.view(impatient).await;
        assert_eq!((view.attempts, view.status.ended()), (1, false));
        world.tell(Worker::at("c"), Do::Take("vendor".into(), 1)).await;
        world.advance(12 * SECOND).await;
        // It was not before `c`, which asked later: only who waits has a place.
        let times = diary.times(begin);
        assert_eq!(diary.told()[..2], ["a", "c"]);
        assert!((10_000..10_010).contains(&times[1]), "{times:?}");
        world.advance(60 * SECOND).await;
        assert_eq!(diary.told(), ["a", "c", "b"]);
    });
}

#[test]
fn an_unknown_limit_and_more_than_there_ever_is_fail_for_good() {
    let diary = Diary::default();
    world(&diary, Limit::rate(2, SECOND)).play(async |mut world| {
        diary.by(&world);
        for (limit, cost, says) in [("nobody", 1, "no limit is called \"nobody\""), ("vendor", 3, "at most 2")] {
            let asked = world.ask(Worker::at("a"), Do::Take(limit.into(), cost)).await.unwrap();
            let error = asked.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    });
}

#[test]
fn a_command_that_waits_for_tokens_can_be_cancelled() {
    let diary = Diary::default();
    world(&diary, Limit::rate(1, 600 * SECOND)).play(async |mut world| {
        diary.by(&world);
        world.tell(Worker::at("a"), Do::Take("vendor".into(), 1)).await;
        world.settle().await;
        let waits = world.tell(Worker::at("b"), Do::Take("vendor".into(), 1)).await.unwrap();
        world.advance(5 * SECOND).await;
        world.cancel(waits).await;
        world.advance(5 * SECOND).await;
        assert!(world.view(waits).await.status.ended());
        assert_eq!(diary.told(), ["a"]);
        world.no_loss().await;
    });
}

/// How many hold a permit at once, at most.
fn at_once(told: &[String]) -> i64 {
    let (mut now, mut most) = (0, 0);
    for what in told {
        now += if what.ends_with(" in") { 1 } else { -1 };
        most = most.max(now);
    }
    most
}

#[test]
fn as_many_steps_run_at_once_as_there_are_permits() {
    let diary = Diary::default();
    world(&diary, Limit::concurrency(2)).play(async |mut world| {
        diary.by(&world);
        for n in 0..8 {
            world.tell(Worker::at(format!("k{n}")), Do::Hold("vendor".into(), 300)).await;
        }
        world.advance(60 * SECOND).await;
        let told = diary.told();
        assert_eq!((told.len(), at_once(&told)), (16, 2), "{told:?}");
        world.no_loss().await;
    });
}

/// Whoever has left memory to wait comes again until it is let in.
#[test]
fn a_long_wait_for_a_permit_holds_no_memory() {
    let diary = Diary::default();
    world(&diary, Limit::concurrency(1)).play(async |mut world| {
        diary.by(&world);
        world.tell(Worker::at("first"), Do::Hold("vendor".into(), 20_000)).await;
        world.settle().await;
        world.tell(Worker::at("early"), Do::Hold("vendor".into(), 10)).await;
        world.advance(2 * SECOND).await;
        assert_eq!(diary.told(), ["first in"]);
        assert!(world.passed(Point::Deferred) >= 1, "it waits in the store");
        world.crash().await;
        world.advance(15 * SECOND).await;
        for n in 0..3 {
            world.tell(Worker::at(format!("late{n}")), Do::Hold("vendor".into(), 300)).await;
        }
        world.advance(120 * SECOND).await;
        // The step that held it when the process died is called again, once the dead one's lease has ended.
        let told = diary.told();
        assert_eq!((told.len(), told[0].as_str()), (11, "first in"), "{told:?}");
        assert_eq!(at_once(&told[1..]), 1, "{told:?}");
        world.no_loss().await;
    });
}
