//! Changing how many partitions a cluster store has: nothing is lost, doubled or reordered, whatever
//! interrupts it, and what was promised before is kept after.

mod journals;
mod store;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use greenroom::{
    Actor, Context, Feature, Result,
    backend::{
        Backend, DeadFilter, Deferral, Idempotency, Lookup, NotAppended, Sent, StateWrite, Status,
        cluster::{Cluster, Doing, Options, Progress, Resize, Resized},
    },
    clock::Clock,
    request::RequestId,
    runtime::node::{Node, Start},
};

use self::store::{books, fill, handled, kept, key, keyed};
use super::*;

/// Short, as each interrupted resize is waited for once.
const LEASE: Duration = Duration::from_millis(300);
const KEYS: usize = 12;

fn stores(play: impl AsyncFn(Options)) {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        store(which, &play);
    }
}

fn store(which: Which, play: impl AsyncFn(Options)) {
    println!("against {which:?}");
    let options = Options { lease: LEASE, ..which.cluster(&embedded_options()).unwrap() };
    actix::System::new().block_on(play(options));
}

fn embedded_options() -> greenroom::backend::embedded::Options {
    greenroom::backend::embedded::Options { partitions: 4, mailbox_bytes: 1 << 20 }
}

async fn node(options: &Options) -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
    backend.join().await.unwrap();
    backend.beat().await.unwrap();
    backend.declare("tally", true, &[]).await.unwrap();
    backend
}

fn resize(options: &Options, to: u16) -> Result<Resized> {
    Cluster::resize(options.clone(), order(to))
}

fn order(to: u16) -> Resize {
    Resize { batch: 3, ..Resize::new(to, vec![("tally".into(), true)]) }
}

#[test]
fn what_was_promised_is_kept_with_more_and_with_fewer_partitions() {
    stores(async |mut options| {
        let promised = fill(&options).await;
        let before = books(&options).await;
        for to in [16, 4, 6] {
            let planned = Cluster::plan_resize(options.clone(), to).unwrap();
            assert_eq!(books(&options).await, before, "a plan changes nothing");
            let resized = resize(&options, to).unwrap();
            assert_eq!((planned.from, planned.to, &planned.partitions), (options.partitions, to, &resized.partitions));
            let refused = Cluster::open(options.clone()).map(drop).unwrap_err();
            assert!(refused.has_code("other_partitions"), "{refused}");
            options.partitions = to;
            assert_eq!(books(&options).await, before);
            kept(&options, &promised).await;
        }
        handled(&options, &promised).await;
    });
}

/// Ends the run before each step once; the next run gets past it. Of what is done to every partition
/// alike, before some of them.
#[derive(Clone, Default)]
struct Interrupting(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    steps: HashSet<(Doing, u16, usize, usize)>,
    /// Batches that have left an old partition.
    batches: usize,
}

impl Interrupting {
    fn order(&self, to: u16) -> Resize {
        let seen = self.0.clone();
        let step = move |Progress { doing, partition, messages }: Progress| {
            let mut seen = seen.lock().unwrap();
            let batch = match doing {
                Doing::Copying | Doing::Removing => seen.batches,
                Doing::Fencing | Doing::Settling if partition % 5 > 0 => return Ok(()),
                _ => 0,
            };
            if seen.steps.insert((doing, partition, messages, batch)) {
                return Err(greenroom::Error::new("killed"));
            }
            if doing == Doing::Removing {
                seen.batches += 1;
            }
            Ok(())
        };
        Resize { step: Arc::new(step), batch: 12, ..order(to) }
    }
}

