//! Being told how a message ended, withdrawing it, leaving nothing behind, and broadcasts.

use greenroom::{
    Ended,
    ended::End,
    prelude::*,
    runtime::broadcast::Heard,
    testing::{Point, World},
};
use serde::{Deserialize, Serialize};

/// Tells workers what to do and writes down how that ended.
struct Boss;

#[derive(Serialize, Deserialize)]
enum Order {
    Give(u64, Work),
    /// Gives it to a worker that is busy, and takes it back.
    GiveAndWithdraw(u64, Work),
    Withdraw(u64),
    Ended(u64, Ended),
    Read,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
enum Work {
    Do,
    Fail,
    Die,
    /// Waits for a signal.
    Wait,
}

impl Actor for Boss {
    const KIND: &'static str = "boss";
    type State = Vec<(u64, End, String)>;
    type Command = Order;
    type Reply = Vec<(u64, End, String)>;

    async fn handle(&self, seen: &mut Self::State, order: Order, cx: &Context<Self>) -> Result<Self::Reply> {
        match order {
            Order::Give(n, work) => {
                cx.tell(Worker::at("w"), work).then(cx.me(), |ended| Order::Ended(n, ended)).tag(n);
            }
            Order::GiveAndWithdraw(n, work) => {
                cx.tell(Worker::at("w"), work).then(cx.me(), |ended| Order::Ended(n, ended)).tag(n);
                cx.withdraw(Address::new("worker", "w")?, n);
            }
            Order::Withdraw(n) => cx.withdraw(Address::new("worker", "w")?, n),
            Order::Ended(n, ended) => {
                let why = ended.error.map_or_else(String::new, |failure| failure.code);
                let reply = ended.reply.map_or(why, |reply| reply.get().to_owned());
                seen.push((n, ended.status, reply));
            }
            Order::Read => {}
        }
        Ok(seen.clone())
    }
}

/// Notes the signal it waits for.
struct Worker(Seen);

type Seen = std::sync::Arc<std::sync::Mutex<Option<String>>>;

impl Actor for Worker {
    const KIND: &'static str = "worker";
    type State = ();
    type Command = Work;
    type Reply = u64;

    fn retry(&self) -> Retry {
        Retry::times(2)
    }

    async fn handle(&self, _: &mut (), work: Work, cx: &Context<Self>) -> Result<u64> {
        match work {
            Work::Do => Ok(7),
            Work::Fail => Err(Error::terminal("no").code("no")),
            Work::Die => Err(Error::new("never").code("never")),
            Work::Wait => {
                *self.0.lock().unwrap() = Some(cx.signal_id("go"));
                cx.signal::<u64>("go").await
            }
        }
    }
}

fn features() -> Vec<Feature> {
    vec![Feature::new(Boss), Feature::new(Worker(Seen::default()))]
}

#[test]
fn whoever_is_told_is_told_once_with_the_end_whatever_crashes() {
    let points = [None, Some(Point::Handled), Some(Point::Committed), Some(Point::Read), Some(Point::Deferred)];
    for point in points {
        World::new(features).play(async |mut world| {
            for (n, work) in [(1, Work::Do), (2, Work::Fail), (3, Work::Die)] {
                if let Some(point) = point {
                    world.crash_at(point);
                }
                world.tell(Boss::at("b"), Order::Give(n, work)).await;
                world.advance(std::time::Duration::from_secs(600)).await;
            }
            let text = |code: &str| code.to_owned();
            let seen = world.state::<Boss>("b").await.unwrap();
            let told =
                [(1, End::Completed, text("7")), (2, End::Failed, text("no")), (3, End::DeadLettered, text("never"))];
            assert_eq!(seen, told, "crashed at {point:?}");
            world.no_loss().await;
        });
    }
}

#[test]
fn what_is_withdrawn_ends_as_cancelled_wherever_it_was() {
    World::new(features).play(async |mut world| {
        // The first keeps the worker busy, the second waits behind it.
        world.tell(Boss::at("b"), Order::Give(1, Work::Wait)).await;
        world.settle().await;
        world.tell(Boss::at("b"), Order::Give(2, Work::Do)).await;
        world.tell(Boss::at("b"), Order::Withdraw(2)).await;
        world.settle().await;
        let seen = world.state::<Boss>("b").await.unwrap();
        assert_eq!(seen, [(2, End::Cancelled, "cancelled".to_owned())]);
        // One that waits for something is told to end.
        world.tell(Boss::at("b"), Order::Withdraw(1)).await;
        world.settle().await;
        world.tell(Boss::at("b"), Order::GiveAndWithdraw(3, Work::Do)).await;
        world.settle().await;
        let seen = world.state::<Boss>("b").await.unwrap();
        assert_eq!(seen[1], (1, End::Cancelled, "cancelled".to_owned()));
        // It may have been handled before, but then it is told that it was.
        assert_eq!((seen.len(), seen[2].0), (3, 3));
        world.no_loss().await;
    });
}

#[test]
fn a_client_cancels_what_somebody_is_told_of_and_that_one_is_told() {
    let seen: Seen = Seen::default();
    let shared = seen.clone();
    World::new(move || vec![Feature::new(Boss), Feature::new(Worker(shared.clone()))]).play(async |mut world| {
        world.tell(Boss::at("b"), Order::Give(1, Work::Wait)).await;
        world.settle().await;
        let id = seen.lock().unwrap().clone().expect("it waits");
        world.cancel(id.split_once('.').unwrap().0.parse().unwrap()).await;
        world.settle().await;
        let told = world.ask(Boss::at("b"), Order::Read).await.unwrap().unwrap();
        assert_eq!(told, [(1, End::Cancelled, "cancelled".to_owned())]);
        world.no_loss().await;
    });
}

/// Counts, says so to everybody, and at three leaves nothing behind.
struct Brief;

impl Actor for Brief {
    const KIND: &'static str = "brief";
    type State = u64;
    type Command = ();
    type Reply = u64;

