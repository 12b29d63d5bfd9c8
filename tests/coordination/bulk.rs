//! Thousands at once: many messages in a commit or a call, and batches whose ends are counted exactly.

use std::time::Duration;

use greenroom::{
    BatchDone, RequestId,
    backend::NotAppended,
    coordination::batch::{Ends, view::Progress},
    ended::End,
    prelude::*,
    testing::{Point, Random, Which, World},
};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// Does what it is told, and counts what it completed.
struct Job;

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
enum Do {
    Succeed,
    Fail,
    Die,
    /// Waits for the signal `go`.
    Wait,
}

impl Actor for Job {
    const KIND: &'static str = "job";
    type State = u64;
    type Command = Do;
    type Reply = ();

    fn retry(&self) -> Retry {
        Retry::times(1)
    }

    async fn handle(&self, done: &mut u64, what: Do, cx: &Context<Self>) -> Result<()> {
        match what {
            Do::Succeed => {}
            Do::Fail => return Err(Error::terminal("x".repeat(300)).code("no")),
            // The first time only: it is mended when it is redriven.
            Do::Die if *done == 0 => return Err(Error::new("not yet")),
            Do::Die => {}
            Do::Wait => cx.signal::<()>("go").await?,
        }
        *done += 1;
        Ok(())
    }
}

/// Makes batches, and writes down what it was told of them.
struct Boss;

#[derive(Serialize, Deserialize, Debug)]
enum Order {
    /// Tells so many jobs, without a batch.
    Tell(u64),
    /// Sends so many texts of so many bytes.
    Shout(u64, usize),
    Batch(Vec<Do>),
    /// Begins one that stays open.
    Open(Vec<Do>),
    More(String, Vec<Do>, bool),
    Cancel(String),
    Done(BatchDone),
    Heard(String),
}

#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
struct Told {
    ids: Vec<String>,
    done: Vec<BatchDone>,
    heard: u64,
}

impl Boss {
    fn add(&self, batch: &greenroom::context::Batch<'_>, first: usize, jobs: Vec<Do>) {
        for (n, what) in (first..).zip(jobs) {
            batch.add(Job::at(format!("{n}")), what);
        }
    }
}

impl Actor for Boss {
    const KIND: &'static str = "boss";
    type State = Told;
    type Command = Order;
    type Reply = ();

    async fn handle(&self, told: &mut Told, order: Order, cx: &Context<Self>) -> Result<()> {
        match order {
            Order::Tell(many) => {
                told.heard = many;
                for n in 0..many {
                    cx.tell(Job::at(format!("{}", n % 100)), Do::Succeed);
                }
            }
            Order::Shout(many, bytes) => {
                told.heard = many;
                for _ in 0..many {
                    cx.tell(Boss::at("ear"), Order::Heard("x".repeat(bytes)));
                }
            }
            Order::Batch(jobs) => {
                let batch = cx.batch("jobs").then(cx.me(), Order::Done);
                self.add(&batch, 0, jobs);
                told.ids.push(batch.id());
            }
            Order::Open(jobs) => {
                let batch = cx.batch("jobs").open().then(cx.me(), Order::Done);
                self.add(&batch, 0, jobs);
                told.ids.push(batch.id());
            }
            Order::More(id, jobs, last) => {
                let batch = cx.add_to_batch(&id);
                let batch = if last { batch.seal() } else { batch };
                self.add(&batch, 1000, jobs);
            }
            Order::Cancel(id) => cx.cancel_batch(&id),
            Order::Done(done) => told.done.push(done),
            Order::Heard(_) => told.heard += 1,
        }
        Ok(())
    }
}

fn world() -> World {
    World::new(|| vec![Feature::new(Boss), Feature::new(Job)])
}

async fn told(world: &mut World) -> Told {
    world.state::<Boss>("b").await.unwrap_or_default()
}

async fn tell(world: &mut World, order: Order) -> Option<RequestId> {
    world.tell(Boss::at("b"), order).await
}

fn is_embedded() -> bool {
    Which::from_env().unwrap() == Which::Embedded
}

