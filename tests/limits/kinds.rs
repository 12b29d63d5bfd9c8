//! Commands of a limited kind: they begin no faster and no more at once than it says, each key in order,
//! other keys and kinds not held up, and nothing of it counts as an attempt.

use std::time::Duration;

use greenroom::{
    Actor, Feature,
    coordination::limit::{Declarations, Limit, Unavailable},
    testing::{Point, World},
};

use crate::worker::{Diary, Do, Worker};

const SECOND: Duration = Duration::from_secs(1);

/// Another kind on the same partitions, without limits.
struct Free(Diary);

impl Actor for Free {
    const KIND: &'static str = "free";
    type State = ();
    type Command = u64;
    type Reply = ();

    async fn handle(&self, _: &mut (), n: u64, cx: &greenroom::Context<Self>) -> greenroom::Result<()> {
        self.0.note(format!("{} {n}", cx.key()));
        Ok(())
    }
}

fn world(diary: &Diary, free: &Diary, kind: Option<Limit>, key: Option<Limit>) -> World {
    let (diary, free) = (diary.clone(), free.clone());
    let of = |limit: Option<Limit>| limit.map(|limit| ("worker".to_owned(), limit)).into_iter().collect();
    let declared = Declarations { named: Vec::new(), kinds: of(kind), keys: of(key) };
    World::new(move || vec![Feature::new(Worker { diary: diary.clone() }).actor(Free(free.clone()))])
        .settings(|settings| settings.limits = declared)
}

#[test]
fn a_kind_begins_no_faster_than_its_rate_and_others_do_not_wait() {
    let (diary, free) = (Diary::default(), Diary::default());
    // Where the store is slow to answer, it is waited for: this counts exactly.
    let limit = Limit::rate(10, SECOND).burst(1).unavailable(Unavailable::Refuse);
    world(&diary, &free, Some(limit), None).play(async |mut world| {
        let begin = diary.by(&world);
        free.by(&world);
        for n in 0..60 {
            world.tell(Worker::at(format!("k{}", n % 20)), Do::Write(n)).await;
            world.tell(Free::at(format!("k{}", n % 20)), n).await;
        }
        world.settle().await;
        assert_eq!(free.all().len(), 60, "another kind does not wait");
        world.advance(60 * SECOND).await;
        let times = diary.times(begin);
        assert_eq!(times.len(), 60);
        for (from, first) in times.iter().enumerate() {
            let within = times[from..].iter().take_while(|time| **time < first + 1000).count();
            assert!(within <= 12, "{within} in a second from {first}: {times:?}");
        }
        // Those that were sent away come at the pace of the limit, not each when it likes.
        assert!(*times.last().unwrap() < 20_000, "{times:?}");
        for key in 0..20 {
            let state = world.state::<Worker>(&format!("k{key}")).await.unwrap();
            assert_eq!(state, [key, key + 20, key + 40], "each key in its order");
            world.in_order(Worker::at(format!("k{key}")));
        }
        world.no_loss().await;
        world.no_duplicate();
    });
}

#[test]
fn waiting_at_the_gate_is_no_attempt() {
    let (diary, free) = (Diary::default(), Diary::default());
    world(&diary, &free, Some(Limit::rate(1, 10 * SECOND)), None).play(async |mut world| {
        diary.by(&world);
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(world.tell(Worker::at("a"), Do::Write(n)).await.unwrap());
        }
        let flaky = world.tell(Worker::at("a"), Do::Flaky(5)).await.unwrap();
        world.advance(120 * SECOND).await;
        assert_eq!(world.state::<Worker>("a").await.unwrap(), [0, 1, 2, 3, 4, 5]);
        for id in ids {
            assert_eq!(world.view(id).await.attempts, 1);
        }
        assert_eq!(world.view(flaky).await.attempts, 2);
        world.no_loss().await;
    });
}

/// What runs at once over all keys; a command that only waits for a time does not count.
#[test]
fn no_more_of_a_kind_run_at_once_than_it_says() {
    let (diary, free) = (Diary::default(), Diary::default());
    world(&diary, &free, Some(Limit::concurrency(2)), None).play(async |mut world| {
        diary.by(&world);
        for n in 0..10 {
            world.tell(Worker::at(format!("k{n}")), Do::Busy(700)).await;
        }
        world.advance(60 * SECOND).await;
        let (mut now, mut most) = (0, 0);
        for what in diary.told() {
            now += if what.ends_with(" in") { 1 } else { -1 };
            most = most.max(now);
        }
        assert_eq!((diary.all().len(), most), (20, 2), "{:?}", diary.all());
        world.no_loss().await;
    });
}

