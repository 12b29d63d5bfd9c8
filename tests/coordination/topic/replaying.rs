//! What is kept can be had again, and what is old goes.

use greenroom::topic::Steer;

use super::*;

#[test]
fn a_group_gets_again_what_came_since_a_time() {
    Build::new(|| vec![group("billing"), group("mail")]).world().play(async |mut world| {
        let mut times = Vec::new();
        for _ in 0..60 {
            times.push(world.now());
            sell(&mut world, "a", &["a1"], 1).await;
            world.advance(MINUTE).await;
        }
        for (since, first) in
            [(times[35], 36), (times[35] + 1, 37), (times[58], 59), (times[59] + 1, 61), (times[0] - 1, 1)]
        {
            let before = world.state::<Desk>("mail:a1").await.unwrap();
            world.node().clone().steer_topic("sales", "mail", Steer::Replay { since: Some(since) }).await.unwrap();
            world.settle().await;
            let again = world.state::<Desk>("mail:a1").await.unwrap().split_off(before.len());
            assert_eq!(again, (first..=60).collect::<Vec<u64>>(), "since {since}");
        }
        let before = world.state::<Desk>("mail:a1").await.unwrap().len();
        world.node().clone().steer_topic("sales", "mail", Steer::Replay { since: None }).await.unwrap();
        sell(&mut world, "a", &["a1"], 1).await;
        world.settle().await;
        let again = world.state::<Desk>("mail:a1").await.unwrap().split_off(before);
        assert_eq!(again, (1..=61).collect::<Vec<u64>>());
        all_once(&mut world, &["a"], &["billing"], "the other group gets nothing twice").await;
    });
}

#[test]
fn what_is_old_goes_unless_somebody_has_not_had_it() {
    let week = 7 * 24 * 60 * MINUTE;
    let build = Build::new(|| vec![group("billing"), group("mail")]);
    build.world().play(async |mut world| {
        sell(&mut world, "a", &["a1", "a2"], 60).await;
        // A page on its way is looked for again a moment later.
        world.advance(MINUTE).await;
        world.node().clone().steer_topic("sales", "mail", Steer::Pause).await.unwrap();
        sell(&mut world, "a", &["a1", "a2"], 60).await;
        world.advance(week / 2).await;
        assert_eq!(topic(&mut world).await.kept, 120);
        world.advance(week / 2 + 2 * MINUTE).await;
        let view = topic(&mut world).await;
        // Page by page: what mail has not had is there, and what is in a page with it.
        assert!(view.kept >= 60 && view.kept <= 80, "{view:?}");
        world.node().clone().steer_topic("sales", "mail", Steer::Resume).await.unwrap();
        world.advance(120 * MINUTE).await;
        let view = topic(&mut world).await;
        assert_eq!((view.kept, view.bytes, view.events), (0, 0, 120), "{view:?}");
        all_once(&mut world, &["a"], &["billing", "mail"], "").await;
        // A new group gets what is left: nothing. What comes it gets.
        build.becomes(|| vec![group("billing"), group("mail"), group("late")]);
        world.restart().await;
        sell(&mut world, "a", &["a1", "a2"], 40).await;
        world.advance(MINUTE).await;
        assert_eq!(topic(&mut world).await.kept, 40);
        let late = got(&mut world, "late", ["a1".to_owned(), "a2".to_owned()].iter()).await;
        assert_eq!(late.values().map(Vec::len).sum::<usize>(), 40, "{late:?}");
        world.advance(week + 120 * MINUTE).await;
        assert_eq!(topic(&mut world).await.kept, 0);
    });
}

#[test]
fn no_more_is_kept_than_is_said() {
    const FEW: Topic<Sale> = Topic::new("few").keep_bytes(64 << 10);
    let features =
        || vec![Feature::new(Desk).subscribe(FEW, "all", |event, to| to.tell(Desk::at("all"), event.value.n))];
    World::new(features).play(async |mut world| {
        for n in 1..=400 {
            world.node().clone().publish(FEW, "k", &sale(n)).await.unwrap();
            if n % 20 == 0 {
                world.advance(Duration::from_secs(2)).await;
                let view = world.node().topic("few").await.unwrap().unwrap();
                assert!(view.bytes <= (64 << 10) + (48 << 10), "{view:?}");
            }
        }
        let view = world.node().topic("few").await.unwrap().unwrap();
        assert_eq!(view.events, 400);
        assert!(view.kept >= 30 && view.kept < 80, "{view:?}");
        assert_eq!(world.state::<Desk>("all").await.unwrap(), (1..=400).collect::<Vec<u64>>());
    });
}
