//! Limits for whoever is no actor: `node.limits()`.

use std::time::Duration;

use greenroom::{Feature, coordination::limit::Limit, testing::World};

fn world(limits: &[(&'static str, Limit)]) -> World {
    let limits = limits.to_vec();
    World::new(move || {
        vec![limits.iter().fold(Feature::default(), |feature, (name, limit)| feature.limit(*name, limit.clone()))]
    })
}

#[test]
fn whoever_takes_waits_for_its_time() {
    world(&[("a", Limit::rate(1, Duration::from_secs(10)))]).play(async |mut world| {
        let limits = world.node().limits().clone();
        assert!(limits.try_take("a", 1).await.unwrap().allowed());
        let refused = limits.try_take("a", 1).await.unwrap();
        assert_eq!((refused.allowed(), refused.wait, refused.remaining), (false, 10_000, 0));
        let begin = world.now();
        let clock = world.node().clock().clone();
        let done = actix::spawn({
            let limits = limits.clone();
            async move {
                limits.take("a", 1).await.unwrap();
                limits.take("a", 1).await.unwrap();
                clock.now()
            }
        });
        world.advance(Duration::from_secs(60)).await;
        assert_eq!(done.await.unwrap() - begin, 20_000);
        let late = limits.take_within("a", 1, Duration::from_secs(1)).await;
        assert!(late.is_ok(), "there is one by now");
        let error = limits.take_within("a", 1, Duration::from_secs(1)).await.unwrap_err();
        assert!(error.has_code("limited") && error.wait() == Some(Duration::from_secs(10)), "{error:?}");
    });
}

#[test]
fn a_permit_is_held_until_it_is_dropped_however_long() {
    world(&[("p", Limit::concurrency(1).lease(Duration::from_secs(5)))]).play(async |mut world| {
        let limits = world.node().limits().clone();
        let permit = limits.enter("p").await.unwrap();
        assert!(limits.try_enter("p/other").await.unwrap().is_some());
        world.advance(Duration::from_secs(60)).await;
        assert!(!permit.is_lost(), "it was renewed all the time");
        assert!(limits.try_enter("p").await.unwrap().is_none());
        let next = actix::spawn({
            let limits = limits.clone();
            async move { limits.enter("p").await.map(drop) }
        });
        world.settle().await;
        assert!(!next.is_finished());
        drop(permit);
        world.advance(Duration::from_secs(1)).await;
        next.await.unwrap().unwrap();
        let within = limits.enter_within("p", Duration::from_secs(1)).await.unwrap();
        assert!(within.is_some());
    });
}

/// The next life of a process that died gets its permits when their leases end, not before.
#[test]
fn a_permit_of_a_process_that_died_is_free_after_its_lease() {
    world(&[("p", Limit::concurrency(1).lease(Duration::from_secs(5)))]).play(async |mut world| {
        let permit = world.node().limits().enter("p").await.unwrap();
        world.crash().await;
        let limits = world.node().limits().clone();
        world.advance(Duration::from_secs(4)).await;
        assert!(limits.try_enter("p").await.unwrap().is_none());
        world.advance(Duration::from_secs(2)).await;
        assert!(limits.try_enter("p").await.unwrap().is_some());
        drop(permit);
    });
}

#[test]
fn what_is_wrong_with_a_limit_is_refused_at_start() {
    let refused = |name: &'static str, limit: Limit| {
        let world = world(&[(name, limit)]);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.play(async |_| {})));
        panic.unwrap_err().downcast_ref::<String>().cloned().unwrap()
    };
    assert!(refused("a/b", Limit::concurrency(1)).contains("cannot be called \"a/b\""));
    assert!(refused("a", Limit::rate(0, Duration::from_secs(1))).contains("the limit \"a\": a rate of 0 tokens"));
}
