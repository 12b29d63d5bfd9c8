//! G5 steps: a step whose result was recorded never runs again; between the call and the record it is
//! called again with the same idempotency key. What a handler does outside of steps is one step, and its
//! commit the record. (`tests/durable` has more, `tests/checkout` real processes.)

use std::{collections::HashSet, time::Duration};

use greenroom::{
    prelude::*,
    testing::{Point, Vendor, World},
};

use crate::tape::{Tape, Tell, Witness};

/// Three steps, one after the other.
struct Trip(Vendor);

const STEPS: [&str; 3] = ["flight", "hotel", "car"];

impl Actor for Trip {
    const KIND: &'static str = "trip";
    type State = Vec<u64>;
    type Command = ();
    type Reply = ();

    async fn handle(&self, receipts: &mut Vec<u64>, (): (), cx: &Context<Self>) -> Result<()> {
        for step in STEPS {
            receipts.push(cx.run(step, async |key| self.0.call(step, &key).await).await?);
        }
        Ok(())
    }
}

#[test]
fn a_recorded_step_never_runs_again_and_one_that_is_not_has_the_same_key() {
    for point in [Point::Handled, Point::Committed, Point::Journal, Point::Journaled] {
        for nth in 1..=STEPS.len() as u32 {
            let vendor = Vendor::default();
            let shared = vendor.clone();
            World::new(move || vec![Feature::new(Trip(shared.clone()))]).play(async |mut world| {
                world.crash_at_nth(point, nth);
                world.tell(Trip::at("a"), ()).await;
                world.advance(Duration::from_secs(10)).await;
                assert_eq!(world.state::<Trip>("a").await, Some(vec![1, 2, 3]), "{point:?} {nth}");
                // Only a crash before the write repeats a call, and only that one; the key makes it one effect.
                let repeated = usize::from(point == Point::Journal);
                assert_eq!(vendor.log().len(), STEPS.len() + repeated, "{point:?} {nth}: {:?}", vendor.log());
                assert!(STEPS.iter().all(|step| vendor.effects(step) == 1), "{point:?} {nth}: {:?}", vendor.log());
                let keys: HashSet<String> = vendor.log().into_iter().map(|(_, key)| key).collect();
                assert_eq!(keys.len(), STEPS.len(), "each step has its own");
            });
        }
    }
}

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
