//! What is paused, cancelled or over its share.

use super::*;

#[test]
fn what_is_paused_is_accepted_and_waits_over_restarts() {
    let job = Job::gated(&[]);
    job.world().settings(|settings| settings.window_messages = 16).play(async |mut world| {
        let node = world.node().clone();
        let waits = world.tell(Job::at("a.1"), Do::Wait(0)).await.unwrap();
        world.tell(Job::at("a.1"), Do::Write(1)).await;
        world.tell(Job::at("a.2"), Do::Later(9, 60)).await;
        world.tell(Job::at("a.3"), Do::Flaky(1, 1)).await;
        world.settle().await;
        assert!(node.pause("job", Some("a.1")).await.unwrap());
        assert!(!node.pause("job", Some("a.1")).await.unwrap(), "it is paused already");
        world.signal(waits, "go", ()).await;
        world.tell(Job::at("b.1"), Do::Write(1)).await;
        world.settle().await;
        assert_eq!(world.view(waits).await.status, State::Processing, "it goes on when it is resumed");
        assert_eq!(world.state::<Job>("b.1").await, Some(vec![1]));
        assert!(node.pause("job", None).await.unwrap());
        for n in 2..100 {
            world.tell(Job::at("a.1"), Do::Write(n)).await;
            world.tell(Job::at("b.1"), Do::Write(n)).await;
        }
        world.advance(Duration::from_secs(120)).await;
        world.restart().await;
        world.crash().await;
        world.advance(Duration::from_secs(120)).await;
        let handled = job.seen.lock().unwrap().len();
        assert_eq!(handled, 2, "one before, and the one that told itself something for later");
        let node = world.node().clone();
        let paused: Vec<String> = node.paused().await.unwrap().iter().map(|paused| paused.scope.to_string()).collect();
        assert_eq!(paused, ["job", "job/a.1"]);
        assert!(node.resume("job", None).await.unwrap());
        world.advance(Duration::from_secs(1)).await;
        assert_eq!(world.state::<Job>("b.1").await, Some((1..100).collect()));
        assert_eq!(world.state::<Job>("a.2").await, Some(vec![9]));
        assert_eq!(world.state::<Job>("a.3").await, Some(vec![1]));
        assert_eq!(world.state::<Job>("a.1").await, None, "the key is paused by itself");
        assert!(node.resume("job", Some("a.1")).await.unwrap());
        assert!(!node.resume("job", Some("a.1")).await.unwrap(), "it is not paused any longer");
        world.settle().await;
        assert_eq!(world.state::<Job>("a.1").await, Some((0..100).collect()));
        world.no_loss().await;
        world.no_duplicate();
    });
}

/// What runs stays in the mailbox while what waits behind it is put back; its process dies, and the next one
/// finds the mailbox longer than its memory.
#[test]
fn what_was_put_back_does_not_overtake_what_ran_when_the_process_died() {
    let job = Job::gated(&["a", "b"]);
    job.world().settings(|settings| settings.window_messages = 8).play(async |mut world| {
        for n in 0..20 {
            world.tell(Job::at(format!("a.{n}")), Do::Write(n)).await;
        }
        world.tell(Job::at("b.1"), Do::Write(1)).await;
        world.tell(Job::at("b.1"), Do::Write(2)).await;
        world.settle().await;
        world.node().pause("job", None).await.unwrap();
        world.settle().await;
        world.crash().await;
        // The next one has met all of the mailbox.
        world.settle().await;
        job.gated.lock().unwrap().retain(|gated| *gated == "a");
        world.node().resume("job", None).await.unwrap();
        world.settle().await;
        assert_eq!(job.handled("b"), 0, "the first one waits for memory, and the second one for the first");
        job.open();
        world.settle().await;
        assert_eq!(world.state::<Job>("b.1").await, Some(vec![1, 2]));
        world.in_order(Job::at("b.1"));
        world.no_loss().await;
        world.no_duplicate();
    });
}

