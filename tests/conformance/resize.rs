//! Changing how many partitions a cluster store has: nothing is lost, doubled or reordered, whatever
//! interrupts it, and what was promised before is kept after.

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

use super::*;

/// Short, as each interrupted resize is waited for once.
const LEASE: Duration = Duration::from_millis(300);
const KEYS: usize = 12;

fn stores(play: impl AsyncFn(Options)) {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        let options = embedded_options();
        let options = Options { lease: LEASE, ..which.cluster(&options).unwrap() };
        let began = std::time::Instant::now();
        actix::System::new().block_on(play(options));
        println!("  in {:?}", began.elapsed());
    }
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

/// Appends its number to its state, and answers how many there are.
struct Tally;

impl Actor for Tally {
    const KIND: &'static str = "tally";
    type State = Vec<u32>;
    type Command = u32;
    type Reply = usize;

    async fn handle(&self, seen: &mut Vec<u32>, number: u32, _: &Context<Self>) -> Result<usize> {
        seen.push(number);
        Ok(seen.len())
    }
}

/// What was promised before.
#[derive(Default)]
struct Promised {
    /// Each key's commands that have not ended, in the order in which they will be handled.
    waiting: BTreeMap<String, Vec<u32>>,
    /// What each key has seen.
    seen: BTreeMap<String, Vec<u32>>,
    /// Old positions, with the number of the command.
    open: Vec<(Position, u32)>,
    ended: Vec<Position>,
    dead: Vec<Position>,
    keyed: Vec<(String, Position)>,
}

fn key(n: usize) -> String {
    format!("tally/k{n}")
}

fn keyed(to: &str, command: &str) -> Append {
    let mut append = message(to, command);
    let (key, answer) = (format!("idem-{to}"), "\"first\"".to_owned());
    append.idempotency = Some(Idempotency { key, fingerprint: 7, answer, expires: NOW + 1_000_000_000_000 });
    append
}

/// A message that waits.
async fn stored(backend: &Arc<dyn Backend>, position: Position) -> Stored {
    match backend.lookup(position).await.unwrap() {
        Lookup::Waiting(stored) => stored,
        other => panic!("{position} does not wait: {other:?}"),
    }
}

/// Of everything there is some, for each key: revisions, ended results, a dead letter, a retry with what is
/// parked behind it, timers, messages in the mailbox, idempotency keys.
async fn fill(options: &Options) -> Promised {
    let backend = node(options).await;
    let mut promised = Promised::default();
    let mut leases = HashMap::new();
    for partition in 0..options.partitions {
        leases.insert(partition, take(&backend, partition).await);
    }
    for n in 0..KEYS {
        let to = key(n);
        let lease = leases[&address(&to).partition(options.partitions)];
        let rev = backend.open(lease, vec![address(&to)]).await.unwrap()[0].rev;
        // Two revisions, by two messages that end; the second also sends to another key.
        for (from, command) in [(rev, 1), (rev + 1, 2)] {
            let position = append(&backend, keyed(&to, &command.to_string()).only(command == 1)).await;
            let message = stored(&backend, position).await;
            let mut ends = commit(&to);
            let state: Vec<u32> = (1..=command).collect();
            let doc = greenroom::backend::document::encode(&state, 10_000).unwrap();
            ends.state = Some(StateWrite { from, doc, fields: Vec::new() });
            ends.done.push(done(&message));
            if command == 2 {
                let sent = key((n + 1) % KEYS);
                ends.outbox.push(Sent { envelope: envelope(&sent, "100").into(), due: None });
            }
            assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
            promised.ended.push(position);
            if command == 1 {
                promised.keyed.push((to.clone(), position));
            }
        }
        promised.seen.insert(to.clone(), vec![1, 2]);
    }
    arrived(&backend, KEYS as u64 * 3).await;
    for n in 0..KEYS {
        let to = key(n);
        let lease = leases[&address(&to).partition(options.partitions)];
        // What was sent by the other key is the first in the mailbox: it is deferred for a retry on every
        // second key, with what is behind it parked.
        let partition = lease.partition;
        let all = backend.read(partition, start(partition), 1000).await.unwrap();
        let is = |stored: &Stored, command| {
            let envelope = stored.envelope.as_ref().unwrap();
            envelope.to == address(&to) && envelope.command.get() == command
        };
        let sent = all.into_iter().find(|stored| is(stored, "100")).unwrap();
        let mut order = vec![100];
        promised.open.push((sent.position, 100));
        let dies = append(&backend, message(&to, "99")).await;
        let mut commits = commit(&to);
        commits.done.push(Done { outcome: Outcome::Dead(vec![]), ..done(&stored(&backend, dies).await) });
        promised.dead.push(dies);
        let behind = append(&backend, message(&to, "101")).await;
        promised.open.push((behind, 101));
        order.push(101);
        if n % 2 == 0 {
            backend.begin(lease, vec![(sent.position, Home::Mailbox)]).await.unwrap();
            commits.deferred.push(Deferral {
                position: sent.position,
                home: Home::Mailbox,
                due: NOW,
                attempts: 1,
                failures: vec![greenroom::Error::new("no").failure(1, NOW)],
            });
            commits.parked.push((behind, Home::Mailbox));
        }
        assert_eq!(backend.commit(lease, vec![commits].into()).await, [Ok(())]);
        for command in 102..105 {
            let position = append(&backend, message(&to, &command.to_string())).await;
            promised.open.push((position, command));
            order.push(command);
        }
        // Far away: it is there after, too.
        append(&backend, Append { due: Some(i64::MAX / 4), ..message(&to, "200") }).await;
        promised.waiting.insert(to, order);
    }
    for lease in leases.into_values() {
        backend.release(lease).await.unwrap();
    }
    backend.leave().await.unwrap();
    promised
}

