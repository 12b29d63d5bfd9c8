//! G5 steps: between a call and its record, the call is made again with the same idempotency key.
//! (Recorded steps arrive with durable execution; until then a handler is one step, and its
//! commit is the record.)

use std::{collections::HashSet, time::Duration};

use greenroom::{
    Actor, Feature,
    testing::{Point, World},
};

use crate::tape::{Tape, Tell, Witness};

#[test]
fn every_attempt_of_a_command_gives_the_vendor_the_same_key() {
    let witness = Witness::default();
    let shared = witness.clone();
    let features = move || vec![Feature::new(Tape { witness: shared.clone(), clock: None })];
    World::new(features).play(async |mut world| {
        world.crash_at(Point::Handled);
        for n in 1..=10 {
            world.tell(Tape::at("a"), Tell::Flaky(n, 2)).await;
            world.advance(Duration::from_secs(100)).await;
        }
        assert_eq!(world.crashes(), 1);
    });
    let vendor = witness.vendor.lock().unwrap();
    let mut all = HashSet::new();
    for (call, keys) in vendor.iter() {
        assert!(keys.len() >= 3, "{call} was tried {} times", keys.len());
        assert!(keys.windows(2).all(|two| two[0] == two[1]), "{call}: {keys:?}");
        assert!(all.insert(keys[0].clone()), "two commands share {}", keys[0]);
    }
    assert_eq!(all.len(), 10);
}

#[test]
fn a_committed_command_never_runs_again() {
    let witness = Witness::default();
    let shared = witness.clone();
    let features = move || vec![Feature::new(Tape { witness: shared.clone(), clock: None })];
    World::new(features).play(async |mut world| {
        world.crash_at(Point::Committed);
        world.tell(Tape::at("a"), Tell::Write(1)).await;
        world.settle().await;
        for _ in 0..3 {
            world.crash().await;
            world.advance(Duration::from_secs(10)).await;
        }
        assert_eq!(world.crashes(), 4);
    });
    assert_eq!(witness.attempts.lock().unwrap().len(), 1);
}