#[test]
fn what_runs_when_it_is_paused_ends_and_nothing_after_it_begins() {
    let job = Job::gated(&["a"]);
    job.world().play(async |mut world| {
        for n in 0..3 {
            world.tell(Job::at("a.1"), Do::Write(n)).await;
        }
        world.settle().await;
        world.node().pause("job", None).await.unwrap();
        job.open();
        world.settle().await;
        assert_eq!(world.state::<Job>("a.1").await, Some(vec![0]));
        world.node().resume("job", None).await.unwrap();
        world.settle().await;
        assert_eq!(world.state::<Job>("a.1").await, Some(vec![0, 1, 2]));
        world.no_loss().await;
    });
}

#[test]
fn cancelling_all_ends_what_waits_wherever_it_waits_and_counts_it_once() {
    let job = Job::gated(&["a"]);
    job.world().settings(|settings| settings.window_messages = 16).options(|options| options.partitions = 3).play(
        async |mut world| {
            let node = world.node().clone();
            let waits = world.tell(Job::at("b.waits"), Do::Wait(1)).await.unwrap();
            world.tell(Job::at("b.flaky"), Do::Flaky(1, 1)).await;
            world.tell(Job::at("b.later"), Do::Later(7, 60)).await;
            for n in 0..20 {
                world.tell(Job::at("b.flaky"), Do::Write(n)).await;
            }
            world.advance(Duration::from_secs(2)).await;
            flood(&node, "a", 2_000, 300).await;
            world.settle().await;
            let before = node.ledger().await.unwrap();
            let swept = node.cancel_all("job", None).await.unwrap();
            let ledger = node.ledger().await.unwrap();
            // Those in memory at the gate have begun, and the retry has.
            let begun = ledger.in_flight() as usize;
            assert!(swept.cancelled > 1_900 && begun < 60, "{swept:?}, {begun} left");
            assert_eq!((swept.asked, swept.more), (1, false));
            world.settle().await;
            assert_eq!(world.view(waits).await.status, State::Cancelled);
            let cancelled = node.ledger().await.unwrap().cancelled - before.cancelled;
            assert_eq!(cancelled, (swept.cancelled + swept.asked) as u64);
            job.open();
            world.advance(Duration::from_secs(120)).await;
            assert_eq!(world.state::<Job>("b.flaky").await, Some(vec![1]));
            assert_eq!(world.state::<Job>("b.later").await.unwrap_or_default(), [0; 0]);
            assert_eq!(node.cancel_all("job", Some("a.1")).await.unwrap().cancelled, 0);
            let audit = world.audit().await;
            assert!(audit.balanced && audit.in_flight == 0, "{audit:?}");
            world.no_duplicate();
            let unknown = node.cancel_all("jobs", None).await.unwrap_err();
            assert!(unknown.has_code("unknown_kind"), "{unknown}");
        },
    );
}

#[test]
fn a_tenant_that_has_more_than_its_share_of_a_mailbox_is_refused_alone() {
    const BUDGET: u64 = 64 << 10;
    let job = Job::gated(&["a"]);
    job.world().options(|options| options.mailbox_bytes = BUDGET).play(async |mut world| {
        let node = world.node().clone();
        let command = serde_json::value::to_raw_value(&Do::Write(1)).unwrap();
        let tell = async |key: &str| {
            let to = Address::new("job", key).unwrap();
            let accept = Accept {
                to,
                command: command.clone(),
                due: None,
                trace: None,
                idempotency: None,
                fence: None,
                wait: false,
            };
            node.accept(accept).await.map(drop)
        };
        let mut accepted = 0;
        let refused = loop {
            match tell(&format!("a.{accepted}")).await {
                Ok(()) => accepted += 1,
                Err(refused) => break refused,
            }
            // The owner is told of each before the next one.
            world.settle().await;
            assert!(accepted < 5_000, "never refused");
        };
        let NotAppended::Full { bytes, budget } = refused else { panic!("{refused:?}") };
        assert!(budget <= BUDGET / 2 && bytes > budget && bytes < budget + 400, "{bytes} of {budget}");
        assert_eq!(tell("b.1").await, Ok(()));
        assert!(tell("a.1").await.is_err());
        job.open();
        world.settle().await;
        assert_eq!(tell("a.1").await, Ok(()));
        world.settle().await;
        let audit = world.audit().await;
        assert_eq!((audit.accepted, audit.balanced), (accepted + 2, true), "what was refused left no trace");
    });
}
