//! The handle on a node's limits.
//!
//! Invariant: nothing is given that the store did not give, unless the store cannot answer and the limit
//! says what holds then.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    ahead::{Ahead, Answer},
    book::Book,
    declared::{Declared, Limit, Unavailable},
    gate::Gate,
    permits::{Chore, Permit, Permits},
};
use crate::{
    backend::{
        Backend,
        bucket::Buckets,
        limits::{Enter, Entered, Held, LONGEST_WAIT, Measure, Name, Take, Taken},
    },
    clock::Clock,
    error::{Error, Result},
    metrics::Metrics,
};

/// How long the store may take to answer before it counts as out.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it is not asked again then, in milliseconds.
const OUT: u64 = 1_000;
/// Parts of the store that may be out by themselves.
const PARTS: usize = 16;
/// How often whoever waits for a permit asks again, in milliseconds, should nobody say that one is free.
const ASK: u64 = 500;
/// For how long somebody who waits stands in the store's line without asking again, in milliseconds.
const STANDS: u64 = 4 * ASK;

/// The limits of a node. Cheap to clone, usable from any thread.
///
/// A limit is asked for by its name, or by `name/who`: then each `who` (a tenant, a customer) has a
/// bucket and permits of its own.
///
/// ```
/// # use greenroom::prelude::*;
/// # use greenroom::coordination::limit::Limit;
/// # use std::time::Duration;
/// # let dir = tempfile::tempdir()?;
/// let mail = Limit::rate(2, Duration::from_secs(3600)).at_once(1);
/// App::embedded(dir.path()).feature(Feature::default().limit("mail", mail)).run_until(|node| async move {
///     let limits = node.limits();
///     assert!(limits.try_take("mail/ann", 2).await?.allowed());
///     assert!(!limits.try_take("mail/ann", 1).await?.allowed());
///     assert!(limits.try_take("mail/bob", 1).await?.allowed());
///     let permit = limits.enter("mail/ann").await?;
///     assert!(limits.try_enter("mail/ann").await?.is_none());
///     drop(permit);
///     Ok(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Limits {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    store: Arc<dyn Backend>,
    clock: Clock,
    named: HashMap<Box<str>, Arc<Declared>>,
    gates: HashMap<&'static str, Arc<Gate>>,
    /// All limits of this node, in the order they were declared.
    pub(super) all: Mutex<Vec<Arc<Declared>>>,
    /// Where others use the same buckets.
    ahead: Option<Ahead>,
    pub(super) permits: Arc<Permits>,
    /// What holds while the store is out.
    local: Buckets,
    /// When each part of the store may be asked again; 0 where it answers. A store of several servers may
    /// lose one of them.
    out: [AtomicU64; PARTS],
    numbers: AtomicU64,
    born: Instant,
    metrics: Metrics,
}

/// What the limits of a node are made of.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    /// By name; of two of one name the later one counts.
    pub named: Vec<(String, Limit)>,
    /// Of all commands of a kind together; of two the later one counts.
    pub kinds: Vec<(String, Limit)>,
    /// Of the commands of each key of a kind; of two the later one counts.
    pub keys: Vec<(String, Limit)>,
}

/// Whether somebody got a permit.
#[derive(Debug)]
pub(crate) enum Admission {
    In(Permit),
    /// Not yet; it waits since then, by the store's clock.
    Wait(i64),
}

/// What became of drawing from a limit's buckets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drawn {
    pub(crate) rate: Option<Taken>,
    pub(crate) quota: Option<Taken>,
}

impl Drawn {
    fn each(&self) -> impl Iterator<Item = Taken> {
        [self.rate, self.quota].into_iter().flatten()
    }

    pub(crate) fn allowed(&self) -> bool {
        self.each().all(|taken| taken.allowed())
    }

    /// When it may be used, or asked for again, in milliseconds.
    pub(crate) fn wait(&self) -> u64 {
        self.each().map(|taken| taken.wait).max().unwrap_or(0)
    }
}

