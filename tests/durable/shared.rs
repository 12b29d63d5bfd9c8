//! Commands that let others of their key be handled while they wait.

use std::time::Duration;

use greenroom::{
    prelude::*,
    testing::{Point, World},
};
use serde::{Deserialize, Serialize};

struct Order;

#[derive(Serialize, Deserialize)]
enum Tell {
    /// Waits for approval, and asks itself to write what was said.
    Run,
    /// Lets nobody else be handled until it is signalled.
    Hold,
    /// Changes the state though it is shared.
    Meddle,
    Write(String),
    Read,
}

impl Actor for Order {
    const KIND: &'static str = "order";
    type State = Vec<String>;
    type Command = Tell;
    type Reply = Vec<String>;

    fn waits(command: &Tell) -> Waits {
        match command {
            Tell::Run | Tell::Meddle => Waits::Shared,
            Tell::Hold | Tell::Write(_) | Tell::Read => Waits::Alone,
        }
    }

    async fn handle(&self, said: &mut Vec<String>, command: Tell, cx: &Context<Self>) -> Result<Vec<String>> {
        match command {
            Tell::Run => {
                let before = said.len();
                let approved: String = cx.signal("approval").await?;
                assert_eq!(said.len(), before, "the state it sees does not change");
                cx.ask(cx.me(), Tell::Write(format!("{approved} after {before}"))).await
            }
            Tell::Hold => {
                let held: String = cx.signal("go").await?;
                said.push(held);
                Ok(said.clone())
            }
            Tell::Meddle => {
                said.push("meddled".into());
                cx.sleep(Duration::from_secs(1)).await?;
                Ok(said.clone())
            }
            Tell::Write(text) => {
                said.push(text);
                Ok(said.clone())
            }
            Tell::Read => Ok(said.clone()),
        }
    }
}

#[test]
fn others_are_handled_while_it_waits_and_it_changes_the_state_by_asking() {
    for point in [None, Some(Point::Journal), Some(Point::Journaled), Some(Point::Deferred), Some(Point::Handled)] {
        World::new(|| vec![Feature::new(Order)]).play(async |mut world| {
            world.tell(Order::at("7"), Tell::Write("first".into())).await;
            let run = world.tell(Order::at("7"), Tell::Run).await.unwrap();
            world.advance(Duration::from_secs(10)).await;
            assert_eq!(world.ask(Order::at("7"), Tell::Read).await.unwrap().unwrap(), ["first"]);
            world.tell(Order::at("7"), Tell::Write("meanwhile".into())).await;
            world.settle().await;
            if let Some(point) = point {
                world.crash_at(point);
            }
            world.signal(run, "approval", "yes").await;
            world.advance(Duration::from_secs(10)).await;
            assert_eq!(world.state::<Order>("7").await.unwrap(), ["first", "meanwhile", "yes after 1"], "{point:?}");
            world.no_loss().await;
            world.no_duplicate();
        });
    }
}

#[test]
fn one_that_changes_the_state_itself_is_told_how_to() {
    World::new(|| vec![Feature::new(Order)]).play(async |mut world| {
        let meddled = world.tell(Order::at("7"), Tell::Meddle).await.unwrap();
        world.advance(Duration::from_secs(10)).await;
        assert_eq!(world.view(meddled).await.error.unwrap().code, "shared_state");
        assert_eq!(world.state::<Order>("7").await, None);
    });
}

#[test]
fn one_that_had_to_wait_for_its_turn_runs_once() {
    World::new(|| vec![Feature::new(Order)]).play(async |mut world| {
        let hold = world.tell(Order::at("7"), Tell::Hold).await.unwrap();
        world.advance(Duration::from_secs(10)).await;
        // These are put back into the store, and fetched when the key is free: those that run are there too.
        let mut runs = Vec::new();
        for number in 0..3 {
            runs.push(world.tell(Order::at("7"), Tell::Run).await.unwrap());
            world.tell(Order::at("7"), Tell::Write(format!("{number}"))).await;
        }
        world.signal(hold, "go", "held").await;
        world.settle().await;
        for run in runs {
            world.signal(run, "approval", "yes").await;
        }
        world.advance(Duration::from_secs(10)).await;
        let mut said = world.state::<Order>("7").await.unwrap();
        said.sort();
        assert_eq!(said, ["0", "1", "2", "held", "yes after 1", "yes after 2", "yes after 3"]);
        world.no_loss().await;
        world.no_duplicate();
    });
}
