//! Compensations: last first, once, over crashes; on failure and on cancelling; and what cannot be
//! undone is said.

use std::time::Duration;

use greenroom::{
    Actor,
    runtime::view::State,
    testing::{Point, Vendor, World},
};

use crate::flow::{Desk, Do, Fails, Flow, features};

fn saga(fails: Fails) -> Do {
    Do::Saga(["a", "b", "c"].map(str::to_owned).to_vec(), fails)
}

#[test]
fn a_command_that_fails_is_undone_last_first_wherever_the_process_dies() {
    for point in [Point::Journal, Point::Journaled, Point::Handled, Point::Committed] {
        for nth in 1..=7 {
            let vendor = Vendor::default();
            World::new(features(&vendor)).play(async |mut world| {
                world.crash_at_nth(point, nth);
                // It may die before it says that the message is accepted.
                let failed = world.tell(Flow::at("f"), saga(Fails::Terminal)).await;
                world.advance(Duration::from_secs(10)).await;
                if let Some(failed) = failed {
                    assert_eq!(world.view(failed).await.error.unwrap().code, "declined");
                }
                let undos = ["undo a 1", "undo b 2", "undo c 3"];
                assert!(undos.iter().all(|undo| vendor.effects(undo) == 1), "{point:?} {nth}: {:?}", vendor.log());
                let log = vendor.log();
                let first = |name: &str| log.iter().position(|(known, _)| known == name).unwrap();
                assert!(first("undo c 3") < first("undo b 2") && first("undo b 2") < first("undo a 1"));
                // What compensations told left with the failure.
                assert_eq!(world.state::<Desk>("told").await, Some(vec![3, 2, 1]));
                world.no_loss().await;
                world.no_duplicate();
            });
        }
    }
}

#[test]
fn a_command_that_completes_is_not_undone() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        assert_eq!(world.ask(Flow::at("f"), saga(Fails::Never)).await.unwrap().unwrap(), 1);
        assert_eq!(vendor.log().len(), 3);
    });
}

#[test]
fn cancelling_a_waiting_command_undoes_it() {
    for wait in [0, 3600] {
        let vendor = Vendor::default();
        World::new(features(&vendor)).play(async |mut world| {
            let waits = world.tell(Flow::at("f"), saga(Fails::Waits)).await.unwrap();
            world.advance(Duration::from_secs(wait)).await;
            world.cancel(waits).await;
            world.advance(Duration::from_secs(5)).await;
            assert_eq!(world.view(waits).await.status, State::Cancelled, "after {wait} s");
            assert_eq!(vendor.effects("undo a 1") + vendor.effects("undo b 2") + vendor.effects("undo c 3"), 3);
            world.no_loss().await;
        });
    }
}

#[test]
fn cancelling_cancels_what_was_asked() {
    for wait in [0, 3600] {
        let vendor = Vendor::default();
        World::new(features(&vendor)).play(async |mut world| {
            let through = Do::Through("g".into(), Box::new(saga(Fails::Waits)));
            let asked = world.tell(Flow::at("f"), through).await.unwrap();
            world.advance(Duration::from_secs(wait)).await;
            world.cancel(asked).await;
            world.advance(Duration::from_secs(5)).await;
            assert_eq!(world.view(asked).await.status, State::Cancelled, "after {wait} s");
            assert_eq!(vendor.effects("undo a 1") + vendor.effects("undo b 2") + vendor.effects("undo c 3"), 3);
            // Nothing waits any more.
            world.no_loss().await;
            assert_eq!(world.audit().await.in_flight, 0);
        });
    }
}

#[test]
fn what_cannot_be_undone_is_a_dead_letter_that_says_what_is_still_done() {
    let vendor = Vendor::default();
    vendor.fail("undo b 2", 6);
    World::new(features(&vendor)).play(async |mut world| {
        let failed = world.tell(Flow::at("f"), saga(Fails::Terminal)).await.unwrap();
        world.advance(Duration::from_secs(60)).await;
        let error = world.view(failed).await.error.unwrap();
        assert!(error.message.contains("still done: b, a"), "{error:?}");
        assert_eq!((world.dead().await, vendor.effects("undo c 3"), vendor.effects("undo a 1")), (1, 1, 0));
        // The vendor is back.
        world.redrive_all().await;
        world.advance(Duration::from_secs(60)).await;
        assert_eq!(world.view(failed).await.status, State::Failed);
        assert_eq!((vendor.effects("undo b 2"), vendor.effects("undo a 1"), vendor.calls("undo c 3")), (1, 1, 1));
        assert_eq!((vendor.calls("a"), vendor.calls("c")), (1, 1));
        world.no_loss().await;
    });
}

#[test]
fn an_answer_that_comes_after_cancelling_changes_nothing_wherever_the_process_dies() {
    for nth in 0..=14 {
        let vendor = Vendor::default();
        World::new(features(&vendor)).play(async |mut world| {
            let asked = world.tell(Flow::at("f"), saga(Fails::Through("g".into()))).await.unwrap();
            world.advance(Duration::from_secs(10)).await;
            if nth > 0 {
                world.crash_at_nth(Point::Journaled, nth);
            }
            // What it asked ends while it is being undone: the answer is written, and nobody wants it.
            world.cancel(asked).await;
            world.advance(Duration::from_secs(10)).await;
            assert_eq!(world.view(asked).await.status, State::Cancelled, "{nth}");
            for undo in ["undo a 1", "undo b 2", "undo c 3", "undo there 4"] {
                assert_eq!(vendor.effects(undo), 1, "{undo} {nth}: {:?}", vendor.log());
            }
            world.no_loss().await;
        });
    }
}

#[test]
fn one_that_was_signalled_before_it_began_is_undone_like_any_other() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        world.tell(Flow::at("f"), Do::Sleep(60)).await;
        let waits = world.tell(Flow::at("f"), saga(Fails::Waits)).await.unwrap();
        world.settle().await;
        world.signal(waits, "early", 1).await;
        world.advance(Duration::from_secs(3600)).await;
        assert_eq!(vendor.effects("c"), 1);
        world.cancel(waits).await;
        world.advance(Duration::from_secs(5)).await;
        assert_eq!(world.view(waits).await.status, State::Cancelled);
        for step in ["a", "b", "c"] {
            let undone = vendor.log().iter().filter(|(name, _)| name.starts_with(&format!("undo {step}"))).count();
            assert_eq!(undone, 1, "{step}: {:?}", vendor.log());
        }
        world.no_loss().await;
    });
}

#[test]
fn cancelling_one_that_is_being_undone_does_not_call_back_what_undoes_it() {
    for wait in [0, 3600] {
        let vendor = Vendor::default();
        World::new(features(&vendor)).play(async |mut world| {
            let failed = world.tell(Flow::at("f"), Do::SlowUndo("g".into(), 7200)).await.unwrap();
            world.advance(Duration::from_secs(wait)).await;
            world.cancel(failed).await;
            world.advance(Duration::from_secs(7300)).await;
            assert_eq!(world.view(failed).await.error.unwrap().code, "declined", "after {wait} s");
            assert_eq!((vendor.effects("before"), vendor.effects("after")), (1, 1));
            world.no_loss().await;
        });
    }
}
