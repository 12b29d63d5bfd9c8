//! Live connections: what is pushed reaches whoever follows, in order, once, whatever crashes; and whoever
//! comes back gets what was missed, or is told that it cannot be had.

use std::time::Duration;

use greenroom::{
    coordination::live::program::{Following, Update},
    prelude::*,
    runtime::node::Accept,
    testing::{Point, World},
};
use serde::{Deserialize, Serialize};

/// Counts, and pushes what it counted to the channel of its own name.
struct Ticker;

#[derive(Serialize, Deserialize, Clone)]
enum Tick {
    On,
    /// Pushes, and then fails.
    Fail,
    /// Pushes something that cannot be pushed.
    Bad(String, usize),
}

impl Actor for Ticker {
    const KIND: &'static str = "ticker";
    type State = u64;
    type Command = Tick;
    type Reply = u64;

    async fn handle(&self, count: &mut u64, tick: Tick, cx: &Context<Self>) -> Result<u64> {
        *count += 1;
        match tick {
            Tick::On => cx.push(cx.key(), "tick", &*count),
            Tick::Fail => {
                cx.push(cx.key(), "tick", &"never");
                return Err(Error::terminal("no"));
            }
            Tick::Bad(event, bytes) => cx.push(cx.key(), &event, &"x".repeat(bytes)),
        }
        Ok(*count)
    }
}

fn world() -> World {
    World::new(|| vec![Feature::new(Ticker)])
}

/// Follows until it is up to date, anew when the process dies meanwhile; what it was told before, and the
/// id of the place.
async fn follow(world: &mut World, channel: &str, after: Option<&str>) -> (Following, Vec<String>, String) {
    let mut following = loop {
        let crashes = world.crashes();
        let following = world.node().follow(channel, after).unwrap();
        world.settle().await;
        if world.crashes() == crashes {
            break following;
        }
    };
    let mut told = Vec::new();
    loop {
        match next(&mut following).await {
            (None, id) => return (following, told, id),
            (Some(text), _) => told.push(text),
        }
    }
}

/// What it is told next, nothing for `Ready`; and the id.
async fn next(following: &mut Following) -> (Option<String>, String) {
    let next = tokio::time::timeout(Duration::from_secs(10), following.next()).await.expect("something in time");
    match next.unwrap() {
        Update::Ready { id } => (None, id),
        Update::Event { id, event, data } => (Some(format!("{event} {data}")), id),
        Update::Gap { id } => (Some("gap".into()), id),
    }
}

async fn tick(world: &mut World, channel: &str, times: u64) {
    for _ in 0..times {
        world.tell(Ticker::at(channel), Tick::On).await;
    }
    world.settle().await;
}

