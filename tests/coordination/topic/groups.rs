//! Groups that come, are paused, and are not known everywhere.

use greenroom::{
    testing::{Point, Random},
    topic::{Group, Steer, view::GroupStatus},
};

use super::*;

async fn status(world: &mut World, group: &str) -> (GroupStatus, u64) {
    let topic = topic(world).await;
    let group = topic.groups.iter().find(|view| view.group == group).unwrap_or_else(|| panic!("{topic:?}"));
    (group.status, group.lag)
}

async fn small(world: &mut World, count: u64) {
    let keys = (0..20).map(|key| format!("k{key}")).collect();
    world.tell(Shop::at("a"), Sell { keys, count, small: true }).await;
}

#[test]
fn a_new_group_gets_ten_thousand_old_events_while_new_ones_come() {
    let build = Build::new(|| vec![group("billing")]);
    build.world().play(async |mut world| {
        for _ in 0..20 {
            small(&mut world, 500).await;
            world.settle().await;
        }
        build.becomes(|| vec![group("billing"), group("late")]);
        world.restart().await;
        for _ in 0..200 {
            small(&mut world, 2).await;
        }
        world.advance(MOMENT).await;
        assert_eq!(status(&mut world, "late").await, (GroupStatus::Live, 0));
        all_once(&mut world, &["a"], &["billing", "late"], "").await;
        let sold: usize = sold(&mut world, &["a"]).await.values().map(Vec::len).sum();
        assert_eq!((sold, topic(&mut world).await.events), (10_400, 10_400));
        // Each event, two commands of it, what the shop was told; and little for pages and for catching up.
        let accepted = world.audit().await.accepted;
        assert!(accepted < 3 * 10_400 + 220 + 400, "{accepted} messages");
    });
}

#[test]
fn a_new_group_catches_up_whatever_crashes() {
    let mut random = Random::new(11);
    for point in [Point::Read, Point::Handled, Point::Committed, Point::Delivered, Point::Activated] {
        for _ in 0..3 {
            let nth = 1 + random.below(40) as u32;
            let build = Build::new(|| vec![group("billing")]);
            build.world().play(async |mut world| {
                sell(&mut world, "a", &["a1", "a2"], 200).await;
                world.settle().await;
                build.becomes(|| vec![group("billing"), group("late")]);
                world.restart().await;
                world.crash_at_nth(point, nth);
                for _ in 0..10 {
                    sell(&mut world, "a", &["a1", "a2"], 3).await;
                }
                world.advance(MINUTE).await;
                all_once(&mut world, &["a"], &["billing", "late"], &format!("{point:?} {nth}")).await;
            });
        }
    }
}

#[test]
fn a_group_may_begin_with_what_comes() {
    let build = Build::new(|| vec![group("billing")]);
    let late = || {
        Feature::default().subscribe(SALES, Group::new("late").from_now(), |event, to| {
            to.tell(Desk::at(format!("late:{}", event.key)), event.value.n);
        })
    };
    build.world().play(async |mut world| {
        sell(&mut world, "a", &["a1"], 5).await;
        world.settle().await;
        build.becomes(move || vec![group("billing"), late()]);
        world.restart().await;
        world.settle().await;
        sell(&mut world, "a", &["a1"], 2).await;
        world.settle().await;
        assert_eq!(world.state::<Desk>("late:a1").await, Some(vec![6, 7]));
        assert_eq!(world.state::<Desk>("billing:a1").await.unwrap().len(), 7);
    });
}