trait Only {
    fn only(self, keyed: bool) -> Self;
}

impl Only for Append {
    /// With its idempotency key, or without.
    fn only(mut self, keyed: bool) -> Self {
        if !keyed {
            self.idempotency = None;
        }
        self
    }
}

/// What was promised is kept in a store that has other partitions now.
async fn kept(options: &Options, promised: &Promised) {
    let backend: Arc<dyn Backend> = Arc::new(Cluster::inspect(options.clone()).unwrap());
    assert_eq!(backend.partitions(), options.partitions);
    let audit = backend.audit().await.unwrap();
    assert!(audit.balanced, "{audit:?}");
    let mut last: HashMap<Address, Position> = HashMap::new();
    let mut places = HashSet::new();
    for (position, command) in &promised.open {
        let now = backend.locate(*position).await.unwrap();
        let stored = stored(&backend, *position).await;
        let envelope = stored.envelope.unwrap();
        assert_eq!((stored.position, envelope.command.get()), (now, command.to_string().as_str()));
        assert_eq!(now.partition(), envelope.to.partition(options.partitions));
        assert!(places.insert(now), "{now} is two messages");
        if *command == 100 && stored.parked {
            assert_eq!((stored.attempts, stored.failures.len(), stored.due), (1, 1, NOW));
        }
        if let Some(before) = last.insert(envelope.to.clone(), now) {
            assert!(before < now, "{} is out of order", envelope.to);
        }
    }
    for position in &promised.ended {
        let found = backend.lookup(*position).await.unwrap();
        assert!(matches!(&found, Lookup::Ended(ended) if ended.status == Status::Completed), "{position}: {found:?}");
        let id = RequestId::seal(*position, &backend.secret());
        assert_eq!(id.open(&backend.secret()), Some(*position));
    }
    for position in &promised.dead {
        let found = backend.lookup(*position).await.unwrap();
        let Lookup::Dead(dead) = found else { panic!("{position} is not dead: {found:?}") };
        let filter = DeadFilter { position: Some(backend.locate(*position).await.unwrap()), ..DeadFilter::default() };
        assert_eq!(backend.dead(filter, None, 2).await.unwrap().remove(0).position, dead.position);
    }
    assert_eq!(backend.dead(DeadFilter::default(), None, 1000).await.unwrap().len(), promised.dead.len());
    let gone = Position::new(9, 4_000_000);
    assert!(matches!(backend.lookup(gone).await.unwrap(), Lookup::Unknown));
}