#[test]
fn ten_thousand_messages_leave_with_one_commit() {
    world().play(async |mut world| {
        tell(&mut world, Order::Tell(10_000)).await;
        world.settle().await;
        let mut sum = 0;
        for n in 0..100 {
            sum += world.state::<Job>(&n.to_string()).await.unwrap();
        }
        assert_eq!(sum, 10_000);
        world.no_loss().await;
    });
}

#[test]
fn what_one_commit_cannot_hold_is_refused_with_the_reason_and_nothing_is_sent() {
    world().play(async |mut world| {
        let request = tell(&mut world, Order::Shout(20, 1 << 20)).await.unwrap();
        world.settle().await;
        let view = world.view(request).await;
        let heard = world.state::<Boss>("ear").await.unwrap_or_default().heard;
        if is_embedded() {
            return assert_eq!((heard, view.error), (20, None));
        }
        let failure = view.error.unwrap();
        assert_eq!((heard, failure.code.as_str()), (0, "commit_too_large"));
        assert!(failure.message.contains("20 messages sent") && failure.message.contains("cx.again"), "{failure:?}");
    });
}

#[test]
fn many_are_told_in_one_call_each_with_an_answer_of_its_own() {
    world().options(|options| options.mailbox_bytes = 64 << 10).play(async |world| {
        let many = (0..2500_u64).map(|n| (Job::at(format!("{}", n % 7)), Do::Wait));
        let answers = world.node().tell_all(many).await.unwrap();
        let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert!(accepted.len() > 500 && refused.len() > 500, "{} and {}", accepted.len(), refused.len());
        assert!(refused.iter().all(|refused| matches!(refused, Err(NotAppended::Full { .. }))), "{:?}", refused[0]);
        let mut ids: Vec<RequestId> = accepted.into_iter().flatten().collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len() as u64, world.node().ledger().await.unwrap().accepted);
        let bad = world.node().tell_all([(Job::at("a"), Do::Fail), (Job::at(""), Do::Fail)]).await;
        assert!(bad.unwrap_err().is_terminal());
        assert_eq!(ids.len() as u64, world.node().ledger().await.unwrap().accepted, "nothing was sent");
    });
}

/// So many jobs, of which each tenth fails, and each tenth dies.
fn mixed(many: usize) -> (Vec<Do>, Ends) {
    let what = |n: usize| match n % 10 {
        3 => Do::Fail,
        7 => Do::Die,
        _ => Do::Succeed,
    };
    let jobs: Vec<Do> = (0..many).map(what).collect();
    let count = |wanted| jobs.iter().filter(|what| **what == wanted).count() as i64;
    let (completed, failed, dead_lettered) = (count(Do::Succeed), count(Do::Fail), count(Do::Die));
    (jobs, Ends { completed, failed, dead_lettered, cancelled: 0 })
}

#[test]
fn a_batch_is_told_of_once_with_exact_counts() {
    for many in [0, 1, 100, 101, 2500] {
        world().play(async |mut world| {
            let (jobs, ends) = mixed(many);
            tell(&mut world, Order::Batch(jobs)).await;
            world.advance(SECOND).await;
            let told = told(&mut world).await;
            let [done] = told.done.as_slice() else { panic!("{many}: {told:?}") };
            assert_eq!(
                (&done.batch, done.name.as_str(), done.total, done.ends),
                (&told.ids[0], "jobs", many as i64, ends)
            );
            assert_eq!(done.failures.len() as i64, (ends.failed + ends.dead_lettered).min(100));
            if let Some(failed) = done.failures.iter().find(|failed| failed.status == End::Failed) {
                assert_eq!((failed.code.as_str(), failed.message.len()), ("no", 200));
                assert_eq!(world.view(failed.request).await.error.unwrap().code, "no");
            }
            let view = world.node().batch(&done.batch).await.unwrap().unwrap();
            assert_eq!((view.status, view.waiting, view.ends), (Progress::Done, 0, ends));
            world.no_loss().await;
        });
    }
}

