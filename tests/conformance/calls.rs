//! Every call to Redis, with every fate that it may have: what was decided happens once, and nothing else.

use std::{sync::Mutex, time::Duration};

use greenroom::{
    backend::{
        DeadFilter, Deferral, JournalWrite, Lookup, NotAppended, Refused, Scope, Sent, StateWrite, Status,
        cluster::{
            Cluster, Injector,
            inject::{Fate, Store},
        },
        limits::{Enter, Entered, Held, Measure, Name, Rate, Take},
        sessions::{FoundSession, Issued, OpenedSession, SessionKey, SessionName, SessionRecord, Use, drawer_of},
    },
    error::Result,
};

use super::{
    raw::{LIMIT, Raw},
    *,
};

/// The fate of the next call of a function.
#[derive(Debug, Default)]
struct Armed(Mutex<Option<(&'static str, Fate)>>);

impl Injector for Armed {
    fn fate(&self, store: Store, call: &str) -> Fate {
        let mut armed = self.0.lock().unwrap();
        let meant = armed.is_some_and(|(name, _)| store == Store::Redis && name == call);
        if meant { armed.take().map_or(Fate::Pass, |(_, fate)| fate) } else { Fate::Pass }
    }
}

const FATES: [Fate; 5] =
    [Fate::LoseRequest, Fate::LoseAnswer, Fate::Delay(Duration::from_millis(5)), Fate::Repeat, Fate::Cut];

/// As the runtime does: what may or may not have happened is asked for again.
async fn again<T>(mut ask: impl AsyncFnMut() -> Result<T>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(!error.is_terminal(), "{error}"),
        }
    }
}

/// A store whose calls have fates, and what a test needs to look at it.
struct Stage {
    backend: Arc<dyn Backend>,
    armed: Arc<Armed>,
    options: greenroom::backend::cluster::Options,
    lease: Lease,
    number: usize,
}