impl Limits {
    /// Checks what is declared. Terminal error naming the limit that is none, or the kind that is unknown.
    pub(crate) fn new(
        store: Arc<dyn Backend>,
        clock: Clock,
        metrics: Metrics,
        declared: &Declarations,
        kinds: impl Iterator<Item = &'static str>,
    ) -> Result<Self> {
        let mut all = Vec::new();
        let mut declare = |name: String, limit: &Limit, otherwise| -> Result<Arc<Declared>> {
            let declared = limit.declare(&name, otherwise, Book::new(&metrics, &name))?;
            all.push(declared.clone());
            Ok(declared)
        };
        // Declared twice, the later one counts: the configuration comes last.
        let last = |all: &[(String, Limit)]| all.iter().cloned().collect::<std::collections::BTreeMap<_, _>>();
        let mut named = HashMap::new();
        for (name, limit) in last(&declared.named) {
            if name.is_empty() || name.contains(['/', ':']) || name.len() > 64 {
                let error = format!("a limit cannot be called {name:?}: expected up to 64 characters without / and :");
                return Err(Error::terminal(error).code("bad_limit"));
            }
            named.insert(name.clone().into(), declare(name, &limit, Unavailable::Refuse)?);
        }
        let (of_kind, of_key) = (last(&declared.kinds), last(&declared.keys));
        let mut gates = HashMap::new();
        let kinds: Vec<&'static str> = kinds.collect();
        for kind in of_kind.keys().chain(of_key.keys()) {
            let Some(known) = kinds.iter().find(|known| *known == kind) else {
                let error = format!("a limit is of the kind {kind:?}, which no feature has");
                return Err(Error::terminal(error).code("bad_limit"));
            };
            if gates.contains_key(known) {
                continue;
            }
            let mut of = |what: &str, limit: Option<&Limit>| {
                limit.map(|limit| declare(format!("{what}:{kind}"), limit, Unavailable::Local)).transpose()
            };
            if of_key.get(kind).is_some_and(|limit| limit.at_once.is_some()) {
                let error = format!("the limit of each key of {kind:?}: a key's commands run one at a time anyway");
                return Err(Error::terminal(error).code("bad_limit"));
            }
            let gate = Gate::new(of("kind", of_kind.get(kind))?, of("key", of_key.get(kind))?);
            gates.insert(*known, Arc::new(gate));
        }
        let inner = Inner {
            ahead: store.lease_time().map(|_| Ahead::default()),
            store,
            clock,
            named,
            gates,
            all: Mutex::new(all),
            permits: Permits::new(),
            local: Buckets::default(),
            out: Default::default(),
            numbers: AtomicU64::new(uuid::Uuid::now_v7().as_u128() as u64 >> 12),
            born: Instant::now(),
            metrics,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A limit that is none of an actor's: of HTTP requests.
    pub(crate) fn declare(&self, name: String, limit: &Limit) -> Result<Arc<Declared>> {
        let declared = limit.declare(&name, Unavailable::Local, Book::new(&self.inner.metrics, &name))?;
        self.inner.all.lock().unwrap_or_else(PoisonError::into_inner).push(declared.clone());
        Ok(declared)
    }

    /// What commands of a kind pass before they begin.
    pub(crate) fn gate(&self, kind: &str) -> Option<&Arc<Gate>> {
        if self.inner.gates.is_empty() { None } else { self.inner.gates.get(kind) }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The time by a clock that only rises, in milliseconds.
    pub(super) fn tick(&self) -> u64 {
        match &self.inner.clock {
            Clock::System => self.inner.born.elapsed().as_millis() as u64,
            clock => clock.now().max(0) as u64,
        }
    }

    /// The time for the store: only tests have a clock that is not its own.
    fn given(&self) -> Option<i64> {
        match &self.inner.clock {
            Clock::System => None,
            clock => Some(clock.now()),
        }
    }

    /// The limit of a name, and for whom.
    pub(crate) fn find<'a>(&self, limit: &'a str) -> Result<(Arc<Declared>, &'a str)> {
        let (name, who) = limit.split_once('/').unwrap_or((limit, ""));
        let declared = self.inner.named.get(name).cloned();
        let declared = declared.ok_or_else(|| {
            let error = format!("no limit is called {name:?}: declare it by Feature::limit or in [[limits.named]]");
            Error::terminal(error).code("unknown_limit")
        })?;
        Ok((declared, who))
    }

    /// Takes tokens if they are there. Terminal error for a limit that is unknown, or can never give so
    /// many; retryable (`limit_unavailable`) when the store cannot answer and the limit refuses then.
    pub async fn try_take(&self, limit: &str, cost: u64) -> Result<Taken> {
        let (declared, who) = self.find(limit)?;
        let drawn = self.draw(&declared, who, cost, Duration::ZERO).await?;
        let tightest = drawn.each().min_by_key(|taken| taken.remaining);
        let none = Taken { given: 0, wait: 0, remaining: 0, resets: 0 };
        let given = if drawn.allowed() { cost } else { 0 };
        Ok(Taken { given, wait: drawn.wait(), ..tightest.unwrap_or(none) })
    }

    /// Takes tokens, and waits until they are there: in order with all others that wait, over all nodes.
    /// Errors like [`try_take`](Limits::try_take); retryable (`limited`) when that would take longer than a
    /// day.
    pub async fn take(&self, limit: &str, cost: u64) -> Result<()> {
        self.take_within(limit, cost, LONGEST_WAIT).await
    }

    /// Like [`take`](Limits::take), if it takes no longer than this.
    pub async fn take_within(&self, limit: &str, cost: u64, within: Duration) -> Result<()> {
        let wait = self.book(limit, cost, within).await?;
        self.inner.clock.sleep(wait).await;
        Ok(())
    }

    /// Takes tokens whose time comes within so long; how long that is. They are spent either way.
    pub(crate) async fn book(&self, limit: &str, cost: u64, within: Duration) -> Result<Duration> {
        let (declared, who) = self.find(limit)?;
        let drawn = self.draw(&declared, who, cost, within.min(LONGEST_WAIT)).await?;
        let wait = Duration::from_millis(drawn.wait());
        if drawn.allowed() {
            return Ok(wait);
        }
        Err(Error::new(format!("the limit {limit:?} gives nothing for {wait:?}")).code("limited").retry_after(wait))
    }

    /// Draws from the buckets of somebody, those of the rate first: a quota is not used up by what the rate
    /// refuses.
    pub(crate) async fn draw(&self, of: &Declared, who: &str, cost: u64, patience: Duration) -> Result<Drawn> {
        of.check(cost)?;
        let patience = patience.as_millis().min(LONGEST_WAIT.as_millis()) as u64;
        let mut drawn = Drawn::default();
        if let Some(rate) = of.rate {
            let name = of.stored(who, "rate");
            let take = Take { name, of: Measure::Rate(rate), cost, ahead: 0, patience };
            drawn.rate = Some(self.one(of, take).await?);
        }
        if let Some(quota) = of.quota.filter(|_| drawn.allowed()) {
            let name = of.stored(who, "quota");
            let take = Take { name, of: Measure::Quota(quota), cost, ahead: 0, patience };
            drawn.quota = Some(self.one(of, take).await?);
        }
        if drawn.wait() > 0 && drawn.allowed() {
            of.book.counts.waited();
        }
        let rate = drawn.rate.zip(of.rate).map(|(taken, rate)| (taken.remaining, rate.burst()));
        let quota = drawn.quota.zip(of.quota).map(|(taken, quota)| (taken.remaining, quota.most()));
        let tightest = rate.into_iter().chain(quota).min_by_key(|(left, most)| left.saturating_mul(1000) / most);
        if let Some((left, most)) = tightest {
            of.book.saw(who, drawn.allowed(), left, most, self.inner.clock.now());
        }
        Ok(drawn)
    }

    async fn one(&self, of: &Declared, mut take: Take) -> Result<Taken> {
        if let Some(ahead) = &self.inner.ahead {
            match ahead.look(&take, self.tick()) {
                Answer::Known(taken) => return Ok(taken),
                Answer::Ask(more) => take.ahead = more,
            }
        }
        let error = match self.asked(take.name, self.inner.store.take_tokens(take, self.given())).await {
            Ok(taken) => {
                if let Some(ahead) = &self.inner.ahead {
                    ahead.learn(&take, take.ahead, &taken, self.tick());
                }
                return Ok(taken);
            }
            Err(error) => error,
        };
        of.book.counts.unavailable();
        match of.unavailable {
            Unavailable::Local => Ok(self.inner.local.take(&Take { ahead: 0, ..take }, self.inner.clock.now())),
            Unavailable::Refuse => Err(error),
        }
    }

    /// Waits for the part of the store that has this name, but not for long. While it is out, one asks it now
    /// and then, and the others do not wait for that.
    async fn asked<T>(&self, name: Name, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let error = |why: String| {
            let error = Error::new(format!("the store of the limits cannot answer: {why}"));
            Err(error.code(UNAVAILABLE).retry_after(Duration::from_millis(OUT)))
        };
        let part = &self.inner.out[name.spread() % PARTS];
        let (now, until) = (self.tick(), part.load(Ordering::Relaxed));
        let tries = now + PATIENCE.as_millis() as u64 + OUT;
        let may = until == 0
            || (now >= until && part.compare_exchange(until, tries, Ordering::Relaxed, Ordering::Relaxed).is_ok());
        if !may {
            return error("it did not just now".into());
        }
        let why = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => {
                part.store(0, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nothing came within {PATIENCE:?}"),
        };
        part.store(self.tick() + OUT, Ordering::Relaxed);
        error(why)
    }

    /// Whether some of the store did not answer when it was asked last.
    pub(super) fn is_out(&self) -> bool {
        self.inner.out.iter().any(|part| part.load(Ordering::Relaxed) != 0)
    }

    /// Takes a permit if one is free. Errors like [`try_take`](Limits::try_take); permits are never given
    /// while the store cannot answer.
    pub async fn try_enter(&self, limit: &str) -> Result<Option<Permit>> {
        self.enter_within(limit, Duration::ZERO).await
    }

    /// Takes a permit, and waits until one is free: in order with the others of this node, and the nodes
    /// in turn.
    pub async fn enter(&self, limit: &str) -> Result<Permit> {
        let (declared, who) = self.find(limit)?;
        let mut since = None;
        loop {
            match self.admit(&declared, who, since, LONGEST_WAIT).await? {
                Admission::In(permit) => return Ok(permit),
                Admission::Wait(waits) => since = Some(waits),
            }
        }
    }

    /// Like [`enter`](Limits::enter), if it takes no longer than this.
    pub async fn enter_within(&self, limit: &str, within: Duration) -> Result<Option<Permit>> {
        let (declared, who) = self.find(limit)?;
        match self.admit(&declared, who, None, within).await? {
            Admission::In(permit) => Ok(Some(permit)),
            Admission::Wait(_) => Ok(None),
        }
    }

    /// Takes a permit for somebody who waits since some time, within so long.
    pub(crate) async fn admit(
        &self,
        of: &Declared,
        who: &str,
        since: Option<i64>,
        patience: Duration,
    ) -> Result<Admission> {
        let Some(most) = of.at_once else {
            let error = format!("the limit {:?} does not say how many at once", of.name);
            return Err(Error::terminal(error).code("bad_limit"));
        };
        let inner = &*self.inner;
        let (name, lease) = (of.stored(who, "permits"), of.lease.as_millis() as u64);
        let number = inner.numbers.fetch_add(1, Ordering::Relaxed);
        let holder = format!("{}-{number:x}", inner.store.me());
        let mut freed = inner.store.permits_freed();
        let began = self.tick();
        let left = || (patience.as_millis() as u64).saturating_sub(self.tick().saturating_sub(began));
        let waits = since.unwrap_or_else(|| inner.clock.now());
        let mut place = inner.permits.stand(name, holder.clone(), waits, number);
        let mut since = since;
        while left() > 0 && !place.is_first() {
            inner.clock.limit(Duration::from_millis(left()), place.turn()).await;
        }
        loop {
            let stands = if left() > 0 { STANDS } else { 0 };
            let enter = Enter { name, holder: holder.clone(), most, lease, since, patience: stands };
            place.asked = true;
            let asked = self.tick();
            match self.asked(name, inner.store.enter_permit(enter, self.given())).await? {
                Entered::In => {
                    place.asked = false;
                    if of.rate.is_none() && of.quota.is_none() {
                        of.book.counts.allowed();
                    }
                    return Ok(Admission::In(inner.permits.got(Held { name, holder, lease }, asked)));
                }
                Entered::Wait { since: waits, next } => {
                    if left() == 0 {
                        of.book.saw(who, false, 0, u64::from(most), inner.clock.now());
                        return Ok(Admission::Wait(waits));
                    }
                    if since.replace(waits).is_none() {
                        of.book.counts.waited();
                    }
                    let pause = next.unwrap_or(ASK).clamp(1, ASK).min(left());
                    let told = async {
                        loop {
                            match freed.recv().await {
                                Ok(told) if told != name => {}
                                // It is, or something was missed.
                                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => return,
                                // Nobody will tell any more: look by the clock.
                                Err(_) => std::future::pending().await,
                            }
                        }
                    };
                    inner.clock.limit(Duration::from_millis(pause), told).await;
                }
            }
        }
    }

    /// Does what is to be done for permits beside those who hold them, until all handles are gone.
    pub(crate) fn keep(&self) -> impl Future<Output = ()> + use<> {
        let queue = self.inner.permits.chores();
        let (inner, clock) = (Arc::downgrade(&self.inner), self.inner.clock.clone());
        async move {
            let Some(mut queue) = queue else { return };
            let (mut chores, mut next) = (Vec::new(), None::<u64>);
            loop {
                let Some(inner) = inner.upgrade() else { return };
                let limits = Limits { inner };
                if limits.do_all(&mut chores, &mut next).await {
                    continue;
                }
                let pause = next.map(|next| Duration::from_millis(next.saturating_sub(limits.tick()).max(1)));
                drop(limits);
                tokio::select! {
                    count = queue.recv_many(&mut chores, 256) => if count == 0 { return },
                    () = async {
                        match pause {
                            Some(pause) => clock.sleep(pause).await,
                            None => std::future::pending().await,
                        }
                    } => {}
                }
            }
        }
    }

    /// Gives back and renews what there is; whether some of it was new.
    async fn do_all(&self, chores: &mut Vec<Chore>, next: &mut Option<u64>) -> bool {
        let inner = &*self.inner;
        let mut flushed = Vec::new();
        let back = chores.drain(..).filter_map(|chore| match chore {
            Chore::Back(name, holder) => Some(self.asked(name, inner.store.leave_permit(name, holder, self.given()))),
            Chore::Renew => None,
            Chore::Flush(done) => {
                flushed.push(done);
                None
            }
        });
        for left in futures_util::future::join_all(back).await {
            if let Err(error) = left {
                tracing::debug!(%error, "a permit was not given back, and ends by itself");
            }
        }
        for done in flushed {
            // Whoever asked may be gone.
            let _ = done.send(());
        }
        let now = self.tick();
        let (due, later) = inner.permits.to_renew(now);
        *next = later;
        if due.is_empty() {
            return false;
        }
        let mut parts: HashMap<usize, Vec<Held>> = HashMap::new();
        due.into_iter().for_each(|held| parts.entry(held.name.spread() % PARTS).or_default().push(held));
        let renewed = parts.into_values().map(async |held| {
            let Some(name) = held.first().map(|held| held.name) else { return };
            let still = self.asked(name, inner.store.renew_permits(held.clone(), self.given())).await;
            inner.permits.renewed(held, still.ok(), now);
        });
        futures_util::future::join_all(renewed).await;
        true
    }

    /// Waits until every permit that was given back here is free for the others.
    pub(crate) async fn flush(&self) {
        // Nobody waits for a store that is out: leases end by themselves.
        let _ = tokio::time::timeout(PATIENCE, self.inner.permits.flush()).await;
    }
}

/// The code of limits whose store cannot answer.
pub(crate) const UNAVAILABLE: &str = "limit_unavailable";
