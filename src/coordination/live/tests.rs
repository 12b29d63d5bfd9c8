//! A channel over time: what is left of it, and what is noticed by the clock alone.

use std::time::Duration;

use super::{
    channel::{Channel, Command, State},
    program::{Following, Update},
};
use crate::{Feature, actor::Actor, testing::World};

fn world() -> World {
    World::new(|| vec![Feature::default()])
}

/// What it is told until nothing more comes.
async fn told(world: &mut World, following: &mut Following) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        world.settle().await;
        let next = tokio::time::timeout(Duration::from_millis(100), following.next()).await;
        let Ok(next) = next else { return told };
        told.push(match next.unwrap() {
            Update::Ready { .. } => "ready".to_owned(),
            Update::Gap { .. } => "gap".to_owned(),
            Update::Event { data, .. } => data,
        });
    }
}

async fn push(world: &mut World, value: u64) {
    world.node().push("a", "e", &value).await.unwrap();
    world.settle().await;
}

async fn channel(world: &mut World) -> Option<State> {
    world.settle().await;
    world.state::<Channel>("a").await
}

#[test]
fn a_channel_that_nobody_uses_is_forgotten_and_one_that_begins_anew_is_another() {
    world().play(async |mut world| {
        let mut following = world.node().follow("a", None).unwrap();
        assert_eq!(told(&mut world, &mut following).await, ["ready"]);
        push(&mut world, 1).await;
        push(&mut world, 2).await;
        assert_eq!(told(&mut world, &mut following).await, ["1", "2"]);
        let state = channel(&mut world).await.unwrap();
        assert_eq!((state.head.unwrap().n, state.followers.len()), (2, 1));
        let secret = world.store().secret();
        let id = state.head.unwrap().token("a", &secret);
        drop(following);
        // The node lets go of it, then the ring ages out.
        world.advance(Duration::from_secs(20)).await;
        let state = channel(&mut world).await.unwrap();
        assert_eq!((state.followers.len(), state.ring.iter().count()), (0, 2));
        world.advance(Duration::from_secs(300)).await;
        assert_eq!(channel(&mut world).await, None);
        let mut following = world.node().follow("a", Some(&id)).unwrap();
        assert_eq!(told(&mut world, &mut following).await, ["gap", "ready"], "nobody knows what was pushed meanwhile");
        push(&mut world, 3).await;
        assert_eq!(told(&mut world, &mut following).await, ["3"]);
        assert_ne!(channel(&mut world).await.unwrap().head.unwrap().life, state.head.unwrap().life);
        world.no_loss().await;
    });
}

#[test]
fn a_node_that_died_does_not_keep_a_channel_alive() {
    world().play(async |mut world| {
        let following = world.node().follow("a", None).unwrap();
        push(&mut world, 1).await;
        world.crash().await;
        drop(following);
        assert_eq!(channel(&mut world).await.unwrap().followers.len(), 1);
        push(&mut world, 2).await;
        let left = channel(&mut world).await.unwrap().followers.len();
        world.advance(Duration::from_secs(3600)).await;
        // On a cluster the dead node may be new to the one that runs the channel, and is asked for later.
        assert!(left <= 1);
        assert_eq!(channel(&mut world).await, None);
    });
}

#[test]
fn a_channel_that_could_not_be_told_is_told_again() {
    world().play(async |mut world| {
        let mut following = world.node().follow("a", None).unwrap();
        world.settle().await;
        let me = world.store().me();
        world.tell(Channel::at("a"), Command::Detach { node: me }).await;
        world.settle().await;
        assert_eq!(told(&mut world, &mut following).await, ["ready"]);
        // Nothing is kept of a channel without events and followers: the node asks for it anew.
        assert_eq!(channel(&mut world).await, None);
        for _ in 0..33 {
            world.advance(Duration::from_secs(1)).await;
        }
        assert_eq!(channel(&mut world).await.unwrap().followers.len(), 1);
        push(&mut world, 1).await;
        assert_eq!(told(&mut world, &mut following).await, ["gap", "1"], "another life of it began");
    });
}