#[test]
fn whatever_crashes_a_batch_is_told_of_once_with_exact_counts() {
    let points = Point::ALL.into_iter().filter(|point| *point != Point::Accepted);
    let nths: &[u32] = if is_embedded() { &[1, 2, 5, 40] } else { &[3] };
    for (point, nth) in points.flat_map(|point| nths.iter().map(move |nth| (point, *nth))) {
        world().play(async |mut world| {
            let (jobs, ends) = mixed(120);
            tell(&mut world, Order::Batch(jobs)).await;
            world.crash_at_nth(point, nth);
            world.advance(SECOND).await;
            let told = told(&mut world).await;
            assert_eq!(told.done.iter().map(|done| done.ends).collect::<Vec<_>>(), [ends], "{point:?} {nth}");
            world.no_loss().await;
            world.no_duplicate();
        });
    }
}

#[test]
fn batches_are_counted_exactly_through_any_crashes() {
    let rounds = if is_embedded() { 12 } else { 2 };
    for seed in 1..=rounds {
        println!("seed {seed}");
        world().seed(seed).play(async |mut world| {
            let mut random = Random::new(seed);
            let many = 50 + random.below(400) as usize;
            let (jobs, ends) = mixed(many);
            tell(&mut world, Order::Batch(jobs)).await;
            for _ in 0..10 {
                if let Some(point) = random.pick(&Point::ALL) {
                    world.crash_at_nth(*point, 1 + random.below(150) as u32);
                }
                world.advance(SECOND).await;
            }
            let done = told(&mut world).await.done;
            assert_eq!(done.iter().map(|done| (done.total, done.ends)).collect::<Vec<_>>(), [(many as i64, ends)]);
            world.no_loss().await;
            world.no_duplicate();
        });
    }
}

#[test]
fn a_dead_letter_that_is_redriven_is_counted_anew_and_nobody_is_told_again() {
    world().play(async |mut world| {
        // The second of each key is mended by the first: it dies the first time only.
        tell(&mut world, Order::Batch(vec![Do::Succeed, Do::Die, Do::Die])).await;
        world.settle().await;
        let before = told(&mut world).await;
        assert_eq!(before.done[0].ends, Ends { completed: 1, dead_lettered: 2, ..Ends::default() });
        // Dies again: the same end.
        assert_eq!(world.redrive_all().await, 2);
        world.settle().await;
        let view = world.node().batch(&before.ids[0]).await.unwrap().unwrap();
        assert_eq!((view.ends, view.failures.len()), (before.done[0].ends, 2));
        world.tell(Job::at("1"), Do::Succeed).await;
        world.settle().await;
        assert_eq!(world.redrive_all().await, 2);
        world.settle().await;
        let view = world.node().batch(&before.ids[0]).await.unwrap().unwrap();
        assert_eq!(view.ends, Ends { completed: 2, dead_lettered: 1, ..Ends::default() });
        assert_eq!(view.failures.iter().map(|failed| failed.to.as_str()).collect::<Vec<_>>(), ["job/2"]);
        assert_eq!(told(&mut world).await, before);
        world.no_loss().await;
    });
}

#[test]
fn a_redriven_member_of_a_batch_that_runs_is_counted_under_its_last_end() {
    world().play(async |mut world| {
        tell(&mut world, Order::Batch(vec![Do::Wait, Do::Die])).await;
        world.settle().await;
        let id = told(&mut world).await.ids.remove(0);
        let view = world.node().batch(&id).await.unwrap().unwrap();
        assert_eq!((view.waiting, view.ends.dead_lettered, view.failures.len()), (1, 1, 1));
        world.tell(Job::at("1"), Do::Succeed).await;
        world.settle().await;
        world.redrive_all().await;
        world.settle().await;
        let view = world.node().batch(&id).await.unwrap().unwrap();
        assert_eq!((view.waiting, view.ends.completed, view.ends.dead_lettered, view.failures.len()), (1, 1, 0, 0));
        tell(&mut world, Order::Cancel(id)).await;
        world.settle().await;
        let done = told(&mut world).await.done;
        assert_eq!(done[0].ends, Ends { completed: 1, cancelled: 1, ..Ends::default() });
        assert_eq!((done[0].failures.len(), done[0].failures[0].status), (1, End::Cancelled));
    });
}