fn interrupted(which: Which) {
    store(which, async |mut options| {
        let promised = fill(&options).await;
        let before = books(&options).await;
        for to in [16, 4] {
            let (interrupting, mut runs) = (Interrupting::default(), 0);
            loop {
                runs += 1;
                // Whoever was killed is waited for.
                let options = Options { lease: Duration::from_millis(80), ..options.clone() };
                match Cluster::resize(options.clone(), interrupting.order(to)) {
                    Ok(_) => break,
                    Err(error) => assert_eq!(error.to_string(), "killed"),
                }
                if runs % 16 == 15 {
                    let refused = Cluster::open(options.clone()).map(drop).unwrap_err();
                    assert!(refused.has_code("resizing") && refused.to_string().contains(&format!("resize {to}")));
                }
            }
            println!("to {to}: interrupted {} times", runs - 1);
            options.partitions = to;
            assert_eq!(books(&options).await, before);
            kept(&options, &promised).await;
        }
        handled(&options, &promised).await;
    });
}

#[test]
fn interrupted_at_any_step_it_goes_on() {
    interrupted(Which::Redis);
}

#[test]
fn interrupted_at_any_step_it_goes_on_with_valkey() {
    interrupted(Which::Valkey);
}

#[test]
fn interrupted_at_any_step_it_goes_on_with_a_cluster() {
    interrupted(Which::RedisCluster);
}

#[test]
fn it_waits_for_nobody_and_pushes_nobody_out() {
    stores(async |options| {
        let backend = node(&options).await;
        let living = {
            let (backend, stop) = (backend.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
            let stopped = stop.clone();
            let beats = std::thread::spawn(move || {
                actix::System::new().block_on(async {
                    while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
                        backend.beat().await.unwrap();
                    }
                });
            });
            (beats, stop)
        };
        let refused = resize(&options, 8).unwrap_err();
        assert!(refused.has_code("not_resized") && refused.to_string().contains("node 1"), "{refused}");
        assert_eq!(Cluster::plan_resize(options.clone(), 8).unwrap().members.len(), 1);
        living.1.store(true, std::sync::atomic::Ordering::SeqCst);
        living.0.join().unwrap();
        for (to, says) in [(4, "4 partitions already"), (0, "1 to 4096"), (4097, "1 to 4096")] {
            let refused = resize(&options, to).unwrap_err();
            assert!(refused.has_code("not_resized") && refused.to_string().contains(says), "{refused}");
        }
        // A node that stopped without a word is waited for, and given up; what it sleeps through it is told.
        let lease = take(&backend, 1).await;
        let to = (0..).map(key).find(|to| address(to).partition(4) == 1).unwrap();
        let message = append(&backend, message(&to, "1")).await;
        let read = first(&backend, 1, start(1)).await;
        resize(&options, 8).unwrap();
        let late = backend.append(vec![super::message(&to, "2")]).await.pop().unwrap();
        assert!(matches!(&late, Err(NotAppended::Unavailable(why)) if why.contains("8 partitions now")), "{late:?}");
        let mut writes = commit(&to);
        writes.state = Some(StateWrite { from: 0, doc: saved("late"), fields: Vec::new() });
        writes.done.push(done(&read));
        let late = backend.commit(lease, vec![writes].into()).await;
        assert_eq!(late, [Err(greenroom::backend::Refused::Stale)]);
        assert!(backend.load(vec![address(&to)]).await.unwrap()[0].doc.is_empty());
        assert!(backend.redrive(vec![message], NOW).await.is_err());
        assert!(backend.beat().await.unwrap_err().has_code("node_lost"));
        let error = backend.join().await.unwrap_err();
        assert!(error.has_code("other_partitions") && error.is_terminal(), "{error}");
        // What it may have been running is suspect wherever it is now.
        let options = Options { partitions: 8, ..options };
        let backend = node(&options).await;
        let now = backend.locate(message).await.unwrap();
        let lease = take(&backend, now.partition()).await;
        assert!(!lease.clean && lease.last >= now.number());
    });
}

