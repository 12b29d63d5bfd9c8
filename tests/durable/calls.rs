//! Asking other actors: the answer comes once, over crashes of either side; errors come back; cycles are
//! refused.

use std::time::Duration;

use greenroom::{
    Actor,
    testing::{Point, Vendor, World},
};

use crate::flow::{Desk, Do, Flow, features};

#[test]
fn an_answer_comes_back_wherever_the_process_dies() {
    for point in Point::ALL {
        for nth in 1..=3 {
            let vendor = Vendor::default();
            World::new(features(&vendor)).play(async |mut world| {
                world.crash_at_nth(point, nth);
                world.tell(Flow::at("a"), Do::Ask("d".into(), 21)).await;
                world.advance(Duration::from_secs(30)).await;
                // What was never acknowledged may not be there; what was is done once.
                if world.state::<Desk>("d").await.is_some() || point != Point::Accepted {
                    assert_eq!(world.state::<Flow>("a").await, Some(vec![42]), "{point:?} {nth}");
                    assert_eq!(world.state::<Desk>("d").await, Some(vec![21]), "{point:?} {nth}");
                }
                world.no_loss().await;
                world.no_duplicate();
            });
        }
    }
}

#[test]
fn many_ask_one_and_all_are_answered() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        world.crash_at_nth(Point::Committed, 20);
        let mut accepted = Vec::new();
        for number in 0..50 {
            if world.tell(Flow::at(format!("f{number}")), Do::Ask("d".into(), number)).await.is_some() {
                accepted.push(number);
            }
        }
        world.advance(Duration::from_secs(5)).await;
        for number in &accepted {
            assert_eq!(world.state::<Flow>(&format!("f{number}")).await, Some(vec![number * 2]));
        }
        let mut asked = world.state::<Desk>("d").await.unwrap();
        asked.sort_unstable();
        asked.retain(|number| accepted.contains(number));
        assert_eq!(asked, accepted);
        world.no_loss().await;
    });
}

#[test]
fn a_call_waits_as_long_as_it_takes() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        let through = Do::Through("b".into(), Box::new(Do::Sleep(7 * 24 * 3600)));
        let asked = world.tell(Flow::at("a"), through).await.unwrap();
        for _ in 0..7 {
            world.advance(Duration::from_secs(24 * 3600)).await;
            world.crash().await;
        }
        world.advance(Duration::from_secs(5)).await;
        assert_eq!(world.view(asked).await.result.unwrap().get(), "2");
        assert_eq!((vendor.calls("before"), vendor.calls("after")), (1, 1));
        world.no_loss().await;
    });
}

#[test]
fn an_error_of_the_asked_is_an_error_of_the_call() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        let failing = Do::Saga(Vec::new(), crate::flow::Fails::Asking("d".into()));
        let error = world.ask(Flow::at("a"), failing).await.unwrap().unwrap_err();
        assert!(error.has_code("refused") && error.to_string().contains("asking desk/d"), "{error}");
        world.no_loss().await;
    });
}

#[test]
fn those_that_would_wait_for_each_other_are_refused_with_the_path() {
    let vendor = Vendor::default();
    World::new(features(&vendor)).play(async |mut world| {
        let back = |to: &str, inner| Do::Through(to.into(), Box::new(inner));
        let circle = back("b", back("c", back("a", Do::Write(1))));
        let error = world.ask(Flow::at("a"), circle).await.unwrap().unwrap_err();
        assert!(error.has_code("cycle"), "{error}");
        assert!(error.to_string().contains("flow/a → flow/b → flow/c → flow/a"), "{error}");
        let own = world.ask(Flow::at("a"), back("a", Do::Write(1))).await.unwrap().unwrap_err();
        assert!(own.to_string().contains("flow/a → flow/a"), "{own}");
        world.no_loss().await;
    });
}

#[test]
fn a_call_with_a_deadline_goes_on_without_its_answer() {
    for crashes in [false, true] {
        let vendor = Vendor::default();
        World::new(features(&vendor)).play(async |mut world| {
            let asked = world.tell(Flow::at("a"), Do::Hurry("b".into(), 60)).await.unwrap();
            world.advance(Duration::from_secs(59)).await;
            assert!(!world.view(asked).await.status.ended());
            if crashes {
                world.crash().await;
            }
            world.advance(Duration::from_secs(5)).await;
            assert_eq!((world.view(asked).await.result.unwrap().get(), vendor.calls("went on")), ("1", 1));
        });
    }
}
