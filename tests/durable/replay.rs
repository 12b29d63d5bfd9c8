//! Builds that differ: a handler that does something else than its journal has stops, and says what; one
//! that asks for the version of a change goes the old way to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use greenroom::{
    prelude::*,
    runtime::view::State,
    testing::{Vendor, World},
};

/// An actor of several builds.
struct Shop {
    build: Arc<AtomicU32>,
    vendor: Vendor,
}

impl Actor for Shop {
    const KIND: &'static str = "shop";
    type State = ();
    type Command = ();
    type Reply = ();

    async fn handle(&self, (): &mut (), (): (), cx: &Context<Self>) -> Result<()> {
        let vendor = &self.vendor;
        let step = |name: &'static str| cx.run(name, move |key| async move { vendor.call(name, &key).await });
        let build = self.build.load(Ordering::SeqCst);
        step("reserve").await?;
        if build == 3 && cx.version("check the address") {
            step("check").await?;
        }
        cx.sleep(Duration::from_secs(60)).await?;
        match build {
            // It forgets what follows.
            4 => return Ok(()),
            5 => cx.sleep(Duration::from_secs(1)).await?,
            _ => {}
        }
        step(if build == 2 { "pay" } else { "charge" }).await?;
        cx.sleep(Duration::from_secs(60)).await?;
        step("ship").await?;
        Ok(())
    }
}

fn world(vendor: &Vendor) -> (World, Arc<AtomicU32>) {
    let (build, vendor) = (Arc::new(AtomicU32::new(1)), vendor.clone());
    let shared = build.clone();
    (World::new(move || vec![Feature::new(Shop { build: shared.clone(), vendor: vendor.clone() })]), build)
}

#[test]
fn a_build_that_does_something_else_stops_the_command_and_another_one_finishes_it() {
    for (other, said) in [
        (2, r#"operation 2: the journal has run "charge", this build does run "pay""#),
        (5, r#"operation 2: the journal has run "charge", this build does sleep"#),
        (4, "operation 2: the journal has run \"charge\", this build ends before it"),
    ] {
        let vendor = Vendor::default();
        let (world, build) = world(&vendor);
        world.play(async |mut world| {
            let bought = world.tell(Shop::at("a"), ()).await.unwrap();
            world.advance(Duration::from_secs(90)).await;
            assert_eq!(vendor.effects("charge"), 1);
            build.store(other, Ordering::SeqCst);
            world.advance(Duration::from_secs(60)).await;
            let view = world.view(bought).await;
            let error = view.error.unwrap();
            assert_eq!((view.status, error.code.as_str()), (State::DeadLettered, "journal_mismatch"));
            assert!(error.message.contains(said), "{}", error.message);
            assert_eq!((vendor.effects("pay"), vendor.effects("ship")), (0, 0));
            build.store(1, Ordering::SeqCst);
            world.redrive_all().await;
            world.advance(Duration::from_secs(5)).await;
            assert_eq!(world.view(bought).await.status, State::Completed);
            assert_eq!((vendor.calls("reserve"), vendor.calls("charge"), vendor.calls("ship")), (1, 1, 1));
            world.no_loss().await;
        });
    }
}

#[test]
fn a_change_with_a_version_is_for_commands_that_had_not_come_past_it() {
    let vendor = Vendor::default();
    let (world, build) = world(&vendor);
    world.always_replay().play(async |mut world| {
        let old = world.tell(Shop::at("old"), ()).await.unwrap();
        world.advance(Duration::from_secs(30)).await;
        build.store(3, Ordering::SeqCst);
        let new = world.tell(Shop::at("new"), ()).await.unwrap();
        world.advance(Duration::from_secs(200)).await;
        for bought in [old, new] {
            assert_eq!(world.view(bought).await.status, State::Completed);
        }
        assert_eq!(vendor.effects("check"), 1);
        assert_eq!((vendor.effects("charge"), vendor.effects("ship")), (2, 2));
    });
}

/// Counts before and after it sleeps, in builds that differ in how long.
struct Count {
    sleeps: Arc<AtomicU32>,
}

impl Actor for Count {
    const KIND: &'static str = "count";
    type State = u32;
    type Command = bool;
    type Reply = u32;

    async fn handle(&self, count: &mut u32, sleep: bool, cx: &Context<Self>) -> Result<u32> {
        if sleep {
            *count += 100;
            for _ in 0..self.sleeps.load(Ordering::SeqCst) {
                cx.sleep(Duration::from_secs(60)).await?;
            }
        }
        *count += 1;
        Ok(*count)
    }
}

#[test]
fn what_a_build_did_that_ended_too_early_is_not_seen_by_the_next_command() {
    let sleeps = Arc::new(AtomicU32::new(2));
    let shared = sleeps.clone();
    World::new(move || vec![Feature::new(Count { sleeps: shared.clone() })]).play(async |mut world| {
        world.tell(Count::at("a"), true).await;
        world.advance(Duration::from_secs(90)).await;
        sleeps.store(0, Ordering::SeqCst);
        // Queued behind it, so that both are in one turn.
        world.tell(Count::at("a"), false).await;
        world.advance(Duration::from_secs(60)).await;
        assert_eq!((world.dead().await, world.state::<Count>("a").await), (1, Some(1)));
    });
}