#[test]
fn a_cancelled_batch_ends_what_has_not_begun_and_what_waits() {
    world().play(async |mut world| {
        // All but the first wait behind something that waits.
        for n in 0..250 {
            world.tell(Job::at(format!("{n}")), Do::Wait).await;
        }
        let mut jobs = vec![Do::Succeed; 249];
        jobs.push(Do::Wait);
        tell(&mut world, Order::Batch(jobs)).await;
        world.settle().await;
        let id = told(&mut world).await.ids.remove(0);
        let view = world.node().batch(&id).await.unwrap().unwrap();
        assert_eq!((view.status, view.total, view.waiting), (Progress::Running, 250, 250));
        assert!(world.node().cancel_batch(&id).await.unwrap());
        world.settle().await;
        let done = told(&mut world).await.done;
        assert_eq!(done[0].ends, Ends { cancelled: 250, ..Ends::default() });
        assert_eq!(world.node().batch(&id).await.unwrap().unwrap().status, Progress::Done);
        assert!(!world.node().cancel_batch("nothing").await.unwrap());
        assert!(world.audit().await.balanced);
    });
}

#[test]
fn an_open_batch_takes_more_until_it_is_sealed_and_what_comes_after_a_cancel_is_cancelled() {
    world().play(async |mut world| {
        tell(&mut world, Order::Open(vec![Do::Succeed; 3])).await;
        world.settle().await;
        let id = told(&mut world).await.ids.remove(0);
        let view = world.node().batch(&id).await.unwrap().unwrap();
        assert_eq!((view.status, view.total, view.ends.completed), (Progress::Open, 3, 3));
        tell(&mut world, Order::More(id.clone(), vec![Do::Succeed; 150], false)).await;
        world.settle().await;
        assert_eq!(told(&mut world).await.done, []);
        tell(&mut world, Order::More(id.clone(), vec![], true)).await;
        world.settle().await;
        let done = told(&mut world).await.done;
        assert_eq!((done.len(), done[0].total, done[0].ends.completed), (1, 153, 153));
        let mut late = world.node().add_to_batch(&id);
        late.add(Job::at("1"), Do::Succeed);
        assert!(late.send().await.unwrap_err().has_code("batch_sealed"));
        // Another one is cancelled while members are on their way, and one member goes on.
        tell(&mut world, Order::Open(vec![Do::Wait])).await;
        world.settle().await;
        let id = told(&mut world).await.ids.pop().unwrap();
        tell(&mut world, Order::More(id.clone(), vec![Do::Succeed; 2], false)).await;
        tell(&mut world, Order::Cancel(id.clone())).await;
        tell(&mut world, Order::More(id.clone(), vec![Do::Succeed; 2], false)).await;
        world.settle().await;
        let view = world.node().batch(&id).await.unwrap().unwrap();
        assert_eq!((view.status, view.waiting), (Progress::Done, 0));
        assert!(view.total >= 3 && view.ends.all() == view.total, "{view:?}");
    });
}

#[test]
fn a_batch_from_outside_is_waited_for_and_forgotten_after_the_retention() {
    world().play(async |mut world| {
        let (jobs, ends) = mixed(1500);
        let mut batch = world.node().start_batch("outside").then(Boss::at("b"), Order::Done);
        for (n, what) in jobs.into_iter().enumerate() {
            batch.add(Job::at(format!("{n}")), what);
        }
        let id = batch.send().await.unwrap();
        let view = world.node().batch_done(&id).await.unwrap().unwrap();
        assert_eq!((view.name.as_str(), view.total, view.ends), ("outside", 1500, ends));
        world.settle().await;
        assert_eq!(told(&mut world).await.done.len(), 1);
        world.advance(Duration::from_secs(25 * 3600)).await;
        assert_eq!(world.node().batch(&id).await.unwrap(), None);
        assert_eq!(world.node().batch_done(&id).await.unwrap(), None);
        // What is redriven then is of no batch any more, and brings nothing back.
        world.redrive_all().await;
        world.settle().await;
        assert_eq!(world.node().batch(&id).await.unwrap(), None);
        world.no_loss().await;
    });
}