#[test]
fn a_commit_of_which_only_the_state_was_written_is_finished_before_anything_moves() {
    stores(async |options| {
        let (old, new) = (node(&options).await, node(&options).await);
        old.beat().await.unwrap();
        let to = key(0);
        let partition = address(&to).partition(4);
        let stale = take(&old, partition).await;
        let message = append(&old, message(&to, "1")).await;
        let read = first(&old, partition, start(partition)).await;
        old.open(stale, vec![address(&to)]).await.unwrap();
        let seen = new.beat().await.unwrap().into_iter().find(|member| member.id == old.me()).unwrap();
        assert!(new.give_up(seen).await.unwrap());
        new.beat().await.unwrap();
        let lease = take(&new, partition).await;
        let mut effect = commit(&to);
        let doc = greenroom::backend::document::encode(&vec![1u32], 1000).unwrap();
        effect.state = Some(StateWrite { from: 0, doc, fields: Vec::new() });
        effect.done.push(done(&read));
        let other = (1..).map(key).find(|other| address(other).partition(4) != partition).unwrap();
        effect.outbox.push(Sent { envelope: envelope(&other, "5").into(), due: None });
        // The state lands and nothing else does.
        assert_eq!(old.commit(stale, vec![effect].into()).await, [Err(greenroom::backend::Refused::Stale)]);
        new.release(lease).await.unwrap();
        new.leave().await.unwrap();
        resize(&options, 16).unwrap();
        let options = Options { partitions: 16, ..options };
        let backend = node(&options).await;
        assert!(matches!(backend.lookup(message).await.unwrap(), Lookup::Ended(_)));
        let audit = backend.audit().await.unwrap();
        assert_eq!((audit.accepted, audit.completed, audit.in_flight, audit.balanced), (2, 1, 1, true), "{audit:?}");
        // A message with the very number of that witness is not taken for it.
        let moved = address(&to).partition(16);
        let lease = take(&backend, moved).await;
        while append(&backend, super::message(&to, "2")).await.number() < message.number() {}
        let loaded = backend.open(lease, vec![address(&to)]).await.unwrap().remove(0);
        assert_eq!((loaded.rev, loaded.finished), (1, vec![]));
        let mut writes = commit(&to);
        let doc = greenroom::backend::document::encode(&vec![1u32, 2], 1000).unwrap();
        writes.state = Some(StateWrite { from: 1, doc, fields: Vec::new() });
        writes.done.push(done(&first(&backend, moved, start(moved)).await));
        assert_eq!(backend.commit(lease, vec![writes].into()).await, [Ok(())], "the lease is newer than the document");
    });
}

#[test]
fn before_anything_has_moved_it_can_be_called_off_and_after_that_only_finished() {
    stores(async |options| {
        let promised = fill(&options).await;
        let before = books(&options).await;
        let until = |last: Doing, to| {
            let step = move |Progress { doing, .. }: Progress| match doing == last {
                true => Err(greenroom::Error::new("killed")),
                false => Ok(()),
            };
            Cluster::resize(options.clone(), Resize { step: Arc::new(step), ..order(to) })
        };
        assert_eq!(until(Doing::Departing, 16).unwrap_err().to_string(), "killed");
        assert!(Cluster::open(options.clone()).map(drop).unwrap_err().has_code("resizing"));
        let resized = resize(&options, 4).unwrap();
        assert_eq!((resized.from, resized.to, resized.continued), (4, 4, true));
        assert_eq!(books(&options).await, before);
        // It takes messages as before, in each partition.
        let backend = node(&options).await;
        for n in 0..KEYS {
            let fits = backend.append(vec![keyed(&key(n), "1")]).await.pop().unwrap();
            assert!(matches!(fits, Ok(Appended::Seen(..))), "{fits:?}");
            assert!(take(&backend, address(&key(n)).partition(4)).await.epoch > 0);
        }
        for (partition, owner) in (0u16..).zip(backend.owners().await.unwrap()) {
            if owner.node > 0 {
                backend
                    .release(Lease { partition, epoch: owner.epoch, clean: true, mine: false, last: 0 })
                    .await
                    .unwrap();
            }
        }
        backend.leave().await.unwrap();
        // Once the first message is somewhere else, there is no way but on.
        assert_eq!(until(Doing::Removing, 16).unwrap_err().to_string(), "killed");
        for to in [4, 8] {
            let refused = resize(&options, to).unwrap_err();
            assert!(refused.has_code("not_resized") && refused.to_string().contains("resize 16"), "{refused}");
        }
        resize(&options, 16).unwrap();
        let options = Options { partitions: 16, ..options.clone() };
        assert_eq!(books(&options).await, before);
        kept(&options, &promised).await;
        handled(&options, &promised).await;
    });
}