/// The books, summed.
async fn books(options: &Options) -> (u64, u64, u64, u64, u64, u64) {
    let backend = Cluster::inspect(options.clone()).unwrap();
    let audit = greenroom::backend::Books::audit(&backend).await.unwrap();
    assert!(audit.balanced, "{audit:?}");
    let ledgers = greenroom::backend::Books::ledgers(&backend).await.unwrap();
    assert_eq!(ledgers.iter().map(|ledger| ledger.accepted).sum::<u64>(), audit.accepted);
    (audit.accepted, audit.completed, audit.failed, audit.dead, audit.cancelled, audit.in_flight)
}

/// A real node handles all of it, once and in order; what was promised by ids and keys still holds.
async fn handled(options: &Options, promised: &Promised) {
    let options = Options { lease: Duration::from_secs(3), ..options.clone() };
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options).unwrap());
    let features = vec![Feature::new(Tally)];
    let settings = greenroom::runtime::settings::Settings { arbiters: 1, ..Default::default() };
    let start = Start { backend: backend.clone(), features, settings, clock: Clock::System };
    let node = Node::start(start).await.unwrap();
    for (to, position) in &promised.keyed {
        let again = backend.append(vec![keyed(to, "1")]).await.pop().unwrap();
        assert_eq!(again, Ok(Appended::Seen(*position, "\"first\"".into())), "{to}");
    }
    for _ in 0..600 {
        let mut waits = 0;
        for (to, order) in &promised.waiting {
            let seen = node.state::<Tally>(address(to).key()).await.unwrap().unwrap_or_default();
            waits += usize::from(seen.len() < promised.seen[to].len() + order.len());
        }
        if waits == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (to, order) in &promised.waiting {
        let seen = node.state::<Tally>(address(to).key()).await.unwrap().unwrap_or_default();
        let all: Vec<u32> = promised.seen[to].iter().chain(order).copied().collect();
        assert_eq!(seen, all, "{to}");
    }
    for (position, _) in &promised.open {
        let id = node.id(*position);
        let found = node.request(id).await.unwrap();
        assert!(matches!(&found, greenroom::runtime::view::Found::Here(view) if view.status.ended()), "{found:?}");
    }
    // By their old ids, one is redriven, and handled as the last of its key, another one is given up.
    let now = node.position(node.id(promised.dead[0])).await.unwrap().unwrap();
    assert_eq!(node.redrive(vec![now]).await.unwrap(), 1);
    let now = node.position(node.id(promised.dead[1])).await.unwrap().unwrap();
    assert_eq!(node.discard(vec![now]).await.unwrap(), 1);
    for _ in 0..200 {
        if node.state::<Tally>(address(&key(0)).key()).await.unwrap().unwrap().ends_with(&[99]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(node.state::<Tally>(address(&key(0)).key()).await.unwrap().unwrap().ends_with(&[99]));
    let audit = node.audit().await.unwrap();
    assert!(audit.balanced, "{audit:?}");
    assert_eq!((audit.in_flight, audit.dead), (KEYS as u64, KEYS as u64 - 2), "{audit:?}");
    node.drain(Duration::from_secs(5)).await;
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

#[test]
fn interrupted_at_any_step_it_goes_on() {
    stores(async |mut options| {
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
                        tokio::time::sleep(Duration::from_millis(20)).await;
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
fn an_outbox_that_does_not_empty_is_refused_and_nothing_has_changed() {
    let options = Options { lease: LEASE, ..Which::Redis.cluster(&embedded_options()).unwrap() };
    actix::System::new().block_on(async {
        let promised = fill(&options).await;
        let before = books(&options).await;
        let outbox = format!("{}:{{0002}}:outbox", options.prefix);
        redis_cli(&options, &["XADD", &outbox, "900-0", "q", "nowhere"]);
        let refused = resize(&options, 16).unwrap_err();
        assert!(refused.has_code("not_resized") && refused.to_string().contains("1 in partition 2"), "{refused}");
        assert_eq!(books(&options).await, before);
        // It serves as before.
        let backend = node(&options).await;
        assert!(take(&backend, 2).await.clean);
        let position = append(&backend, message("tally/other", "1")).await;
        backend.leave().await.unwrap();
        redis_cli(&options, &["XDEL", &outbox, "900-0"]);
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
