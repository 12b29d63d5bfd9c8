//! G6 failures: retries back off with jitter up to a limit and then dead-letter with the whole
//! cause; terminal errors fail at once; a message that kills the process is counted before it runs
//! and quarantined; one actor's panic, hang or poison never stops another.

use std::time::Duration;

use greenroom::{
    Actor, Feature,
    backend::DeadFilter,
    runtime::view::State,
    testing::{Point, World},
};

use crate::tape::{Tape, Tell, Witness};

#[test]
fn retries_back_off_with_jitter_and_then_dead_letter_with_the_whole_cause() {
    let witness = Witness::default();
    let shared = witness.clone();
    World::new(move || vec![Feature::new(Tape { witness: shared.clone(), clock: None })]).play(async |mut world| {
        let request = world.tell(Tape::at("a"), Tell::Flaky(1, 99)).await.unwrap();
        world.tell(Tape::at("b"), Tell::Flaky(2, 99)).await;
        world.advance(Duration::from_secs(1000)).await;
        let view = world.view(request).await;
        assert_eq!((view.status, view.attempts), (State::DeadLettered, 4));
        let dead =
            world.node().dead(DeadFilter { key: Some("a".into()), ..DeadFilter::default() }, None, 10).await.unwrap();
        let failures = &dead[0].failures;
        assert_eq!(failures.iter().map(|f| f.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(failures.iter().all(|f| f.message == "calling the vendor" && f.causes == ["connection reset"]));
        // Redriven, it is tried anew.
        assert_eq!(world.redrive_all().await, 2);
        world.advance(Duration::from_secs(1000)).await;
        assert_eq!(world.dead().await, 2);
        assert!(world.audit().await.balanced);
    });
    let attempts = witness.attempts.lock().unwrap();
    let times = |number: u64| -> Vec<i64> {
        attempts.iter().filter(|(_, n, ..)| *n == number).map(|(.., at)| *at).take(4).collect()
    };
    let waits = |times: &[i64]| -> Vec<i64> { times.windows(2).map(|two| two[1] - two[0]).collect() };
    let (a, b) = (waits(&times(1)), waits(&times(2)));
    for (wait, full) in a.iter().chain(&b).zip([10_000, 20_000, 40_000].repeat(2)) {
        assert!((full / 2..=full).contains(wait), "waited {wait} ms of at most {full}");
    }
    assert_ne!(a, b, "without jitter");
}

#[test]
fn a_terminal_error_fails_at_once() {
    World::new(|| vec![Feature::new(Tape::default())]).play(async |mut world| {
        let request = world.tell(Tape::at("a"), Tell::Refuse(1)).await.unwrap();
        world.settle().await;
        let view = world.view(request).await;
        assert_eq!((view.status, view.attempts), (State::Failed, 1));
        assert_eq!(view.error.unwrap().code, "refused");
    });
}

#[test]
fn panics_hangs_and_poison_do_not_stop_others() {
    World::new(|| vec![Feature::new(Tape::default())]).options(|o| o.partitions = 1).play(async |mut world| {
        for bad in 0..40 {
            let poison = if bad % 2 == 0 { Tell::Panic(bad) } else { Tell::Hang };
            world.tell(Tape::at(format!("bad{bad}")), poison).await;
        }
        let mut good = Vec::new();
        for n in 0..300 {
            good.extend(world.tell(Tape::at(format!("good{}", n % 7)), Tell::Write(n)).await);
        }
        // No time passes: nothing waits for the bad ones. An answer of one key says nothing of another's.
        world.node().ask(Tape::at("good0"), Tell::Write(1000)).await.unwrap();
        world.settle().await;
        for request in good {
            assert_eq!(world.view(request).await.status, State::Completed);
        }
        world.advance(Duration::from_secs(1000)).await;
        assert_eq!(world.dead().await, 40);
    });
}

#[test]
fn stuck_keys_with_long_queues_do_not_fill_the_memory_others_need() {
    let world = World::new(|| vec![Feature::new(Tape::default())]);
    world.options(|o| o.partitions = 1).settings(|s| s.window_messages = 64).play(async |mut world| {
        for n in 0..200 {
            world.tell(Tape::at(format!("stuck{}", n % 4)), Tell::Hang).await;
        }
        let free = world.tell(Tape::at("free"), Tell::Write(1)).await.unwrap();
        world.advance(Duration::from_secs(2)).await;
        assert_eq!(world.view(free).await.status, State::Completed);
        world.advance(Duration::from_secs(10_000)).await;
        assert_eq!(world.dead().await, 200);
        world.no_loss().await;
    });
}

#[test]
fn a_message_that_kills_the_process_is_counted_before_it_runs_and_quarantined() {
    let witness = Witness::default();
    let shared = witness.clone();
    let features = move || vec![Feature::new(Tape { witness: shared.clone(), clock: None })];
    World::new(features).options(|o| o.partitions = 1).play(async |mut world| {
        // The process dies whenever it has been handled, before its commit; perhaps before it is said to be kept.
        world.crash_whenever(Some(Point::Handled));
        world.tell(Tape::at("poison"), Tell::Write(666)).await;
        world.settle().await;
        let dead = world.node().dead(DeadFilter::default(), None, 10).await.unwrap();
        assert_eq!(dead.len(), 1, "after {} deaths", world.crashes());
        assert_eq!(dead[0].failures.last().unwrap().code, "crash");
        assert!(world.crashes() <= 7, "{} deaths", world.crashes());
        let poison = world.node().id(dead[0].position);
        assert_eq!(world.view(poison).await.status, State::DeadLettered);
        world.crash_whenever(None);
        for n in 0..10 {
            world.tell(Tape::at(format!("other{n}")), Tell::Write(n)).await;
        }
        world.settle().await;
        assert_eq!(world.audit().await.completed, 10);
    });
}

/// Blocks its thread until it is let go, as a call of a blocking library would.
struct Blocker(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl Actor for Blocker {
    const KIND: &'static str = "blocker";
    type State = u64;
    type Command = bool;
    type Reply = u64;

    async fn handle(&self, count: &mut u64, block: bool, _: &greenroom::Context<Self>) -> greenroom::Result<u64> {
        *count += 1;
        if block {
            let _ = self.0.lock().unwrap().recv();
        }
        Ok(*count)
    }
}

#[test]
fn a_handler_that_blocks_its_thread_loses_it_and_others_go_on() {
    use std::sync::{Arc, mpsc};

    use greenroom::{
        backend::embedded::{Embedded, Options},
        clock::Clock,
        runtime::{
            node::{Node, Start},
            settings::Settings,
            view::Found,
        },
    };
    actix::System::new().block_on(async {
        let store = Arc::new(Embedded::in_memory(Options { partitions: 2, ..Options::default() }).unwrap());
        let (let_go, blocked) = mpsc::channel();
        let settings = Settings { arbiters: 1, stall: Duration::from_millis(400), ..Settings::default() };
        let features = vec![Feature::new(Blocker(blocked.into()))];
        let node = Node::start(Start { backend: store, features, settings, clock: Clock::System }).await.unwrap();
        assert_eq!(node.ask(Blocker::at("bad"), false).await.unwrap(), 1);
        let bad = node.tell(Blocker::at("bad"), true).await.unwrap();
        // On the same thread, and behind the blocked command of the same key.
        for key in ["good", "better", "bad"] {
            assert_eq!(node.ask(Blocker::at(key), false).await.unwrap(), if key == "bad" { 2 } else { 1 });
        }
        let Found::Here(view) = node.request(bad).await.unwrap() else { panic!("no such request") };
        assert_eq!((view.status, view.error.unwrap().code.as_str()), (State::DeadLettered, "blocked"));
        let_go.send(()).unwrap();
        assert_eq!(node.ask(Blocker::at("bad"), false).await.unwrap(), 3);
        assert!(node.audit().await.unwrap().balanced);
    });
}
