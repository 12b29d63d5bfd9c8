//! G7 time: a timer never fires early, fires once, and outlives the process. (Schedules arrive
//! with coordination; a slot will be one timer.)

use std::time::Duration;

use greenroom::{
    Actor, Feature,
    testing::{Point, World},
};

use crate::tape::{Tape, Tell, Witness};

#[test]
fn timers_fire_once_at_their_time_in_their_order() {
    for seed in 1..=5 {
        let witness = Witness::default();
        let shared = witness.clone();
        let features = move || vec![Feature::new(Tape { witness: shared.clone(), clock: None })];
        World::new(features).seed(seed).play(async |mut world| {
            let mut random = world.random();
            let begun = world.now();
            let mut due = Vec::new();
            for n in 1..=60 {
                let seconds = 1 + random.below(86_400 * 30);
                world.tell(Tape::at(format!("k{}", n % 6)), Tell::Later(n, seconds)).await.unwrap();
                due.push((n, begun + seconds as i64 * 1000));
            }
            for _ in 0..30 {
                if random.one_in(3) {
                    world.crash_at(Point::ALL[random.below(8) as usize]);
                }
                world.advance(Duration::from_secs(random.below(86_400 * 2))).await;
            }
            world.advance(Duration::from_secs(86_400 * 31)).await;
            world.no_loss().await;
            world.no_duplicate();
            let attempts = witness.attempts.lock().unwrap().clone();
            for (n, due) in due {
                // The first attempt set the timer, the others are its firing.
                let fired: Vec<i64> =
                    attempts.iter().filter(|(_, m, ..)| *m == n).map(|(.., at)| *at).skip(1).collect();
                assert!(!fired.is_empty() && fired.iter().all(|at| *at >= due), "{n} due {due} fired {fired:?}");
                assert!(fired[0] <= due + 86_400_000 * 31, "{n} fired late");
            }
        });
    }
}

#[test]
fn a_timer_fires_to_the_millisecond_when_nothing_is_in_the_way() {
    let witness = Witness::default();
    let shared = witness.clone();
    World::new(move || vec![Feature::new(Tape { witness: shared.clone(), clock: None })]).play(async |mut world| {
        let begun = world.now();
        world.tell(Tape::at("a"), Tell::Later(1, 86_400 * 30)).await;
        world.tell(Tape::at("a"), Tell::Later(2, 86_400 * 30 + 3)).await;
        world.advance(Duration::from_millis(86_400_000 * 30 - 1)).await;
        assert_eq!(world.state::<Tape>("a").await.unwrap_or_default(), Vec::<u64>::new());
        world.advance(Duration::from_millis(1)).await;
        assert_eq!(world.state::<Tape>("a").await, Some(vec![1]));
        assert_eq!(witness.attempts.lock().unwrap().last().unwrap().3, begun + 86_400_000 * 30);
        // That one has fired is no reason for the next to be early.
        world.advance(Duration::from_millis(2_999)).await;
        assert_eq!(world.state::<Tape>("a").await, Some(vec![1]));
        world.advance(Duration::from_millis(1)).await;
        assert_eq!(world.state::<Tape>("a").await, Some(vec![1, 2]));
    });
}
