//! What a walk over several pages may take.

use super::*;
use crate::backend::{Moment, message::Undecodable};

fn due(at: i64) -> Moment {
    Moment { due: at, tie: 0 }
}

fn message(number: u64) -> Stored {
    Stored {
        position: Position::new(0, number),
        envelope: Err(Undecodable { bytes: Vec::new(), reason: "it is a test's".into() }),
        home: Home::Deferred,
        size: 1,
        attempts: 0,
        failures: Vec::new(),
        due: 0,
        parked: false,
    }
}

/// Memory is full when the first of bob's is met, and is not any more when the second one is, a page later.
#[test]
fn what_comes_after_a_message_that_was_passed_over_is_passed_over_too() {
    let [ann, bob] = ["ann", "bob"].map(|tenant| Belongs::of("job", Some(tenant), Priority::Normal));
    let mut lanes = Lanes::new(8, 1 << 20, Position::new(0, 0));
    (0..10).for_each(|number| lanes.hold(&message(number), ann));
    let walk = lanes.walk::<Timed>(None, true);
    assert!(!lanes.admit::<Timed>(walk, bob, due(1)), "nothing is free");
    (0..10).for_each(|number| lanes.release(Position::new(0, number)));
    assert!(!lanes.admit::<Timed>(walk, bob, due(2)), "the one before it waits");
    assert!(lanes.admit::<Timed>(walk, ann, due(2)), "nothing of ann's waits");
    lanes.walked::<Timed>(walk, Some(due(2)));
    let from = lanes.next::<Timed>().map(|(from, _)| from);
    assert_eq!(from, Some(due(1)));
    let walk = lanes.walk::<Timed>(from, false);
    assert!([1, 2].iter().all(|at| lanes.admit::<Timed>(walk, bob, due(*at))));
}
