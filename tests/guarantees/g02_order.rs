//! G2 order: one key's commands are handled one at a time, in the order accepted, whatever
//! fails, retries, waits for its time or dies in between.

use std::time::Duration;

use greenroom::{
    Actor, Feature,
    testing::{Point, World},
};

use crate::tape::{Tape, Tell};

#[test]
fn a_key_keeps_its_order_through_failures_and_crashes() {
    for seed in 1..=12 {
        World::new(|| vec![Feature::new(Tape::default())]).seed(seed).play(async |mut world| {
            let mut random = world.random();
            let mut expected = vec![Vec::new(); 5];
            for n in 0..150 {
                let key = random.below(5) as usize;
                let command = match random.below(8) {
                    0 => Tell::Flaky(n, 1 + random.below(3) as u32),
                    1 => Tell::Pass(n, vec!["elsewhere".into()]),
                    _ => Tell::Write(n),
                };
                if random.one_in(10) {
                    world.crash_at_nth(Point::ALL[random.below(8) as usize], 1 + random.below(3) as u32);
                }
                if world.tell(Tape::at(format!("key{key}")), command).await.is_some() {
                    expected[key].push(n);
                }
                if random.one_in(12) {
                    world.advance(Duration::from_secs(random.below(30))).await;
                }
            }
            world.advance(Duration::from_secs(3600)).await;
            world.no_loss().await;
            world.no_duplicate();
            for (key, expected) in expected.iter().enumerate() {
                let key = format!("key{key}");
                world.in_order(Tape::at(key.clone()));
                let tape = world.state::<Tape>(&key).await.unwrap_or_default();
                assert!(tape.is_sorted(), "{key} in order: {tape:?}");
                // A crash between acceptance and answer may add one that nobody was promised.
                assert!(expected.iter().all(|n| tape.contains(n)), "{key}: {tape:?} lacks some of {expected:?}");
            }
        });
    }
}

#[test]
fn commands_behind_a_retry_wait_for_it_and_other_keys_do_not() {
    World::new(|| vec![Feature::new(Tape::default())]).play(async |mut world| {
        world.tell(Tape::at("a"), Tell::Flaky(1, 2)).await;
        for n in 2..200 {
            world.tell(Tape::at("a"), Tell::Write(n)).await;
            world.tell(Tape::at("b"), Tell::Write(n)).await;
        }
        world.settle().await;
        assert_eq!(world.state::<Tape>("a").await, None);
        assert_eq!(world.state::<Tape>("b").await, Some((2..200).collect()));
        world.advance(Duration::from_secs(60)).await;
        assert_eq!(world.state::<Tape>("a").await, Some((1..200).collect()));
        world.no_loss().await;
    });
}

#[test]
fn a_timer_takes_its_turn_and_does_not_overtake_what_runs() {
    World::new(|| vec![Feature::new(Tape::default())]).play(async |mut world| {
        world.tell(Tape::at("a"), Tell::Later(9, 5)).await;
        world.tell(Tape::at("a"), Tell::Write(1)).await;
        world.tell(Tape::at("a"), Tell::Flaky(2, 1)).await;
        world.tell(Tape::at("a"), Tell::Write(3)).await;
        world.advance(Duration::from_secs(60)).await;
        let tape = world.state::<Tape>("a").await.unwrap();
        assert!(tape == [1, 9, 2, 3] || tape == [1, 2, 9, 3] || tape == [1, 2, 3, 9], "{tape:?}");
        world.no_loss().await;
    });
}