#[test]
fn a_limit_of_each_key_stops_only_that_key() {
    let (diary, free) = (Diary::default(), Diary::default());
    world(&diary, &free, None, Some(Limit::rate(1, 10 * SECOND))).play(async |mut world| {
        let begin = diary.by(&world);
        for n in 0..3 {
            world.tell(Worker::at("a"), Do::Write(n)).await;
        }
        world.tell(Worker::at("b"), Do::Write(9)).await;
        world.settle().await;
        let mut told = diary.told();
        told.sort();
        assert_eq!(told, ["a 0", "b 9"]);
        world.advance(60 * SECOND).await;
        assert_eq!(world.state::<Worker>("a").await.unwrap(), [0, 1, 2]);
        let times = diary.times(begin);
        assert!((10_000..10_100).contains(&times[2]) && (20_000..20_100).contains(&times[3]), "{times:?}");
    });
}

/// A process that dies at any boundary, under a limit: order, no loss, nothing twice.
#[test]
fn a_limited_kind_keeps_its_guarantees_through_crashes() {
    for seed in 1..=3 {
        let (diary, free) = (Diary::default(), Diary::default());
        let limit = Limit::rate(20, SECOND).burst(3).at_once(3);
        world(&diary, &free, Some(limit), None).seed(seed).play(async |mut world| {
            diary.by(&world);
            let mut random = world.random();
            let mut expected = vec![Vec::new(); 4];
            for n in 0..40 {
                let key = random.below(4) as usize;
                let command = if random.one_in(6) { Do::Flaky(n) } else { Do::Write(n) };
                if random.one_in(8) {
                    let point = Point::ALL[random.below(8) as usize];
                    world.crash_at_nth(point, 1 + random.below(3) as u32);
                }
                if world.tell(Worker::at(format!("k{key}")), command).await.is_some() {
                    expected[key].push(n);
                }
                if random.one_in(10) {
                    world.advance(Duration::from_millis(random.below(2_000))).await;
                }
            }
            world.advance(600 * SECOND).await;
            world.no_loss().await;
            world.no_duplicate();
            for (key, expected) in expected.iter().enumerate() {
                let state = world.state::<Worker>(&format!("k{key}")).await.unwrap_or_default();
                assert!(state.is_sorted(), "k{key}: {state:?}");
                assert!(expected.iter().all(|n| state.contains(n)), "k{key}: {state:?} lacks some of {expected:?}");
            }
        });
    }
}

#[test]
fn a_command_at_the_gate_can_be_cancelled_and_a_drain_does_not_wait_for_it() {
    let (diary, free) = (Diary::default(), Diary::default());
    world(&diary, &free, Some(Limit::rate(1, 2 * SECOND)), None).play(async |mut world| {
        diary.by(&world);
        world.tell(Worker::at("a"), Do::Write(0)).await;
        world.settle().await;
        // One waits in memory, one was sent back.
        let near = world.tell(Worker::at("b"), Do::Write(1)).await.unwrap();
        world.advance(1_500 * SECOND / 1000).await;
        let far = world.tell(Worker::at("c"), Do::Write(2)).await.unwrap();
        world.settle().await;
        world.cancel(far).await;
        world.cancel(near).await;
        world.tell(Worker::at("d"), Do::Write(3)).await;
        world.settle().await;
        world.restart().await;
        world.advance(60 * SECOND).await;
        assert_eq!(diary.told(), ["a 0", "d 3"]);
        world.no_loss().await;
    });
}

#[test]
fn a_limit_of_a_kind_that_nobody_has_is_refused_at_start() {
    let declared = Declarations { kinds: vec![("nobody".into(), Limit::concurrency(1))], ..Declarations::default() };
    let error = std::panic::catch_unwind(|| {
        World::new(|| vec![Feature::new(Free(Diary::default()))])
            .settings(|settings| settings.limits = declared)
            .play(async |_| {});
    });
    let text = error.unwrap_err().downcast_ref::<String>().cloned().unwrap();
    assert!(text.contains("the kind \"nobody\", which no feature has"), "{text}");
}