    async fn handle(&self, count: &mut u64, (): (), cx: &Context<Self>) -> Result<u64> {
        *count += 1;
        cx.broadcast("counts", &*count);
        if *count == 3 {
            cx.forget();
        }
        Ok(*count)
    }
}

#[test]
fn what_is_forgotten_begins_anew() {
    for point in [None, Some(Point::Handled), Some(Point::Committed)] {
        World::new(|| vec![Feature::new(Brief)]).play(async |mut world| {
            let mut answers = Vec::new();
            for round in 0..8 {
                if let (Some(point), 2 | 3) = (point, round) {
                    world.crash_at(point);
                }
                world.tell(Brief::at("a"), ()).await;
                world.settle().await;
                answers.push(world.state::<Brief>("a").await);
                if round == 5 {
                    world.restart().await;
                }
            }
            let (one, two) = (Some(1), Some(2));
            assert_eq!(answers, [one, two, None, one, two, None, one, two], "crashed at {point:?}");
            world.no_loss().await;
        });
    }
}

#[test]
fn a_group_of_commands_that_ends_in_forgetting_leaves_nothing_and_one_that_goes_on_does() {
    World::new(|| vec![Feature::new(Brief)]).play(async |mut world| {
        for (told, left) in [(3, None), (4, Some(1)), (5, None), (7, Some(1))] {
            for _ in 0..told {
                world.tell(Brief::at("a"), ()).await;
            }
            world.settle().await;
            assert_eq!(world.state::<Brief>("a").await, left, "after {told} more");
        }
    });
}

#[test]
fn a_broadcast_is_heard_after_the_commit_by_who_listens_and_a_slow_one_is_told_what_it_missed() {
    World::new(|| vec![Feature::new(Brief)]).play(async |mut world| {
        let mut heard = world.node().listen::<u64>("counts");
        let mut others = world.node().listen::<u64>("prices");
        world.tell(Brief::at("a"), ()).await;
        world.tell(Brief::at("a"), ()).await;
        world.settle().await;
        assert_eq!(heard.next().await.unwrap(), Heard::Value(1));
        assert_eq!(heard.next().await.unwrap(), Heard::Value(2));
        for n in 0..2000_u64 {
            world.node().broadcast("prices", &n).unwrap();
        }
        assert_eq!(others.next().await.unwrap(), Heard::Missed(976));
        assert_eq!(others.next().await.unwrap(), Heard::Value(976));
        let long = world.node().broadcast("prices", &"x".repeat(70_000)).unwrap_err();
        assert!(long.to_string().contains("too many to broadcast"), "{long}");
    });
}
