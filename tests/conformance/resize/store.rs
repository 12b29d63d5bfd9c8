//! A store with some of everything in it, and whether all of it is there after a resize.

use greenroom::runtime::view::Found;

use super::*;

/// Appends its number to its state, and answers how many there are.
pub(super) struct Tally;

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
pub(super) struct Promised {
    /// Each key's commands that have not ended, in the order in which they will be handled.
    pub(super) waiting: BTreeMap<String, Vec<u32>>,
    /// What each key has seen.
    pub(super) seen: BTreeMap<String, Vec<u32>>,
    /// Old positions, with the number of the command.
    pub(super) open: Vec<(Position, u32)>,
    pub(super) ended: Vec<Position>,
    pub(super) dead: Vec<Position>,
    pub(super) keyed: Vec<(String, Position)>,
}

pub(super) fn key(n: usize) -> String {
    format!("tally/k{n}")
}

pub(super) fn keyed(to: &str, command: &str) -> Append {
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
pub(super) async fn fill(options: &Options) -> Promised {
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
        let is = |stored: &Stored, command| {
            let envelope = stored.envelope.as_ref().unwrap();
            envelope.to == address(&to) && envelope.command.get() == command
        };
        // It is counted a moment before the node that appended it hears so.
        let sent = loop {
            let all = backend.read(partition, start(partition), 1000).await.unwrap();
            match all.into_iter().find(|stored| is(stored, "100")) {
                Some(sent) => break sent,
                None => tokio::task::yield_now().await,
            }
        };
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
                blocks: true,
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
pub(super) async fn kept(options: &Options, promised: &Promised) {
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
pub(super) async fn books(options: &Options) -> (u64, u64, u64, u64, u64, u64) {
    let backend = Cluster::inspect(options.clone()).unwrap();
    let audit = greenroom::backend::Books::audit(&backend).await.unwrap();
    assert!(audit.balanced, "{audit:?}");
    let ledgers = greenroom::backend::Books::ledgers(&backend).await.unwrap();
    assert_eq!(ledgers.iter().map(|ledger| ledger.accepted).sum::<u64>(), audit.accepted);
    (audit.accepted, audit.completed, audit.failed, audit.dead, audit.cancelled, audit.in_flight)
}

/// Follows what was accepted at a position to its end.
async fn ended(node: &Node, position: Position) {
    let id = node.id(position);
    let mut changes = node.watch(id).await.unwrap();
    loop {
        match node.request(id).await.unwrap() {
            Found::Here(view) if view.status.ended() => return,
            Found::Here(_) => changes.changed().await.unwrap(),
            other => panic!("{position}: {other:?}"),
        }
    }
}

/// A real node handles all of it, once and in order; what was promised by ids and keys still holds.
pub(super) async fn handled(options: &Options, promised: &Promised) {
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
    for (position, _) in &promised.open {
        ended(&node, *position).await;
    }
    for (to, order) in &promised.waiting {
        let seen = node.state::<Tally>(address(to).key()).await.unwrap().unwrap_or_default();
        let all: Vec<u32> = promised.seen[to].iter().chain(order).copied().collect();
        assert_eq!(seen, all, "{to}");
    }
    // By their old ids, one is redriven, and handled as the last of its key, another one is given up.
    let now = node.position(node.id(promised.dead[0])).await.unwrap().unwrap();
    assert_eq!(node.redrive(vec![now]).await.unwrap(), 1);
    let now = node.position(node.id(promised.dead[1])).await.unwrap().unwrap();
    assert_eq!(node.discard(vec![now]).await.unwrap(), 1);
    ended(&node, promised.dead[0]).await;
    assert!(node.state::<Tally>(address(&key(0)).key()).await.unwrap().unwrap().ends_with(&[99]));
    let audit = node.audit().await.unwrap();
    assert!(audit.balanced, "{audit:?}");
    assert_eq!((audit.in_flight, audit.dead), (KEYS as u64, KEYS as u64 - 2), "{audit:?}");
    node.drain(Duration::from_secs(5)).await;
}
