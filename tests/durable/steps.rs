//! Steps: each takes effect once and is called with one key, whatever dies when; and its failures are
//! tried again, then the handler's.

use std::{collections::BTreeMap, time::Duration};

use greenroom::{
    Actor,
    testing::{Point, Vendor, World},
};

use crate::flow::{Do, Flow, features, steps};

/// Every call of a name came with one key.
fn one_key_each(vendor: &Vendor) {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, key) in vendor.log() {
        keys.entry(name).or_default().push(key);
    }
    for (name, keys) in keys {
        assert!(keys.iter().all(|key| *key == keys[0]), "{name}: {keys:?}");
    }
}

#[test]
fn each_step_runs_once_and_its_result_is_given_back() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).always_replay().play(async |mut world| {
        let reply = world.ask(Flow::at("a"), steps(&["one", "two", "three"])).await.unwrap().unwrap();
        assert_eq!(reply, 1 + 2 + 3);
        assert_eq!(world.state::<Flow>("a").await.unwrap(), [1, 3, 6]);
        assert_eq!(vendor.log().len(), 3);
        world.no_loss().await;
    });
    one_key_each(&vendor);
}

/// A crash at each boundary that steps pass, at each time it is passed.
#[test]
fn wherever_the_process_dies_each_step_takes_effect_once() {
    for point in [Point::Journal, Point::Journaled, Point::Handled, Point::Committed] {
        for nth in 1..=4 {
            let vendor = Vendor::default();
            World::new(features(&vendor)).play(async |mut world| {
                world.crash_at_nth(point, nth);
                world.tell(Flow::at("a"), steps(&["one", "two", "three"])).await;
                world.settle().await;
                world.advance(Duration::from_secs(5)).await;
                assert_eq!(world.state::<Flow>("a").await.unwrap(), [1, 3, 6], "{point:?} {nth}");
                for name in ["one", "two", "three"] {
                    assert_eq!(vendor.effects(name), 1, "{point:?} {nth}: {name}");
                }
                // Only what was not written may have been called again.
                assert!(vendor.log().len() <= 4, "{point:?} {nth}: {:?}", vendor.log());
                world.no_loss().await;
                world.no_duplicate();
            });
            one_key_each(&vendor);
        }
    }
}

#[test]
fn a_step_that_fails_is_called_again_with_its_key_and_then_fails_its_command() {
    let vendor = Vendor::default();
    vendor.fail("flaky", 2);
    vendor.fail("broken", 9);
    World::new(features(&vendor)).play(async |mut world| {
        let done = world.tell(Flow::at("a"), steps(&["flaky", "broken", "never"])).await.unwrap();
        world.advance(Duration::from_secs(20)).await;
        let view = world.view(done).await;
        let error = view.error.unwrap();
        assert_eq!((error.terminal, error.message.as_str()), (true, "broken: connection reset"));
        assert_eq!((vendor.calls("flaky"), vendor.calls("broken"), vendor.calls("never")), (3, 3, 0));
        assert_eq!(world.state::<Flow>("a").await, None);
        world.no_loss().await;
    });
    one_key_each(&vendor);
}

#[test]
fn tries_of_a_step_are_counted_over_crashes() {
    let vendor = Vendor::default();
    vendor.fail("broken", 9);
    World::new(features(&vendor)).play(async |mut world| {
        world.tell(Flow::at("a"), steps(&["broken"])).await;
        for _ in 0..2 {
            world.settle().await;
            world.crash().await;
        }
        world.advance(Duration::from_secs(20)).await;
        assert_eq!(vendor.calls("broken"), 3);
        world.no_loss().await;
    });
}

#[test]
fn many_steps_run_some_at_a_time_and_once_each() {
    for point in [Point::Journal, Point::Journaled] {
        let vendor = Vendor::default();
        World::new(features(&vendor)).play(async |mut world| {
            world.crash_at_nth(point, 7);
            world.tell(Flow::at("a"), Do::Many(100)).await;
            world.settle().await;
            assert_eq!(world.crashes(), 1);
            assert_eq!(world.state::<Flow>("a").await.unwrap(), [100]);
            assert_eq!(vendor.effects("many"), 100);
            assert!(vendor.calls("many") <= 103, "{}", vendor.calls("many"));
            world.no_loss().await;
        });
    }
}

#[test]
fn what_was_asked_of_chance_and_the_clock_stays_what_it_was() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).always_replay().play(async |mut world| {
        let begun = world.now() as u64;
        world.tell(Flow::at("a"), Do::Values).await;
        world.settle().await;
        world.crash().await;
        world.advance(Duration::from_secs(61)).await;
        let written = world.state::<Flow>("a").await.unwrap();
        assert_eq!((written[0], written[3]), (begun, begun + 60_000));
        world.no_loss().await;
    });
}

#[test]
fn a_loop_goes_on_as_new_commands_and_the_last_one_answers() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        world.crash_at_nth(Point::Committed, 2);
        world.tell(Flow::at("a"), Do::Loop(5)).await;
        world.settle().await;
        assert_eq!(world.state::<Flow>("a").await.unwrap(), [5, 4, 3, 2, 1]);
        assert_eq!(world.ask(Flow::at("b"), Do::Loop(3)).await.unwrap().unwrap(), 99);
        assert_eq!(vendor.effects("round"), 8);
        world.no_loss().await;
    });
}