#[test]
fn an_outbox_that_does_not_empty_is_refused_and_nothing_has_changed() {
    let options = Options { lease: LEASE, ..Which::Redis.cluster(&embedded_options()).unwrap() };
    actix::System::new().block_on(async {
        let promised = fill(&options).await;
        let before = books(&options).await;
        let (outbox, slabs) = ["out:1", "outs"].map(|key| format!("{}:{{0002}}:{key}", options.prefix)).into();
        redis_cli(&options, &["HSET", &outbox, "900", "nowhere"]);
        redis_cli(&options, &["ZADD", &slabs, "1", "1"]);
        let refused = resize(&options, 16).unwrap_err();
        assert!(refused.has_code("not_resized") && refused.to_string().contains("1 in partition 2"), "{refused}");
        assert_eq!(books(&options).await, before);
        // It serves as before.
        let backend = node(&options).await;
        assert!(take(&backend, 2).await.clean);
        let position = append(&backend, message("tally/other", "1")).await;
        backend.leave().await.unwrap();
        redis_cli(&options, &["HDEL", &outbox, "900"]);
        resize(&options, 16).unwrap();
        let options = Options { partitions: 16, ..options };
        kept(&options, &promised).await;
        let backend = node(&options).await;
        assert!(matches!(backend.lookup(position).await.unwrap(), Lookup::Waiting(_)));
    });
}

fn redis_cli(options: &Options, args: &[&str]) {
    let program = format!("{}/redis-cli", std::env::var("GREENROOM_TEST_PARTS").unwrap());
    let done = std::process::Command::new(program).args(["-u", &options.redis]).args(args).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn results_and_redirections_of_partitions_that_are_no_more_expire() {
    stores(async |options| {
        let promised = fill(&options).await;
        resize(&options, 2).unwrap();
        let options = Options { partitions: 2, ..options };
        let backend = node(&options).await;
        for partition in 0..2 {
            take(&backend, partition).await;
        }
        assert_eq!(backend.expire(NOW + 1, NOW).await.unwrap(), promised.ended.len());
        for position in &promised.ended {
            assert!(matches!(backend.lookup(*position).await.unwrap(), Lookup::Expired));
        }
        // What waits is still found; once it has ended and is forgotten, the old id says so.
        let (old, _) = *promised.open.iter().find(|(position, _)| position.partition() >= 2).unwrap();
        let now = backend.locate(old).await.unwrap();
        let Lookup::Waiting(stored) = backend.lookup(old).await.unwrap() else { panic!("lost") };
        assert_ne!(now, old);
        let lease = take(&backend, now.partition()).await;
        let mut ends = Commit::of(stored.envelope.as_ref().unwrap().to.clone(), NOW);
        ends.done.push(done(&stored));
        assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
        assert!(matches!(backend.lookup(old).await.unwrap(), Lookup::Ended(_)));
        backend.expire(NOW + 1, NOW).await.unwrap();
        backend.expire(NOW + 1, NOW).await.unwrap();
        assert_eq!(backend.locate(old).await.unwrap(), old, "the redirection is forgotten");
        assert!(matches!(backend.lookup(old).await.unwrap(), Lookup::Expired));
        assert!(backend.audit().await.unwrap().balanced);
    });
}
