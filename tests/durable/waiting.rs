//! Sleeping and waiting for signals: in memory or not, over crashes, in the order of the key.

use std::time::Duration;

use greenroom::{
    Actor,
    testing::{Point, Vendor, World},
};

use crate::flow::{Do, Flow, features};

const DAYS: u64 = 30 * 24 * 3600;

#[test]
fn a_sleep_of_thirty_days_survives_a_crash_every_ten_and_never_ends_early() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        world.tell(Flow::at("a"), Do::Sleep(DAYS)).await;
        for _ in 0..3 {
            world.advance(Duration::from_secs(DAYS / 3 - 1)).await;
            world.crash().await;
            assert_eq!((vendor.effects("before"), vendor.effects("after")), (1, 0));
        }
        world.advance(Duration::from_secs(3)).await;
        assert_eq!((vendor.calls("before"), vendor.calls("after")), (1, 1));
        world.no_loss().await;
    });
}

#[test]
fn what_comes_after_a_waiting_command_waits_and_keeps_its_order() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        world.tell(Flow::at("a"), Do::Sleep(100)).await;
        for number in 10..20 {
            world.tell(Flow::at("a"), Do::Write(number)).await;
        }
        world.tell(Flow::at("b"), Do::Write(1)).await;
        world.advance(Duration::from_secs(50)).await;
        assert_eq!((world.state::<Flow>("a").await, world.state::<Flow>("b").await), (None, Some(vec![1])));
        world.crash().await;
        world.advance(Duration::from_secs(51)).await;
        let expected: Vec<u64> = [1].into_iter().chain(10..20).collect();
        assert_eq!(world.state::<Flow>("a").await.unwrap(), expected);
        world.no_loss().await;
        world.in_order(Flow::at("a"));
    });
}

#[test]
fn a_signal_reaches_a_command_in_memory_and_one_that_is_not() {
    for wait in [0, 3600] {
        for point in [Point::Journal, Point::Journaled, Point::Deferred, Point::Committed] {
            let vendor = Vendor::default();
            World::new(features(&vendor)).play(async |mut world| {
                let waits = world.tell(Flow::at("a"), Do::Signal(None)).await.unwrap();
                world.advance(Duration::from_secs(wait)).await;
                world.crash_at(point);
                world.signal(waits, "go", 7).await;
                world.advance(Duration::from_secs(5)).await;
                assert_eq!(world.state::<Flow>("a").await, Some(vec![7]), "{wait} {point:?}");
                assert_eq!(vendor.effects("after"), 1);
                world.no_loss().await;
                world.no_duplicate();
            });
        }
    }
}

#[test]
fn a_signal_that_comes_first_is_not_missed() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        world.tell(Flow::at("a"), Do::Sleep(100)).await;
        let waits = world.tell(Flow::at("a"), Do::Signal(None)).await.unwrap();
        world.advance(Duration::from_secs(10)).await;
        // It has not begun: it waits behind the other one.
        world.signal(waits, "go", 8).await;
        world.settle().await;
        world.crash().await;
        world.advance(Duration::from_secs(100)).await;
        assert_eq!(world.state::<Flow>("a").await.unwrap(), [1, 8]);
        world.no_loss().await;
    });
}

#[test]
fn a_signal_that_does_not_come_is_an_error_at_its_deadline() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        let waits = world.tell(Flow::at("a"), Do::Signal(Some(60))).await.unwrap();
        world.advance(Duration::from_secs(59)).await;
        assert!(!world.view(waits).await.status.ended());
        world.advance(Duration::from_secs(2)).await;
        assert_eq!(world.view(waits).await.error.unwrap().code, "deadline");
        world.no_loss().await;
    });
}

#[test]
fn whichever_came_first_came_first_for_ever() {
    for point in [Point::Journaled, Point::Handled] {
        for signalled in [true, false] {
            let vendor = Vendor::default();
            World::new(features(&vendor)).play(async |mut world| {
                let race = world.tell(Flow::at("a"), Do::Race(60)).await.unwrap();
                if signalled {
                    world.advance(Duration::from_secs(59)).await;
                    world.signal(race, "go", 5).await;
                }
                world.crash_at(point);
                world.advance(Duration::from_secs(120)).await;
                let came = (vendor.effects("signalled"), vendor.effects("slept"));
                assert_eq!(came, if signalled { (1, 0) } else { (0, 1) }, "{point:?}");
                world.no_loss().await;
            });
        }
    }
}

#[test]
fn a_waiting_request_is_said_to_be_processing() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        let waits = world.tell(Flow::at("a"), Do::Signal(None)).await.unwrap();
        world.advance(Duration::from_secs(100)).await;
        let view = world.view(waits).await;
        assert_eq!((format!("{:?}", view.status), view.attempts), ("Processing".to_owned(), 1));
        world.signal(waits, "go", 1).await;
        world.no_loss().await;
    });
}

#[test]
fn a_signal_that_comes_as_its_command_begins_is_not_lost() {
    for before in 0..30 {
        let vendor = Vendor::default();
        World::new(features(&vendor)).play(async |mut world| {
            // The command waits in memory for those before it to commit, and meanwhile its signal is written.
            for number in 0..before {
                world.tell(Flow::at("a"), Do::Write(number)).await;
            }
            let waits = world.tell(Flow::at("a"), Do::Signal(None)).await.unwrap();
            world.signal(waits, "go", 77).await;
            world.advance(Duration::from_secs(5)).await;
            assert_eq!(world.state::<Flow>("a").await.unwrap().last(), Some(&77), "after {before}");
            world.no_loss().await;
        });
    }
}

#[test]
fn a_timer_begins_when_it_is_set_and_not_with_its_command() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        world.tell(Flow::at("a"), Do::Tick).await;
        world.advance(Duration::from_millis(1_010)).await;
        assert_eq!(world.state::<Flow>("a").await, Some(vec![]));
        world.advance(Duration::from_millis(100)).await;
        assert_eq!(world.state::<Flow>("a").await, Some(vec![1]));
    });
}
