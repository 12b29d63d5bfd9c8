//! G3 one effect: state, sends, timers and result commit together or not at all, and a message
//! that is delivered again changes nothing twice. Every boundary at which the process can die is
//! tried, not sampled.

use std::time::Duration;

use greenroom::{
    Actor, Feature,
    runtime::view::State,
    testing::{Point, World},
};

use crate::tape::{Tape, Tell};

fn world() -> World {
    World::new(|| vec![Feature::new(Tape::default())])
}

#[test]
fn a_death_at_any_boundary_repeats_and_loses_nothing() {
    for point in Point::ALL {
        for nth in 1..=6 {
            world().play(async |mut world| {
                world.crash_at_nth(point, nth);
                let mut promised = Vec::new();
                for n in 1..=6 {
                    let to = vec!["x".into(), "y".into()];
                    let command = if n % 3 == 0 { Tell::Flaky(n, 1) } else { Tell::Pass(n, to) };
                    if world.tell(Tape::at("a"), command).await.is_some() {
                        promised.push(n);
                    }
                    world.settle().await;
                }
                world.tell(Tape::at("a"), Tell::Later(100, 5)).await;
                world.advance(Duration::from_secs(600)).await;
                let tape = world.state::<Tape>("a").await.unwrap();
                let once = |n: &u64, tape: &[u64]| tape.iter().filter(|m| *m == n).count() == 1;
                assert!(promised.iter().all(|n| once(n, &tape)), "{point:?} {nth}: {tape:?}");
                for told in ["x", "y"] {
                    let told = world.state::<Tape>(told).await.unwrap();
                    // Whoever passed it on has remembered it, and the other way round.
                    let passed: Vec<u64> = tape.iter().copied().filter(|n| n % 3 != 0 && *n < 100).collect();
                    assert_eq!(told, passed, "{point:?} {nth}");
                }
                assert_eq!(world.state::<Tape>("leak").await, None, "what failed has sent nothing");
                world.no_loss().await;
                world.no_duplicate();
            });
        }
    }
}

#[test]
fn what_fails_leaves_neither_state_nor_sends() {
    world().play(async |mut world| {
        let refused = world.tell(Tape::at("a"), Tell::Refuse(1)).await.unwrap();
        let panicked = world.tell(Tape::at("b"), Tell::Panic(2)).await.unwrap();
        let hung = world.tell(Tape::at("c"), Tell::Hang).await.unwrap();
        world.tell(Tape::at("a"), Tell::Write(3)).await;
        world.advance(Duration::from_secs(1000)).await;
        assert_eq!(world.state::<Tape>("a").await, Some(vec![3]));
        for silent in ["b", "c", "leak"] {
            assert_eq!(world.state::<Tape>(silent).await, None, "{silent}");
        }
        assert_eq!(world.view(refused).await.status, State::Failed);
        assert_eq!(world.view(panicked).await.status, State::DeadLettered);
        assert_eq!(world.view(hung).await.status, State::DeadLettered);
    });
}

#[test]
fn running_every_handler_twice_changes_nothing() {
    world().always_replay().play(async |mut world| {
        for n in 1..=20 {
            world.tell(Tape::at("a"), Tell::Pass(n, vec!["x".into()])).await;
        }
        world.settle().await;
        assert_eq!(world.state::<Tape>("a").await, Some((1..=20).collect()));
        assert_eq!(world.state::<Tape>("x").await, Some((1..=20).collect()));
        world.no_duplicate();
    });
}

#[test]
fn a_cancelled_message_has_no_effect_and_ends_once() {
    world().play(async |mut world| {
        world.tell(Tape::at("a"), Tell::Flaky(1, 1)).await;
        let waiting = world.tell(Tape::at("a"), Tell::Write(2)).await.unwrap();
        world.settle().await;
        let node = world.node().clone();
        assert!(matches!(node.cancel(waiting).await.unwrap(), greenroom::runtime::node::Cancel::Cancelled));
        assert!(matches!(node.cancel(waiting).await.unwrap(), greenroom::runtime::node::Cancel::Refused(_)));
        world.advance(Duration::from_secs(60)).await;
        assert_eq!(world.state::<Tape>("a").await, Some(vec![1]));
        assert_eq!(world.view(waiting).await.status, State::Cancelled);
        world.no_loss().await;
    });
}