#[test]
fn what_is_pushed_comes_in_order_and_who_comes_back_gets_exactly_what_was_missed() {
    world().play(async |mut world| {
        let (mut following, before, _) = follow(&mut world, "a", None).await;
        assert_eq!(before, Vec::<String>::new());
        tick(&mut world, "a", 3).await;
        world.node().push("a", "said", &serde_json::json!({ "from": "outside" })).await.unwrap();
        world.tell(Ticker::at("a"), Tick::Fail).await;
        world.settle().await;
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(next(&mut following).await);
        }
        let texts: Vec<_> = seen.iter().filter_map(|(text, _)| text.as_deref()).collect();
        assert_eq!(texts, ["tick 1", "tick 2", "tick 3", r#"said {"from":"outside"}"#]);
        drop(following);
        tick(&mut world, "a", 2).await;
        for (index, (_, id)) in seen.iter().enumerate() {
            let (_, missed, _) = follow(&mut world, "a", Some(id)).await;
            let all = ["tick 2", "tick 3", r#"said {"from":"outside"}"#, "tick 4", "tick 5"];
            assert_eq!(missed, all[index..]);
        }
        let foreign = world.node().follow("b", Some(&seen[0].1)).err().unwrap();
        assert!(foreign.has_code("bad_id") && foreign.is_terminal(), "{foreign}");
        world.no_loss().await;
    });
}

#[test]
fn nothing_is_lost_or_doubled_whatever_crashes() {
    for point in [Point::Handled, Point::Committed, Point::Read, Point::Accepted] {
        world().play(async |mut world| {
            let (following, _, mut id) = follow(&mut world, "a", None).await;
            drop(following);
            let mut seen = Vec::new();
            for round in 0..6_u32 {
                // At another of the messages each time: the tick, what it pushes, who follows, the sweep.
                world.crash_at_nth(point, round % 4 + 1);
                tick(&mut world, "a", 2).await;
                let (mut following, missed, ready) = follow(&mut world, "a", Some(&id)).await;
                seen.extend(missed);
                id = ready;
                tick(&mut world, "a", 1).await;
                while let Ok(Update::Event { id: at, event, data }) =
                    tokio::time::timeout(Duration::from_millis(50), following.next())
                        .await
                        .unwrap_or(Err(Error::new("")))
                {
                    seen.push(format!("{event} {data}"));
                    id = at;
                }
            }
            let (_, missed, _) = follow(&mut world, "a", Some(&id)).await;
            seen.extend(missed);
            let count = world.state::<Ticker>("a").await.unwrap();
            // A tick that was refused because the process died before it was accepted never was one.
            let all: Vec<String> = (1..=count).map(|n| format!("tick {n}")).collect();
            assert_eq!(seen, all, "crashed at {point:?}");
            world.no_loss().await;
        });
    }
}

#[test]
fn what_the_channel_keeps_is_bounded_and_what_is_gone_is_said_to_be() {
    let world = world().settings(|settings| settings.live.ring_events = 3);
    world.play(async |mut world| {
        let (following, _, first) = follow(&mut world, "a", None).await;
        drop(following);
        tick(&mut world, "a", 3).await;
        assert_eq!(follow(&mut world, "a", Some(&first)).await.1, ["tick 1", "tick 2", "tick 3"]);
        tick(&mut world, "a", 1).await;
        let (_following, missed, id) = follow(&mut world, "a", Some(&first)).await;
        assert_eq!(missed, ["gap", "tick 2", "tick 3", "tick 4"]);
        // Time takes the rest, and who missed nothing is told of no gap as long as the channel is used.
        world.advance(Duration::from_secs(301)).await;
        assert_eq!(follow(&mut world, "a", Some(&id)).await.1, Vec::<String>::new());
        assert_eq!(follow(&mut world, "a", Some(&first)).await.1, ["gap"]);
    });
}

#[test]
fn what_was_lost_on_the_way_is_found_by_the_clock_alone() {
    world().play(async |mut world| {
        let (mut following, _, _) = follow(&mut world, "a", None).await;
        tick(&mut world, "a", 1).await;
        assert_eq!(next(&mut following).await.0.unwrap(), "tick 1");
        // As if the channel took this node for gone: it is told nothing any more.
        let me = world.node().nodes().await.unwrap()[0].id;
        let command = serde_json::value::to_raw_value(&serde_json::json!({ "detach": { "n": me } })).unwrap();
        let to = Address::new("greenroom_channel", "a").unwrap();
        let accept = Accept { to, command, due: None, trace: None, idempotency: None, fence: None, wait: false };
        world.node().accept(accept).await.ok().unwrap();
        tick(&mut world, "a", 1).await;
        assert!(tokio::time::timeout(Duration::from_millis(100), following.next()).await.is_err());
        for _ in 0..33 {
            world.advance(Duration::from_secs(1)).await;
        }
        assert_eq!(next(&mut following).await.0.unwrap(), "tick 2");
        tick(&mut world, "a", 1).await;
        assert_eq!(next(&mut following).await.0.unwrap(), "tick 3", "and it is told again");
    });
}

#[test]
fn what_cannot_be_pushed_fails_who_pushes_it() {
    world().play(async |mut world| {
        for (event, bytes) in [("", 1), ("a b", 1), ("gap", 1), ("ready", 1), ("big", 17_000), (&*"e".repeat(65), 1)] {
            let answer = world.ask(Ticker::at("a"), Tick::Bad(event.to_owned(), bytes)).await.unwrap();
            assert!(answer.unwrap_err().has_code("bad_event"), "{event:?} {bytes}");
            let outside = world.node().push("a", event, &"x".repeat(bytes)).await.unwrap_err();
            assert!(outside.has_code("bad_event") && outside.is_terminal());
        }
        assert!(world.ask(Ticker::at("a"), Tick::Bad("big".into(), 16_000)).await.unwrap().is_ok());
        assert!(world.node().push("", "e", &1).await.unwrap_err().is_terminal());
    });
}

#[test]
fn one_that_does_not_keep_up_is_ended_and_resumes() {
    let world = world().settings(|settings| {
        settings.live.buffer_events = 4;
        settings.live.per_channel = 2;
    });
    world.play(async |mut world| {
        let (mut slow, _, id) = follow(&mut world, "a", None).await;
        let (mut quick, _, _) = follow(&mut world, "a", None).await;
        assert!(world.node().follow("a", None).err().unwrap().has_code("full"));
        for n in 1..=10 {
            tick(&mut world, "a", 1).await;
            assert_eq!(next(&mut quick).await.0.unwrap(), format!("tick {n}"));
        }
        // What waits for it is not worth sending: the client is behind, and everything is in the ring.
        assert!(slow.next().await.unwrap_err().has_code("slow"));
        drop(slow);
        let all: Vec<String> = (1..=10).map(|n| format!("tick {n}")).collect();
        assert_eq!(follow(&mut world, "a", Some(&id)).await.1, all);
    });
}

#[test]
fn an_operator_sees_and_ends_connections() {
    world().play(async |mut world| {
        let (_a, _, _) = follow(&mut world, "a", None).await;
        let (mut second, _, _) = follow(&mut world, "a", None).await;
        let (_b, _, _) = follow(&mut world, "b", None).await;
        let all = world.node().connections(None).await.unwrap();
        assert_eq!((all.nodes[0].programs, all.nodes[0].channels, all.silent.len()), (3, 2, 0));
        let channels: Vec<_> = all.channels.iter().map(|one| (&*one.channel, one.connections)).collect();
        assert_eq!(channels, [("a", 2), ("b", 1)]);
        let of_a = world.node().connections(Some("a")).await.unwrap().connections;
        assert_eq!(of_a.len(), 2);
        assert_eq!(world.node().disconnect("a", Some(&of_a[1].id)).await.unwrap(), 1);
        assert!(second.next().await.unwrap_err().has_code("disconnected"));
        assert_eq!(world.node().disconnect("c", None).await.unwrap(), 0);
        assert_eq!(world.node().disconnect("a", None).await.unwrap(), 2, "the second is still held");
    });
}