impl Stage {
    /// Plays a life for each function that it calls, once for each fate of its first call.
    async fn play(&mut self, calls: &[&'static str], life: impl AsyncFn(&mut Self)) {
        for (call, fate) in calls.iter().flat_map(|call| FATES.map(|fate| (*call, fate))) {
            println!("{call}: {fate:?}");
            self.number += 1;
            *self.armed.0.lock().unwrap() = Some((call, fate));
            life(self).await;
            assert_eq!(*self.armed.0.lock().unwrap(), None, "{call} was not called");
            let audit = self.backend.audit().await.unwrap();
            assert!(audit.balanced, "{call}: {fate:?}: {audit:?}");
        }
    }

    /// An actor of partition 1 that this life has for itself.
    fn actor(&self, name: &str) -> String {
        let keys = (0..).map(|n| format!("thing/{}-{name}-{n}", self.number));
        keys.into_iter().find(|key| address(key).partition(4) == 1).unwrap()
    }

    /// An actor of partition 2.
    fn other(&self) -> String {
        (0..).map(|n| format!("thing/{}-other-{n}", self.number)).find(|key| address(key).partition(4) == 2).unwrap()
    }

    /// A message that has just been appended, as its owner reads it.
    async fn come(&self, to: &str) -> Stored {
        let position = self.append(to).await;
        let after = Position::new(1, position.number() - 1);
        again(async || self.backend.reread(1, after, position, 10).await).await.pop().unwrap()
    }

    /// Appends where a lost answer may be one that nobody remembers: it had not happened then.
    async fn append(&self, to: &str) -> Position {
        loop {
            match self.backend.append(vec![message(to, "1")]).await.remove(0) {
                Ok(Appended::New(position)) => return position,
                Err(NotAppended::Unavailable(why)) => assert!(why.contains("not remembered"), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn commit(&self, commit: Commit) {
        loop {
            match self.backend.commit(self.lease, vec![commit.clone()].into()).await.remove(0) {
                Ok(()) => return,
                Err(refused) => assert!(matches!(refused, Refused::Unavailable(_)), "{refused:?}"),
            }
        }
    }

    async fn status(&self, position: Position) -> Status {
        match again(async || self.backend.lookup(position).await).await {
            Lookup::Ended(ended) => ended.status,
            other => panic!("not ended: {other:?}"),
        }
    }

    async fn acquire(&mut self) {
        let before = self.lease.epoch;
        match again(async || self.backend.acquire(1).await).await {
            Acquired::Taken(lease) => self.lease = lease,
            Acquired::Held(node) => panic!("node {node} has it"),
        }
        assert!(self.lease.epoch > before, "{:?} is not above {before}", self.lease);
    }
}

fn stage(play: impl AsyncFn(&mut Stage)) {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        let armed = Arc::new(Armed::default());
        let options = which.cluster(&Options { partitions: 4, mailbox_bytes: 1 << 30 }).unwrap();
        let options = greenroom::backend::cluster::Options { faults: Some(armed.clone()), ..options };
        let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
        actix::System::new().block_on(async {
            backend.join().await.unwrap();
            backend.beat().await.unwrap();
            backend.declare("thing", true, &[]).await.unwrap();
            let lease = take(&backend, 1).await;
            play(&mut Stage { backend, armed, options, lease, number: 0 }).await;
        });
    }
}

/// A message comes, is begun and handled; it changes a state and sends to another partition.
async fn handled(stage: &mut Stage) {
    let (backend, to) = (&stage.backend, stage.actor("handled"));
    let accepted = again(async || backend.audit().await).await.accepted;
    let stored = stage.come(&to).await;
    assert_eq!(again(async || backend.open(stage.lease, vec![address(&to)]).await).await[0].rev, 0);
    let begun = again(async || backend.begin(stage.lease, vec![(stored.position, Home::Mailbox)]).await).await;
    assert_eq!(begun.len(), 1);
    let mut all = commit(&to);
    all.seen = Some(0);
    all.state = Some(StateWrite { from: 0, doc: saved("one"), fields: Vec::new() });
    all.done.push(done(&stored));
    all.outbox.push(Sent { envelope: envelope(&stage.other(), "7").into(), due: None });
    all.outbox.push(Sent { envelope: envelope(&to, "8").into(), due: None });
    stage.commit(all).await;
    assert_eq!(stage.status(stored.position).await, Status::Completed);
    arrived(backend, accepted + 3).await;
    // The sender forgets what has arrived.
    while again(async || backend.runnable(0).await).await > again(async || backend.audit().await).await.in_flight {
        tokio::task::yield_now().await;
    }
    let after = Position::new(1, stored.position.number());
    let own = again(async || backend.reread(1, after, Position::new(1, after.number() + 9), 10).await).await;
    assert_eq!(own.len(), 1, "sent once");
    let mut ends = commit(&to);
    ends.done.push(done(&own[0]));
    stage.commit(ends).await;
    assert_eq!(again(async || backend.load(vec![address(&to)]).await).await[0].rev, 1);
}

/// A command records something and waits, another one waits behind it, and one that waits is cancelled.
async fn waiting(stage: &mut Stage) {
    let (backend, to) = (&stage.backend, stage.actor("waiting"));
    let (one, two, three) = (stage.come(&to).await, stage.come(&to).await, stage.come(&to).await);
    let entry = JournalWrite { position: one.position, entries: vec![b"e".to_vec()], own: true, wake: false };
    let mut waits = commit(&to);
    waits.journals.push(entry);
    waits.deferred.push(Deferral {
        position: one.position,
        home: Home::Mailbox,
        due: NOW + 5,
        attempts: 0,
        failures: Vec::new(),
        blocks: true,
    });
    waits.parked.push((two.position, Home::Mailbox));
    stage.commit(waits).await;
    assert_eq!(again(async || backend.journal(one.position).await).await, [b"e"], "once");
    assert!(again(async || backend.journaled(1).await).await.contains(&one.position));
    let due = again(async || backend.due(1, NOW + 5, None, Default::default(), 100).await).await;
    assert_eq!(due.messages.iter().map(|stored| stored.position).collect::<Vec<_>>(), [one.position]);
    let blocked = again(async || backend.blocked(1, None, 1000).await).await;
    assert!(blocked.contains(&address(&to)));
    let parked = again(async || backend.parked(&address(&to), start(1), 10).await).await;
    assert_eq!(parked.iter().map(|stored| stored.position).collect::<Vec<_>>(), [one.position, two.position]);
    assert!(again(async || backend.cancel(stage.lease, three.position, NOW).await).await);
    assert_eq!(stage.status(three.position).await, Status::Cancelled);
    let mut ends = commit(&to);
    ends.done = parked.iter().map(done).collect();
    ends.done[0].journal = true;
    stage.commit(ends).await;
    assert_eq!(stage.status(two.position).await, Status::Completed);
}

/// Two messages die: one is put back and handled, the other one given up; then all is forgotten.
async fn given_up(stage: &mut Stage) {
    let (backend, to) = (&stage.backend, stage.actor("dead"));
    let (one, two) = (stage.come(&to).await, stage.come(&to).await);
    let failure = greenroom::Error::new("no").failure(1, NOW);
    let mut dies = commit(&to);
    let dead = |stored| Done { outcome: Outcome::Dead(vec![failure.clone()]), ..done(stored) };
    dies.done = vec![dead(&one), dead(&two)];
    stage.commit(dies).await;
    assert_eq!(again(async || backend.dead(DeadFilter::default(), None, 10).await).await.len(), 2);
    again(async || backend.redrive(vec![one.position], NOW).await).await;
    again(async || backend.discard(vec![two.position], NOW).await).await;
    assert_eq!(stage.status(two.position).await, Status::Cancelled);
    let due = again(async || backend.due(1, NOW, None, Default::default(), 10).await).await;
    let mut ends = commit(&to);
    ends.done = due.messages.iter().map(done).collect();
    assert_eq!(ends.done.len(), 1);
    stage.commit(ends).await;
    assert_eq!(stage.status(one.position).await, Status::Completed);
    again(async || backend.expire(NOW + 1, NOW).await).await;
    for gone in [one, two] {
        let found = again(async || backend.lookup(gone.position).await).await;
        assert!(matches!(found, Lookup::Expired), "{found:?}");
    }
}

/// The partition changes hands, and what the old owner had begun to commit is finished by the new one.
async fn handed_over(stage: &mut Stage) {
    let to = stage.actor("over");
    let stored = stage.come(&to).await;
    again(async || stage.backend.open(stage.lease, vec![address(&to)]).await).await;
    let old = stage.lease;
    stage.acquire().await;
    let backend = &stage.backend;
    let mut all = commit(&to);
    all.state = Some(StateWrite { from: 0, doc: saved("one"), fields: Vec::new() });
    all.done.push(done(&stored));
    all.outbox.push(Sent { envelope: envelope(&to, "8").into(), due: None });
    assert_eq!(backend.commit(old, vec![all].into()).await, [Err(Refused::Stale)]);
    let loaded = again(async || backend.open(stage.lease, vec![address(&to)]).await).await.remove(0);
    assert_eq!((loaded.rev, loaded.finished), (1, vec![(stored.position, Home::Mailbox)]));
    assert_eq!(stage.status(stored.position).await, Status::Completed);
    let after = stored.position.number();
    let sent =
        again(async || backend.reread(1, Position::new(1, after + 1), Position::new(1, after + 9), 10).await).await;
    assert_eq!(sent.len(), 1, "sent once");
    let mut ends = commit(&to);
    ends.done.push(done(&sent[0]));
    stage.commit(ends).await;
    again(async || stage.backend.release(stage.lease).await).await;
    stage.acquire().await;
}

/// The server has lost what it knew, and the numbers that were reserved are used up.
async fn lost(stage: &mut Stage) {
    let raw = Raw::of(&stage.options, 1).await;
    raw.confirm_elsewhere().await;
    let one = stage.append(&stage.actor("lost")).await;
    raw.set(LIMIT, one.number() + 9).await;
    let two = stage.append(&stage.actor("lost")).await;
    stage.acquire().await;
    let read = again(async || stage.backend.reread(1, one, two, 10).await).await;
    let found: Vec<Position> = read.iter().map(|stored| stored.position).collect();
    assert_eq!(found, [one, two], "each once");
    for stored in read {
        let mut ends = commit(&stored.envelope.as_ref().unwrap().to.to_string());
        ends.done.push(done(&stored));
        stage.commit(ends).await;
    }
}

/// Another node comes and goes, and one that came is given up.
async fn neighbours(stage: &mut Stage) {
    let node = || -> Arc<dyn Backend> { Arc::new(Cluster::open(stage.options.clone()).unwrap()) };
    let (comes, dies) = (node(), node());
    for node in [&comes, &dies] {
        again(async || node.join().await).await;
        again(async || node.beat().await).await;
    }
    let members = again(async || stage.backend.beat().await).await;
    assert_eq!(members.len(), 3, "each node has joined once: {members:?}");
    let seen = members.into_iter().find(|member| member.id == dies.me()).unwrap();
    assert!(again(async || stage.backend.give_up(seen.clone()).await).await);
    again(async || comes.leave().await).await;
    assert_eq!(again(async || stage.backend.beat().await).await.len(), 1);
    assert!(dies.beat().await.unwrap_err().is_terminal(), "it was given up");
}

/// What is said of the whole store, and sessions, buckets and permits.
async fn others(stage: &mut Stage) {
    let (backend, user) = (&stage.backend, format!("user-{}", stage.number));
    let scope = Scope::kind("thing");
    again(async || backend.pause(scope.clone(), NOW).await).await;
    assert_eq!(again(async || backend.paused().await).await.len(), 1);
    again(async || backend.resume(scope.clone()).await).await;
    assert_eq!(again(async || backend.paused().await).await.len(), 0);

    let key = SessionKey { drawer: drawer_of(&user), name: SessionName([stage.number as u8; 12]) };
    let issued = Issued { digest: [200; 16], at: NOW, former: None };
    let record = SessionRecord {
        user: Some(user.clone()),
        created: NOW,
        seen: NOW,
        until: NOW + 1000,
        ends: NOW + 10_000,
        rev: 1,
        agent: "Browser 1.0".into(),
        data: b"{}".to_vec(),
        issued,
    };
    let used = Use { now: NOW + 1, until: NOW + 2000 };
    let opened = again(async || backend.open_session(key, record.clone(), 100, None).await).await;
    assert!(matches!(opened, OpenedSession::Opened(_)), "{opened:?}");
    again(async || backend.touch_session(key, used).await).await;
    again(async || backend.write_session(key, 1, b"{\"a\":1}".to_vec(), used).await).await;
    let new = Issued { digest: [201; 16], at: NOW + 1, former: None };
    again(async || backend.renew_session(key, issued.digest, new, used).await).await;
    let FoundSession::Live(live) = again(async || backend.session(key, NOW + 2).await).await else { panic!("gone") };
    assert_eq!((live.until, live.data.as_slice(), live.issued), (NOW + 2000, b"{\"a\":1}".as_slice(), new));
    assert_eq!(again(async || backend.sessions_of(user.clone(), NOW + 2).await).await.len(), 1);
    again(async || backend.end_session(key, Some(user.clone()), NOW + 3, NOW + 2).await).await;
    again(async || backend.end_sessions(user.clone(), None, NOW + 2).await).await;
    assert!(again(async || backend.session_era(user.clone()).await).await >= NOW);
    assert!(!matches!(again(async || backend.session(key, NOW + 2).await).await, FoundSession::Live(_)));

    let name = Name::of(&[&user]);
    let of = Measure::Rate(Rate::new(10, Duration::from_secs(1), 10).unwrap());
    let wish = Take { name, of, cost: 2, ahead: 0, patience: 0 };
    // A lost answer may cost tokens: never more are given out than there are.
    let mut given = 0;
    for _ in 0..8 {
        given += again(async || backend.take_tokens(wish, Some(NOW)).await).await.given;
    }
    assert!((8..=10).contains(&given), "{given}");
    let enter =
        |holder: &str| Enter { name, holder: holder.to_owned(), most: 1, lease: 1000, since: None, patience: 0 };
    assert_eq!(again(async || backend.enter_permit(enter("1-a"), Some(NOW)).await).await, Entered::In);
    let second = again(async || backend.enter_permit(enter("1-b"), Some(NOW)).await).await;
    assert!(matches!(second, Entered::Wait { .. }), "{second:?}");
    let held = || vec![Held { name, holder: "1-a".into(), lease: 1000 }];
    assert_eq!(again(async || backend.renew_permits(held(), Some(NOW)).await).await, [true]);
    again(async || backend.leave_permit(name, "1-a".into(), Some(NOW)).await).await;
    assert_eq!(again(async || backend.enter_permit(enter("1-b"), Some(NOW)).await).await, Entered::In);
}

#[test]
fn whatever_becomes_of_a_call_about_a_message_all_happens_once() {
    stage(async |stage| {
        let calls = ["append", "read", "open", "begin", "commit", "receive", "arrived", "lookup", "books", "sequences"];
        stage.play(&calls, handled).await;
        let calls = ["append", "commit", "journal", "journaled", "due", "blocked", "parked", "cancel", "lookup"];
        stage.play(&calls, waiting).await;
        stage.play(&["dead", "redrive", "discard", "commit", "expire", "due", "lookup"], given_up).await;
    });
}

#[test]
fn whatever_becomes_of_a_call_about_a_partition_it_has_one_owner_and_loses_nothing() {
    stage(async |stage| {
        stage.play(&["peek", "acquire", "open", "redo", "release", "commit", "read"], handed_over).await;
        stage.play(&["append", "peek", "warm", "extend", "acquire", "read"], lost).await;
    });
}

#[test]
fn whatever_becomes_of_a_call_about_something_else_it_is_as_if_it_had_been_made_once() {
    stage(async |stage| {
        stage.play(&["join", "beat", "give_up", "leave"], neighbours).await;
        let calls = [
            "pause",
            "paused",
            "resume",
            "session_open",
            "session_touch",
            "session_write",
            "session_renew",
            "sessions",
            "session_end",
            "sessions_end",
            "session_era",
            "limit_take",
            "limit_enter",
            "limit_renew",
            "limit_leave",
        ];
        stage.play(&calls, others).await;
    });
}
