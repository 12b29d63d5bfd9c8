//! Whatever a build has begun it follows itself, wherever the commands stand; and what it would not is said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    durable::dry::Followed,
    prelude::*,
    runtime::replay::{Tried, Verdict, replay},
    testing::World,
};

/// Does everything at once, in one of two ways.
struct Order {
    new: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Do {
    /// Asks, runs steps and sleeps at the same time, then waits for a signal or a time.
    All,
    /// Reads the state it began with, which others change meanwhile.
    Shared,
    /// Is cancelled, tries to go on, and undoes.
    Undone,
    /// A step that fails until it is given up, then a signal.
    Retries,
    Add,
}

impl Actor for Order {
    const KIND: &'static str = "order";
    type State = Vec<u64>;
    type Command = Do;
    type Reply = u64;

    fn waits(command: &Do) -> Waits {
        if matches!(command, Do::Shared) { Waits::Shared } else { Waits::Alone }
    }

    fn retry(&self) -> Retry {
        Retry::times(2).backoff(Duration::from_secs(1), Duration::from_secs(1))
    }

    async fn handle(&self, state: &mut Vec<u64>, command: Do, cx: &Context<Self>) -> Result<u64> {
        let step = |n: u64| cx.run("step", move |_| async move { Ok(n) });
        match command {
            Do::All => {
                let (at, random) = (cx.now(), cx.random());
                let steps = cx.all(2, (0..5).map(step));
                let asked = cx.ask(Order::at("other"), Do::Add);
                let (steps, asked, slept) = tokio::join!(steps, asked, cx.sleep(Duration::from_secs(3)));
                let sum = steps?.into_iter().sum::<u64>() + asked?;
                slept?;
                if self.new && cx.version("never for these") {
                    cx.run("new", |_| async { Ok(()) }).await?;
                }
                // Whichever comes first, the other one is not waited for any more.
                tokio::select! {
                    biased;
                    came = cx.signal::<u64>("first") => { came?; }
                    slept = cx.sleep(Duration::from_secs(5)) => slept?,
                }
                let _: u64 = cx.signal("second").await?;
                Ok(sum + at as u64 + random)
            }
            Do::Shared => {
                for _ in 0..state.len() {
                    step(1).await?;
                }
                let _: u64 = cx.signal("second").await?;
                Ok(0)
            }
            Do::Undone => {
                cx.undo("it", async |_: &Order, cx: &Context<Order>| {
                    cx.run("undo", |_| async { Ok(()) }).await?;
                    cx.sleep(Duration::from_secs(1_000)).await
                });
                let came: Result<u64> = cx.signal("second").await;
                // Refused at once, without being called.
                let step = cx.run("after", |_| async { Ok(1) }).await;
                came.and(step)
            }
            Do::Retries => {
                let failed: Result<()> =
                    cx.run("fails", |_| async { Err(Error::new("busy")) }).retry(Retry::times(2)).await;
                if self.new {
                    failed?;
                }
                cx.signal("second").await
            }
            Do::Add => {
                state.push(1);
                Ok(1)
            }
        }
    }
}

async fn tried(world: &World, new: bool) -> Vec<Tried> {
    let mut tried = Vec::new();
    let features = [Feature::new(Order { new })];
    let settings = crate::runtime::settings::Settings::default();
    let patience = Duration::from_millis(20);
    replay(world.store(), &features, settings, patience, |one| tried.push(one)).await.unwrap();
    tried
}

const ALL: [Do; 4] = [Do::All, Do::Shared, Do::Undone, Do::Retries];

#[test]
fn a_build_follows_what_it_began_itself_wherever_that_stands() {
    for command in ALL {
        World::new(|| vec![Feature::new(Order { new: false })]).play(async |mut world| {
            world.tell(Order::at("a"), Do::Add).await;
            let id = world.tell(Order::at("a"), command).await.unwrap();
            let mut seen = 0;
            for second in 0..12 {
                world.advance(Duration::from_millis(900)).await;
                if second == 6 {
                    match command {
                        Do::Shared => drop(world.tell(Order::at("a"), Do::Add).await),
                        Do::Undone => world.cancel(id).await,
                        _ => {}
                    }
                    world.settle().await;
                }
                for one in tried(&world, false).await {
                    assert!(one.verdict.is_fine(), "{command:?} after {second}: {one:?}");
                    seen += 1;
                }
            }
            assert!(seen > 8, "{command:?} was in flight: {seen}");
            assert!(!world.view(id).await.status.ended());
        });
    }
}

#[test]
fn a_build_with_a_version_follows_and_one_that_does_less_does_not() {
    World::new(|| vec![Feature::new(Order { new: false })]).play(async |mut world| {
        let all = world.tell(Order::at("a"), Do::All).await.unwrap();
        let retries = world.tell(Order::at("b"), Do::Retries).await.unwrap();
        world.advance(Duration::from_secs(20)).await;
        let tried = tried(&world, true).await;
        let of = |id| tried.iter().find(|one| one.request == id).map(|one| one.verdict.clone()).unwrap();
        assert_eq!(of(all), Verdict::Followed(Followed::Waits(vec![("signal", "second".to_owned())])));
        let Verdict::Followed(Followed::Mismatch(why)) = of(retries) else { panic!("{tried:?}") };
        assert!(why.starts_with("operation 1: the journal has signal \"second\", this build ends before it"), "{why}");
    });
}