#[test]
fn a_paused_group_gets_what_it_missed_when_it_goes_on() {
    for skipped in [false, true] {
        Build::new(|| vec![group("billing"), group("mail")]).world().play(async |mut world| {
            sell(&mut world, "a", &["a1"], 3).await;
            world.settle().await;
            let node = world.node().clone();
            node.steer_topic("sales", "mail", Steer::Pause).await.unwrap();
            sell(&mut world, "a", &["a1"], 40).await;
            world.advance(MINUTE).await;
            assert_eq!(world.state::<Desk>("mail:a1").await, Some(vec![1, 2, 3]));
            assert_eq!(status(&mut world, "mail").await, (GroupStatus::Paused, 40));
            assert_eq!(status(&mut world, "billing").await, (GroupStatus::Live, 0));
            let view = topic(&mut world).await;
            let lag = view.groups.iter().map(|group| group.lag_ms).max().unwrap();
            assert!(lag >= 60_000, "{view:?}");
            if skipped {
                node.steer_topic("sales", "mail", Steer::Skip).await.unwrap();
                assert_eq!(status(&mut world, "mail").await, (GroupStatus::Paused, 0));
            }
            // It is still paused after a restart.
            world.restart().await;
            sell(&mut world, "a", &["a1"], 1).await;
            world.settle().await;
            world.node().clone().steer_topic("sales", "mail", Steer::Resume).await.unwrap();
            world.settle().await;
            assert_eq!(status(&mut world, "mail").await, (GroupStatus::Live, 0));
            let expected: Vec<u64> = if skipped { vec![1, 2, 3, 44] } else { (1..=44).collect() };
            assert_eq!(world.state::<Desk>("mail:a1").await, Some(expected), "skipped: {skipped}");
            all_once(&mut world, &["a"], &["billing"], "").await;
            let unknown = world.node().steer_topic("sales", "nobody", Steer::Resume).await.unwrap_err();
            assert!(unknown.has_code("unknown_group"), "{unknown}");
        });
    }
}

#[test]
fn a_group_that_this_build_does_not_know_waits_for_one_that_does() {
    let build = Build::new(|| vec![group("billing"), group("mail")]);
    build.world().play(async |mut world| {
        sell(&mut world, "a", &["a1", "a2"], 6).await;
        world.settle().await;
        build.becomes(|| vec![group("billing")]);
        world.restart().await;
        sell(&mut world, "a", &["a1", "a2"], 30).await;
        world.advance(10 * MINUTE).await;
        assert_eq!(status(&mut world, "mail").await, (GroupStatus::Waiting, 30));
        let view = topic(&mut world).await;
        assert!(view.groups[1].why.as_deref().unwrap().contains("does not know the group"), "{view:?}");
        assert_eq!(status(&mut world, "billing").await, (GroupStatus::Live, 0));
        build.becomes(|| vec![group("billing"), group("mail")]);
        world.restart().await;
        sell(&mut world, "a", &["a1", "a2"], 2).await;
        world.advance(MINUTE).await;
        assert_eq!(status(&mut world, "mail").await, (GroupStatus::Live, 0));
        all_once(&mut world, &["a"], &["billing", "mail"], "").await;
    });
}

#[test]
fn a_group_that_is_forgotten_is_no_more_and_a_new_one_when_it_is_declared_again() {
    let build = Build::new(|| vec![group("billing"), group("mail")]);
    build.world().play(async |mut world| {
        sell(&mut world, "a", &["a1"], 2).await;
        world.settle().await;
        world.node().clone().steer_topic("sales", "mail", Steer::Forget).await.unwrap();
        sell(&mut world, "a", &["a1"], 2).await;
        world.settle().await;
        assert_eq!(topic(&mut world).await.groups.len(), 1);
        assert_eq!(world.state::<Desk>("mail:a1").await, Some(vec![1, 2]));
        world.restart().await;
        world.settle().await;
        assert_eq!(world.state::<Desk>("mail:a1").await, Some(vec![1, 2, 1, 2, 3, 4]));
    });
}

#[test]
fn a_slow_group_holds_up_no_other() {
    let build = Build::new(|| vec![group("failing"), group("billing")]);
    build.world().play(async |mut world| {
        sell(&mut world, "a", &["a1", "a2", "a3"], 90).await;
        // Less time passes than what is tried again waits.
        world.advance(MOMENT).await;
        all_within(&mut world, "billing").await;
        // Neither does one that is behind: it has failed with a command of each key, and goes on.
        build.becomes(|| vec![group("failing"), group("billing"), group("late")]);
        world.restart().await;
        world.advance(MOMENT).await;
        all_within(&mut world, "late").await;
        assert_eq!(status(&mut world, "failing").await, (GroupStatus::Live, 0));
        world.advance(60 * MINUTE).await;
        let mut even = sold(&mut world, &["a"]).await;
        even.values_mut().for_each(|all| all.retain(|n| n % 2 == 0));
        assert_eq!(got(&mut world, "failing", even.keys()).await, even);
        assert_eq!(world.dead().await, 45);
    });
}

async fn all_within(world: &mut World, group: &str) {
    let sold = sold(world, &["a"]).await;
    assert_eq!(got(world, group, sold.keys()).await, sold);
}
